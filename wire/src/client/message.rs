//! Events, and the commands that make them in a conversation.

use serde::{Deserialize, Serialize};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, UserId};

use super::MemberRole;
use crate::{
    Attachment, BodyError, EventKind, EventRecord, MessageBody, ReactionChange, decode_group, decode_message,
    decode_reaction,
};

/// `dm:send`. Exactly one of `conversation_id` and `to`; exactly one of `content` and the five encryption fields, or
/// neither where there are attachments.
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<FileAttachment>,
    /// Users whom the sender wants to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
}

/// `dm:edit`: new content for an own message, in place of all of the old. Fields as in `dm:send`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditMessage {
    pub conversation_id: ConversationId,
    pub message_id: EventId,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<FileAttachment>,
    /// Users whom the sender wants to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
}

impl EditMessage {
    /// A message that is nothing but this text from now on.
    pub fn plain(conversation_id: ConversationId, message_id: EventId, temp_id: String, content: String) -> Self {
        Self {
            conversation_id,
            message_id,
            temp_id,
            content: Some(content),
            ciphertext: None,
            nonce: None,
            tag: None,
            key_version: None,
            algorithm: None,
            reply_to: None,
            attachments: Vec::new(),
            mentions: Vec::new(),
        }
    }
}

/// `dm:delete`: an own message, or another's for an admin of the group, loses its content, for everybody and for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteMessage {
    pub conversation_id: ConversationId,
    pub message_id: EventId,
    pub temp_id: String,
}

/// `dm:react`: adds a reaction to a message, or takes one's own back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReactToMessage {
    pub conversation_id: ConversationId,
    pub message_id: EventId,
    pub temp_id: String,
    pub emoji: String,
    /// `add` if left out.
    #[serde(default = "add", skip_serializing_if = "is_add")]
    pub change: ReactionChange,
}

const fn add() -> ReactionChange {
    ReactionChange::Add
}

fn is_add(change: &ReactionChange) -> bool {
    *change == ReactionChange::Add
}

/// What a message says of a file. The bytes are elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileAttachment {
    /// Where the app finds the file.
    pub key: String,
    /// The file's name, as people know it.
    pub name: String,
    /// A media type: `image/jpeg`.
    pub content_type: String,
    pub size_bytes: u64,
    /// Of an image or a video, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Of a video or a recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ack {
    pub temp_id: String,
    /// The committed event: a message, or any other.
    pub message: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    pub message: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPush {
    pub event: Event,
}

/// An event as clients see it. Which fields are there depends on `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<FileAttachment>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Of a message that was edited: its content is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at_ms: Option<i64>,
    /// Of a message that was deleted: it has no content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at_ms: Option<i64>,
    /// Of a message, as of the read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reactions>,
    /// Of an edit, a deletion or a reaction: the message that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_seq: Option<Seq>,
    /// Of a reaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ReactionChange>,
    /// Of a group that was created or renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The users whom a change of members is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberRole>,
    /// With this event the group became a large one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub became_large: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClientEventKind {
    Message,
    Edit,
    Delete,
    Reaction,
    Created,
    Renamed,
    Joined,
    Left,
    RoleChanged,
}

impl From<EventKind> for ClientEventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Message => Self::Message,
            EventKind::Edit => Self::Edit,
            EventKind::Delete => Self::Delete,
            EventKind::Reaction => Self::Reaction,
            EventKind::Created => Self::Created,
            EventKind::Renamed => Self::Renamed,
            EventKind::Joined => Self::Joined,
            EventKind::Left => Self::Left,
            EventKind::RoleChanged => Self::RoleChanged,
        }
    }
}

/// How many members reacted to a message with one emoji.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reactions {
    pub emoji: String,
    pub count: u32,
    /// Whether the reader is one of them.
    pub mine: bool,
}

impl Event {
    /// The client's view of a stored event. Fails only on a body that this version cannot read.
    pub fn from_record(record: &EventRecord) -> Result<Self, BodyError> {
        let mut event = Self::bare(record);
        if let Some(since) = &record.since {
            event.edited_at_ms = since.edited_at_ms;
            event.deleted_at_ms = since.deleted_at_ms;
            let reactions = since.reactions.iter();
            event.reactions =
                reactions.map(|r| Reactions { emoji: r.emoji.clone(), count: r.count, mine: r.mine }).collect();
        }
        match record.kind {
            // Erased.
            EventKind::Message | EventKind::Edit if record.body.is_empty() => {}
            EventKind::Message | EventKind::Edit => event.set_content(decode_message(&record.body)?),
            EventKind::Delete => {}
            EventKind::Reaction => {
                let reaction = decode_reaction(&record.body)?;
                (event.emoji, event.change) = (Some(reaction.emoji), Some(reaction.change));
            }
            EventKind::Created | EventKind::Renamed | EventKind::Joined | EventKind::Left | EventKind::RoleChanged => {
                let group = decode_group(&record.body)?;
                event.name = group.name;
                event.members =
                    group.members.iter().map(|m| MemberRole { user_id: m.user, role: m.role.into() }).collect();
                event.became_large = group.became_large;
            }
        }
        Ok(event)
    }

    /// Without anything that the body says.
    fn bare(record: &EventRecord) -> Self {
        Self {
            id: record.id,
            conversation_id: record.conversation,
            seq: record.seq,
            message_no: record.message_no,
            kind: record.kind.into(),
            sender_id: record.sender,
            created_at_ms: record.created_at_ms,
            temp_id: record.temp_id.clone(),
            content: None,
            ciphertext: None,
            nonce: None,
            tag: None,
            key_version: None,
            algorithm: None,
            reply_to: None,
            attachments: Vec::new(),
            mentions: Vec::new(),
            edited_at_ms: None,
            deleted_at_ms: None,
            reactions: Vec::new(),
            message_id: record.target.map(|target| target.id),
            message_seq: record.target.map(|target| target.seq),
            emoji: None,
            change: None,
            name: None,
            members: Vec::new(),
            became_large: false,
        }
    }

    fn set_content(&mut self, body: MessageBody) {
        self.content = body.content;
        if let Some(encrypted) = body.encrypted {
            self.ciphertext = Some(encrypted.ciphertext);
            self.nonce = Some(encrypted.nonce);
            self.tag = Some(encrypted.tag);
            self.key_version = Some(encrypted.key_version);
            self.algorithm = Some(encrypted.algorithm);
        }
        self.reply_to = body.reply_to;
        self.attachments = body.attachments.into_iter().map(FileAttachment::from).collect();
        self.mentions = body.mentions;
    }
}

impl From<Attachment> for FileAttachment {
    fn from(it: Attachment) -> Self {
        let Attachment { key, name, content_type, size_bytes, width, height, duration_ms } = it;
        Self { key, name, content_type, size_bytes, width, height, duration_ms }
    }
}

impl From<FileAttachment> for Attachment {
    fn from(it: FileAttachment) -> Self {
        let FileAttachment { key, name, content_type, size_bytes, width, height, duration_ms } = it;
        Self { key, name, content_type, size_bytes, width, height, duration_ms }
    }
}
