//! The order of what a session writes: commands to one conversation reach its owner as they came, also where some are
//! retried.
//!
//! They are pipelined: as long as nothing goes wrong each starts at once, on the ordered stream to the owner. Where one
//! could not be carried out, the conversation's lane closes: later ones wait, the oldest is retried alone, and its
//! success opens the lane again. Only one that was already on its way when the earlier one failed may still pass it.
//!
//! Pure: retries and releases are answers to the caller, who performs them.

use std::time::Instant;

use tertulia_shard_map::ConversationId;
use tertulia_wire::client::CommandId;

use super::held::HeldPermit;
use crate::commands::Ordered;

/// Names one piece of work of a session; grows with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u32);

/// A command without an answer yet.
pub struct Pending {
    pub ticket: Ticket,
    pub id: Option<CommandId>,
    /// The command's type.
    pub kind: &'static str,
    pub ordered: Ordered,
    pub received: Instant,
    pub deadline: Instant,
    /// Attempts that failed.
    pub attempts: u32,
    pub state: State,
    pub held: HeldPermit,
}

impl Pending {
    fn lane(&self) -> ConversationId {
        self.ordered.conversation()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On its way, as were all before it.
    Flying,
    /// The oldest of its lane, being tried again.
    Retrying,
    /// Behind one that is being tried again.
    Waiting,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The owner answered it, be it with a refusal: it serves.
    Answered,
    GivenUp,
}

/// All ordered commands of a session that have no answer yet, in the order of their receipt.
#[derive(Default)]
pub struct Lanes {
    pending: Vec<Pending>,
}

impl Lanes {
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn held_bytes(&self) -> usize {
        self.pending.iter().map(|it| it.held.bytes()).sum()
    }

    /// Gives back the memory of commands that are over.
    pub fn shrink(&mut self) {
        self.pending.shrink_to_fit();
    }

    /// Adds a command; it is to be started now if this says `Flying`.
    pub fn accept(&mut self, mut new: Pending) -> State {
        let lane = new.lane();
        let closed = self.pending.iter().any(|it| it.lane() == lane && it.state != State::Flying);
        new.state = if closed { State::Waiting } else { State::Flying };
        let state = new.state;
        self.pending.push(new);
        state
    }

    /// An attempt failed in a way that may pass. The command to be tried again, unless it has to wait for an older one.
    pub fn hold(&mut self, ticket: Ticket) -> Option<&Pending> {
        let at = self.position(ticket)?;
        let lane = self.pending[at].lane();
        let behind = self.pending[..at].iter().any(|it| it.lane() == lane);
        let held = &mut self.pending[at];
        held.attempts = held.attempts.saturating_add(1);
        held.state = if behind { State::Waiting } else { State::Retrying };
        (!behind).then_some(&self.pending[at])
    }

    pub fn get(&self, ticket: Ticket) -> Option<&Pending> {
        self.position(ticket).map(|at| &self.pending[at])
    }

    /// Takes out a command that is over, and names those that may start now, in their order.
    pub fn finish(&mut self, ticket: Ticket, end: End, release: &mut Vec<Ticket>) -> Option<Pending> {
        let done = self.pending.remove(self.position(ticket)?);
        let lane = done.lane();
        let mut rest = self.pending.iter_mut().filter(|it| it.lane() == lane).peekable();
        if rest.peek().is_some_and(|oldest| oldest.state == State::Waiting) {
            match end {
                End::Answered => {
                    for it in rest.filter(|it| it.state == State::Waiting) {
                        it.state = State::Flying;
                        release.push(it.ticket);
                    }
                }
                End::GivenUp => {
                    if let Some(oldest) = rest.next() {
                        oldest.state = State::Retrying;
                        release.push(oldest.ticket);
                    }
                }
            }
        }
        Some(done)
    }

    /// Takes out the waiting commands whose time is over.
    pub fn expire(&mut self, now: Instant) -> impl Iterator<Item = Pending> {
        self.pending.extract_if(.., move |it| it.state == State::Waiting && it.deadline <= now)
    }

    /// When [`Lanes::expire`] is due next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.pending.iter().filter(|it| it.state == State::Waiting).map(|it| it.deadline).min()
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.pending.iter().position(|it| it.ticket == ticket)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tertulia_shard_map::UserId;
    use tertulia_wire::cluster::{Action, Append, Authority};

