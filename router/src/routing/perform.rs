//! Carries out one piece of a session's work: finds the owner, calls it, and says how that ended.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};
use tertulia_shard_map::{Slot, UserId};
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Append, Attach, Call, NamedUser, Refusal},
};
use tokio::time::Instant;

use super::{HoldReason, Key, Routes, Verdict};
use crate::session::{Failure, Mailslot, Outcome, Ticket, Work};

/// Slots that one `profile:get` asks at the same time.
const PROFILE_SLOTS_AT_ONCE: usize = 8;

/// An append is one attempt, which the session's lanes order and repeat. Everything else is held here until `deadline`.
///
/// The frequent case is the first poll of a first append: it reaches the owner's stream before this returns `Pending`.
pub async fn perform(
    routes: Arc<Routes>,
    mailslot: Arc<Mailslot>,
    ticket: Ticket,
    work: Work,
    deadline: Instant,
    trace: Option<TraceId>,
) -> (Ticket, Outcome) {
    let outcome = match work {
        Work::Append { append, attempt } => {
            if attempt > 0 {
                // Boxed, as everything rare here: the future's size is paid for every message.
                Box::pin(routes.wait_to_retry(attempt, deadline)).await;
            }
            send(&routes, append, deadline, trace).await
        }
        other => Box::pin(held(routes, mailslot, other, deadline, trace)).await,
    };
    (ticket, outcome)
}

async fn send(routes: &Routes, append: Append, deadline: Instant, trace: Option<TraceId>) -> Outcome {
    let key = Key::Conversation(append.conversation);
    match routes.attempt(key, |_| Call::Append(append), deadline, trace).await.0 {
        Verdict::Answered(Answer::Append(appended)) => Outcome::Appended(appended),
        verdict => failed(verdict),
    }
}

async fn held(
    routes: Arc<Routes>,
    mailslot: Arc<Mailslot>,
    work: Work,
    deadline: Instant,
    trace: Option<TraceId>,
) -> Outcome {
    match work {
        Work::Attach { user, name } => attach(&routes, &mailslot, user, name, deadline, trace).await,
        Work::Append { append, .. } => send(&routes, append, deadline, trace).await,
        Work::Sync(read) => {
            let key = Key::User(read.user);
            match routes.hold(key, |_| Call::Sync(read.clone()), deadline, trace).await.0 {
                Verdict::Answered(Answer::Sync(rows)) => Outcome::Synced(rows),
                verdict => failed(verdict),
            }
        }
        Work::History(read) => {
            let key = Key::Conversation(read.conversation);
            match routes.hold(key, |_| Call::History(read.clone()), deadline, trace).await.0 {
                Verdict::Answered(Answer::History(events)) => Outcome::Read(events),
                verdict => failed(verdict),
            }
        }
        Work::Profiles(users) => profiles(&routes, users, deadline, trace).await,
    }
}

async fn attach(
    routes: &Routes,
    mailslot: &Mailslot,
    user: UserId,
    name: Option<String>,
    deadline: Instant,
    trace: Option<TraceId>,
) -> Outcome {
    let session = mailslot.id;
    let call = |_| Call::Attach(Attach { user, session, name: name.clone() });
    match routes.hold(Key::User(user), call, deadline, trace).await {
        (Verdict::Answered(Answer::Attach { rev }), Some(attachment)) => {
            mailslot.set_attached(attachment);
            // The owner may have changed between the call and now, unseen by whoever attaches again.
            if routes.target(Key::User(user)).is_ok_and(|target| target.attachment != attachment) {
                routes.changed();
            }
            Outcome::Attached(rev)
        }
        (verdict, _) => failed(verdict),
    }
}

async fn profiles(routes: &Routes, users: Vec<UserId>, deadline: Instant, trace: Option<TraceId>) -> Outcome {
    let Some(map) = routes.map() else {
        // Whoever asks has attached, so there was a map; held all the same, for what it costs.
        return Outcome::Failed(Failure::Hold(HoldReason::NoMap));
    };
    let mut by_slot: BTreeMap<Slot, Vec<UserId>> = BTreeMap::new();
    for user in users {
        by_slot.entry(map.slot_of_user(user)).or_default().push(user);
    }
    let mut answers = stream::iter(by_slot)
        .map(|(slot, users)| async move {
            let call = |slot| Call::Profiles { slot, users: users.clone() };
            routes.hold(Key::Slot(slot), call, deadline, trace).await.0
        })
        .buffer_unordered(PROFILE_SLOTS_AT_ONCE);
    let mut named: Vec<NamedUser> = Vec::new();
    while let Some(verdict) = answers.next().await {
        match verdict {
            Verdict::Answered(Answer::Profiles(users)) => named.extend(users),
            verdict => return failed(verdict),
        }
    }
    Outcome::Named(named)
}

fn failed(verdict: Verdict) -> Outcome {
    Outcome::Failed(match verdict {
        Verdict::Hold { reason, .. } => Failure::Hold(reason),
        Verdict::Refused(refusal) => Failure::Refused(refusal),
        Verdict::Answered(answer) => {
            tracing::warn!(answer = ?std::mem::discriminant(&answer), "a node gave an answer of another kind");
            Failure::Refused(Refusal::Internal)
        }
    })
}
