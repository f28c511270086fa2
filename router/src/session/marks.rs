//! Watermarks on their way: at most one call per conversation, those that come meanwhile are merged into the next.
//!
//! Each command still has an answer of its own. Where a merged call is refused, only the highest of it can be at fault
//! (it is above the newest event): those that asked for it are told so, and the others are tried without it. It ends with
//! the first of their deadlines, and those that may wait longer are tried again. Pure.

use std::time::Instant;

use tertulia_shard_map::Seq;
use tertulia_wire::{client::CommandId, cluster::Mark};

use super::lanes::Ticket;

/// A `dm:delivered` or `dm:read` without an answer yet.
pub struct PendingMark {
    pub id: Option<CommandId>,
    /// The command's type.
    pub kind: &'static str,
    pub mark: Mark,
    pub received: Instant,
    pub deadline: Instant,
}

impl PendingMark {
    fn seq(&self) -> Seq {
        self.mark.delivered.max(self.mark.read)
    }
}

/// A call to make.
#[derive(Debug, PartialEq, Eq)]
pub struct Flight {
    pub mark: Mark,
    pub deadline: Instant,
}

struct Entry {
    pending: PendingMark,
    /// `None` while it waits for the one before.
    flight: Option<Ticket>,
}

#[derive(Default)]
pub struct Marks {
    entries: Vec<Entry>,
}

impl Marks {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Gives back the memory of marks that are over.
    pub fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Adds a mark; the call to make now under `ticket`, unless one to that conversation is under way.
    pub fn accept(&mut self, ticket: Ticket, pending: PendingMark) -> Option<Flight> {
        let conversation = pending.mark.conversation;
        let waits = self.entries.iter().any(|it| it.pending.mark.conversation == conversation);
        let flight = (!waits).then(|| Flight { mark: pending.mark.clone(), deadline: pending.deadline });
        self.entries.push(Entry { pending, flight: flight.as_ref().map(|_| ticket) });
        flight
    }

    pub fn has(&self, ticket: Ticket) -> bool {
        self.entries.iter().any(|it| it.flight == Some(ticket))
    }