    use super::*;
    use crate::session::held::HeldBytes;

    const A: u128 = 1;
    const B: u128 = 2;

    struct Fixture {
        lanes: Lanes,
        start: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            Self { lanes: Lanes::default(), start: Instant::now() }
        }

        fn send(&mut self, ticket: u32, conversation: u128) -> State {
            let append = Append {
                conversation: ConversationId::from_u128(conversation),
                direct_peer: None,
                sender: UserId::from_u128(9),
                authority: Authority::Member,
                origin: None,
                temp_id: ticket.to_string(),
                action: Action::Message { body: Bytes::new() },
            };
            self.lanes.accept(Pending {
                ticket: Ticket(ticket),
                id: None,
                kind: "dm:send",
                ordered: Ordered::Event { append, body: None },
                received: self.start,
                deadline: self.start + Duration::from_secs(ticket.into()),
                attempts: 0,
                state: State::Flying,
                held: HeldBytes::new(1000).try_hold(1).unwrap(),
            })
        }

        fn hold(&mut self, ticket: u32) -> bool {
            self.lanes.hold(Ticket(ticket)).is_some()
        }

        fn finish(&mut self, ticket: u32, end: End) -> Vec<u32> {
            let mut release = Vec::new();
            self.lanes.finish(Ticket(ticket), end, &mut release).unwrap();
            release.into_iter().map(|ticket| ticket.0).collect()
        }
    }

    #[test]
    fn sends_are_pipelined_while_all_is_well() {
        let mut it = Fixture::new();
        assert_eq!([1, 2, 3].map(|ticket| it.send(ticket, A)), [State::Flying; 3]);
        assert!([1, 2, 3].into_iter().all(|ticket| it.finish(ticket, End::Answered).is_empty()));
        assert_eq!(it.lanes.len(), 0);
    }

    #[test]
    fn a_later_send_waits_behind_one_that_is_retried() {
        let mut it = Fixture::new();
        it.send(1, A);
        assert!(it.hold(1), "the oldest is retried");
        assert_eq!(it.send(2, A), State::Waiting);
        assert_eq!(it.send(3, A), State::Waiting);
        assert_eq!(it.send(4, B), State::Flying, "other conversations are not concerned");
        assert!(it.hold(1), "again");
        assert_eq!(it.finish(1, End::Answered), [2, 3], "in order");
        assert_eq!(it.send(5, A), State::Flying);
    }

    #[test]
    fn what_failed_together_is_retried_oldest_first() {
        let mut it = Fixture::new();
        for ticket in 1..=3 {
            it.send(ticket, A);
        }
        assert!(!it.hold(2), "1 is still on its way, and must not be passed");
        assert!(it.hold(1));
        assert!(!it.hold(3));
        assert_eq!(it.finish(1, End::Answered), [2, 3]);
    }

    #[test]
    fn a_held_send_starts_when_the_one_before_succeeds_after_all() {
        let mut it = Fixture::new();
        it.send(1, A);
        it.send(2, A);
        assert!(!it.hold(2));
        assert_eq!(it.finish(1, End::Answered), [2]);
    }

    #[test]
    fn after_a_send_was_given_up_the_next_is_tried_alone() {
        let mut it = Fixture::new();
        it.send(1, A);
        it.hold(1);
        it.send(2, A);
        it.send(3, A);
        assert_eq!(it.finish(1, End::GivenUp), [2]);
        assert_eq!(it.send(4, A), State::Waiting);
        assert_eq!(it.finish(2, End::Answered), [3, 4]);
    }

    #[test]
    fn a_waiting_send_expires_at_its_own_deadline() {
        let mut it = Fixture::new();
        it.send(5, A);
        it.hold(5);
        it.send(6, A);
        it.send(7, A);
        assert_eq!(it.lanes.next_expiry(), Some(it.start + Duration::from_secs(6)));
        let expired: Vec<u32> = it.lanes.expire(it.start + Duration::from_secs(6)).map(|send| send.ticket.0).collect();
        assert_eq!(expired, [6], "the one being retried is not touched: its attempt ends by itself");
        assert_eq!(it.finish(5, End::Answered), [7]);
    }
}
