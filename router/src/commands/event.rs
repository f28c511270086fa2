//! Commands whose order within their conversation matters: those that make an event, and blocks, which decide whether
//! one may be made. All are idempotent.

use tertulia_shard_map::{ConversationId, DirectPair, derived_group_id};
use tertulia_wire::{
    MessageBody,
    client::{
        Ack, BlockQuery, ClientEventKind, CreateConversation, DeleteMessage, EditMessage, ErrorReply, Event,
        FileAttachment, LeaveConversation, MembersChange, ReactToMessage, RenameConversation, Reply, RoleChange,
        SendMessage, SendTarget,
    },
    cluster::{Action, Answer, Append, Appended, Block, BlockChange, Call},
    encode_message,
};

use super::{
    Caller, Outcome, Planned, Routed,
    refusal::{internal, unexpected},
};
use crate::routing::Key;

/// Something to do in the order of its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the largest is the most frequent: a box would only cost an allocation")]
pub enum Ordered {
    /// `body` is what the ack of a message repeats; `append` has it encoded. `None` for any other event.
    Event {
        append: Append,
        body: Option<MessageBody>,
    },
    Block(Block),
}

impl Ordered {
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Event { append, .. } => append.conversation,
            Self::Block(block) => block.conversation,
        }
    }

    /// The same call at every attempt.
    pub fn routed(&self) -> Routed {
        let call = match self {
            Self::Event { append, .. } => Call::Append(Box::new(append.clone())),
            Self::Block(block) => Call::Block(block.clone()),
        };
        Routed { key: Key::Conversation(self.conversation()), call }
    }

    /// What it takes while it has no answer, beside a constant; in bytes.
    pub fn bytes(&self) -> usize {
        let Self::Event { append, .. } = self else { return 0 };
        match &append.action {
            // As received, and encoded.
            Action::Message { body } | Action::Edit { body, .. } => 2 * body.len(),
            Action::Create { name, users } => name.len() + size_of_val(users.as_slice()),
            Action::Add { users } | Action::Remove { users } => size_of_val(users.as_slice()),
            Action::Rename { name } => name.len(),
            Action::React { emoji, .. } => emoji.len(),
            Action::Delete { .. } | Action::SetRole { .. } | Action::Leave => 0,
        }
    }

    /// Whether it is a `dm:send`.
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Event { append: Append { action: Action::Message { .. }, .. }, .. })
    }

    pub fn reply(self, outcome: Outcome) -> Reply {
        match (self, outcome) {
            (Self::Event { append, body }, Outcome::Answered(Answer::Append(appended))) => ack(append, body, appended),
            (Self::Block(_), Outcome::Answered(Answer::Block)) => Reply::Ok,
            (_, other) => unexpected(other),
        }
    }
}

fn ack(append: Append, body: Option<MessageBody>, appended: Appended) -> Reply {
    let temp_id = append.temp_id.clone();
    let message = match (body, &appended.record) {
        (Some(body), None) => message_event(append, body, &appended),
        (_, Some(record)) => match Event::from_record(record) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(event = %record.id, %error, "a committed event cannot be read");
                return Reply::Error(internal());
            }
        },
        (None, None) => {
            tracing::warn!(event = %appended.id, "the owner did not say what it committed");
            return Reply::Error(internal());
        }
    };
    Reply::Ack(Ack { temp_id, message })
}

/// The same as [`Event::from_record`] makes of the stored event, without decoding the body that was just encoded.
fn message_event(append: Append, body: MessageBody, appended: &Appended) -> Event {
    let mut event = Event {
        id: appended.id,
        conversation_id: append.conversation,
        seq: appended.seq,
        message_no: appended.message_no,
        kind: ClientEventKind::Message,
        sender_id: append.sender,
        created_at_ms: appended.created_at_ms,
        temp_id: append.temp_id,
        content: body.content,
        ciphertext: None,
        nonce: None,
        tag: None,
        key_version: None,
        algorithm: None,
        reply_to: body.reply_to,
        attachments: body.attachments.into_iter().map(FileAttachment::from).collect(),
        mentions: body.mentions,
        edited_at_ms: None,
        deleted_at_ms: None,
        reactions: Vec::new(),
        message_id: None,
        message_seq: None,
        emoji: None,
        change: None,
        name: None,
        members: Vec::new(),
        became_large: false,
    };
    if let Some(encrypted) = body.encrypted {
        event.ciphertext = Some(encrypted.ciphertext);
        event.nonce = Some(encrypted.nonce);
        event.tag = Some(encrypted.tag);
        event.key_version = Some(encrypted.key_version);
        event.algorithm = Some(encrypted.algorithm);
    }
    event
}

