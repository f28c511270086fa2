//! What a session does, without doing it: frames, outcomes and the passing of time go in, effects come out.
//!
//! Invariants: every command is answered once, at the latest when its hold is over; commands in flight are bounded; sends
//! to one conversation start in order (see [`lanes`](super::lanes)); after a `Close` nothing else comes out.
//!
//! Deliberately absent: the socket, the pushes' queue and the calls to nodes, which are the [driver](super::driver)'s.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tertulia_shard_map::{DirectPair, SessionId, UserId};
use tertulia_wire::{
    EventKind,
    client::{
        self, CloseCode, Command, CommandId, ErrorCode, ErrorReply, Format, Hello, Profile, Push, Reply, SendMessage,
        SendTarget, SessionLimits, Welcome,
    },
    cluster::{Append, HistoryRange, HistoryRead, SyncRead},
    encode_message, limits,
};

use super::{
    held::HeldBytes,
    lanes::{End, Lanes, PendingSend, State, Ticket},
    outcome::{self, Failure, Outcome, Query},
    pushes::unix_ms,
};
use crate::auth::{Identity, TokenError, Verifier};

/// Queries of one session that are carried out at the same time; the others wait. Their answers are large.
const QUERIES_AT_ONCE: usize = 4;
/// A token further in the future than this is looked at again then.
const EXPIRY_CHECK_MAX: Duration = Duration::from_secs(24 * 3600);
/// What a client is told to wait where one of its own limits is reached.
const OVERLOADED_RETRY_AFTER_MS: u64 = 200;

/// The session-related part of the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    pub hello_timeout: Duration,
    pub ping_interval: Duration,
    pub queue_bytes: usize,
    pub commands_in_flight: usize,
    pub hold: Duration,
    pub drain: Duration,
}

/// What all sessions share.
pub struct Shared {
    pub policy: Policy,
    pub verifier: Verifier,
    pub held: HeldBytes,
}

/// The two clocks: one for waiting, one for tokens.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub unix_ms: i64,
}

impl Now {
    pub fn read() -> Self {
        Self { instant: Instant::now(), unix_ms: unix_ms() }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    Reply {
        id: Option<CommandId>,
        reply: Reply,
    },
    Push(Push),
    /// The user is known: pushes for it may come from now on.
    SignIn(UserId),
    Start {
        ticket: Ticket,
        work: Work,
        deadline: Instant,
    },
    Ping,
    /// After everything before it was sent.
    Close(CloseCode),
}

/// Something for the cluster to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Attach {
        user: UserId,
        name: Option<String>,
    },
    /// `attempt` 0 starts at once, later ones after a wait that grows with it.
    Append {
        append: Append,
        attempt: u32,
    },
    Sync(SyncRead),
    History(HistoryRead),
    Profiles(Vec<UserId>),
}

enum Phase {
    AwaitHello { until: Instant },
    Attaching { hello: Option<CommandId>, ticket: Ticket, identity: Identity },
    Active { identity: Identity },
    Closed,
}

struct PendingQuery {
    ticket: Ticket,
    id: Option<CommandId>,
    query: Query,
    /// Not started yet.
    waiting: Option<Box<Work>>,
}

pub struct Core {
    shared: Arc<Shared>,
    id: SessionId,
    format: Format,
    /// Of the handshake's `Authorization` header.
    bearer: Option<Box<str>>,
    phase: Phase,
    lanes: Lanes,
    queries: Vec<PendingQuery>,
    next_ticket: u32,
    last_heard: Instant,
    next_ping: Instant,
    /// Set while the router stops: close by then, or earlier once nothing is in flight.
    leave: Option<Leave>,
}

#[derive(Clone, Copy)]
struct Leave {
    from: Instant,
    until: Instant,
}

impl Core {
    pub fn new(shared: Arc<Shared>, id: SessionId, format: Format, bearer: Option<Box<str>>, now: Now) -> Self {
        let until = now.instant + shared.policy.hello_timeout;
        let next_ping = now.instant + shared.policy.ping_interval;
        Self {
            shared,
            id,
            format,
            bearer,
            phase: Phase::AwaitHello { until },
            lanes: Lanes::default(),
            queries: Vec::new(),
            next_ticket: 0,
            last_heard: now.instant,
            next_ping,
            leave: None,
        }
    }

    /// Anything at all came from the client.
    pub fn heard(&mut self, now: Now) {
        self.last_heard = now.instant;
    }

