//! The id that ties the log lines of one request together, in every process that it touches.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A W3C trace id: 16 bytes, not all zero, written as 32 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(u128);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a trace id: want 32 hex digits, not all zero")]
pub struct InvalidTraceId;

impl TraceId {
    /// `None` for zero, which W3C reserves for "no trace".
    pub const fn new(value: u128) -> Option<Self> {
        if value == 0 { None } else { Some(Self(value)) }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl FromStr for TraceId {
    type Err = InvalidTraceId;

    fn from_str(text: &str) -> Result<Self, InvalidTraceId> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidTraceId);
        }
        u128::from_str_radix(text, 16).ok().and_then(Self::new).ok_or(InvalidTraceId)
    }
}
