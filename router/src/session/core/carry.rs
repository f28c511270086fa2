//! How a session's commands are carried out: in lanes, as marks, as queries. From the plan to the reply.

use tertulia_wire::{
    client::{Command, CommandId, ErrorReply, Reply},
    cluster::{Call, Mark, Refusal, Typing},
};

use super::{Core, Effect, Job, Now, OVERLOADED_RETRY_AFTER_MS, PendingQuery, Phase, typing::Throttle};
use crate::{
    commands::{
        Asked, Caller, Failure, Ordered, Outcome, Planned, Query, Routed, TYPING_DEADLINE, Work, overloaded, plan,
    },
    metrics::{EPHEMERAL_DROPPED, HOLDS, RETRIES},
    routing::{HoldReason, Key},
    session::{
        lanes::{End, Pending, State, Ticket},
        marks::{Flight, MarkEnd, PendingMark},
    },
};

/// Queries of one session that are carried out at the same time; the others wait.
pub(super) const QUERIES_AT_ONCE: usize = 4;
/// The same of those whose answers may be pages of megabytes.
pub(super) const LARGE_QUERIES_AT_ONCE: usize = 2;
/// What a command without an answer takes beside its texts, in bytes.
pub(super) const OVERHEAD_BYTES: usize = 512;

impl Core {
    pub(super) fn carry_out(
        &mut self,
        id: Option<CommandId>,
        caller: &Caller,
        command: Command,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let kind = command.type_name();
        if self.in_flight() >= self.shared.policy.commands_in_flight {
            let error = overloaded("too many commands without a reply", OVERLOADED_RETRY_AFTER_MS);
            return self.answer(id, kind, Reply::Error(error), effects);
        }
        let refused = match plan(caller, command) {
            Ok(Planned::Ordered(ordered)) => self.ordered(id, kind, ordered, now, effects),
            Ok(Planned::Mark(mark)) => {
                self.mark(id, kind, mark, now, effects);
                Ok(())
            }
            Ok(Planned::Typing(typing)) => {
                self.type_on(typing, now, effects);
                self.answer(id, kind, Reply::Ok, effects);
                Ok(())
            }
            Ok(Planned::Watch(users)) => {
                let asked = Asked::Presence(users.clone());
                self.query(id, kind, asked, Job::Watch(users), now, effects);
                Ok(())
            }
            Ok(Planned::Unwatch(users)) => {
                self.query(id, kind, Asked::NoPresence, Job::Unwatch(users), now, effects);
                Ok(())
            }
            Ok(Planned::Query(Query { work, asked })) => {
                self.query(id, kind, asked, Job::Hold(work), now, effects);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = refused {
            self.answer(id, kind, Reply::Error(error), effects);
        }
    }

    fn ordered(
        &mut self,
        id: Option<CommandId>,
        kind: &'static str,
        ordered: Ordered,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ErrorReply> {
        let held = self.hold(ordered.bytes() + OVERHEAD_BYTES)?;
        let (ticket, deadline) = (self.ticket(), now.instant + self.shared.policy.hold);
        let state = self.lanes.accept(Pending {
            ticket,
            id,
            kind,
            ordered,
            received: now.instant,
            deadline,
            attempts: 0,
            state: State::Flying,
            held,
        });
        if state == State::Flying {
            self.attempt(ticket, 0, effects);
        }
        Ok(())
    }

    /// Starts an attempt of something ordered; `attempt` 0 does not wait.
    fn attempt(&self, ticket: Ticket, attempt: u32, effects: &mut Vec<Effect>) {
        if let Some(pending) = self.lanes.get(ticket) {
            let job = Job::Attempt { routed: pending.ordered.routed(), attempt };
            effects.push(Effect::Start { ticket, job, deadline: pending.deadline });
        }
    }

    fn mark(&mut self, id: Option<CommandId>, kind: &'static str, mark: Mark, now: Now, effects: &mut Vec<Effect>) {
        let (ticket, deadline) = (self.ticket(), now.instant + self.shared.policy.hold);
        let pending = PendingMark { id, kind, mark, received: now.instant, deadline };
        if let Some(flight) = self.marks.accept(ticket, pending) {
            start_mark(ticket, flight, effects);
        }
    }

    /// Typing is passed on once, or dropped.
    fn type_on(&mut self, typing: Typing, now: Now, effects: &mut Vec<Effect>) {
        let Phase::Active { shares_presence, .. } = self.phase else { return };
        let busy = self.in_flight() > self.shared.policy.commands_in_flight / 2;
        if !shares_presence || busy {
            return;
        }
        let throttle = self.typing.get_or_insert_with(Box::<Throttle>::default);
        if !throttle.admit(typing.conversation, typing.typing, now.instant) {
            metrics::counter!(EPHEMERAL_DROPPED, "what" => "said_typing").increment(1);
            return;
        }
        let routed = Routed { key: Key::Conversation(typing.conversation), call: Call::Typing(typing) };
        // Nobody waits for its end.
        let ticket = self.ticket();
        let deadline = now.instant + TYPING_DEADLINE;
        effects.push(Effect::Start { ticket, job: Job::Attempt { routed, attempt: 0 }, deadline });
    }

    fn query(
        &mut self,
        id: Option<CommandId>,
        kind: &'static str,
        asked: Asked,
        job: Job,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let (ticket, deadline) = (self.ticket(), now.instant + self.shared.policy.hold);
        let waiting = if self.may_start(&asked) {
            effects.push(Effect::Start { ticket, job, deadline });
            None
        } else {
            Some(Box::new(job))
        };
        self.queries.push(PendingQuery { ticket, id, kind, asked, deadline, waiting });
    }

    /// Whether one more query may be carried out now.
    fn may_start(&self, asked: &Asked) -> bool {
        let weight = Weight::of(asked);
        let (mut running, mut alike) = (0, 0);
        for query in self.queries.iter().filter(|it| it.waiting.is_none()) {
            running += 1;
            alike += usize::from(Weight::of(&query.asked) == weight);
        }
        running < QUERIES_AT_ONCE && alike < weight.at_once()
    }

    /// A job that was started has ended.
    pub fn done(&mut self, ticket: Ticket, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        match &self.phase {
            Phase::Closed => {}
            Phase::Attaching { ticket: attach, .. } if *attach == ticket => self.attached(outcome, now, effects),
            _ if self.lanes.get(ticket).is_some() => self.attempted(ticket, outcome, now, effects),
            _ if self.marks.has(ticket) => self.marked(ticket, outcome, now, effects),
            _ => self.answered(ticket, outcome, effects),
        }
    }

    fn attempted(&mut self, ticket: Ticket, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let end = match &outcome {
            Outcome::Failed(Failure::Hold(reason)) => {
                let pending = self.lanes.get(ticket).filter(|it| it.deadline > now.instant);
                if let Some(pending) = pending {
                    count_hold(*reason, pending.attempts);
                    if let Some(attempts) = self.lanes.hold(ticket).map(|it| it.attempts) {
                        self.attempt(ticket, attempts, effects);
                    }
                    return;
                }
                End::GivenUp
            }
            _ => End::Answered,
        };
        let mut release = Vec::new();
        let Some(done) = self.lanes.finish(ticket, end, &mut release) else { return };
        self.end(done, outcome, now, effects);
        for ticket in release {
            self.attempt(ticket, 0, effects);
        }
    }

    /// Answers something ordered that is over.
    pub(super) fn end(&self, done: Pending, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let after = now.instant.saturating_duration_since(done.received);
        self.answer_after(after, done.id, done.kind, done.ordered.reply(outcome), effects);
    }

    fn marked(&mut self, ticket: Ticket, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let end = match &outcome {
            Outcome::Failed(Failure::Refused(Refusal::Invalid(_))) => MarkEnd::Refused,
            Outcome::Failed(Failure::Hold(_)) => MarkEnd::Late(now.instant),
            _ => MarkEnd::Settled,
        };
        let (next, mut answered) = (self.ticket(), Vec::new());
        let flight = self.marks.finish(ticket, end, next, &mut answered);
        for done in answered {
            let reply = Asked::Mark(done.mark.conversation).reply(outcome.clone());
            let after = now.instant.saturating_duration_since(done.received);
            self.answer_after(after, done.id, done.kind, reply, effects);
        }
        if let Some(flight) = flight {
            start_mark(next, flight, effects);
        }
    }

    fn answered(&mut self, ticket: Ticket, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(at) = self.queries.iter().position(|it| it.ticket == ticket) else { return };
        let done = self.queries.remove(at);
        let reply = done.asked.reply(outcome);
        if let (Reply::Profile(profile), Phase::Active { shares_presence, .. }) = (&reply, &mut self.phase) {
            *shares_presence = profile.shares_presence.unwrap_or(*shares_presence);
        }
        self.answer(done.id, done.kind, reply, effects);
        while let Some(at) = self.queries.iter().position(|it| it.waiting.is_some() && self.may_start(&it.asked)) {
            let PendingQuery { ticket, deadline, waiting, .. } = &mut self.queries[at];
            if let Some(job) = waiting.take() {
                effects.push(Effect::Start { ticket: *ticket, job: *job, deadline: *deadline });
            }
        }
    }
}

/// What bounds the queries that are carried out at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Small,
    /// The answer may be a page of megabytes.
    Large,
    /// One after another: a late end must not undo a new beginning.
    Subscription,
}

impl Weight {
    const fn of(asked: &Asked) -> Self {
        match asked {
            Asked::Sync | Asked::History(_) | Asked::Members(_) => Self::Large,
            Asked::Presence(_) | Asked::NoPresence => Self::Subscription,
            Asked::Mark(_)
            | Asked::Conversation { .. }
            | Asked::Profiles { .. }
            | Asked::OwnProfile
            | Asked::Blocks => Self::Small,
        }
    }

    const fn at_once(self) -> usize {
        match self {
            Self::Small => QUERIES_AT_ONCE,
            Self::Large => LARGE_QUERIES_AT_ONCE,
            Self::Subscription => 1,
        }
    }
}

fn start_mark(ticket: Ticket, flight: Flight, effects: &mut Vec<Effect>) {
    let Flight { mark, deadline } = flight;
    let routed = Routed { key: Key::Conversation(mark.conversation), call: Call::Mark(mark) };
    effects.push(Effect::Start { ticket, job: Job::Hold(Work::Call(routed)), deadline });
}

fn count_hold(reason: HoldReason, attempts_before: u32) {
    if attempts_before == 0 {
        metrics::counter!(HOLDS, "reason" => reason.as_str()).increment(1);
    }
    metrics::counter!(RETRIES, "reason" => reason.as_str()).increment(1);
}
