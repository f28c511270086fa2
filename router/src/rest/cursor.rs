//! Where a page of the conversation list ended, as text that means nothing to clients.
//!
//! A version byte, then time and id of the last row: rows of the same millisecond are told apart by their id, so none is
//! skipped and none comes twice. Not signed: whoever makes one up gets a page of their own list.

use std::{fmt, str::FromStr};

use serde::{Deserialize, de};
use tertulia_shard_map::ConversationId;
use tertulia_wire::cluster::InboxPosition;
use utoipa::openapi::{ObjectBuilder, schema::Type};

const VERSION: u8 = 1;
/// Version, time, id.
const BYTES: usize = 1 + 8 + 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub InboxPosition);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: want `next_cursor` of an earlier page")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.0;
        write!(f, "{VERSION:02x}{:016x}{:032x}", position.last_at_ms, position.conversation.to_u128())
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let is_plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 2 * BYTES || !is_plain {
            return Err(InvalidCursor);
        }
        let (version, rest) = text.split_at(2);
        let (time, id) = rest.split_at(16);
        if u8::from_str_radix(version, 16) != Ok(VERSION) {
            return Err(InvalidCursor);
        }
        let time = u64::from_str_radix(time, 16).map_err(|_| InvalidCursor)?;
        let id = u128::from_str_radix(id, 16).map_err(|_| InvalidCursor)?;
        let conversation = ConversationId::from_u128(id);
        Ok(Self(InboxPosition { last_at_ms: time.cast_signed(), conversation }))
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Opaque to people; the pattern is for programs that check requests.
pub fn schema() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^01[0-9a-f]{48}$"))
        .description(Some("`next_cursor` of the page before; its form may change."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_round_trip() {
        for (last_at_ms, id) in [(0, 0), (1_762_012_345_678, 7), (-1, u128::MAX), (i64::MIN, 1), (i64::MAX, 1 << 127)] {
            let cursor = Cursor(InboxPosition { last_at_ms, conversation: ConversationId::from_u128(id) });
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn a_made_up_cursor_is_refused() {
        let good =
            Cursor(InboxPosition { last_at_ms: 5, conversation: ConversationId::from_u128(u128::MAX) }).to_string();
        let bad = [
            String::new(),
            "null".into(),
            good[1..].into(),
            format!("{good}0"),
            good.to_uppercase(),
            good.replacen("01", "02", 1),
            good.replacen("01", "+1", 1),
            good.replacen('f', "g", 1),
            "é".repeat(25),
            "0".repeat(1 << 20),
        ];
        for text in bad {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{:.60}", text);
        }
    }
}
