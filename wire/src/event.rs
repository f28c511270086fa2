//! Events as they are stored and passed between processes. A node never looks into the content of a message: it hashes,
//! stores and relays the bytes. Routers turn events into the client's view.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, UserId};

/// What an event is. The number is stored and sent: it never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum EventKind {
    Message = 1,
    /// New content for an earlier message. Body: a [`MessageBody`].
    Edit = 2,
    /// An earlier message and its edits lose their content. Body: empty.
    Delete = 3,
    /// Body: a [`ReactionBody`].
    Reaction = 4,
    /// A group begins. Body: a [`GroupBody`] with its name and first members.
    Created = 5,
    /// Body: a [`GroupBody`] with the new name.
    Renamed = 6,
    /// Users became members. Body: a [`GroupBody`] with them.
    Joined = 7,
    /// Users are no longer members: this is the last event that they get. Body: a [`GroupBody`] with them.
    Left = 8,
    /// Body: a [`GroupBody`] with the member and the new role.
    RoleChanged = 9,
}

impl EventKind {
    pub const ALL: [Self; 9] = [
        Self::Message,
        Self::Edit,
        Self::Delete,
        Self::Reaction,
        Self::Created,
        Self::Renamed,
        Self::Joined,
        Self::Left,
        Self::RoleChanged,
    ];

    /// Whether it advances `message_no`, and so `unread`.
    pub const fn counts_as_message(self) -> bool {
        matches!(self, Self::Message)
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
        Self::ALL.into_iter().find(|kind| u8::from(*kind) == value).ok_or(BodyError::UnknownKind(value))
    }
}

/// What a member of a group may do. The number is stored and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum Role {
    /// Reads and writes.
    Member = 0,
    /// Also renames, adds and removes members, and deletes others' messages.
    Admin = 1,
    /// Also gives and takes roles. At least one as long as the group has members.
    Owner = 2,
}

impl From<Role> for u8 {
    fn from(role: Role) -> u8 {
        role as u8
    }
}

impl TryFrom<u8> for Role {
    type Error = BodyError;

    fn try_from(value: u8) -> Result<Self, BodyError> {
        match value {
            0 => Ok(Self::Member),
            1 => Ok(Self::Admin),
            2 => Ok(Self::Owner),
            other => Err(BodyError::UnknownRole(other)),
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
    /// As its kind says; empty where the content was deleted.
    pub body: Bytes,
    /// The message that an edit, a deletion or a reaction is about.
    pub target: Option<Target>,
    /// What later events made of a message, at the time of the read. `None` where nothing happened, and in live events.
    pub since: Option<Box<Since>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub id: EventId,
    pub seq: Seq,
}

/// What became of a message after it was sent. Its record's body is the newest content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    pub edited_at_ms: Option<i64>,
    /// Set: the body is empty.
    pub deleted_at_ms: Option<i64>,
    /// In order of the emoji.
    pub reactions: Vec<ReactionCount>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionCount {
    pub emoji: String,
    pub count: u32,
    /// Whether the reader's is among them.
    pub mine: bool,
}

/// The content of a message: plain text, or bytes that only the recipients can read, or attachments alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageBody {
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<Encrypted>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EventId>,
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Users whom the sender wants to be told.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
}

/// What is known of a file beside the message; the bytes are elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Where the app finds the file.
    #[serde(rename = "k")]
    pub key: String,
    #[serde(rename = "n")]
    pub name: String,
    #[serde(rename = "t")]
    pub content_type: String,
    #[serde(rename = "b")]
    pub size_bytes: u64,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// A reaction, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionBody {
    #[serde(rename = "x")]
    pub emoji: String,
    #[serde(rename = "o")]
    pub change: ReactionChange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReactionChange {
    Add,
    Remove,
}

/// A change of a group: of its name, or of some members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBody {
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<GroupMember>,
    /// With this event the group has become larger than `fanout_limit`, for good.
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    pub became_large: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    #[serde(rename = "u")]
    pub user: UserId,
    #[serde(rename = "r")]
    pub role: Role,
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
    #[error("role {0} is unknown to this version")]
    UnknownRole(u8),
    #[error("body format {0} is unknown to this version")]
    UnknownFormat(u8),
    #[error("the body is empty")]
    Empty,
    #[error("the body is malformed")]
    Malformed(#[from] rmp_serde::decode::Error),
}

/// First byte of a stored body; the rest is a MessagePack map with the one-letter keys of the body's type.
const FORMAT: u8 = 1;

fn encode<T: Serialize>(body: &T, bytes_expected: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(bytes_expected);
    bytes.push(FORMAT);
    rmp_serde::encode::write_named(&mut bytes, body).expect("plain fields always encode into memory");
    bytes.into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    match bytes.split_first() {
        None => Err(BodyError::Empty),
        Some((&FORMAT, rest)) => Ok(rmp_serde::from_slice(rest)?),
        Some((&other, _)) => Err(BodyError::UnknownFormat(other)),
    }
}

pub fn encode_message(body: &MessageBody) -> Bytes {
    encode(body, 16 + body.content.as_ref().map_or(0, String::len))
}

pub fn decode_message(bytes: &[u8]) -> Result<MessageBody, BodyError> {
    decode(bytes)
}

pub fn encode_reaction(body: &ReactionBody) -> Bytes {
    encode(body, 16 + body.emoji.len())
}

pub fn decode_reaction(bytes: &[u8]) -> Result<ReactionBody, BodyError> {
    decode(bytes)
}

pub fn encode_group(body: &GroupBody) -> Bytes {
    encode(body, 32 + 24 * body.members.len())
}

pub fn decode_group(bytes: &[u8]) -> Result<GroupBody, BodyError> {
    decode(bytes)
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
        let plain = MessageBody { content: Some("¿Qué?".to_owned()), ..MessageBody::default() };
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
        let encrypted = MessageBody { encrypted: Some(encrypted), ..MessageBody::default() };
        is_stored_as(
            &encrypted,
            b"\x01\x81\xa1e\x85\xa1c\xa8c2VjcmV0\xa1n\xa8bm9uY2U=\xa1t\xa4dGFn\xa1k\xa2k1\xa1a\xabaes-256-gcm",
        );
    }

