//! A store as the target of a move: whose a slot's partitions are, and how they are filled.
//!
//! The *mark* of a slot says which move its partitions in this store are of. It is what stops a driver that goes on late:
//!
//! - A newer move's mark is never replaced, and a closed one never filled again. So whoever drives an older move, or
//!   this one from an older step, can do nothing any more.
//! - Each filling has a number of its own, a [`Fill`]. What was compared, and what was drained, was so of one fill: where
//!   another driver has begun anew meanwhile, the numbers differ, and nothing is closed.

use std::collections::{BTreeMap, BTreeSet};

use tertulia_shard_map::{EventId, MoveId, Slot};

use super::{Partition, Row, Store, partition::RowKey};
use crate::known_fault::KnownFault;

/// Numbers the fillings of a slot's partitions in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Fill(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkState {
    Filling,
    /// The move has what it wanted of the partitions, or gave them up.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub of: MoveId,
    pub fill: Fill,
    pub state: MarkState,
}

/// The partitions are another move's by now, or another filling's, or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Brings what a source commits, in the order of its commits. Goes on by itself, whatever becomes of who made it.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub fill: Fill,
    slots: BTreeSet<Slot>,
    /// How many of the source's commits are in the target. `None`: not even the first copy is.
    positions: Option<BTreeMap<Slot, usize>>,
}

/// A comparison of a fill with its source, which was found to be the same up to these commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    pub fill: Fill,
    positions: BTreeMap<Slot, usize>,
}

/// Marks.
impl Store {
    fn marked(&self, slots: &BTreeSet<Slot>, wanted: Mark) -> Result<(), Refused> {
        let all = slots.iter().all(|slot| self.marks.get(slot) == Some(&wanted));
        if all { Ok(()) } else { Err(Refused) }
    }

    /// The mark of a move's slots: they are always marked together.
    pub fn mark_of(&self, slots: &BTreeSet<Slot>, of: MoveId) -> Option<Mark> {
        let mark = *self.marks.get(slots.first()?)?;
        (mark.of == of && self.marked(slots, mark).is_ok()).then_some(mark)
    }

    /// The partitions are to be filled for this move, from the beginning.
    pub fn mark_filling(&mut self, slots: &BTreeSet<Slot>, of: MoveId) -> Result<Fill, Refused> {
        let marks = || slots.iter().filter_map(|slot| self.marks.get(slot));
        let has_passed = |mark: &Mark| mark.of > of || (mark.of == of && mark.state == MarkState::Closed);
        if marks().any(has_passed) {
            return Err(Refused);
        }
        let fill = Fill(marks().map(|mark| mark.fill.0).max().unwrap_or(0) + 1);
        self.mark(slots, Mark { of, fill, state: MarkState::Filling });
        Ok(fill)
    }

    /// Nobody fills the partitions any more. They are what they are.
    pub fn close(&mut self, slots: &BTreeSet<Slot>, of: MoveId, fill: Fill) -> Result<(), Refused> {
        let filling = Mark { of, fill, state: MarkState::Filling };
        let closed = Mark { state: MarkState::Closed, ..filling };
        if self.marked(slots, closed).is_ok() {
            return Ok(());
        }
        self.marked(slots, filling)?;
        self.mark(slots, closed);
        self.subscriptions.remove(&of);
        Ok(())
    }

    fn mark(&mut self, slots: &BTreeSet<Slot>, mark: Mark) {
        self.marks.extend(slots.iter().map(|&slot| (slot, mark)));
    }
}

/// Filling.
impl Store {
    /// Drops the partitions, makes them anew, and subscribes to the source.
    pub fn recreate(&mut self, slots: &BTreeSet<Slot>, of: MoveId, fill: Fill) -> Result<(), Refused> {
        let mark = Mark { of, fill, state: MarkState::Filling };
        if !self.has(KnownFault::LateDriverDrops) {
            self.marked(slots, mark)?;
        }
        self.drop_partitions(slots);
        self.subscriptions.insert(of, Subscription { fill, slots: slots.clone(), positions: None });
        Ok(())
    }

    fn drop_partitions(&mut self, slots: &BTreeSet<Slot>) {
        self.partitions.retain(|slot, _| !slots.contains(slot));
    }

    pub fn subscription(&self, of: MoveId) -> Option<&Subscription> {
        self.subscriptions.get(&of)
    }

