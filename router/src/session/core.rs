//! What a session does, without doing it: frames, outcomes and the passing of time go in, effects come out.
//!
//! Invariants: every command is answered once, at the latest when its hold is over; commands in flight are bounded; what
//! is written to one conversation starts in order (see [`lanes`](super::lanes)); nothing is carried out for a user who
//! may not sign in; after a `Close` nothing else comes out.
//!
//! Deliberately absent: the socket, the pushes' queue, subscriptions to presence and the calls to nodes, which are the
//! [driver](super::driver)'s, the [mailslot](super::mailslot)'s and [`perform`](super::perform)'s; and what commands
//! mean, which is in [`commands`](crate::commands).

mod carry;
mod clock;
mod hello;
mod typing;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::{
    client::{self, ClientVersion, CloseCode, Command, CommandId, ErrorCode, ErrorReply, Format, Push, Reply},
    cluster::Authority,
};

use self::typing::Throttle;
use super::{
    drain::Leave,
    held::{HeldBytes, HeldPermit},
    lanes::{Lanes, Ticket},
    marks::Marks,
    meter::Meter,
    pushes::unix_ms,
};
use crate::{
    auth::{Identity, Verifier},
    commands::{Asked, Caller, Routed, Work, overloaded},
    limits::Limits,
};

/// What a client is told to wait where one of its own limits is reached.
const OVERLOADED_RETRY_AFTER_MS: u64 = 200;
/// Commands that wait for the end of an attach; they are carried out only where it succeeds.
const ATTACHING_COMMANDS_MAX: usize = 16;
/// What one session may have of [`HeldBytes`].
const SESSION_HELD_BYTES_MAX: usize = 1024 * 1024;

/// The session-related part of the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    pub hello_timeout: Duration,
    pub ping_interval: Duration,
    pub queue_bytes: usize,
    pub commands_in_flight: usize,
    pub hold: Duration,
    /// By platform, in lower case.
    pub min_client_version: BTreeMap<String, ClientVersion>,
}

/// What all sessions share.
pub struct Shared {
    pub policy: Policy,
    pub verifier: Verifier,
    pub limits: Limits,
    pub held: HeldBytes,
    pub meter: Meter,
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

#[derive(Debug, PartialEq)]
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
        job: Job,
        deadline: Instant,
    },
    Ping,
    /// After everything before it was sent.
    Close(CloseCode),
}

/// Something to be done for a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    Attach {
        user: UserId,
        name: Option<String>,
    },
    /// One attempt: number 0 starts at once, later ones after a wait that grows with it.
    Attempt {
        routed: Routed,
        attempt: u32,
    },
    /// Held and retried until the deadline.
    Hold(Work),
    Watch(Vec<UserId>),
    Unwatch(Vec<UserId>),
}

/// What a session needs to know of its user's profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub shares_presence: bool,
    pub disabled: bool,
}

enum Phase {
    AwaitHello {
        until: Instant,
        /// Of an earlier `hello`, which failed: what arrives for this user may be on its way to the session.
        user: Option<UserId>,
    },
    Attaching {
        hello: Option<CommandId>,
        ticket: Ticket,
        identity: Identity,
        /// What came meanwhile.
        waiting: Vec<Waiting>,
        standing: Option<Standing>,
    },
    Active {
        identity: Identity,
        shares_presence: bool,
    },
    Closed,
}

/// A command that came before the `welcome`.
struct Waiting {
    id: Option<CommandId>,
    command: Command,
    held: HeldPermit,
}

struct PendingQuery {
    ticket: Ticket,
    id: Option<CommandId>,
    /// The command's type.
    kind: &'static str,
    asked: Asked,
    deadline: Instant,
    /// Not started yet.
    waiting: Option<Box<Job>>,
}

