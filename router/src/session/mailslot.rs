//! What the rest of the router sees of a session: a bounded queue of pushes into it, and a few words to it.
//!
//! Writers never wait: what does not fit is dropped, and the session is told with a `resync` once there is room again.
//! The order of pushes is kept, and a `resync` comes after every push that was queued before the drop. What is ephemeral
//! is dropped much earlier, and without a word.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::{
    client::{Format, ResyncReason},
    cluster::Presence,
};

use super::{
    core::Standing,
    drain::Leave,
    watches::{TooManyWatched, Watches},
};
use crate::routing::Attachment;

/// Bookkeeping of a queued push beside its bytes, so that many small ones are bounded too.
const PUSH_OVERHEAD_BYTES: usize = 64;
/// Typing and presence are dropped where more than this share of the queue is used.
const EPHEMERAL_SHARE: usize = 4;

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
    /// Until the session's task has taken it.
    leave: Option<Box<Leave>>,
    /// Whether there was one.
    is_leaving: bool,
    standing: Option<Standing>,
    user: Option<SignedIn>,
    /// Few sessions have any.
    watches: Option<Box<Watches>>,
    /// A standing came after the mailbox was asked for it: its answer, when it is looked at, is older.
    standing_heard: bool,
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
    pub leave: Option<Box<Leave>>,
    pub standing: Option<Standing>,
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

    /// Typing, or the like: dropped without a word where the client is behind.
    pub fn push_ephemeral(&self, envelope: Bytes) -> Pushed {
        let mut state = self.state();
        let outcome = self.queue_ephemeral(&mut state, envelope);
        drop(state);
        self.wake_after(outcome)
    }

    /// A state of a user that the session watches, if it is news to the client.
    pub fn push_presence(&self, presence: &Presence, envelope: Bytes) -> Pushed {
        let mut state = self.state();
        let outcome = self.queue_ephemeral(&mut state, envelope);
        if let (Pushed::Queued, Some(watches)) = (outcome, &mut state.watches) {
            watches.tell(presence);
        }
        drop(state);
        self.wake_after(outcome)
    }

    fn queue_ephemeral(&self, state: &mut State, envelope: Bytes) -> Pushed {
        let cost = envelope.len() + PUSH_OVERHEAD_BYTES;
        if state.resync.is_some() || state.queued_bytes + cost > self.queue_bytes_max / EPHEMERAL_SHARE {
            return Pushed::Dropped;
        }
        state.queued_bytes += cost;
        state.pushes.push_back(envelope);
        Pushed::Queued
    }

    fn wake_after(&self, outcome: Pushed) -> Pushed {
        if outcome == Pushed::Queued {
            self.waker.wake();
        }
        outcome
    }

    /// Adds users to those that the session watches, all or none. Those that are new.
    pub fn watch(&self, users: &[UserId]) -> Result<Vec<UserId>, TooManyWatched> {
        self.state().watches.get_or_insert_default().add(users)
    }

    pub fn unwatch(&self, users: &[UserId]) {
        let mut state = self.state();
        if let Some(watches) = &mut state.watches {
            watches.remove(users);
            if watches.is_empty() {
                state.watches = None;
            }
        }
    }

    /// An owner has begun to watch these users for the session. What of it is news to the client.
    pub fn watched(&self, users: &[UserId], states: &[Presence], at: Attachment) -> Vec<Presence> {
        self.state().watches.as_mut().map_or_else(Vec::new, |it| it.answered(users, states, at))
    }

    /// Whether the session watches the user, and its client does not know this yet.
    pub fn is_news(&self, presence: &Presence) -> bool {
        self.state().watches.as_ref().is_some_and(|it| it.is_news(presence))
    }

    /// The client is told so, by whoever calls this.
    pub fn tell(&self, presence: &Presence) {
        if let Some(watches) = &mut self.state().watches {
            watches.tell(presence);
        }
    }

    /// What the client was told of these users.
    pub fn told(&self, users: &[UserId]) -> Vec<Presence> {
        self.state().watches.as_ref().map_or_else(Vec::new, |it| it.told(users))
    }

    /// Those of them that the session does not watch (any more).
    pub fn not_watched(&self, users: &[UserId]) -> Vec<UserId> {
        let state = self.state();
        users.iter().copied().filter(|user| !state.watches.as_ref().is_some_and(|it| it.has(*user))).collect()
    }

    pub fn watches_anybody(&self) -> bool {
        self.state().watches.is_some()
    }

    /// Users who are watched elsewhere than `target` says they should be; see [`Watches::misplaced`].
    pub fn misplaced_watches(&self, target: impl Fn(UserId) -> Option<Attachment>) -> Vec<UserId> {
        self.state().watches.as_ref().map_or_else(Vec::new, |it| it.misplaced(target))
    }

    /// Their owners are about to be asked.
    pub fn ask_watches(&self, users: &[UserId]) {
        if let Some(watches) = &mut self.state().watches {
            watches.asked(users);
        }
    }

    /// All whom the session watches; it watches nobody afterwards.
    pub fn take_watches(&self) -> Vec<UserId> {
        self.state().watches.take().map_or_else(Vec::new, |it| it.users().collect())
    }

    /// The profile of the session's user changed elsewhere.
    pub fn set_standing(&self, standing: Standing) {
        {
            let mut state = self.state();
            state.standing = Some(standing);
            state.standing_heard = true;
        }
        self.waker.wake();
    }

    /// The mailbox's owner is about to be asked for it.
    pub fn ask_standing(&self) {
        self.state().standing_heard = false;
    }

    /// What the owner answered, unless it has said something newer since.
    pub fn answer_standing(&self, standing: Standing) {
        if !self.state().standing_heard {
            self.set_standing(standing);
        }
    }

    /// Has the client told to sync again.
    pub fn resync(&self, reason: ResyncReason) {
        self.state().resync.get_or_insert(reason);
        self.waker.wake();
    }

    /// Has the client told that the router stops, and the session closed in time. What counts is the first word.
    pub fn go_away(&self, leave: Leave) {
        {
            let mut state = self.state();
            if !std::mem::replace(&mut state.is_leaving, true) {
                state.leave = Some(Box::new(leave));
            }
        }
        self.waker.wake();
    }

    /// Whether it was told to go away.
    pub fn is_leaving(&self) -> bool {
        self.state().is_leaving
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

    /// Moves up to `bytes_max` of pushes into `into`, at least one where there is any and room at all. `resync` is given out
    /// only when everything before it has been, and there is room; the other words always.
    pub fn take(&self, bytes_max: usize, into: &mut VecDeque<Bytes>) -> Taken {
        let mut state = self.state();
        let mut taken_bytes = 0;
        while taken_bytes < bytes_max {
            let Some(envelope) = state.pushes.pop_front() else { break };
            state.queued_bytes -= envelope.len() + PUSH_OVERHEAD_BYTES;
            taken_bytes += envelope.len();
            into.push_back(envelope);
        }
        let resync = if bytes_max > 0 && state.pushes.is_empty() {
            // A burst must not hold its memory for as long as the session lives.
            state.pushes.shrink_to(IDLE_CAPACITY);
            state.resync.take()
        } else {
            None
        };
        Taken { resync, leave: state.leave.take(), standing: state.standing.take() }
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
    use std::time::{Duration, Instant};

    use super::{super::drain::Drain, *};

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
    fn a_client_without_room_hears_of_a_drop_later_and_of_its_end_at_once() {
        let slot = mailslot(250);
        let mut out = VecDeque::new();
        slot.resync(ResyncReason::OwnerChanged);
        let disabled = Standing { shares_presence: true, disabled: true };
        slot.set_standing(disabled);
        let taken = slot.take(0, &mut out);
        assert_eq!((taken.resync, taken.standing), (None, Some(disabled)));
        assert_eq!(slot.take(1, &mut out).resync, Some(ResyncReason::OwnerChanged));
    }

    #[test]
    fn a_standing_that_was_pushed_is_newer_than_an_answer_that_was_asked_for_before() {
        let standing = |shares_presence| Standing { shares_presence, disabled: false };
        let take = |slot: &Mailslot| slot.take(0, &mut VecDeque::new()).standing;
        let slot = mailslot(250);
        slot.ask_standing();
        slot.answer_standing(standing(false));
        assert_eq!(take(&slot), Some(standing(false)));
        slot.ask_standing();
        slot.set_standing(standing(true));
        slot.answer_standing(standing(false));
        assert_eq!(take(&slot), Some(standing(true)));
    }

    #[test]
    fn many_small_pushes_are_bounded_too() {
        let slot = mailslot(1000);
        let queued = (0..1000).filter(|_| slot.push(Bytes::from_static(b"x")) == Pushed::Queued).count();
        assert!(queued < 20, "{queued}");
    }

    #[test]
    fn what_is_ephemeral_is_dropped_first_and_without_a_word() {
        let slot = mailslot(1000);
        let queued = |outcome| outcome == Pushed::Queued;
        assert_eq!([(); 4].map(|()| queued(slot.push_ephemeral(envelope()))), [true, true, false, false]);
        assert!(queued(slot.push(envelope())), "there is room for what counts");
        let mut out = VecDeque::new();
        assert_eq!(slot.take(1000, &mut out).resync, None);
        assert_eq!(out.len(), 3);
        assert!(queued(slot.push_ephemeral(envelope())), "again once the client has caught up");
    }

    #[test]
    fn a_presence_that_was_dropped_is_still_news() {
        let (slot, user) = (mailslot(300), UserId::from_u128(1));
        slot.watch(&[user]).unwrap();
        let online = Presence { user, online: true, last_seen_ms: None };
        slot.push(envelope());
        assert_eq!(slot.push_presence(&online, envelope()), Pushed::Dropped);
        assert!(slot.is_news(&online));
        slot.take(1000, &mut VecDeque::new());
        let slot = mailslot(1000);
        slot.watch(&[user]).unwrap();
        assert_eq!(slot.push_presence(&online, envelope()), Pushed::Queued);
        assert!(!slot.is_news(&online));
        assert_eq!(slot.take_watches(), [user]);
        assert!(!slot.is_news(&online), "nobody is watched any more");
    }

    #[test]
    fn a_word_to_the_session_is_given_out_once() {
        let slot = mailslot(1000);
        let leave = Drain::new(Duration::from_secs(1), 1, Instant::now()).leave(Instant::now(), 0.0);
        slot.go_away(leave);
        slot.resync(ResyncReason::OwnerChanged);
        let mut out = VecDeque::new();
        let taken = slot.take(1000, &mut out);
        assert!(taken.leave == Some(Box::new(leave)) && taken.standing.is_none());
        assert_eq!(taken.resync, Some(ResyncReason::OwnerChanged));
        let taken = slot.take(1000, &mut out);
        assert!(taken.leave.is_none() && taken.resync.is_none());
    }
}
