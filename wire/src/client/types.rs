//! The payloads of the client protocol.

use serde::{Deserialize, Serialize};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Rev, Seq, SessionId, UserId};

use crate::{BodyError, EventKind, EventRecord, MessageBody, decode_message};

/// The client's request id, echoed in the reply. Chosen by the client; need not be unique, should be.
pub type CommandId = u64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `hello`: must be the first command of a session.
    Hello(Hello),
    /// `ping`: answered with `pong`; for clients that cannot see WebSocket pings.
    Ping,
    /// `dm:send`
    Send(SendMessage),
    /// `sync`
    Sync(SyncQuery),
    /// `history`
    History(HistoryQuery),
    /// `profile:get`
    Profiles(ProfileQuery),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `welcome`, to `hello`
    Welcome(Welcome),
    /// `pong`, to `ping`
    Pong,
    /// `dm:ack`, to `dm:send`: the message is durably committed.
    Ack(Ack),
    /// `sync:page`, to `sync`
    SyncPage(SyncPage),
    /// `history:page`, to `history`
    HistoryPage(HistoryPage),
    /// `profile:list`, to `profile:get`
    Profiles(ProfileList),
    /// `error`, to any command
    Error(ErrorReply),
}

impl Command {
    /// The envelope's `type`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Ping => "ping",
            Self::Send(_) => "dm:send",
            Self::Sync(_) => "sync",
            Self::History(_) => "history",
            Self::Profiles(_) => "profile:get",
        }
    }
}

impl Reply {
    /// The envelope's `type`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Pong => "pong",
            Self::Ack(_) => "dm:ack",
            Self::SyncPage(_) => "sync:page",
            Self::HistoryPage(_) => "history:page",
            Self::Profiles(_) => "profile:list",
            Self::Error(_) => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every push is a `dm:new`: a box would only cost an allocation")]
pub enum Push {
    /// `dm:new`: a message for this user, by another user or from another session of the same.
    New(NewMessage),
    /// `resync`: the server dropped pushes for this session, or cannot say that it did not: `sync` from the last `rev`.
    Resync(Resync),
    /// `goaway`: the router is about to stop: reconnect, after a random wait up to `retry_after_ms`.
    GoAway(GoAway),
}

impl Push {
    /// The envelope's `type`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::New(_) => "dm:new",
            Self::Resync(_) => "resync",
            Self::GoAway(_) => "goaway",
        }
    }
}

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
    /// The mailbox's current `rev`: equal to the client's own means that nothing was missed.
    pub rev: Rev,
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

/// `dm:send`. Exactly one of `conversation_id` and `to`; exactly one of `content` and the five encryption fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The other user of a direct conversation, which the first message creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UserId>,
    /// Chosen by the client, once per message and kept over retries: makes a retry harmless, for ever.
    pub temp_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Id of an earlier event of the same conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EventId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub temp_id: String,
    pub message: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    pub message: Event,
}

/// An event as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub conversation_id: ConversationId,
    pub seq: Seq,
    pub message_no: MessageNo,
    pub kind: ClientEventKind,
    pub sender_id: UserId,
    pub created_at_ms: i64,
    pub temp_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EventId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientEventKind {
    Message,
}

impl Event {
    /// The client's view of a stored event. Fails only on a body that this version cannot read.
    pub fn from_record(record: &EventRecord) -> Result<Self, BodyError> {
        let body = decode_message(&record.body)?;
        Ok(Self::from_parts(record, body))
    }

    fn from_parts(record: &EventRecord, body: MessageBody) -> Self {
        let (ciphertext, nonce, tag, key_version, algorithm) = match body.encrypted {
            Some(e) => (Some(e.ciphertext), Some(e.nonce), Some(e.tag), Some(e.key_version), Some(e.algorithm)),
            None => (None, None, None, None, None),
        };
        Self {
            id: record.id,
            conversation_id: record.conversation,
            seq: record.seq,
            message_no: record.message_no,
            kind: match record.kind {
                EventKind::Message => ClientEventKind::Message,
            },
            sender_id: record.sender,
            created_at_ms: record.created_at_ms,
            temp_id: record.temp_id.clone(),
            content: body.content,
            ciphertext,
            nonce,
            tag,
            key_version,
            algorithm,
            reply_to: body.reply_to,
        }
    }
}

/// `sync`: which of my conversations changed after `rev`? 0 asks for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncQuery {
    pub rev: Rev,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPage {
    /// Changed rows, least recently changed first.
    pub conversations: Vec<ConversationRow>,
    /// Ask from here next; keep it once the page is stored.
    pub rev: Rev,
    pub has_more: bool,
    /// True where the asked `rev` is unknown to this cluster (from the future, or of another life): forget all rows and
    /// sync from 0.
    #[serde(default)]
    pub reset: bool,
}

/// One line of the conversation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRow {
    pub conversation_id: ConversationId,
    /// The other user of a direct conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<UserId>,
    pub last_seq: Seq,
    pub last_event_id: EventId,
    pub last_at_ms: i64,
    /// Events up to here count as read by this user.
    pub read_seq: Seq,
    pub unread: u64,
}

/// `history`: events of one conversation in order of `seq`. At most one of `after_seq` and `before_seq`; with neither,
/// the newest page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    pub conversation_id: ConversationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seq: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_seq: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    pub conversation_id: ConversationId,
    /// In ascending order of `seq`, without a hole.
    pub events: Vec<Event>,
    /// Whether there are more in the direction asked: later ones with `after_seq`, earlier ones otherwise.
    pub has_more: bool,
    /// The conversation's newest `seq` at the time of the read.
    pub last_seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileQuery {
    pub user_ids: Vec<UserId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileList {
    /// Those that are known; the order is not that of the query.
    pub users: Vec<Profile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub user_id: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    pub code: ErrorCode,
    /// For developers, in English; not for users, never parsed.
    pub message: String,
    pub retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ErrorReply {
    /// Retryable where the code is.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: code.retryable(), retry_after_ms: None }
    }

    pub fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}

/// Closed set of error codes of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is not valid JSON or MessagePack, or not an envelope.
    BadFrame,
    /// A field is missing, of the wrong type, unknown or outside its limits.
    BadRequest,
    /// No such command.
    UnknownType,
    /// A command came before `hello`, or `hello` came twice.
    NotExpected,
    /// The token is missing, malformed, of a wrong signature or for somebody else.
    Unauthorized,
    TokenExpired,
    /// The conversation does not exist, or the user is not a member: the same answer for both.
    NotFound,
    /// The `temp_id` was used before with another payload.
    Conflict,
    /// A queue is full: try again after `retry_after_ms`.
    Overloaded,
    /// The owner of the shard cannot be reached in time: try again, with the same `temp_id`.
    Unavailable,
    /// A fault of the server's; the session goes on.
    Internal,
}

impl ErrorCode {
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable | Self::Internal)
    }
}

/// WebSocket close codes of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The router stops; reconnect (1001).
    GoingAway = 1001,
    /// A binary frame on a JSON session, or a text frame on a MessagePack one (1003).
    WrongFrameType = 1003,
    /// A frame above `frame_bytes` (1009).
    TooBig = 1009,
    /// No valid token: get a new one first (4401).
    Unauthorized = 4401,
    /// No `hello` in time (4408).
    HelloTimeout = 4408,
    /// The client did not answer pings (4409).
    PingTimeout = 4409,
    /// The client reads too slowly to be told even that (4410).
    TooSlow = 4410,
}

impl CloseCode {
    pub const fn code(self) -> u16 {
        self as u16
    }
}
