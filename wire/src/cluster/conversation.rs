//! What the owner of a conversation's slot is asked: to append, to mark, to block, to tell.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tertulia_shard_map::{ConversationId, DirectPair, EventId, MessageNo, Seq, SessionId, UserId};

use crate::{EventKind, EventRecord, ReactionChange, Role};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub conversation: ConversationId,
    /// Set where the client named the other user: the owner verifies the derivation and creates the conversation.
    pub direct_peer: Option<UserId>,
    pub sender: UserId,
    pub authority: Authority,
    /// The session that sent it, which is not told of its own event.
    pub origin: Option<SessionId>,
    pub temp_id: String,
    pub action: Action,
}

/// On whose word something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// The sender's, who must be a member and have the role for it.
    Member,
    /// The app's back end's: membership, roles and blocks of the sender do not matter.
    App,
}

/// What an append does. Bodies of messages are as [`crate::encode_message`] makes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Message {
        body: Bytes,
    },
    Edit {
        message: EventId,
        body: Bytes,
    },
    Delete {
        message: EventId,
    },
    React {
        message: EventId,
        emoji: String,
        change: ReactionChange,
    },
    /// A group of the sender, its owner, and these.
    Create {
        name: String,
        users: Vec<UserId>,
    },
    Rename {
        name: String,
    },
    Add {
        users: Vec<UserId>,
    },
    Remove {
        users: Vec<UserId>,
    },
    SetRole {
        user: UserId,
        role: Role,
    },
    Leave,
}

impl Action {
    /// The kind of the event that it makes.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Message { .. } => EventKind::Message,
            Self::Edit { .. } => EventKind::Edit,
            Self::Delete { .. } => EventKind::Delete,
            Self::React { .. } => EventKind::Reaction,
            Self::Create { .. } => EventKind::Created,
            Self::Rename { .. } => EventKind::Renamed,
            Self::Add { .. } => EventKind::Joined,
            Self::Remove { .. } | Self::Leave => EventKind::Left,
            Self::SetRole { .. } => EventKind::RoleChanged,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    pub id: EventId,
    pub seq: Seq,
    pub message_no: MessageNo,
    pub created_at_ms: i64,
    /// The event as it was committed; `None` for a message, whose body the sender has.
    pub record: Option<Box<EventRecord>>,
}

/// Watermarks of a user in a conversation: at least these from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub conversation: ConversationId,
    pub user: UserId,
    /// The session that said so, which is not told.
    pub origin: Option<SessionId>,
    pub delivered: Seq,
    /// Above `delivered`, it raises that too.
    pub read: Seq,
}

/// What is committed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    pub delivered: Seq,
    pub read: Seq,
}

/// `user` blocks `peer`, or no longer does. To the owner of their direct conversation, which comes into being where it is
/// missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub conversation: ConversationId,
    pub user: UserId,
    pub peer: UserId,
    pub origin: Option<SessionId>,
    pub change: BlockChange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockChange {
    Block,
    Unblock,
}

/// Who reads a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reader {
    /// A user, who must be a member now.
    Member(UserId),
    /// The mailbox of a user, which may see what the user could see as a member, also if that is over.
    Mailbox(UserId),
    /// The app's back end, or a node on behalf of all members: sees everything.
    App,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRead {
    pub conversation: ConversationId,
    pub reader: Reader,
}

/// What kind of conversation, as members' mailboxes need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConversationView {
    /// `blocked`: one of the two has blocked the other, so that neither learns anything of the other's watermarks.
    Direct {
        pair: DirectPair,
        blocked: bool,
    },
    Group {
        name: String,
        size: GroupSize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupSize {
    /// Each member's mailbox is told of each event.
    Small,
    /// Was above `fanout_limit` once: mailboxes ask.
    Large,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRecord {
    pub view: ConversationView,
    pub created_by: UserId,
    pub created_at_ms: i64,
    pub members: u64,
    /// The reader's; `Owner` for `App`.
    pub role: Role,
    pub last_seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersRead {
    pub conversation: ConversationId,
    pub reader: Reader,
    /// In order of the ids, those above.
    pub after: Option<UserId>,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersPage {
    pub members: Vec<MemberRecord>,
    pub has_more: bool,
}

/// A member. The watermarks of others are 0 in a large group and across a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub user: UserId,
    pub role: Role,
    pub joined_seq: Seq,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRead {
    pub conversation: ConversationId,
    pub reader: Reader,
    pub range: HistoryRange,
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HistoryRange {
    Latest,
    After(Seq),
    Before(Seq),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEvents {
    pub events: Vec<EventRecord>,
    pub has_more: bool,
    pub last_seq: Seq,
}
