//! What the rest of the router sees of a session: a bounded queue of pushes into it, and a few words to it.
//!
//! Writers never wait: what does not fit is dropped, and the session is told with a `resync` once there is room again.
//! The order of pushes is kept, and a `resync` comes after every push that was queued before the drop.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::client::{Format, ResyncReason};

use crate::routing::Attachment;

/// Bookkeeping of a queued push beside its bytes, so that many small ones are bounded too.
const PUSH_OVERHEAD_BYTES: usize = 64;

/// One session, as the registry holds it.
pub struct Mailslot {
    pub id: SessionId,
    pub format: Format,
    queue_bytes_max: usize,
    waker: AtomicWaker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pushes: VecDeque<Bytes>,
    queued_bytes: usize,
    resync: Option<ResyncReason>,
    going_away: bool,
    user: Option<SignedIn>,
}

/// A session whose user is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIn {
    pub user: UserId,
    /// Where the mailbox's owner knows the session; `None` until the first attach is answered.
    pub attached: Option<Attachment>,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Queued,
    Dropped,
}

/// What the session's task takes out.
#[derive(Default)]
pub struct Taken {
    pub resync: Option<ResyncReason>,
    pub going_away: bool,
}

impl Mailslot {
    pub fn new(id: SessionId, format: Format, queue_bytes_max: usize) -> Self {
        Self { id, format, queue_bytes_max, waker: AtomicWaker::new(), state: Mutex::default() }
    }

    pub fn push(&self, envelope: Bytes) -> Pushed {
        let cost = envelope.len() + PUSH_OVERHEAD_BYTES;
        let outcome = {
            let mut state = self.state();
            // After a drop nothing is queued until the client is told: what it would get has a hole before it anyway.
            if state.resync == Some(ResyncReason::Overflow) || state.queued_bytes + cost > self.queue_bytes_max {
                state.resync = Some(ResyncReason::Overflow);
                Pushed::Dropped
            } else {
                state.queued_bytes += cost;
                state.pushes.push_back(envelope);
                Pushed::Queued
            }
        };
        self.waker.wake();
        outcome
    }

    /// Has the client told to sync again.
    pub fn resync(&self, reason: ResyncReason) {
        self.state().resync.get_or_insert(reason);
        self.waker.wake();
    }

    /// Has the client told that the router stops, and the session closed within the drain time.
    pub fn go_away(&self) {
        self.state().going_away = true;
        self.waker.wake();
    }

    pub fn signed_in(&self) -> Option<SignedIn> {
        self.state().user
    }

    pub fn sign_in(&self, user: UserId) {
        self.state().user = Some(SignedIn { user, attached: None });
    }

    pub fn set_attached(&self, attachment: Attachment) {
        if let Some(user) = &mut self.state().user {
            user.attached = Some(attachment);
        }
    }

    /// Wakes `waker` at the next change.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Moves up to `bytes_max` of pushes into `into`, at least one where there is any. `resync` is given out only when
    /// everything before it has been.
    pub fn take(&self, bytes_max: usize, into: &mut VecDeque<Bytes>) -> Taken {
        let mut state = self.state();
        let mut taken_bytes = 0;
        while taken_bytes < bytes_max {
            let Some(envelope) = state.pushes.pop_front() else { break };
            state.queued_bytes -= envelope.len() + PUSH_OVERHEAD_BYTES;
            taken_bytes += envelope.len();
            into.push_back(envelope);
        }
        let resync = if state.pushes.is_empty() {
            // A burst must not hold its memory for as long as the session lives.
            state.pushes.shrink_to(IDLE_CAPACITY);
            state.resync.take()
        } else {
            None
        };
        Taken { resync, going_away: std::mem::take(&mut state.going_away) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and every field is valid at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for pushes that an idle session keeps.
const IDLE_CAPACITY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn mailslot(queue_bytes: usize) -> Mailslot {
        Mailslot::new(SessionId::from_u128(1), Format::Json, queue_bytes)
    }

    fn envelope() -> Bytes {
        Bytes::from_static(b"0123456789abcdef0123456789abcdef0123")
    }

    #[test]
    fn an_overflow_drops_pushes_and_ends_with_a_resync() {
        let slot = mailslot(250);
        let outcomes = [(); 4].map(|()| slot.push(envelope()));
        assert_eq!(outcomes, [Pushed::Queued, Pushed::Queued, Pushed::Dropped, Pushed::Dropped]);

        let mut out = VecDeque::new();
        let taken = slot.take(1, &mut out);
        assert_eq!((out.len(), taken.resync), (1, None), "the resync waits for what was queued before the drop");
        assert_eq!(slot.push(envelope()), Pushed::Dropped, "nothing overtakes the resync");
        let taken = slot.take(1000, &mut out);
        assert_eq!((out.len(), taken.resync), (2, Some(ResyncReason::Overflow)));
        assert_eq!(slot.push(envelope()), Pushed::Queued, "live again once told");
    }

    #[test]
    fn many_small_pushes_are_bounded_too() {
        let slot = mailslot(1000);
        let queued = (0..1000).filter(|_| slot.push(Bytes::from_static(b"x")) == Pushed::Queued).count();
        assert!(queued < 20, "{queued}");
    }

    #[test]
    fn a_word_to_the_session_is_given_out_once() {
        let slot = mailslot(1000);
        slot.go_away();
        slot.resync(ResyncReason::OwnerChanged);
        let mut out = VecDeque::new();
        let taken = slot.take(1000, &mut out);
        assert!(taken.going_away);
        assert_eq!(taken.resync, Some(ResyncReason::OwnerChanged));
        let taken = slot.take(1000, &mut out);
        assert!(!taken.going_away && taken.resync.is_none());
    }
}
