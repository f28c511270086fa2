//! Calls and notices between processes, over QUIC.
//!
//! One connection per pair of processes and traffic [`Class`], with mutual TLS, and on it **one long-lived bidirectional
//! stream**: first a byte that names the class, then [frames](tertulia_wire::cluster) with request ids. A stream per call would
//! cost several times as much CPU. The side that connects calls; the side that accepts answers, and may send notices.
//!
//! Invariants:
//! - Calls reach [`Service::call`], and notices [`Inbox::notice`], in the order in which they were sent on their connection.
//! - Everything is bounded: calls in flight, queued bytes, frames, connections, attempts in time.
//! - A link is `Up` only after a ping was answered: TLS alone does not prove that the peer accepted our certificate.
//! - A lost connection fails every call in flight at once, as [`CallError::Closed`]: its outcome is unknown.
//!
//! Deliberately absent: retries of calls (only the caller knows whether a call may be repeated), and more than one stream per
//! class (a slow large answer delays what is behind it, so what must not wait gets a class of its own).

mod client;
mod counters;
mod endpoint;
mod link;
mod outbox;
mod server;
mod stream;

pub use client::{CallError, CallOptions, Client, Inbox, LinkState, NoInbox, PeerAddress};
pub use counters::CallKind;
pub use endpoint::{BindError, Endpoint, EndpointConfig};
pub use server::{Connection, ConnectionId, NotifyError, Responder, Service};

use std::time::Duration;

/// What a connection carries, so that bulk cannot delay a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Votes, heartbeats and log entries.
    Raft = 1,
    /// Everything else.
    Data = 2,
}

impl Class {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Data => "data",
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Raft),
            2 => Some(Self::Data),
            _ => None,
        }
    }
}

/// A connection that has heard nothing for this long is lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often the connecting side makes sure that there is something to hear.
pub const KEEP_ALIVE: Duration = Duration::from_millis(300);
/// Longest time from the first packet to the answered ping.
const CONNECT_TIMEOUT: Duration = IDLE_TIMEOUT;
/// Calls in flight on one connection, as the calling side counts them; a call beyond fails at once.
pub const CALLS_IN_FLIGHT_MAX: usize = 32_768;
/// The same as the answering side counts them, which stops reading there. More, because it still works on calls that
/// their callers have given up on.
const SERVED_IN_FLIGHT_MAX: usize = CALLS_IN_FLIGHT_MAX * 2;
/// Encoded calls (or notices) that wait for the connection; a call (or notice) beyond fails at once.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Connections that one process accepts.
const CONNECTIONS_MAX: usize = 1024;
/// How long an accepted connection goes on at shutdown, for answers that are owed.
const CLOSE_DRAIN: Duration = Duration::from_secs(2);

const _: () = assert!(tertulia_wire::limits::CLUSTER_FRAME_BYTES * 2 <= QUEUE_BYTES_MAX);
const _: () = assert!(KEEP_ALIVE.as_millis() * 3 < IDLE_TIMEOUT.as_millis());

/// Reasons for which one side closes a connection, as the other sees them.
mod close {
    use quinn::VarInt;

    pub const ENDED: VarInt = VarInt::from_u32(0);
    pub const PROTOCOL_ERROR: VarInt = VarInt::from_u32(1);
    pub const UNWELCOME: VarInt = VarInt::from_u32(2);
}
