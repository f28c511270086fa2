//! Carries work out, holding and retrying it: what a session starts, and whole commands for skins without one.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};
use tertulia_shard_map::{Slot, UserId};
use tertulia_wire::{
    TraceId,
    client::{Command, Reply},
    cluster::{Answer, Call, ProfileRecord},
};
use tokio::time::Instant;

use super::{Asked, Caller, Failure, Outcome, Planned, Query, Routed, Work, plan, plan::not_expected};
use crate::{
    metrics::count_command,
    routing::{HoldReason, Key, Routes},
};

/// Slots that one `profile:get` asks at the same time.
const PROFILE_SLOTS_AT_ONCE: usize = 8;

/// Carries one command out, from validation to reply, holding and retrying until `deadline`. For skins without a
/// session: nothing is ordered here.
pub async fn execute(
    routes: &Arc<Routes>,
    caller: &Caller,
    command: Command,
    deadline: Instant,
    trace: Option<TraceId>,
) -> Reply {
    let kind = command.type_name();
    let reply = match command {
        Command::Ping => Reply::Pong,
        command => match plan(caller, command) {
            Ok(planned) => run(routes, planned, deadline, trace).await,
            Err(error) => Reply::Error(error),
        },
    };
    count_command(kind, &reply);
    reply
}

async fn run(routes: &Routes, planned: Planned, deadline: Instant, trace: Option<TraceId>) -> Reply {
    match planned {
        Planned::Ordered(ordered) => {
            let outcome = carry_out(routes, &Work::Call(ordered.routed()), deadline, trace).await;
            ordered.reply(outcome)
        }
        Planned::Mark(mark) => {
            let asked = Asked::Mark(mark.conversation);
            let work = Work::Call(Routed { key: Key::Conversation(mark.conversation), call: Call::Mark(mark) });
            asked.reply(carry_out(routes, &work, deadline, trace).await)
        }
        Planned::Typing(typing) => {
            let work = Work::Call(Routed { key: Key::Conversation(typing.conversation), call: Call::Typing(typing) });
            Asked::Typing.reply(carry_out(routes, &work, deadline, trace).await)
        }
        Planned::Query(Query { work, asked }) => asked.reply(carry_out(routes, &work, deadline, trace).await),
        // Planned for sessions only.
        Planned::Watch(_) | Planned::Unwatch(_) => Reply::Error(not_expected("subscriptions are a session's")),
    }
}

/// Holds and retries until `deadline`.
pub async fn carry_out(routes: &Routes, work: &Work, deadline: Instant, trace: Option<TraceId>) -> Outcome {
    match work {
        Work::Call(Routed { key, call }) => routes.hold(*key, |_| call.clone(), deadline, trace).await.0.into(),
        Work::Profiles(users) => profiles(routes, users, deadline, trace).await,
    }
}

async fn profiles(routes: &Routes, users: &[UserId], deadline: Instant, trace: Option<TraceId>) -> Outcome {
    let Some(by_slot) = by_slot(routes, users, deadline).await else {
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

/// Waits for the first map; `None` where there is none by `deadline`.
async fn by_slot(routes: &Routes, users: &[UserId], deadline: Instant) -> Option<BTreeMap<Slot, Vec<UserId>>> {
    let mut failures = 0;
    loop {
        let by_slot = routes.by_slot(users);
        if by_slot.is_some() || Instant::now() >= deadline {
            return by_slot;
        }
        failures += 1;
        routes.wait_to_retry(failures, deadline).await;
    }
}
