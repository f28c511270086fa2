//! How far fan-out has come in each slot, until that is committed.

use std::{collections::BTreeMap, mem};

use tertulia_shard_map::{Epoch, EventId, Slot};

use crate::store::AppendBatch;

/// The consumer whose cursor the lane writes.
const MAILBOX: &str = "mailbox";

/// Cursors that wait for a batch to go with. Fan-out tells each only once: one that was lost would be written with the next
/// one of its slot, and until then every take-over would read the log again from an older place.
#[derive(Debug, Default)]
pub struct Cursors {
    waiting: BTreeMap<Slot, (Epoch, EventId)>,
}

impl Cursors {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Fan-out has come to this entry. The last one told counts.
    pub fn advance(&mut self, slot: Slot, epoch: Epoch, event: EventId) {
        self.waiting.insert(slot, (epoch, event));
    }

    /// The slot is another owner's, or this one's at another epoch.
    pub fn close(&mut self, slot: Slot) {
        self.waiting.remove(&slot);
    }

    /// All of them go with this batch.
    pub fn go_with(&mut self, batch: &mut AppendBatch) {
        for (slot, (epoch, event)) in mem::take(&mut self.waiting) {
            if !batch.slots.iter().any(|&(it, _)| it == slot) {
                batch.slots.push((slot, epoch));
            }
            batch.cursors.push((slot, MAILBOX, event));
        }
    }

    /// The batch was not committed: those that were to go with it go with a later one, unless fan-out is farther by now.
    pub fn take_back(&mut self, batch: &AppendBatch) {
        for &(slot, _, event) in &batch.cursors {
            if let Some(&(_, epoch)) = batch.slots.iter().find(|&&(it, _)| it == slot) {
                self.waiting.entry(slot).or_insert((epoch, event));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot::new(1);
    const EPOCH: Epoch = Epoch::new(7);

    fn event(number: u128) -> EventId {
        EventId::from_u128(number)
    }

    fn sent(cursors: &mut Cursors) -> AppendBatch {
        let mut batch = AppendBatch::default();
        cursors.go_with(&mut batch);
        assert!(cursors.is_empty());
        batch
    }

    #[test]
    fn a_cursor_goes_with_one_batch_and_under_its_epoch() {
        let mut cursors = Cursors::default();
        cursors.advance(SLOT, EPOCH, event(1));
        cursors.advance(SLOT, EPOCH, event(2));
        let batch = sent(&mut cursors);
        assert_eq!((batch.slots, batch.cursors), (vec![(SLOT, EPOCH)], vec![(SLOT, MAILBOX, event(2))]));
        assert!(sent(&mut cursors).cursors.is_empty());
    }

    #[test]
    fn a_slot_that_the_batch_writes_anyway_is_named_once() {
        let mut cursors = Cursors::default();
        cursors.advance(SLOT, EPOCH, event(1));
        let mut batch = AppendBatch { slots: vec![(SLOT, EPOCH)], ..AppendBatch::default() };
        cursors.go_with(&mut batch);
        assert_eq!(batch.slots, [(SLOT, EPOCH)]);
    }

    #[test]
    fn what_a_refused_batch_carried_goes_with_the_next_one() {
        let mut cursors = Cursors::default();
        cursors.advance(SLOT, EPOCH, event(1));
        let refused = sent(&mut cursors);
        cursors.take_back(&refused);
        assert_eq!(sent(&mut cursors), refused);

        cursors.advance(SLOT, EPOCH, event(2));
        cursors.take_back(&refused);
        assert_eq!(sent(&mut cursors).cursors, [(SLOT, MAILBOX, event(2))], "fan-out is farther by now");

        cursors.take_back(&refused);
        cursors.close(SLOT);
        assert!(cursors.is_empty());
    }
}
