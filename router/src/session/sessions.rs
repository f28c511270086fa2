//! A session from its registration to its end.

use std::{sync::Arc, time::Instant};

use tertulia_shard_map::SessionId;
use tertulia_wire::{
    TraceId,
    client::{CloseCode, Format},
};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

use super::{
    core::{Core, Job, Now, Shared},
    detaches::{Attendance, Detacher},
    driver::Driver,
    lanes::Ticket,
    mailslot::Mailslot,
    perform::perform,
    pushes::unix_ms,
    registry::Registry,
};
use crate::{
    limits::Turnstile,
    metrics::{ACTIVE_CONNECTIONS, SESSIONS_CLOSED},
    routing::Routes,
};

/// What sessions need of the router. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    pub shared: Arc<Shared>,
    pub routes: Arc<Routes>,
    pub registry: Registry,
    pub detacher: Detacher,
}

/// What the handshake said.
pub struct Client {
    pub format: Format,
    pub bearer: Option<Box<str>>,
    pub trace: Option<TraceId>,
}

impl Sessions {
    /// Runs one session of the native protocol to its end.
    pub async fn run(&self, socket: WebSocketStream<TcpStream>, client: Client) {
        let Client { format, bearer, trace } = client;
        let (id, now) = (new_session_id(), Now::read());
        let open = self.open(id, format, trace);
        let (routes, slot) = (self.routes.clone(), open.mailslot.clone());
        let turnstile = Turnstile::new(self.shared.limits.clone());
        let start = move |ticket: Ticket, job: Job, deadline: Instant| {
            perform(routes.clone(), turnstile.clone(), slot.clone(), ticket, job, deadline.into(), trace)
        };
        let core = Core::new(self.shared.clone(), id, format, bearer, now);
        let end = Box::pin(Driver::new(socket, core, open.mailslot.clone(), self.shared.clone(), start, now)).await;
        open.end(end);
    }

    /// Has pushes find the session from now on.
    pub(crate) fn open(&self, id: SessionId, format: Format, trace: Option<TraceId>) -> Open {
        let mailslot = Arc::new(Mailslot::new(id, format, self.shared.policy.queue_bytes));
        let attendance = self.detacher.attend(self.registry.register(mailslot.clone()));
        metrics::gauge!(ACTIVE_CONNECTIONS).increment(1.0);
        tracing::debug!(session = %id, trace_id = trace.map(tracing::field::display), "session begins");
        Open { mailslot, attendance, trace }
    }
}

/// A session that is under way, whichever way its client came.
pub(crate) struct Open {
    pub(crate) mailslot: Arc<Mailslot>,
    attendance: Attendance,
    trace: Option<TraceId>,
}

impl Open {
    pub(crate) fn end(self, end: End) {
        let Self { mailslot, attendance, trace } = self;
        drop(attendance);
        metrics::gauge!(ACTIVE_CONNECTIONS).decrement(1.0);
        metrics::counter!(SESSIONS_CLOSED, "reason" => end.as_str()).increment(1);
        let trace_id = trace.map(tracing::field::display);
        tracing::debug!(session = %mailslot.id, trace_id, reason = end.as_str(), "session ended");
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By the client, in whatever way.
    Client,
    Closed(CloseCode),
}

impl End {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Closed(CloseCode::GoingAway) => "going_away",
            Self::Closed(CloseCode::WrongFrameType) => "wrong_frame_type",
            Self::Closed(CloseCode::TooBig) => "too_big",
            Self::Closed(CloseCode::ProtocolError) => "protocol_error",
            Self::Closed(CloseCode::NotUtf8) => "not_utf8",
            Self::Closed(CloseCode::Unauthorized) => "unauthorized",
            Self::Closed(CloseCode::HelloTimeout) => "hello_timeout",
            Self::Closed(CloseCode::PingTimeout) => "ping_timeout",
            Self::Closed(CloseCode::TooSlow) => "too_slow",
            Self::Closed(CloseCode::ClientOutdated) => "client_outdated",
        }
    }
}

/// A ULID: 48 bits of milliseconds, 80 random ones.
pub(crate) fn new_session_id() -> SessionId {
    let random: u128 = rand::random();
    SessionId::from_u128(((unix_ms() as u128) << 80) | (random >> 48))
}
