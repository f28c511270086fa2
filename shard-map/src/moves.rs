//! Live moves of slots between stores: what of a move is replicated.
//!
//! A move is a record in the map, and its step says how far it is. Only changes take it further:
//!
//! ```text
//! BeginMove ─ Copying ─ SealMove ─ Sealed ─ FlipMove ─ Flipped ─ EndMove
//!                │                    │
//!                └────── AbortMove ───┴──────────────── Aborted ─ EndMove
//! ```
//!
//! Whoever drives a move does in the stores what its step asks for, then proposes the change to the next one. All that
//! it does is idempotent, so another driver goes on from the map alone.
//!
//! - Nothing but [`Change::FlipMove`] and [`Change::AbortMove`] ends a seal. Whichever is committed first wins: the other
//!   is refused. The flip is the commit point: after it there is no way back.
//! - A slot is in one move until that is ended, clean-up included, so nobody cleans up what another move just made.
//! - A move ties no node down. Owners change in every step as they always do, and the seal stays with the slot. The flip
//!   keeps the owner, whoever that is: where another should own the slot in its new store, that is a hand-over of its own.
//! - A slot's epoch grows whenever its owner, its store or its seal changes, and never depends on the store. So an epoch
//!   of a slot means one thing for ever, and the flip's is above every other that either store has seen, as long as a
//!   store is only ever told epochs that the map had.
//!
//! A release without moves reads a map without moves, and no other: the first one waits until every process knows them.
//!
//! Deliberately absent: how slots are copied, sealed and compared in the stores, how long each may take, and which slots
//! should move ([`plan()`](crate::plan())).
//!
//! [`Change::FlipMove`]: crate::Change::FlipMove
//! [`Change::AbortMove`]: crate::Change::AbortMove

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{ChangeRefused, Epoch, MoveId, ShardMap, Slot, SlotCount, SlotEntry, StoreId, StoreState, UnsoundMap};

/// Most slots of one move.
pub const MAX_SLOTS_PER_MOVE: usize = 1_024;
/// Most moves that are not ended.
pub const MAX_MOVES: usize = 256;

const _: () = assert!(MAX_MOVES * MAX_SLOTS_PER_MOVE >= SlotCount::MAX as usize, "all slots may be under way");

/// A slot that is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingSlot {
    pub slot: Slot,
    /// The slot's epoch that the proposer saw. Where it is another by now, the proposer decided on an old map.
    pub expected_epoch: Epoch,
}

/// A move as it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMove {
    pub source: StoreId,
    /// Not draining, as long as the move has not begun.
    pub target: StoreId,
    /// 1 to [`MAX_SLOTS_PER_MOVE`], all in the source and in no other move.
    pub slots: Vec<MovingSlot>,
}

/// A move that is not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveEntry {
    pub source: StoreId,
    pub target: StoreId,
    pub slots: BTreeSet<Slot>,
    pub step: MoveStep,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MoveStep {
    /// The slots are served from the source as ever, while the target is prepared, filled and caught up.
    Copying,
    /// The slots take no writes, in neither store.
    Sealed,
    /// The slots are served from the target. What is left of them in the source is to be cleaned up.
    Flipped,
    /// The slots are served from the source. What was made for them in the target is to be cleaned up.
    Aborted(AbortReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AbortReason {
    Operator,
    /// Source or target failed over: what was copied may not be what the store now has.
    TimelineChanged,
    /// Longer in a step than is allowed.
    Stalled,
    /// The target's copy is not the source's data.
    VerificationFailed,
    StoreUnavailable,
}

impl MoveEntry {
    /// The store that the slots are in.
    pub fn store(&self) -> StoreId {
        match self.step {
            MoveStep::Copying | MoveStep::Sealed | MoveStep::Aborted(_) => self.source,
            MoveStep::Flipped => self.target,
        }
    }

    /// The store that the slots are in once the move is through.
    pub fn destination(&self) -> StoreId {
        match self.step {
            MoveStep::Copying | MoveStep::Sealed | MoveStep::Flipped => self.target,
            MoveStep::Aborted(_) => self.source,
        }
    }

    fn involves(&self, store: StoreId) -> bool {
        [self.source, self.target].contains(&store)
    }

    /// The entry of a slot of this move: store and seal follow from the step, and a new epoch from any change of them.
    fn slot_entry(&self, id: MoveId, was: SlotEntry) -> SlotEntry {
        let seal = (self.step == MoveStep::Sealed).then_some(id);
        let is = SlotEntry { store: self.store(), sealed_by: seal, ..was };
        if is == was { was } else { SlotEntry { epoch: was.epoch.next(), ..is } }
    }
}

impl MoveStep {
    /// Whether a change takes a move from this step to that one.
    fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Copying, Self::Sealed | Self::Aborted(_)) | (Self::Sealed, Self::Flipped | Self::Aborted(_))
        )
    }

    /// Whether [`Change::EndMove`](crate::Change::EndMove) may follow.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Flipped | Self::Aborted(_))
    }
}