    /// Some more of what the source has committed: first all of it as it is, then commit by commit.
    pub fn replicate(&mut self, source: &Self, of: MoveId, rows_max: usize) {
        let leaves_keys = self.has(KnownFault::KeysLeftBehind);
        let Some(subscription) = self.subscriptions.get_mut(&of) else { return };
        let first_copy = subscription.positions.is_none();
        let positions = subscription.positions.get_or_insert_with(|| source.ends(&subscription.slots));
        for &slot in &subscription.slots {
            if first_copy {
                if let Some(partition) = source.partition(slot) {
                    self.partitions.insert(slot, partition.clone());
                }
            } else if let Some(position) = positions.get_mut(&slot) {
                for row in source.commits_from(slot, *position).iter().take(rows_max) {
                    self.partitions.entry(slot).or_default().put(row.clone());
                    *position += 1;
                }
            }
            if leaves_keys && let Some(partition) = self.partitions.get_mut(&slot) {
                partition.forget_keys();
            }
        }
    }

    /// Whether there is anything that the source has committed and this store does not have.
    pub fn is_drained(&self, source: &Self, slots: &BTreeSet<Slot>, of: MoveId) -> bool {
        let positions = self.subscription(of).and_then(|it| it.positions.as_ref());
        positions.is_some_and(|positions| *positions == source.ends(slots))
    }

    fn commits_from(&self, slot: Slot, position: usize) -> &[Row] {
        self.commits.get(&slot).and_then(|commits| commits.get(position..)).unwrap_or_default()
    }

    fn ends(&self, slots: &BTreeSet<Slot>) -> BTreeMap<Slot, usize> {
        slots.iter().map(|&slot| (slot, self.commits_from(slot, 0).len())).collect()
    }

    /// Nobody writes the slots in the source, and nobody here: the cursors are what they will be.
    pub fn copy_cursors(&mut self, cursors: &[(Slot, EventId)]) {
        for &(slot, event) in cursors {
            self.move_cursor(slot, event);
        }
    }
}

/// Comparing.
impl Store {
    /// All of it: the copy, with what is still on its way, is the source. `None` where it is not.
    pub fn compare(&self, source: &Self, slots: &BTreeSet<Slot>, of: MoveId, fill: Fill) -> Option<Compared> {
        let subscribed = self.subscription(of).and_then(|it| it.positions.clone());
        let ends = source.ends(slots);
        let positions = subscribed.unwrap_or_else(|| ends.clone());
        let same = slots.iter().all(|&slot| {
            let mut copy = self.partition(slot).cloned().unwrap_or_default();
            source.commits_from(slot, positions[&slot]).iter().for_each(|row| copy.put(row.clone()));
            self.is_same(&copy, source.partition(slot).unwrap_or(&Partition::default()))
        });
        same.then_some(Compared { fill, positions: ends })
    }

    fn is_same(&self, copy: &Partition, original: &Partition) -> bool {
        if self.has(KnownFault::KeysLeftBehind) { copy.is_same_without_keys(original) } else { copy == original }
    }

    /// What changed since an earlier comparison, and how long each conversation is: what the seal has time for.
    pub fn compare_since(&self, source: &Self, slots: &BTreeSet<Slot>, before: &Compared) -> bool {
        let nothing = Partition::default();
        slots.iter().all(|&slot| {
            let (copy, original) =
                (self.partition(slot).unwrap_or(&nothing), source.partition(slot).unwrap_or(&nothing));
            let changed: BTreeSet<RowKey> =
                source.commits_from(slot, before.positions[&slot]).iter().map(Row::key).collect();
            copy.lengths() == original.lengths() && changed.into_iter().all(|key| copy.is_same_at(key, original))
        })
    }
}

/// Cleaning up.
impl Store {
    /// Drops what a move that is flipped came from, or what was made for one that is aborted; and closes what might yet be.
    /// Slots of which a newer move has the mark are left alone.
    pub fn clean_up(&mut self, slots: &BTreeSet<Slot>, of: MoveId) {
        let is_newer = |slot: &&Slot| self.marks.get(slot).is_some_and(|mark| mark.of > of);
        let own: BTreeSet<Slot> = match self.has(KnownFault::LateDriverDrops) {
            true => slots.clone(),
            false => slots.iter().filter(|slot| !is_newer(slot)).copied().collect(),
        };
        let fill = |slot| self.marks.get(slot).map_or(Fill::default(), |mark| mark.fill);
        let marks: Vec<(Slot, Mark)> =
            own.iter().map(|slot| (*slot, Mark { of, fill: fill(slot), state: MarkState::Closed })).collect();
        self.drop_partitions(&own);
        self.subscriptions.remove(&of);
        self.marks.extend(marks);
    }
}