    /// A text or binary frame of the session's format.
    pub fn frame(&mut self, frame: &[u8], now: Now, effects: &mut Vec<Effect>) {
        match client::decode_commands(self.format, frame) {
            Ok(commands) => {
                for decoded in commands {
                    if matches!(self.phase, Phase::Closed) {
                        return;
                    }
                    match decoded.command {
                        Ok(command) => self.command(decoded.id, command, now, effects),
                        Err(error) => reply_error(decoded.id, error, effects),
                    }
                }
            }
            Err(error) => reply_error(None, error.to_reply(), effects),
        }
    }

    fn command(&mut self, id: Option<CommandId>, command: Command, now: Now, effects: &mut Vec<Effect>) {
        let user = match (&self.phase, command) {
            (Phase::AwaitHello { .. }, Command::Hello(hello)) => return self.hello(id, &hello, now, effects),
            (Phase::AwaitHello { .. }, _) => {
                return reply_error(id, ErrorReply::new(ErrorCode::NotExpected, "`hello` must come first"), effects);
            }
            (_, Command::Hello(_)) => {
                return reply_error(id, ErrorReply::new(ErrorCode::NotExpected, "`hello` came before"), effects);
            }
            (_, Command::Ping) => return effects.push(Effect::Reply { id, reply: Reply::Pong }),
            (Phase::Attaching { identity, .. } | Phase::Active { identity }, command) => (identity.user, command),
            (Phase::Closed, _) => return,
        };
        let (user, command) = user;
        if self.lanes.len() + self.queries.len() >= self.shared.policy.commands_in_flight {
            let message = "too many commands without a reply";
            return reply_error(id, outcome::overloaded(message, OVERLOADED_RETRY_AFTER_MS), effects);
        }
        let refused = match command {
            Command::Send(send) => self.send(id, user, send, now, effects),
            Command::Sync(query) => query.validate().map(|query| {
                let read = SyncRead { user, after: query.rev, limit: query.limit };
                self.query(id, Query::Sync, Work::Sync(read), now, effects);
            }),
            Command::History(query) => query.validate().map(|query| {
                let range = match query.position {
                    client::HistoryPosition::Latest => HistoryRange::Latest,
                    client::HistoryPosition::After(seq) => HistoryRange::After(seq),
                    client::HistoryPosition::Before(seq) => HistoryRange::Before(seq),
                };
                let conversation = query.conversation_id;
                let read = HistoryRead { conversation, reader: user, range, limit: query.limit };
                self.query(id, Query::History(conversation), Work::History(read), now, effects);
            }),
            Command::Profiles(query) => query.validate().map(|()| {
                self.query(id, Query::Profiles, Work::Profiles(query.user_ids), now, effects);
            }),
            Command::Hello(_) | Command::Ping => Ok(()),
        };
        if let Err(error) = refused {
            reply_error(id, error, effects);
        }
    }

    fn hello(&mut self, id: Option<CommandId>, hello: &Hello, now: Now, effects: &mut Vec<Effect>) {
        if let Err(error) = hello.validate() {
            return reply_error(id, error, effects);
        }
        let Some(token) = hello.token.as_deref().or(self.bearer.as_deref()) else {
            reply_error(id, ErrorReply::new(ErrorCode::Unauthorized, "a token is needed"), effects);
            return self.close(CloseCode::Unauthorized, effects);
        };
        let identity = match self.shared.verifier.verify(token, now.unix_ms) {
            Ok(identity) => identity,
            Err(error) => {
                let code = if error == TokenError::Expired { ErrorCode::TokenExpired } else { ErrorCode::Unauthorized };
                reply_error(id, ErrorReply::new(code, error.to_string()), effects);
                return self.close(CloseCode::Unauthorized, effects);
            }
        };
        let (user, name) = (identity.user, identity.name.clone());
        let ticket = self.ticket();
        self.phase = Phase::Attaching { hello: id, ticket, identity };
        // First the session can be found here, then the mailbox is read: what arrives between is seen twice, not missed.
        effects.push(Effect::SignIn(user));
        let deadline = now.instant + self.shared.policy.hold;
        effects.push(Effect::Start { ticket, work: Work::Attach { user, name }, deadline });
    }

