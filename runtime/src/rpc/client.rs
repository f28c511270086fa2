//! The calling side, as its users see it. The connection behind it is kept by `link.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, Notice, Refusal},
};
use tokio::{sync::watch, time::timeout_at};
use tokio_util::sync::DropGuard;

use super::{
    CallKind, Class,
    counters::Outcome,
    link::{Link, Phase, Shared},
};
use crate::PeerName;

/// A peer and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Whose certificate the peer must show.
    pub name: PeerName,
    /// `host:port`, resolved at every attempt to connect.
    pub address: String,
}

/// How long a call may take, and which trace it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// From now to the answer, the connecting included.
    pub deadline: Duration,
    pub trace: Option<TraceId>,
}

impl CallOptions {
    pub const fn within(deadline: Duration) -> Self {
        Self { deadline, trace: None }
    }

    #[must_use]
    pub const fn traced(self, trace: Option<TraceId>) -> Self {
        Self { trace, ..self }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not sent: there is no connection.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// Sent, and not answered in time: the outcome is unknown.
    #[error("no answer within the deadline")]
    Deadline,
    /// Sent, and then the connection was lost: the outcome is unknown.
    #[error("the connection was lost before the answer")]
    Closed,
    /// Not sent: too many calls, or too many bytes, are on their way to this peer.
    #[error("too many calls in flight")]
    TooManyInFlight,
    /// Not sent: larger than a frame may be.
    #[error("the call does not fit into a frame")]
    TooLarge,
    /// The peer answered that it did not carry the call out.
    #[error("refused: {0}")]
    Refused(Refusal),
}

impl CallError {
    /// Whether the peer may have carried the call out all the same.
    pub const fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Deadline | Self::Closed)
    }

    const fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable => Outcome::Unreachable,
            Self::Deadline => Outcome::Deadline,
            Self::Closed => Outcome::Closed,
            Self::TooManyInFlight => Outcome::TooMany,
            Self::TooLarge => Outcome::TooLarge,
            Self::Refused(_) => Outcome::Refused,
        }
    }
}

/// Whether there is a connection; the generation grows by one with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Down,
    Up { generation: u64 },
}

/// Takes the notices of one connection, inline and in order: an implementation must not block.
pub trait Inbox: Send + Sync + 'static {
    fn notice(&self, from: &PeerName, generation: u64, notice: Notice);
}

/// For peers that are only called.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInbox;

impl Inbox for NoInbox {
    fn notice(&self, from: &PeerName, _generation: u64, _notice: Notice) {
        tracing::warn!(peer = %from, "dropping a notice that nobody asked for");
    }
}

/// Calls one peer, over one connection that is made when first needed and remade when lost. Dropping the last clone closes it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    _keeper: Arc<DropGuard>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, keeper: DropGuard) -> Self {
        Self { shared, _keeper: Arc::new(keeper) }
    }

    /// Calls the peer.
    ///
    /// Where the last attempt to connect failed, this fails at once with [`CallError::Unreachable`] while attempts go on in
    /// the background; where none has failed yet, it waits for the connection. Calls whose futures are polled for the
    /// first time one after another reach the peer in that order.
    pub async fn call(&self, call: Call, options: CallOptions) -> Result<Answer, CallError> {
        let kind = CallKind::of(&call);
        let started = Instant::now();
        let counted = Counted { shared: &self.shared, kind, started, ended: false };
        let outcome = self.call_uncounted(call, started + options.deadline, options.trace).await;
        counted.end(outcome.as_ref().err().map_or(Outcome::Answered, CallError::outcome));
        outcome
    }

    async fn call_uncounted(&self, call: Call, deadline: Instant, trace: Option<TraceId>) -> Result<Answer, CallError> {
        let deadline = deadline.into();
        let link = match self.shared.link() {
            Some(link) => link,
            None => timeout_at(deadline, self.connected()).await.map_err(|_| CallError::Unreachable)??,
        };
        let sent = link.send(call, trace)?;
        match timeout_at(deadline, sent).await {
            Ok(Ok(Answer::Refused(refusal))) => Err(CallError::Refused(refusal)),
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Deadline),
        }
    }

    async fn connected(&self) -> Result<Arc<Link>, CallError> {
        self.shared.want();
        let mut phase = self.shared.watch_phase();
        loop {
            match &*phase.borrow_and_update() {
                Phase::Up(link) => return Ok(link.clone()),
                Phase::Idle | Phase::Connecting => {}
                Phase::Unreachable => return Err(CallError::Unreachable),
            }
            phase.changed().await.map_err(|_| CallError::Unreachable)?;
        }
    }

    /// Has the connection made now, not only for the first call.
    pub fn connect(&self) {
        self.shared.want();
    }

    pub fn peer(&self) -> PeerName {
        self.shared.peer()
    }

    pub fn class(&self) -> Class {
        self.shared.class()
    }

    /// The connection's state, and its changes. Asking for it makes the connection.
    pub fn watch_state(&self) -> watch::Receiver<LinkState> {
        self.shared.want();
        self.shared.watch_state()
    }

    /// Of the current connection; `None` while there is none.
    pub fn generation(&self) -> Option<u64> {
        self.shared.link().map(|link| link.generation())
    }

    /// Where to connect from now on. A connection that is up stays up.
    pub fn set_address(&self, address: String) {
        self.shared.set_address(address);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({} {})", self.peer(), self.class().as_str())
    }
}

/// Counts a call that its caller gave up on (by dropping the future) as such.
struct Counted<'a> {
    shared: &'a Shared,
    kind: CallKind,
    started: Instant,
    ended: bool,
}

impl Counted<'_> {
    fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.shared.counters().call_ended(self.kind, outcome, self.started);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.counters().call_ended(self.kind, Outcome::Abandoned, self.started);
        }
    }
}
