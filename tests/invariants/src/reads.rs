//! I6, and I1 and I3 as readers see them: what came through a router, against what is stored.

use tertulia_shard_map::{ConversationId, EventId, Seq, UserId};

use crate::{Invariant, Violations};

/// A sender asked for an event right after its ack: `found` is what the history has there.
pub fn check_own_read(
    conversation: ConversationId,
    acked: (EventId, Seq),
    found: Option<(EventId, Seq)>,
    violations: &mut Violations,
) {
    if found != Some(acked) {
        violations.add(Invariant::OwnWritesAreRead, || {
            let (id, seq) = acked;
            format!("{conversation}: {id} was acked as seq {seq}; right after, its sender reads {found:?} there")
        });
    }
}

/// Checks what one reader sees of a conversation against its log: hand in the reader's events in order.
#[derive(Debug)]
pub struct ReaderCheck<'a> {
    conversation: ConversationId,
    reader: UserId,
    /// Ids of the log, from seq 1.
    log: &'a [EventId],
    next: Seq,
}

impl<'a> ReaderCheck<'a> {
    /// `from` is the first event that this reader may read.
    pub fn new(conversation: ConversationId, reader: UserId, from: Seq, log: &'a [EventId]) -> Self {
        Self { conversation, reader, log, next: from }
    }

    pub fn event(&mut self, seq: Seq, id: EventId, violations: &mut Violations) {
        let stored = (seq.get() as usize).checked_sub(1).and_then(|place| self.log.get(place));
        if seq != self.next || stored != Some(&id) {
            violations.add(Invariant::SeqIsContiguous, || {
                format!("{}: {} reads {id} as {seq} where {} is due", self.conversation, self.reader, self.next)
            });
        }
        self.next = seq.next();
    }

    /// The history says that there is no more.
    pub fn finish(self, violations: &mut Violations) {
        let last = self.log.len() as u64;
        if self.next.get() <= last {
            violations.add(Invariant::AckedIsDurable, || {
                format!("{}: {} reads no further than {}, {last} are stored", self.conversation, self.reader, self.next)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_u128(1);
    const CONVERSATION: ConversationId = ConversationId::from_u128(9);

    fn id(number: u64) -> EventId {
        EventId::from_u128(number.into())
    }

    fn read(seen: &[(u64, u64)]) -> Vec<Invariant> {
        let log: Vec<EventId> = (1..=3).map(id).collect();
        let mut violations = Violations::default();
        let mut check = ReaderCheck::new(CONVERSATION, ANA, Seq::new(2), &log);
        seen.iter().for_each(|(seq, event)| check.event(Seq::new(*seq), id(*event), &mut violations));
        check.finish(&mut violations);
        Invariant::ALL.into_iter().filter(|it| violations.count(*it) > 0).collect()
    }

    #[test]
    fn a_reader_sees_the_log_from_its_first_event_to_its_last() {
        assert_eq!(read(&[(2, 2), (3, 3)]), []);
        assert_eq!(read(&[(2, 2)]), [Invariant::AckedIsDurable]);
        assert_eq!(read(&[(3, 3)]), [Invariant::SeqIsContiguous], "a hole");
        assert_eq!(read(&[(2, 2), (3, 9)]), [Invariant::SeqIsContiguous], "another event");
        assert_eq!(read(&[(2, 2), (3, 3), (4, 4)]), [Invariant::SeqIsContiguous], "one that is not stored");
    }

    #[test]
    fn an_own_write_that_is_not_read_is_found() {
        let mut violations = Violations::default();
        let acked = (id(2), Seq::new(2));
        check_own_read(CONVERSATION, acked, Some(acked), &mut violations);
        assert!(violations.is_empty());
        check_own_read(CONVERSATION, acked, None, &mut violations);
        check_own_read(CONVERSATION, acked, Some((id(1), Seq::new(2))), &mut violations);
        assert_eq!(violations.count(Invariant::OwnWritesAreRead), 2);
    }
}
