//! Subscribes a session to the presence of users, each where their mailbox is owned, and ends that.
//!
//! Invariant: a session's commands about presence are carried out one after another (see [`core`](super::core)), so that a
//! late end does not undo a new beginning, and the failure of one takes back nothing that another asked for.

use futures_util::{StreamExt, stream};
use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::{
    TraceId,
    client::{Push, encode_push},
    cluster::{Answer, Call, Presence, Refusal, UnwatchPresence, WatchPresence},
    limits::PRESENCE_USERS_MAX,
};
use tokio::time::Instant;

use super::{Mailslot, watches::TooManyWatched};
use crate::{
    commands::{Failure, Outcome, presence_state},
    routing::{Attachment, HoldReason, Key, Routes},
};

/// Owners that one command calls at the same time.
const CALLS_AT_ONCE: usize = 16;

/// From now on the session is told of these users. All of them, or none.
pub async fn watch(
    routes: &Routes,
    mailslot: &Mailslot,
    users: &[UserId],
    deadline: Instant,
    trace: Option<TraceId>,
) -> Outcome {
    let new = match mailslot.watch(users) {
        Ok(new) => new,
        Err(TooManyWatched) => {
            let limit = format!("a session can subscribe to {PRESENCE_USERS_MAX} users");
            return Outcome::Failed(Failure::Refused(Refusal::LimitReached(limit)));
        }
    };
    match subscribe(routes, mailslot, users, Patience::Hold, deadline, trace, |news| mailslot.tell(news)).await {
        // What was pushed meanwhile is in it too.
        Ok(()) => Outcome::Answered(Answer::WatchPresence(mailslot.told(users))),
        Err(failure) => {
            mailslot.unwatch(&new);
            end(routes, mailslot.id, &new, deadline, trace).await;
            failure
        }
    }
}

#[derive(Clone, Copy)]
enum Patience {
    /// Until the deadline.
    Hold,
    /// One attempt, for whoever comes back to it.
    Once,
}

/// Calls the owners of these users, and notes what they say. `tell` hears what of it is news to the client. The first
/// failure, once all have answered.
async fn subscribe(
    routes: &Routes,
    mailslot: &Mailslot,
    users: &[UserId],
    patience: Patience,
    deadline: Instant,
    trace: Option<TraceId>,
    mut tell: impl FnMut(&Presence),
) -> Result<(), Outcome> {
    let (Some(signed_in), Some(by_slot)) = (mailslot.signed_in(), routes.by_slot(users)) else {
        return Err(Outcome::Failed(Failure::Hold(HoldReason::NoMap)));
    };
    let (watcher, session) = (signed_in.user, mailslot.id);
    let mut answers = stream::iter(by_slot)
        .map(|(slot, users)| async move {
            let (key, watched) = (Key::Slot(slot), users.clone());
            let call = |slot| Call::WatchPresence(WatchPresence { slot, watcher, session, users: watched.clone() });
            let answer = match patience {
                Patience::Hold => routes.hold(key, call, deadline, trace).await,
                Patience::Once => routes.attempt(key, call, deadline, trace).await,
            };
            (users, answer)
        })
        .buffer_unordered(CALLS_AT_ONCE);
    let mut result = Ok(());
    while let Some((users, (verdict, at))) = answers.next().await {
        match (Outcome::from(verdict), at) {
            (Outcome::Answered(Answer::WatchPresence(states)), Some(at)) => {
                mailslot.watched(&users, &states, at).iter().for_each(&mut tell);
                settle(routes, mailslot, &users, at, deadline, trace).await;
            }
            (other, _) => result = result.and(Err(other)),
        }
    }
    result
}

/// The same for users whose owner is another now. What is news is pushed.
pub async fn renew(routes: &Routes, mailslot: &Mailslot, users: &[UserId], deadline: Instant) -> Result<(), Outcome> {
    mailslot.ask_watches(users);
    let push = |presence: &Presence| {
        let mut envelope = Vec::new();
        encode_push(mailslot.format, &Push::Presence(presence_state(*presence)), &mut envelope);
        mailslot.push_presence(presence, envelope.into());
    };
    subscribe(routes, mailslot, users, Patience::Once, deadline, None, push).await
}

/// After an owner has begun to watch: what changed meanwhile, unseen by it.
async fn settle(
    routes: &Routes,
    mailslot: &Mailslot,
    users: &[UserId],
    at: Attachment,
    deadline: Instant,
    trace: Option<TraceId>,
) {
    // All of one slot: it may have another owner by now, unseen by whoever renews watches.
    let key = users.first().map(|user| Key::User(*user));
    if key.is_some_and(|key| routes.target(key).is_ok_and(|target| target.attachment != at)) {
        routes.changed();
    }
    let gone = mailslot.not_watched(users);
    if !gone.is_empty() {
        end(routes, mailslot.id, &gone, deadline, trace).await;
    }
}

/// The session is not told of these users any more, also where an owner does not hear of it.
pub async fn unwatch(
    routes: &Routes,
    mailslot: &Mailslot,
    users: &[UserId],
    deadline: Instant,
    trace: Option<TraceId>,
) -> Outcome {
    mailslot.unwatch(users);
    end(routes, mailslot.id, users, deadline, trace).await;
    Outcome::Answered(Answer::UnwatchPresence)
}

/// Best effort, one attempt: what an owner still says of them is dropped here, and it forgets the session with the link.
pub async fn end(routes: &Routes, session: SessionId, users: &[UserId], deadline: Instant, trace: Option<TraceId>) {
    let Some(by_slot) = routes.by_slot(users) else { return };
    let calls = stream::iter(by_slot)
        .map(|(slot, users)| async move {
            let call = |slot| Call::UnwatchPresence(UnwatchPresence { slot, session, users });
            routes.attempt(Key::Slot(slot), call, deadline, trace).await;
        })
        .buffer_unordered(CALLS_AT_ONCE);
    calls.collect::<()>().await;
}