pub(super) fn send(caller: &Caller, command: SendMessage) -> Result<Planned, ErrorReply> {
    let valid = command.validate()?;
    let (conversation, direct_peer) = match valid.target {
        SendTarget::Conversation(conversation) => (conversation, None),
        SendTarget::User(peer) => (DirectPair::new(caller.user, peer).conversation_id(), Some(peer)),
    };
    let action = Action::Message { body: encode_message(&valid.body) };
    let append = Append { direct_peer, ..append(caller, conversation, valid.temp_id, action) };
    Ok(Planned::Ordered(Ordered::Event { append, body: Some(valid.body) }))
}

pub(super) fn edit(caller: &Caller, mut command: EditMessage) -> Result<Planned, ErrorReply> {
    let body = command.validate()?;
    let action = Action::Edit { message: command.message_id, body: encode_message(&body) };
    Ok(event(caller, command.conversation_id, command.temp_id, action))
}

pub(super) fn delete(caller: &Caller, command: DeleteMessage) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let action = Action::Delete { message: command.message_id };
    Ok(event(caller, command.conversation_id, command.temp_id, action))
}

pub(super) fn react(caller: &Caller, command: ReactToMessage) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let action = Action::React { message: command.message_id, emoji: command.emoji, change: command.change };
    Ok(event(caller, command.conversation_id, command.temp_id, action))
}

pub(super) fn create(caller: &Caller, command: CreateConversation) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let conversation = command.conversation_id.unwrap_or_else(|| derived_group_id(caller.user, &command.temp_id));
    let action = Action::Create { name: command.name, users: command.user_ids };
    Ok(event(caller, conversation, command.temp_id, action))
}

pub(super) fn rename(caller: &Caller, command: RenameConversation) -> Result<Planned, ErrorReply> {
    command.validate()?;
    Ok(event(caller, command.conversation_id, command.temp_id, Action::Rename { name: command.name }))
}

pub(super) fn add(caller: &Caller, command: MembersChange) -> Result<Planned, ErrorReply> {
    command.validate()?;
    Ok(event(caller, command.conversation_id, command.temp_id, Action::Add { users: command.user_ids }))
}

pub(super) fn remove(caller: &Caller, command: MembersChange) -> Result<Planned, ErrorReply> {
    command.validate()?;
    Ok(event(caller, command.conversation_id, command.temp_id, Action::Remove { users: command.user_ids }))
}

pub(super) fn set_role(caller: &Caller, command: RoleChange) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let action = Action::SetRole { user: command.user_id, role: command.role.into() };
    Ok(event(caller, command.conversation_id, command.temp_id, action))
}

pub(super) fn leave(caller: &Caller, command: LeaveConversation) -> Result<Planned, ErrorReply> {
    command.validate()?;
    Ok(event(caller, command.conversation_id, command.temp_id, Action::Leave))
}

pub(super) fn block(caller: &Caller, command: &BlockQuery) -> Result<Planned, ErrorReply> {
    change_block(caller, command, BlockChange::Block)
}

pub(super) fn unblock(caller: &Caller, command: &BlockQuery) -> Result<Planned, ErrorReply> {
    change_block(caller, command, BlockChange::Unblock)
}

fn change_block(caller: &Caller, command: &BlockQuery, change: BlockChange) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let (user, peer) = (caller.user, command.user_id);
    let conversation = DirectPair::new(user, peer).conversation_id();
    Ok(Planned::Ordered(Ordered::Block(Block { conversation, user, peer, origin: caller.session, change })))
}

fn append(caller: &Caller, conversation: ConversationId, temp_id: String, action: Action) -> Append {
    Append {
        conversation,
        direct_peer: None,
        sender: caller.user,
        authority: caller.authority,
        origin: caller.session,
        temp_id,
        action,
    }
}

fn event(caller: &Caller, conversation: ConversationId, temp_id: String, action: Action) -> Planned {
    Planned::Ordered(Ordered::Event { append: append(caller, conversation, temp_id, action), body: None })
}