pub struct Core {
    shared: Arc<Shared>,
    id: SessionId,
    format: Format,
    /// Of the handshake's `Authorization` header.
    bearer: Option<Box<str>>,
    phase: Phase,
    lanes: Lanes,
    marks: Marks,
    queries: Vec<PendingQuery>,
    /// There once the user has typed.
    typing: Option<Box<Throttle>>,
    next_ticket: u32,
    last_heard: Instant,
    next_ping: Instant,
    /// Set while the router stops: close by then, or earlier once nothing is in flight.
    leave: Option<Box<Leave>>,
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
            phase: Phase::AwaitHello { until, user: None },
            lanes: Lanes::default(),
            marks: Marks::default(),
            queries: Vec::new(),
            typing: None,
            next_ticket: 0,
            last_heard: now.instant,
            next_ping,
            leave: None,
        }
    }

    pub fn id(&self) -> SessionId {
        self.id
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
                        Err(error) => self.complain(decoded.id, error, effects),
                    }
                }
            }
            Err(error) => self.complain(None, error.to_reply(), effects),
        }
    }

    /// One command, however it came.
    pub fn command(&mut self, id: Option<CommandId>, command: Command, now: Now, effects: &mut Vec<Effect>) {
        let kind = command.type_name();
        match (&mut self.phase, command) {
            (Phase::Closed, _) => {}
            (Phase::AwaitHello { .. }, Command::Hello(hello)) => self.hello(id, &hello, now, effects),
            (Phase::AwaitHello { .. }, _) => {
                let error = ErrorReply::new(ErrorCode::NotExpected, "`hello` must come first");
                self.answer(id, kind, Reply::Error(error), effects);
            }
            (_, Command::Hello(_)) => {
                let error = ErrorReply::new(ErrorCode::NotExpected, "`hello` came before");
                self.answer(id, kind, Reply::Error(error), effects);
            }
            (_, Command::Ping) => self.answer(id, kind, Reply::Pong, effects),
            (Phase::Attaching { .. }, command) => {
                if let Err(error) = self.wait_for_welcome(id, command) {
                    self.answer(id, kind, Reply::Error(error), effects);
                }
            }
            (Phase::Active { identity, .. }, command) => {
                let caller = Caller { user: identity.user, session: Some(self.id), authority: Authority::Member };
                self.carry_out(id, &caller, command, now, effects);
            }
        }
    }

    /// The profile of the session's user changed elsewhere.
    pub fn standing(&mut self, standing: Standing, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        if standing.disabled {
            self.complain(None, ErrorReply::new(ErrorCode::Forbidden, DISABLED), effects);
            return self.close(CloseCode::Unauthorized, effects);
        }
        match &mut self.phase {
            Phase::Active { shares_presence, .. } => *shares_presence = standing.shares_presence,
            // Newer than what the attach is about to say.
            Phase::Attaching { standing: known, .. } => *known = Some(standing),
            Phase::AwaitHello { .. } | Phase::Closed => {}
        }
    }

    /// Whether the client was welcomed, so that it may be pushed to.
    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    /// The client did something that ends the session.
    pub fn close(&mut self, code: CloseCode, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Closed) {
            self.phase = Phase::Closed;
            effects.push(Effect::Close(code));
        }
    }

    /// Commands without a reply.
    fn in_flight(&self) -> usize {
        let waiting = if let Phase::Attaching { waiting, .. } = &self.phase { waiting.len() } else { 0 };
        self.lanes.len() + self.marks.len() + self.queries.len() + waiting
    }

    /// Takes so much of what all sessions may have the router hold, unless that, or this session's part, is used up.
    fn hold(&self, bytes: usize) -> Result<HeldPermit, ErrorReply> {
        let waiting = if let Phase::Attaching { waiting, .. } = &self.phase { waiting.as_slice() } else { &[] };
        let of_waiting: usize = waiting.iter().map(|it| it.held.bytes()).sum();
        if self.lanes.held_bytes() + of_waiting + bytes > SESSION_HELD_BYTES_MAX {
            return Err(overloaded("the commands without a reply are too large together", OVERLOADED_RETRY_AFTER_MS));
        }
        let permit = self.shared.held.try_hold(bytes);
        permit.ok_or_else(|| overloaded("the router holds too many commands", OVERLOADED_RETRY_AFTER_MS))
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        Ticket(self.next_ticket)
    }

    fn answer(&self, id: Option<CommandId>, kind: &'static str, reply: Reply, effects: &mut Vec<Effect>) {
        self.answer_after(Duration::ZERO, id, kind, reply, effects);
    }

    fn answer_after(
        &self,
        after: Duration,
        id: Option<CommandId>,
        kind: &'static str,
        reply: Reply,
        effects: &mut Vec<Effect>,
    ) {
        self.shared.meter.answered(kind, &reply, after);
        effects.push(Effect::Reply { id, reply });
    }

    /// An error that answers no known command.
    fn complain(&self, id: Option<CommandId>, error: ErrorReply, effects: &mut Vec<Effect>) {
        self.shared.meter.complained(&error);
        effects.push(Effect::Reply { id, reply: Reply::Error(error) });
    }
}

const DISABLED: &str = "this user may not sign in";

#[cfg(test)]
mod tests;
