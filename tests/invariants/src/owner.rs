//! I5: the events of a slot against the transactions that wrote them.
//!
//! One owner writes one transaction after the other, and numbers its events as it does: in order of their ids, their
//! transactions never go back. Two owners at a time would number and write across each other.

use tertulia_shard_map::{EventId, Slot};

use crate::{Invariant, Violations};

/// A transaction's number, as Postgres counts them: it begins anew after 2^32, so only which of two came first is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction(u32);

impl Transaction {
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
}

/// Checks one slot: hand in its events in order of their ids, without those whose row was written again later.
#[derive(Debug)]
pub struct SlotCheck {
    slot: Slot,
    last: Option<(EventId, Transaction)>,
}

impl SlotCheck {
    pub fn new(slot: Slot) -> Self {
        Self { slot, last: None }
    }

    pub fn event(&mut self, id: EventId, written_by: Transaction, violations: &mut Violations) {
        if let Some((before, transaction)) = self.last
            && (id <= before || written_by.is_before(transaction))
        {
            violations.add(Invariant::OneOwnerPerEpoch, || {
                format!("slot {}: {id} was written before {before}, whose id is lower", self.slot)
            });
        }
        self.last = Some((id, written_by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(events: &[(u128, u32)]) -> u64 {
        let (mut check, mut violations) = (SlotCheck::new(Slot::new(3)), Violations::default());
        for (id, transaction) in events {
            check.event(EventId::from_u128(*id), Transaction::new(*transaction), &mut violations);
        }
        violations.count(Invariant::OneOwnerPerEpoch)
    }

    #[test]
    fn one_owner_after_the_other_is_found_faultless() {
        assert_eq!(found(&[(1, 7), (2, 7), (3, 9), (9, 12)]), 0);
        assert_eq!(found(&[(1, u32::MAX - 1), (2, 3)]), 0, "the count begins anew");
    }

    #[test]
    fn two_owners_at_a_time_are_found() {
        assert_eq!(found(&[(1, 7), (2, 9), (3, 8), (4, 10)]), 1);
        assert_eq!(found(&[(2, 7), (2, 8)]), 1, "the same id twice");
    }
}
