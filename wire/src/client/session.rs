//! Sessions: how they begin, what they must keep to, how they end.

use serde::{Deserialize, Serialize};
use tertulia_shard_map::{Rev, SessionId};

use super::Profile;

/// The client's request id, echoed in the reply. Chosen by the client; need not be unique, should be.
pub type CommandId = u64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// A JWT; may be absent where the handshake carried `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    pub client: ClientInfo,
    /// The last `rev` the client has synced to; absent on a first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<Rev>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientInfo {
    /// `ios`, `android`, `web`, `bot`, …: free text.
    pub platform: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub user: Profile,
    pub session_id: SessionId,
    /// The mailbox's current `rev`: equal to the client's own means that nothing was missed, large groups apart.
    pub rev: Rev,
    /// Whether the user is in a large group, whose messages do not move `rev`: then `sync` also where `rev` is the same.
    pub in_large_group: bool,
    /// The server pings at this interval and closes a session that is silent for twice as long.
    pub ping_interval_ms: u64,
    pub limits: SessionLimits,
}

/// What a client must keep to; units as named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    pub frame_bytes: u64,
    pub frame_envelopes: u64,
    pub content_bytes: u64,
    pub ciphertext_bytes: u64,
    pub temp_id_bytes: u64,
    /// Commands without a reply yet; one more is answered `overloaded`.
    pub commands_in_flight: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    pub reason: ResyncReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResyncReason {
    /// This session's queue was full and pushes were dropped.
    Overflow,
    /// The owner of this user's mailbox changed, and pushes may have been missed.
    OwnerChanged,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    pub retry_after_ms: u64,
}
