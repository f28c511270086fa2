//! Bodies of requests: the protocol's commands without what the path says already.

use serde::Deserialize;
use tertulia_shard_map::{ConversationId, EventId, Seq, UserId};
use tertulia_wire::{
    ReactionChange,
    client::{
        Command, CreateConversation, EditMessage, FileAttachment, Mark, MembersChange, ReactToMessage,
        RenameConversation, RoleChange, RoleName, SendMessage,
    },
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::schemas;

/// A message: `content`, or the five fields of an encrypted one, or attachments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    temp_id: String,
    content: Option<String>,
    ciphertext: Option<String>,
    nonce: Option<String>,
    tag: Option<String>,
    key_version: Option<String>,
    algorithm: Option<String>,
    reply_to: Option<EventId>,
    #[serde(default)]
    attachments: Vec<FileAttachment>,
    #[serde(default)]
    mentions: Vec<UserId>,
}

impl PartialSchema for NewMessage {
    fn schema() -> RefOr<Schema> {
        Schema::OneOf(schemas::message()).into()
    }
}

impl ToSchema for NewMessage {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((FileAttachment::name().into_owned(), FileAttachment::schema()));
    }
}

/// A reaction, or the end of one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReaction {
    #[schema(schema_with = schemas::temp_id)]
    temp_id: String,
    #[schema(schema_with = schemas::emoji)]
    emoji: String,
    /// `add` if left out; `remove` takes one's own back.
    #[serde(default = "add")]
    change: ReactionChange,
}

const fn add() -> ReactionChange {
    ReactionChange::Add
}

/// A group, of which the creator is the owner.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConversation {
    #[schema(schema_with = schemas::temp_id)]
    temp_id: String,
    #[schema(schema_with = schemas::name)]
    name: String,
    #[schema(schema_with = schemas::group_id)]
    conversation_id: Option<ConversationId>,
    #[serde(default)]
    #[schema(schema_with = schemas::first_members)]
    user_ids: Vec<UserId>,
}

/// The new name of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewName {
    #[schema(schema_with = schemas::temp_id)]
    temp_id: String,
    #[schema(schema_with = schemas::name)]
    name: String,
}

/// Users to be members, or no longer. Those who are already, or are none, are passed over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Users {
    #[schema(schema_with = schemas::temp_id)]
    temp_id: String,
    #[schema(schema_with = schemas::group_users)]
    user_ids: Vec<UserId>,
}

/// The new role of a member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    #[schema(schema_with = schemas::temp_id)]
    temp_id: String,
    role: RoleName,
}

/// Names a change, so that a retry of it is harmless.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Once {
    #[schema(schema_with = schemas::temp_id)]
    pub temp_id: String,
}

/// How far: everything up to this event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    seq: Seq,
}

impl NewMessage {
    pub fn for_conversation(self, conversation: ConversationId) -> Command {
        self.command(Some(conversation), None)
    }

    pub fn for_user(self, user: UserId) -> Command {
        self.command(None, Some(user))
    }

    /// All of what that message has from now on.
    pub fn in_place_of(self, conversation_id: ConversationId, message_id: EventId) -> Command {
        let Self { temp_id, content, ciphertext, nonce, tag, key_version, algorithm, reply_to, attachments, mentions } =
            self;
        Command::Edit(EditMessage {
            conversation_id,
            message_id,
            temp_id,
            content,
            ciphertext,
            nonce,
            tag,
            key_version,
            algorithm,
            reply_to,
            attachments,
            mentions,
        })
    }

    fn command(self, conversation_id: Option<ConversationId>, to: Option<UserId>) -> Command {
        let Self { temp_id, content, ciphertext, nonce, tag, key_version, algorithm, reply_to, attachments, mentions } =
            self;
        Command::Send(SendMessage {
            conversation_id,
            to,
            temp_id,
            content,
            ciphertext,
            nonce,
            tag,
            key_version,
            algorithm,
            reply_to,
            attachments,
            mentions,
        })
    }
}

impl NewReaction {
    pub fn to(self, conversation_id: ConversationId, message_id: EventId) -> Command {
        let Self { temp_id, emoji, change } = self;
        Command::React(ReactToMessage { conversation_id, message_id, temp_id, emoji, change })
    }
}

impl NewConversation {
    pub fn command(self) -> Command {
        let Self { temp_id, name, conversation_id, user_ids } = self;
        Command::Create(CreateConversation { conversation_id, temp_id, name, user_ids })
    }
}

impl NewName {
    pub fn of(self, conversation_id: ConversationId) -> Command {
        Command::Rename(RenameConversation { conversation_id, temp_id: self.temp_id, name: self.name })
    }
}

impl Users {
    pub fn join(self, conversation_id: ConversationId) -> Command {
        Command::AddMembers(self.change(conversation_id))
    }

    pub fn leave(self, conversation_id: ConversationId) -> Command {
        Command::RemoveMembers(self.change(conversation_id))
    }

    fn change(self, conversation_id: ConversationId) -> MembersChange {
        MembersChange { conversation_id, temp_id: self.temp_id, user_ids: self.user_ids }
    }
}

impl NewRole {
    pub fn of(self, conversation_id: ConversationId, user_id: UserId) -> Command {
        Command::SetRole(RoleChange { conversation_id, temp_id: self.temp_id, user_id, role: self.role })
    }
}

impl Reached {
    pub fn of(&self, conversation_id: ConversationId) -> Mark {
        Mark { conversation_id, seq: self.seq }
    }
}
