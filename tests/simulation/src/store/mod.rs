//! A store: what of Postgres the cluster's promises stand on, in memory.
//!
//! - A *batch* passes the fence when it begins, and is committed, or not, when it ends. In between it holds its lane's row,
//!   as `check_fence` of `migrations/V1__core.sql` does: whoever takes a slot from the lane's node, or opens the lane anew, waits.
//! - Whatever else is asked of it happens at one instant.
//! - It knows nothing of the map: that it is only told what the map said is for others to see to.

mod fence;
mod filling;
mod partition;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use tertulia_node::store::AppendBatch;
use tertulia_shard_map::{Epoch, EventId, Incarnation, MoveId, NodeId, Slot, UserId};
use tertulia_wire::cluster::InboxRow;

pub use fence::{Fence, Seal, Wanted};
pub use filling::{Compared, Fill, Mark, MarkState, Subscription};
pub use partition::{Partition, Row};

use crate::{agenda::IsHeard, known_fault::KnownFault, time::Time, world::Process};

/// A node has one of each in every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LaneKind {
    Append,
    Fold,
}

/// Grows each time a lane is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Token(pub u64);

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    pub process: Process,
    pub lane: LaneKind,
    pub token: Token,
}

/// Inbox rows that are committed together.
#[derive(Debug, Default)]
pub struct FoldBatch {
    pub slots: Vec<(Slot, Epoch)>,
    pub rows: Vec<(Slot, UserId, InboxRow)>,
}

#[derive(Debug, Clone)]
pub enum Batch {
    Append(Rc<AppendBatch>),
    Fold(Rc<FoldBatch>),
}

impl Batch {
    pub fn slots(&self) -> &[(Slot, Epoch)] {
        match self {
            Self::Append(batch) => &batch.slots,
            Self::Fold(batch) => &batch.slots,
        }
    }

    fn rows(&self) -> Vec<(Slot, Row)> {
        match self {
            Self::Append(batch) => partition::rows_of(batch),
            Self::Fold(batch) => {
                batch.rows.iter().map(|(slot, user, row)| (*slot, Row::Inbox(*user, row.clone()))).collect()
            }
        }
    }
}

/// Numbers batches as they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Transaction(pub u64);

#[derive(Debug)]
pub struct InFlight {
    pub writer: Writer,
    pub batch: Batch,
    pub is_heard: IsHeard,
    pub ends: Time,
}

/// Why a batch was not committed, for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCommitted {
    LaneFenced,
    SlotsFenced(Vec<Slot>),
    /// Or a seq that is taken.
    Duplicate,
}

#[derive(Debug)]
pub struct Store {
    known_fault: Option<KnownFault>,
    fences: BTreeMap<Slot, Fence>,
    lanes: BTreeMap<(NodeId, LaneKind), (Incarnation, Token)>,
    partitions: BTreeMap<Slot, Partition>,
    cursors: BTreeMap<Slot, EventId>,
    /// Everything that was committed in a slot, in order: what replication reads.
    commits: BTreeMap<Slot, Vec<Row>>,
    in_flight: BTreeMap<Transaction, InFlight>,
    begun: Transaction,
    marks: BTreeMap<Slot, Mark>,
    subscriptions: BTreeMap<MoveId, Subscription>,
    /// It answers nobody until then.
    pub down_until: Time,
}

impl Store {
    pub fn new(known_fault: Option<KnownFault>) -> Self {
        Self {
            known_fault,
            fences: BTreeMap::new(),
            lanes: BTreeMap::new(),
            partitions: BTreeMap::new(),
            cursors: BTreeMap::new(),
            commits: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            begun: Transaction::default(),
            marks: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            down_until: Time::ZERO,
        }
    }

    pub fn has(&self, fault: KnownFault) -> bool {
        self.known_fault == Some(fault)
    }

    /// `None` where there was never anything of the slot.
    pub fn partition(&self, slot: Slot) -> Option<&Partition> {
        self.partitions.get(&slot)
    }

    pub fn cursor(&self, slot: Slot) -> EventId {
        self.cursors.get(&slot).copied().unwrap_or(EventId::from_u128(0))
    }
}

/// Batches.
impl Store {
    /// The batch passes the fence, and is in flight from now on.
    pub fn begin(
        &mut self,
        writer: Writer,
        batch: Batch,
        is_heard: IsHeard,
        ends: Time,
    ) -> Result<Transaction, NotCommitted> {
        self.check_lane(writer)?;
        self.check_fence(writer.process, batch.slots())?;
        self.begun.0 += 1;
        self.in_flight.insert(self.begun, InFlight { writer, batch, is_heard, ends });
        Ok(self.begun)
    }

    pub fn in_flight(&self, transaction: Transaction) -> Option<&InFlight> {
        self.in_flight.get(&transaction)
    }

    /// # Panics
    /// Where the batch is not in flight.
    pub fn commit(&mut self, transaction: Transaction) -> Result<(), NotCommitted> {
        let InFlight { batch, .. } = self.in_flight.remove(&transaction).expect("only what is in flight is committed");
        if let Batch::Append(batch) = &batch {
            if !partition::places_are_free(&self.partitions, batch) {
                return Err(NotCommitted::Duplicate);
            }
            for &(slot, _, event) in &batch.cursors {
                self.move_cursor(slot, event);
            }
        }
        for (slot, row) in batch.rows() {
            self.partitions.entry(slot).or_default().put(row.clone());
            self.commits.entry(slot).or_default().push(row);
        }
        Ok(())
    }

    /// It was not committed: its backend is gone.
    pub fn roll_back(&mut self, transaction: Transaction) {
        self.in_flight.remove(&transaction);
    }

    pub fn transactions(&self) -> Vec<Transaction> {
        self.in_flight.keys().copied().collect()
    }

    /// When the last batch of these nodes' lanes ends, and which they are.
    pub fn in_flight_of(&self, lanes: &BTreeSet<(NodeId, LaneKind)>) -> Option<(Time, Vec<Transaction>)> {
        let held = |it: &InFlight| lanes.contains(&(it.writer.process.node, it.writer.lane));
        let transactions: Vec<_> = self.in_flight.iter().filter(|(_, it)| held(it)).map(|(&id, _)| id).collect();
        let last = transactions.iter().map(|id| self.in_flight[id].ends).max()?;
        Some((last, transactions))
    }

    /// Cursors never go back.
    fn move_cursor(&mut self, slot: Slot, event: EventId) {
        let cursor = self.cursors.entry(slot).or_insert(event);
        *cursor = event.max(*cursor);
    }
}
