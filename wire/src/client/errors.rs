//! Errors and close codes: closed sets.

use serde::{Deserialize, Serialize};

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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// The client's version is older than this cluster takes from its platform: only an update helps.
    ClientOutdated,
    /// The conversation does not exist, or the user is not a member: the same answer for both.
    NotFound,
    /// The `temp_id` was used before with another payload, or the conversation's id for another group.
    Conflict,
    /// One of the two users of this direct conversation has blocked the other.
    Blocked,
    /// The user may not do this: a member's role, a disabled user.
    Forbidden,
    /// It is so already: the reaction is there, or not; the user is a member, or not; the name is the same.
    NoChange,
    /// More would exceed a limit of the conversation or the message.
    LimitReached,
    /// The user did too much of this in a while: try again after `retry_after_ms`. It was not carried out.
    RateLimited,
    /// A queue is full: try again after `retry_after_ms`.
    Overloaded,
    /// The owner of the shard cannot be reached in time: try again, with the same `temp_id`.
    Unavailable,
    /// A fault of the server's; the session goes on.
    Internal,
}

impl ErrorCode {
    pub const ALL: [Self; 17] = [
        Self::BadFrame,
        Self::BadRequest,
        Self::UnknownType,
        Self::NotExpected,
        Self::Unauthorized,
        Self::TokenExpired,
        Self::ClientOutdated,
        Self::NotFound,
        Self::Conflict,
        Self::Blocked,
        Self::Forbidden,
        Self::NoChange,
        Self::LimitReached,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::Internal,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::BadRequest => "bad_request",
            Self::UnknownType => "unknown_type",
            Self::NotExpected => "not_expected",
            Self::Unauthorized => "unauthorized",
            Self::TokenExpired => "token_expired",
            Self::ClientOutdated => "client_outdated",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Blocked => "blocked",
            Self::Forbidden => "forbidden",
            Self::NoChange => "no_change",
            Self::LimitReached => "limit_reached",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    pub const fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Unavailable | Self::Internal)
    }
}

/// WebSocket close codes of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The router stops; reconnect (1001).
    GoingAway = 1001,
    /// Something that is no WebSocket frame, or is not to come where it came (1002).
    ProtocolError = 1002,
    /// A binary frame on a JSON session, or a text frame on a MessagePack one (1003).
    WrongFrameType = 1003,
    /// A text frame that is not UTF-8 (1007).
    NotUtf8 = 1007,
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
    /// The client is too old: update it first (4426).
    ClientOutdated = 4426,
}

impl CloseCode {
    pub const ALL: [Self; 10] = [
        Self::GoingAway,
        Self::ProtocolError,
        Self::WrongFrameType,
        Self::NotUtf8,
        Self::TooBig,
        Self::Unauthorized,
        Self::HelloTimeout,
        Self::PingTimeout,
        Self::TooSlow,
        Self::ClientOutdated,
    ];

    pub const fn code(self) -> u16 {
        self as u16
    }
}