    #[test]
    fn attachments_mentions_reactions_and_group_changes_are_stored_like_this() {
        let attachment = Attachment {
            key: "k".into(),
            name: "n".into(),
            content_type: "t/t".into(),
            size_bytes: 9,
            width: Some(4),
            height: None,
            duration_ms: None,
        };
        let user = UserId::from_u128(3);
        let body = MessageBody { attachments: vec![attachment], mentions: vec![user], ..MessageBody::default() };
        is_stored_as(
            &body,
            b"\x01\x82\xa1a\x91\x85\xa1k\xa1k\xa1n\xa1n\xa1t\xa3t/t\xa1b\x09\xa1w\x04\xa1m\x91\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03",
        );

        let reaction = ReactionBody { emoji: "!".into(), change: ReactionChange::Remove };
        let golden = b"\x01\x82\xa1x\xa1!\xa1o\xa6remove";
        assert_eq!(encode_reaction(&reaction).escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(decode_reaction(golden).unwrap(), reaction);

        let members = vec![GroupMember { user, role: Role::Owner }];
        let group = GroupBody { name: Some("us".into()), members, became_large: true };
        let golden =
            b"\x01\x83\xa1n\xa2us\xa1u\x91\x82\xa1u\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\xa1r\x02\xa1l\xc3";
        assert_eq!(encode_group(&group).escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(decode_group(golden).unwrap(), group);
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
        let numbers = EventKind::ALL.map(|kind| (u8::from(kind), kind));
        assert_eq!(
            numbers,
            [
                (1, EventKind::Message),
                (2, EventKind::Edit),
                (3, EventKind::Delete),
                (4, EventKind::Reaction),
                (5, EventKind::Created),
                (6, EventKind::Renamed),
                (7, EventKind::Joined),
                (8, EventKind::Left),
                (9, EventKind::RoleChanged),
            ]
        );
        assert!(numbers.into_iter().all(|(number, kind)| EventKind::try_from(number).unwrap() == kind));
        assert_eq!([Role::Member, Role::Admin, Role::Owner].map(u8::from), [0, 1, 2]);
        assert!(matches!(EventKind::try_from(0), Err(BodyError::UnknownKind(0))));
    }
}