    fn send(
        &mut self,
        id: Option<CommandId>,
        sender: UserId,
        send: SendMessage,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ErrorReply> {
        let valid = send.validate()?;
        let (conversation, direct_peer) = match valid.target {
            SendTarget::Conversation(conversation) => (conversation, None),
            SendTarget::User(peer) => (DirectPair::new(sender, peer).conversation_id(), Some(peer)),
        };
        let body = encode_message(&valid.body);
        let held = self
            .shared
            .held
            .try_hold(2 * body.len() + SEND_OVERHEAD_BYTES)
            .ok_or_else(|| outcome::overloaded("the router holds too many messages", OVERLOADED_RETRY_AFTER_MS))?;
        let append = Append {
            conversation,
            direct_peer,
            sender,
            origin: Some(self.id),
            temp_id: valid.temp_id,
            kind: EventKind::Message,
            body,
        };
        let (ticket, deadline) = (self.ticket(), now.instant + self.shared.policy.hold);
        let work = Work::Append { append: append.clone(), attempt: 0 };
        let state = self.lanes.accept(PendingSend {
            ticket,
            id,
            append,
            body: valid.body,
            received: now.instant,
            deadline,
            attempts: 0,
            state: State::Flying,
            _held: held,
        });
        if state == State::Flying {
            effects.push(Effect::Start { ticket, work, deadline });
        }
        Ok(())
    }

    fn query(&mut self, id: Option<CommandId>, query: Query, work: Work, now: Now, effects: &mut Vec<Effect>) {
        let ticket = self.ticket();
        let running = self.queries.iter().filter(|it| it.waiting.is_none()).count();
        let waiting = if running < QUERIES_AT_ONCE {
            effects.push(Effect::Start { ticket, work, deadline: now.instant + self.shared.policy.hold });
            None
        } else {
            Some(Box::new(work))
        };
        self.queries.push(PendingQuery { ticket, id, query, waiting });
    }

    /// A piece of work that was started has ended.
    pub fn done(&mut self, ticket: Ticket, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        match &self.phase {
            Phase::Closed => {}
            Phase::Attaching { ticket: attach, .. } if *attach == ticket => self.attached(outcome, now, effects),
            _ if self.lanes.get(ticket).is_some() => self.sent(ticket, outcome, now, effects),
            _ => self.answered(ticket, outcome, now, effects),
        }
    }

    fn attached(&mut self, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let until = now.instant + self.shared.policy.hello_timeout;
        let Phase::Attaching { hello, identity, .. } = std::mem::replace(&mut self.phase, Phase::AwaitHello { until })
        else {
            return;
        };
        let rev = match outcome {
            Outcome::Attached(rev) => rev,
            // The client may try again: a socket never closes because a node is away.
            other => return reply_error(hello, outcome::unexpected(other), effects),
        };
        let policy = &self.shared.policy;
        let welcome = Welcome {
            user: Profile { user_id: identity.user, name: identity.name.clone() },
            session_id: self.id,
            rev,
            ping_interval_ms: policy.ping_interval.as_millis() as u64,
            limits: SessionLimits {
                frame_bytes: limits::CLIENT_FRAME_BYTES as u64,
                frame_envelopes: limits::CLIENT_FRAME_ENVELOPES as u64,
                content_bytes: limits::CONTENT_BYTES as u64,
                ciphertext_bytes: limits::CIPHERTEXT_BYTES as u64,
                temp_id_bytes: limits::TEMP_ID_BYTES as u64,
                commands_in_flight: policy.commands_in_flight as u64,
            },
        };
        self.phase = Phase::Active { identity };
        self.bearer = None;
        effects.push(Effect::Reply { id: hello, reply: Reply::Welcome(welcome) });
    }

    fn sent(&mut self, ticket: Ticket, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        if let Outcome::Failed(Failure::Hold(reason)) = &outcome {
            let open = self.lanes.get(ticket).is_some_and(|send| send.deadline > now.instant);
            if open {
                outcome::count_hold(*reason, self.lanes.get(ticket).map_or(0, |send| send.attempts));
                if let Some(send) = self.lanes.hold(ticket) {
                    let work = Work::Append { append: send.append.clone(), attempt: send.attempts };
                    effects.push(Effect::Start { ticket, work, deadline: send.deadline });
                }
                return;
            }
        }
        let end = match &outcome {
            Outcome::Failed(Failure::Hold(_)) => End::GivenUp,
            _ => End::Answered,
        };
        let mut release = Vec::new();
        let Some(send) = self.lanes.finish(ticket, end, &mut release) else { return };
        let (id, reply) = outcome::of_send(send, outcome, now.instant);
        effects.push(Effect::Reply { id, reply });
        for ticket in release {
            if let Some(send) = self.lanes.get(ticket) {
                let work = Work::Append { append: send.append.clone(), attempt: 0 };
                effects.push(Effect::Start { ticket, work, deadline: send.deadline });
            }
        }
    }

    fn answered(&mut self, ticket: Ticket, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let Some(at) = self.queries.iter().position(|it| it.ticket == ticket) else { return };
        let done = self.queries.remove(at);
        effects.push(Effect::Reply { id: done.id, reply: outcome::of_query(done.query, outcome) });
        let next = self.queries.iter_mut().find_map(|it| it.waiting.take().map(|work| (it.ticket, work)));
        if let Some((ticket, work)) = next {
            let deadline = now.instant + self.shared.policy.hold;
            effects.push(Effect::Start { ticket, work: *work, deadline });
        }
    }

    /// The router is about to stop. `spread` from 0 to 1 is this session's share of the time that all have.
    pub fn go_away(&mut self, spread: f64, now: Now, effects: &mut Vec<Effect>) {
        if self.leave.is_some() || matches!(self.phase, Phase::Closed) {
            return;
        }
        // Half of the time to leave one by one, half to wait for what is in flight.
        let drain = self.shared.policy.drain;
        let from = now.instant + drain.mul_f64(spread.clamp(0.0, 1.0) / 2.0);
        self.leave = Some(Leave { from, until: now.instant + drain });
        let retry_after_ms = drain.as_millis() as u64 / 2;
        effects.push(Effect::Push(Push::GoAway(client::GoAway { retry_after_ms })));
    }

    /// Time has passed: at least what [`Core::next_deadline`] said.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let interval = self.shared.policy.ping_interval;
        match &self.phase {
            Phase::Closed => return,
            Phase::AwaitHello { until } if *until <= now.instant => {
                return self.close(CloseCode::HelloTimeout, effects);
            }
            Phase::Attaching { identity, .. } | Phase::Active { identity } if identity.expires_at_ms <= now.unix_ms => {
                let error = ErrorReply::new(ErrorCode::TokenExpired, TokenError::Expired.to_string());
                reply_error(None, error, effects);
                return self.close(CloseCode::Unauthorized, effects);
            }
            _ => {}
        }
        for send in self.lanes.expire(now.instant) {
            let (id, reply) = outcome::of_send(send, outcome::given_up(), now.instant);
            effects.push(Effect::Reply { id, reply });
        }
        if let Some(leave) = self.leave {
            let idle = self.lanes.len() == 0 && self.queries.is_empty();
            if leave.until <= now.instant || (idle && leave.from <= now.instant) {
                return self.close(CloseCode::GoingAway, effects);
            }
        }
        if self.last_heard + 2 * interval <= now.instant {
            return self.close(CloseCode::PingTimeout, effects);
        }
        if self.next_ping <= now.instant {
            self.next_ping = now.instant + interval;
            effects.push(Effect::Ping);
        }
    }

