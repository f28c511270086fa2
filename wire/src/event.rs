//! Events as they are stored and passed between processes. A node never looks into a body: it hashes, stores and relays
//! the bytes. Routers turn them into the client's view.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, UserId};

/// What an event is. The number is stored and sent: it never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum EventKind {
    Message = 1,
}

impl EventKind {
    /// Whether it advances `message_no`, and so `unread`.
    pub const fn counts_as_message(self) -> bool {
        match self {
            Self::Message => true,
        }
    }
}

impl From<EventKind> for u8 {
    fn from(kind: EventKind) -> u8 {
        kind as u8
    }
}

impl TryFrom<u8> for EventKind {
    type Error = BodyError;

    fn try_from(value: u8) -> Result<Self, BodyError> {
        match value {
            1 => Ok(Self::Message),
            other => Err(BodyError::UnknownKind(other)),
        }
    }
}

/// One committed event of a conversation's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    pub id: EventId,
    pub conversation: ConversationId,
    pub seq: Seq,
    pub message_no: MessageNo,
    pub kind: EventKind,
    pub sender: UserId,
    /// The owner's clock at the commit, in milliseconds since 1970 (UTC). For display, never for order.
    pub created_at_ms: i64,
    pub temp_id: String,
    /// See [`encode_message`].
    pub body: Bytes,
}

/// The content of a message: plain text, or bytes that only the recipients can read. Exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageBody {
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<Encrypted>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EventId>,
}

/// End-to-end encrypted content, opaque to every server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encrypted {
    #[serde(rename = "c")]
    pub ciphertext: String,
    #[serde(rename = "n")]
    pub nonce: String,
    #[serde(rename = "t")]
    pub tag: String,
    #[serde(rename = "k")]
    pub key_version: String,
    #[serde(rename = "a")]
    pub algorithm: String,
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("event kind {0} is unknown to this version")]
    UnknownKind(u8),
    #[error("body format {0} is unknown to this version")]
    UnknownFormat(u8),
    #[error("the body is empty")]
    Empty,
    #[error("the body is malformed")]
    Malformed(#[from] rmp_serde::decode::Error),
}

/// First byte of a stored body; the rest is a MessagePack map with the one-letter keys of [`MessageBody`].
const FORMAT: u8 = 1;

pub fn encode_message(body: &MessageBody) -> Bytes {
    let mut bytes = Vec::with_capacity(16 + body.content.as_ref().map_or(0, String::len));
    bytes.push(FORMAT);
    rmp_serde::encode::write_named(&mut bytes, body).expect("strings always encode into memory");
    bytes.into()
}

pub fn decode_message(bytes: &[u8]) -> Result<MessageBody, BodyError> {
    match bytes.split_first() {
        None => Err(BodyError::Empty),
        Some((&FORMAT, rest)) => Ok(rmp_serde::from_slice(rest)?),
        Some((&other, _)) => Err(BodyError::UnknownFormat(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in the stores, under hashes made of them: neither may ever change.
    fn is_stored_as(body: &MessageBody, golden: &[u8]) {
        assert_eq!(encode_message(body).escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(decode_message(golden).unwrap(), *body);
    }

    #[test]
    fn every_kind_of_body_is_stored_like_this() {
        let plain = MessageBody { content: Some("¿Qué?".to_owned()), encrypted: None, reply_to: None };
        is_stored_as(&plain, b"\x01\x81\xa1c\xa7\xc2\xbfQu\xc3\xa9?");

        let reply = MessageBody { reply_to: Some(EventId::from_u128(0x0102)), ..plain };
        is_stored_as(&reply, b"\x01\x82\xa1c\xa7\xc2\xbfQu\xc3\xa9?\xa1r\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02");

        let encrypted = Encrypted {
            ciphertext: "c2VjcmV0".to_owned(),
            nonce: "bm9uY2U=".to_owned(),
            tag: "dGFn".to_owned(),
            key_version: "k1".to_owned(),
            algorithm: "aes-256-gcm".to_owned(),
        };
        let encrypted = MessageBody { content: None, encrypted: Some(encrypted), reply_to: None };
        is_stored_as(
            &encrypted,
            b"\x01\x81\xa1e\x85\xa1c\xa8c2VjcmV0\xa1n\xa8bm9uY2U=\xa1t\xa4dGFn\xa1k\xa2k1\xa1a\xabaes-256-gcm",
        );
    }

    #[test]
    fn a_body_of_another_format_or_of_none_is_refused() {
        assert!(matches!(decode_message(b""), Err(BodyError::Empty)));
        assert!(matches!(decode_message(b"\x02\x81\xa1c\xa2hi"), Err(BodyError::UnknownFormat(2))));
        assert!(matches!(decode_message(b"\x01"), Err(BodyError::Malformed(_))));
        assert!(matches!(decode_message(b"\x01\x81\xa1c\xa2h"), Err(BodyError::Malformed(_))));
    }

    #[test]
    fn the_number_of_a_kind_never_changes() {
        assert_eq!(u8::from(EventKind::Message), 1);
        assert_eq!(EventKind::try_from(1).unwrap(), EventKind::Message);
        assert!(matches!(EventKind::try_from(0), Err(BodyError::UnknownKind(0))));
    }
}
