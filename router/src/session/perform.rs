//! Carries out one job of a session: finds the owner, calls it, and says how that ended.

use std::sync::Arc;

use tertulia_shard_map::UserId;
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Attach, Call},
};
use tokio::time::Instant;

use super::{Job, Mailslot, Ticket, presence};
use crate::{
    commands::{Failure, Outcome, Routed, carry_out},
    limits::Turnstile,
    routing::{Key, Routes, Verdict},
};

/// An attempt is one, which the session's lanes order and repeat. Everything else is held here until `deadline`.
///
/// The frequent case is the first poll of a first attempt: it reaches the owner's stream before this returns `Pending`.
pub async fn perform(
    routes: Arc<Routes>,
    turnstile: Turnstile,
    mailslot: Arc<Mailslot>,
    ticket: Ticket,
    job: Job,
    deadline: Instant,
    trace: Option<TraceId>,
) -> (Ticket, Outcome) {
    let outcome = match job {
        Job::Attempt { routed: Routed { key, call }, attempt } => {
            // Boxed, as everything rare here: the future's size is paid for every message.
            if attempt > 0 {
                Box::pin(routes.wait_to_retry(key, attempt, deadline)).await;
            } else if let Some(deed) = turnstile.limits().deed(&call) {
                let attempt = async { routes.attempt(key, |_| call, deadline, trace).await.0 };
                let passed = Box::pin(turnstile.pass(deed, attempt)).await;
                return (
                    ticket,
                    passed.map_or_else(|limited| Outcome::Failed(Failure::Limited(limited)), Outcome::from),
                );
            }
            routes.attempt(key, |_| call, deadline, trace).await.0.into()
        }
        other => Box::pin(held(routes, turnstile, mailslot, other, deadline, trace)).await,
    };
    (ticket, outcome)
}

async fn held(
    routes: Arc<Routes>,
    turnstile: Turnstile,
    mailslot: Arc<Mailslot>,
    job: Job,
    deadline: Instant,
    trace: Option<TraceId>,
) -> Outcome {
    match job {
        Job::Attach { user, name } => attach(&routes, &mailslot, user, name, deadline, trace).await,
        Job::Hold(work) => carry_out(&routes, turnstile.limits(), &work, deadline, trace).await.0,
        Job::Watch(users) => presence::watch(&routes, &mailslot, &users, deadline, trace).await,
        Job::Unwatch(users) => presence::unwatch(&routes, &mailslot, &users, deadline, trace).await,
        Job::Attempt { routed: Routed { key, call }, .. } => {
            routes.attempt(key, |_| call, deadline, trace).await.0.into()
        }
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
    let (verdict, attachment) = routes.hold(Key::User(user), call, deadline, trace).await;
    if let (Verdict::Answered(Answer::Attach(_)), Some(attachment)) = (&verdict, attachment) {
        mailslot.set_attached(attachment);
        // The owner may have changed between the call and now, unseen by whoever attaches again.
        if routes.target(Key::User(user)).is_ok_and(|target| target.attachment != attachment) {
            routes.changed();
        }
    }
    verdict.into()
}