    /// When [`Core::tick`] is due next.
    pub fn next_deadline(&self, now: Now) -> Instant {
        let mut next = self.next_ping.min(self.last_heard + 2 * self.shared.policy.ping_interval);
        match &self.phase {
            Phase::AwaitHello { until } => next = next.min(*until),
            Phase::Attaching { identity, .. } | Phase::Active { identity } => {
                let left_ms = identity.expires_at_ms.saturating_sub(now.unix_ms).max(0) as u64;
                next = next.min(now.instant + Duration::from_millis(left_ms).min(EXPIRY_CHECK_MAX));
            }
            Phase::Closed => {}
        }
        if let Some(expiry) = self.lanes.next_expiry() {
            next = next.min(expiry);
        }
        if let Some(leave) = self.leave {
            // What is in flight past `from` is looked at every so often until the end.
            let poll = now.instant + LEAVE_POLL;
            next = next.min(if leave.from > now.instant { leave.from } else { poll.min(leave.until) });
        }
        next
    }

    /// The client did something that ends the session.
    pub fn close(&mut self, code: CloseCode, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Closed) {
            self.phase = Phase::Closed;
            effects.push(Effect::Close(code));
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        Ticket(self.next_ticket)
    }
}

/// What a send without an answer takes beside its text, twice: as received and as encoded.
const SEND_OVERHEAD_BYTES: usize = 512;
const LEAVE_POLL: Duration = Duration::from_millis(20);

fn reply_error(id: Option<CommandId>, error: ErrorReply, effects: &mut Vec<Effect>) {
    effects.push(Effect::Reply { id, reply: Reply::Error(error) });
}

#[cfg(test)]
mod tests;