/// Readers.
impl ShardMap {
    /// Those that are not ended, in order of id.
    pub fn moves(&self) -> impl ExactSizeIterator<Item = (MoveId, &MoveEntry)> + DoubleEndedIterator {
        self.moves.iter().map(|(&id, entry)| (id, entry))
    }

    /// `None` where the move is ended, or never was.
    pub fn move_entry(&self, id: MoveId) -> Option<&MoveEntry> {
        self.moves.get(&id)
    }

    /// The move that a slot is in.
    pub fn move_of(&self, slot: Slot) -> Option<(MoveId, &MoveEntry)> {
        self.moves().find(|(_, entry)| entry.slots.contains(&slot))
    }

    /// By slot that is in a move: the store that it will be in.
    pub(crate) fn destinations(&self) -> BTreeMap<Slot, StoreId> {
        let of_move = |entry: &MoveEntry| {
            let destination = entry.destination();
            entry.slots.iter().map(|&slot| (slot, destination)).collect::<Vec<_>>()
        };
        self.moves.values().flat_map(of_move).collect()
    }
}

/// The rules. Each works on the copy that `apply` throws away on an error.
impl ShardMap {
    /// The move's id is the version of the map that it begins with.
    pub(crate) fn begin_move(&mut self, new: &NewMove) -> Result<(), ChangeRefused> {
        let &NewMove { source, target, ref slots } = new;
        self.known_store(source)?;
        if self.known_store(target)?.state == StoreState::Draining {
            return Err(ChangeRefused::StoreDraining(target));
        }
        if source == target {
            return Err(ChangeRefused::MoveToItself(source));
        }
        if slots.is_empty() {
            return Err(ChangeRefused::Unchanged);
        }
        if slots.len() > MAX_SLOTS_PER_MOVE {
            return Err(ChangeRefused::TooManySlots);
        }
        if self.moves.len() >= MAX_MOVES {
            return Err(ChangeRefused::TooManyMoves);
        }
        let mut chosen = BTreeSet::new();
        for &MovingSlot { slot, expected_epoch } in slots {
            let entry = self.get(slot).ok_or(ChangeRefused::UnknownSlot(slot))?;
            if !chosen.insert(slot) {
                return Err(ChangeRefused::SlotTwice(slot));
            }
            if entry.store != source {
                return Err(ChangeRefused::SlotElsewhere { slot, store: entry.store });
            }
            if entry.epoch != expected_epoch {
                return Err(ChangeRefused::EpochMismatch { slot, current: entry.epoch });
            }
            if let Some((id, _)) = self.move_of(slot) {
                return Err(ChangeRefused::SlotInMove { slot, id });
            }
        }
        let entry = MoveEntry { source, target, slots: chosen, step: MoveStep::Copying };
        self.moves.insert(MoveId::from(self.version), entry);
        Ok(())
    }