    /// A call has ended. Moves those that it answers to `answered`; the call to make next, under `next`.
    pub fn finish(
        &mut self,
        ticket: Ticket,
        end: MarkEnd,
        next: Ticket,
        answered: &mut Vec<PendingMark>,
    ) -> Option<Flight> {
        let flown = |it: &Entry| it.flight == Some(ticket);
        let conversation = self.entries.iter().find(|it| flown(it))?.pending.mark.conversation;
        let highest = self.entries.iter().filter(|it| flown(it)).map(|it| it.pending.seq()).max();
        let nearest = self.entries.iter().filter(|it| flown(it)).map(|it| it.pending.deadline).min();
        let over = |it: &Entry| {
            flown(it)
                && match end {
                    MarkEnd::Settled => true,
                    MarkEnd::Refused => Some(it.pending.seq()) == highest,
                    MarkEnd::Late(now) => it.pending.deadline <= now || Some(it.pending.deadline) == nearest,
                }
        };
        answered.extend(self.entries.extract_if(.., |it| over(it)).map(|it| it.pending));

        let mut flight: Option<Flight> = None;
        for Entry { pending, flight: under } in &mut self.entries {
            if pending.mark.conversation != conversation {
                continue;
            }
            *under = Some(next);
            match &mut flight {
                None => flight = Some(Flight { mark: pending.mark.clone(), deadline: pending.deadline }),
                Some(flight) => {
                    flight.mark.delivered = flight.mark.delivered.max(pending.mark.delivered);
                    flight.mark.read = flight.mark.read.max(pending.mark.read);
                    flight.deadline = flight.deadline.min(pending.deadline);
                }
            }
        }
        flight
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkEnd {
    /// For all that are in it.
    Settled,
    /// For what is in it: a lower mark may do.
    Refused,
    /// For those that wait no longer.
    Late(Instant),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tertulia_shard_map::{ConversationId, UserId};

    use super::*;

    struct Fixture {
        marks: Marks,
        start: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            Self { marks: Marks::default(), start: Instant::now() }
        }

        fn delivered(&mut self, ticket: u32, conversation: u128, seq: u64) -> Option<Flight> {
            self.accept(ticket, conversation, seq, 0)
        }

        fn accept(&mut self, ticket: u32, conversation: u128, delivered: u64, read: u64) -> Option<Flight> {
            let mark = Mark {
                conversation: ConversationId::from_u128(conversation),
                user: UserId::from_u128(9),
                origin: None,
                delivered: Seq::new(delivered),
                read: Seq::new(read),
            };
            let deadline = self.start + Duration::from_secs(ticket.into());
            let (id, kind, received) = (Some(ticket.into()), "dm:delivered", self.start);
            self.marks.accept(Ticket(ticket), PendingMark { id, kind, mark, received, deadline })
        }

        /// The ids answered, and the watermarks of the next call.
        fn finish(&mut self, ticket: u32, end: MarkEnd, next: u32) -> (Vec<u64>, Option<(u64, u64)>) {
            let mut answered = Vec::new();
            let flight = self.marks.finish(Ticket(ticket), end, Ticket(next), &mut answered);
            let ids = answered.iter().filter_map(|it| it.id).collect();
            (ids, flight.map(|it| (it.mark.delivered.get(), it.mark.read.get())))
        }
    }

    #[test]
    fn marks_that_come_during_a_call_are_one_call_and_each_has_its_answer() {
        let mut it = Fixture::new();
        assert!(it.delivered(1, 1, 5).is_some());
        assert!(it.delivered(2, 1, 6).is_none());
        assert!(it.accept(3, 1, 0, 4).is_none());
        assert!(it.delivered(4, 2, 1).is_some(), "other conversations are not concerned");
        assert_eq!(it.finish(1, MarkEnd::Settled, 10), (vec![1], Some((6, 4))));
        assert!(it.marks.has(Ticket(10)));
        assert_eq!(it.finish(10, MarkEnd::Settled, 11), (vec![2, 3], None));
        assert_eq!(it.finish(4, MarkEnd::Settled, 12), (vec![4], None));
        assert_eq!(it.marks.len(), 0);
    }

    #[test]
    fn a_merged_call_keeps_the_nearest_deadline() {
        let mut it = Fixture::new();
        it.delivered(9, 1, 5);
        it.delivered(4, 1, 6);
        it.delivered(3, 1, 7);
        let mut answered = Vec::new();
        let flight = it.marks.finish(Ticket(9), MarkEnd::Settled, Ticket(10), &mut answered).unwrap();
        assert_eq!(flight.deadline, it.start + Duration::from_secs(3));
    }

    #[test]
    fn those_that_may_wait_longer_are_tried_again() {
        let mut it = Fixture::new();
        it.delivered(1, 1, 5);
        it.delivered(3, 1, 6);
        it.delivered(4, 1, 7);
        it.finish(1, MarkEnd::Settled, 10);
        let late = |seconds| MarkEnd::Late(it.start + Duration::from_secs(seconds));
        let (first, last) = (late(3), late(4));
        assert_eq!(it.finish(10, first, 11), (vec![3], Some((7, 0))));
        assert_eq!(it.finish(11, last, 12), (vec![4], None));
    }

    #[test]
    fn one_mark_too_high_does_not_spoil_those_it_was_merged_with() {
        let mut it = Fixture::new();
        it.delivered(1, 1, 1);
        it.delivered(2, 1, 2);
        it.delivered(3, 1, 900);
        it.delivered(4, 1, 3);
        it.finish(1, MarkEnd::Settled, 10);
        assert_eq!(it.finish(10, MarkEnd::Refused, 11), (vec![3], Some((3, 0))));
        assert_eq!(it.finish(11, MarkEnd::Settled, 12), (vec![2, 4], None));
    }
}
