//! Who may write: the rows `lane` and `slot_fence`, and the rules of `open_lane`, `check_fence` and `take_slots`.

use std::collections::BTreeSet;

use tertulia_node::store::TakenSlot;
use tertulia_shard_map::{Epoch, EventId, NodeId, Slot};

use super::{LaneKind, NotCommitted, Store, Writer};
use crate::{known_fault::KnownFault, world::Process};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// Nobody writes, the owner neither.
    Closed,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub epoch: Epoch,
    pub owner: Process,
    pub seal: Seal,
}

/// A slot as somebody wants to own it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub slot: Slot,
    pub epoch: Epoch,
    pub owner: Process,
    pub seal: Seal,
}

impl Store {
    pub fn fence(&self, slot: Slot) -> Option<Fence> {
        self.fences.get(&slot).copied()
    }

    pub(super) fn check_lane(&self, writer: Writer) -> Result<(), NotCommitted> {
        let open = self.lanes.get(&(writer.process.node, writer.lane));
        let is_open = open == Some(&(writer.process.incarnation, writer.token));
        if is_open { Ok(()) } else { Err(NotCommitted::LaneFenced) }
    }

    pub(super) fn check_fence(&self, process: Process, slots: &[(Slot, Epoch)]) -> Result<(), NotCommitted> {
        let passes = |&(slot, epoch): &(Slot, Epoch)| {
            self.fence(slot) == Some(Fence { epoch, owner: process, seal: Seal::Open })
        };
        let stale: Vec<Slot> = slots.iter().filter(|it| !passes(it)).map(|&(slot, _)| slot).collect();
        if stale.is_empty() { Ok(()) } else { Err(NotCommitted::SlotsFenced(stale)) }
    }

    /// Reads that decide something prove what writes prove, in the snapshot of what they read: where a slot has moved away,
    /// there is nothing to be found, and that is not how it is.
    pub fn may_read(&self, process: Process, slot: Slot, epoch: Epoch) -> bool {
        self.has(KnownFault::ReadsNotFenced) || self.check_fence(process, &[(slot, epoch)]).is_ok()
    }

    /// Whether the lane is the writer's from now on.
    pub fn open_lane(&mut self, writer: Writer) -> bool {
        let new = (writer.process.incarnation, writer.token);
        let open = self.lanes.entry((writer.process.node, writer.lane)).or_default();
        let is_newer = *open < new;
        if is_newer {
            *open = new;
        }
        is_newer
    }

    /// The lanes whose batches must end before these slots can be taken.
    pub fn lanes_of(&self, slots: impl Iterator<Item = Slot>) -> BTreeSet<(NodeId, LaneKind)> {
        if self.has(KnownFault::FenceByJoin) {
            return BTreeSet::new();
        }
        let owners: BTreeSet<NodeId> = slots.filter_map(|slot| Some(self.fence(slot)?.owner.node)).collect();
        owners.into_iter().flat_map(|node| [(node, LaneKind::Append), (node, LaneKind::Fold)]).collect()
    }

    /// Which of the slots are owned as wanted. Only call it where no batch of [`lanes_of`](Self::lanes_of) is in flight.
    pub fn take(&mut self, wanted: &[Wanted]) -> Vec<TakenSlot> {
        for &Wanted { slot, epoch, owner, seal } in wanted {
            if self.fence(slot).is_none_or(|fence| fence.epoch < epoch) {
                self.fences.insert(slot, Fence { epoch, owner, seal });
            }
        }
        let is_owned = |it: &&Wanted| self.fence(it.slot) == Some(it.fence());
        wanted.iter().filter(is_owned).map(|it| self.taken(it.slot, it.epoch)).collect()
    }

    /// [`KnownFault::UnsealByTimeout`]: the owner opens what is sealed.
    pub fn unseal(&mut self, wanted: &Wanted) -> Option<TakenSlot> {
        let fence = self.fences.get_mut(&wanted.slot).filter(|fence| fence.epoch == wanted.epoch)?;
        fence.seal = Seal::Open;
        Some(self.taken(wanted.slot, wanted.epoch))
    }

    fn taken(&self, slot: Slot, epoch: Epoch) -> TakenSlot {
        let last_entry = self.partition(slot).map_or(EventId::from_u128(0), |partition| partition.last_entry());
        TakenSlot { slot, epoch, last_entry, mailbox_cursor: self.cursor(slot) }
    }
}

impl Wanted {
    pub fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, owner: self.owner, seal: self.seal }
    }
}
