//! Carries work out, holding and retrying it: what a session starts, and whole commands for skins without one.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tertulia_shard_map::UserId;
use tertulia_wire::{
    TraceId,
    client::{Command, Reply},
    cluster::{Answer, Call, ProfileRecord},
};
use tokio::time::Instant;

use super::{Asked, Caller, Failure, Outcome, Planned, Query, Routed, TYPING_DEADLINE, Work, plan, plan::not_expected};
use crate::{
    limits::{Allowance, Limits},
    metrics::count_command,
    routing::{HoldReason, Key, Routes},
};

/// Slots that one `profile:get` asks at the same time.
const PROFILE_SLOTS_AT_ONCE: usize = 8;

/// Carries one command out, from validation to reply, holding and retrying until `deadline`. For skins without a
/// session: nothing is ordered here.
///
/// Beside the reply, what is left of the limit that the command counted against.
pub async fn execute(
    routes: &Arc<Routes>,
    limits: &Limits,
    caller: &Caller,
    command: Command,
    deadline: Instant,
    trace: Option<TraceId>,
) -> (Reply, Option<Allowance>) {
    let kind = command.type_name();
    let (reply, left) = match command {
        Command::Ping => (Reply::Pong, None),
        command => match plan(caller, command) {
            Ok(planned) => run(routes, limits, planned, deadline, trace).await,
            Err(error) => (Reply::Error(error), None),
        },
    };
    count_command(kind, &reply);
    (reply, left)
}

async fn run(
    routes: &Routes,
    limits: &Limits,
    planned: Planned,
    deadline: Instant,
    trace: Option<TraceId>,
) -> (Reply, Option<Allowance>) {
    match planned {
        Planned::Ordered(ordered) => {
            let (outcome, left) = carry_out(routes, limits, &Work::Call(ordered.routed()), deadline, trace).await;
            (ordered.reply(outcome), left)
        }
        Planned::Mark(mark) => {
            let asked = Asked::Mark(mark.conversation);
            let work = Work::Call(Routed { key: Key::Conversation(mark.conversation), call: Call::Mark(mark) });
            let (outcome, left) = carry_out(routes, limits, &work, deadline, trace).await;
            (asked.reply(outcome), left)
        }
        Planned::Typing(typing) => {
            // Once, and whatever becomes of it: it promises nothing.
            let key = Key::Conversation(typing.conversation);
            let deadline = deadline.min(Instant::now() + TYPING_DEADLINE);
            routes.attempt(key, |_| Call::Typing(typing), deadline, trace).await;
            (Reply::Ok, None)
        }
        Planned::Query(Query { work, asked }) => {
            let (outcome, left) = carry_out(routes, limits, &work, deadline, trace).await;
            (asked.reply(outcome), left)
        }
        // Planned for sessions only.
        Planned::Watch(_) | Planned::Unwatch(_) => (Reply::Error(not_expected("subscriptions are a session's")), None),
    }
}

/// Holds and retries until `deadline`, unless the user did too much of this.
pub async fn carry_out(
    routes: &Routes,
    limits: &Limits,
    work: &Work,
    deadline: Instant,
    trace: Option<TraceId>,
) -> (Outcome, Option<Allowance>) {
    match work {
        Work::Call(Routed { key, call }) => {
            let left = match limits.deed(call) {
                Some(deed) => match limits.admit(deed).await {
                    Ok(left) => left,
                    Err(limited) => return (Outcome::Failed(Failure::Limited(limited)), Some(limited.allowance)),
                },
                None => None,
            };
            (routes.hold(*key, |_| call.clone(), deadline, trace).await.0.into(), left)
        }
        Work::Profiles(users) => (profiles(routes, users, deadline, trace).await, None),
    }
}

async fn profiles(routes: &Routes, users: &[UserId], deadline: Instant, trace: Option<TraceId>) -> Outcome {
    routes.wait_for_map(deadline).await;
    let Some(by_slot) = routes.by_slot(users) else {
        return Outcome::Failed(Failure::Hold(HoldReason::NoMap));
    };
    let mut answers = stream::iter(by_slot)
        .map(|(slot, users)| async move {
            let call = |slot| Call::Profiles { slot, users: users.clone() };
            routes.hold(Key::Slot(slot), call, deadline, trace).await.0
        })
        .buffer_unordered(PROFILE_SLOTS_AT_ONCE);
    let mut records: Vec<ProfileRecord> = Vec::new();
    while let Some(verdict) = answers.next().await {
        match Outcome::from(verdict) {
            Outcome::Answered(Answer::Profiles(users)) => records.extend(users),
            other => return other,
        }
    }
    Outcome::Answered(Answer::Profiles(records))
}