    pub(crate) fn take_move_to(&mut self, id: MoveId, step: MoveStep) -> Result<(), ChangeRefused> {
        let entry = self.moves.get_mut(&id).ok_or(ChangeRefused::UnknownMove(id))?;
        if !entry.step.leads_to(step) {
            return Err(ChangeRefused::MoveIsAt { id, step: entry.step });
        }
        entry.step = step;
        for slot in &entry.slots {
            let slot = &mut self.slots[slot.index()];
            *slot = entry.slot_entry(id, *slot);
        }
        Ok(())
    }

    pub(crate) fn end_move(&mut self, id: MoveId) -> Result<(), ChangeRefused> {
        let entry = self.moves.get(&id).ok_or(ChangeRefused::UnknownMove(id))?;
        if !entry.step.is_last() {
            return Err(ChangeRefused::MoveIsAt { id, step: entry.step });
        }
        self.moves.remove(&id);
        Ok(())
    }

    /// The objects of a move are cleaned up in the store before that is removed.
    pub(crate) fn no_move_involves(&self, store: StoreId) -> Result<(), ChangeRefused> {
        match self.moves().find(|(_, entry)| entry.involves(store)) {
            Some((id, _)) => Err(ChangeRefused::StoreInMove { store, id }),
            None => Ok(()),
        }
    }
}

/// The invariants.
impl ShardMap {
    pub(crate) fn check_moves(&self) -> Result<(), UnsoundMap> {
        if self.moves.len() > MAX_MOVES {
            return Err(UnsoundMap::Moves(self.moves.len()));
        }
        let mut by_slot = BTreeMap::new();
        for (id, entry) in self.moves() {
            self.check_move(id, entry)?;
            for &slot in &entry.slots {
                if let Some(other) = by_slot.insert(slot, id) {
                    return Err(UnsoundMap::SlotInMoves { slot, first: other, second: id });
                }
            }
        }
        // What is in no move has no seal; the others were compared with their moves.
        match self.slots().find(|(slot, entry)| entry.sealed_by.is_some() && !by_slot.contains_key(slot)) {
            Some((slot, _)) => Err(UnsoundMap::SlotSeal(slot)),
            None => Ok(()),
        }
    }

    fn check_move(&self, id: MoveId, entry: &MoveEntry) -> Result<(), UnsoundMap> {
        if !(1..=self.version.get()).contains(&id.get()) {
            return Err(UnsoundMap::MoveId(id));
        }
        if entry.source == entry.target {
            return Err(UnsoundMap::MoveToItself(id));
        }
        if let Some(&store) = [entry.source, entry.target].iter().find(|store| !self.stores.contains_key(store)) {
            return Err(UnsoundMap::MoveStore { id, store });
        }
        if !(1..=MAX_SLOTS_PER_MOVE).contains(&entry.slots.len()) {
            return Err(UnsoundMap::MoveSlots { id, slots: entry.slots.len() });
        }
        for &slot in &entry.slots {
            let is = self.get(slot).ok_or(UnsoundMap::MoveSlot { id, slot })?;
            if is.store != entry.store() {
                return Err(UnsoundMap::MoveSlot { id, slot });
            }
            if entry.slot_entry(id, *is) != *is {
                return Err(UnsoundMap::SlotSeal(slot));
            }
        }
        Ok(())
    }
}

impl fmt::Display for MoveStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copying => f.write_str("copying"),
            Self::Sealed => f.write_str("sealed"),
            Self::Flipped => f.write_str("flipped"),
            Self::Aborted(reason) => write!(f, "aborted ({reason})"),
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "an operator wanted it",
            Self::TimelineChanged => "a store failed over",
            Self::Stalled => "it took too long",
            Self::VerificationFailed => "the copy differs",
            Self::StoreUnavailable => "the stores gave only errors",
        })
    }
}

#[cfg(test)]
mod tests;
