//! What the owner of a user's slot is asked: to attach sessions, to sync, to tell of the user.

use serde::{Deserialize, Serialize};
use tertulia_shard_map::{ConversationId, Epoch, EventId, MessageNo, Rev, Seq, SessionId, Slot, UserId};

use super::GroupSize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub user: UserId,
    pub session: SessionId,
    /// Display name from the token, stored in the user's profile where that has no name of its own.
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub rev: Rev,
    pub in_large_group: bool,
    pub profile: ProfileRecord,
    /// Of the owner that answers: an attachment to an owner that has been deposed is not one.
    pub epoch: Epoch,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRead {
    pub user: UserId,
    pub after: Rev,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRows {
    /// The last page ends with all rows of large groups.
    pub rows: Vec<InboxRow>,
    pub rev: Rev,
    pub has_more: bool,
    pub reset: bool,
    /// Of large groups that the page does not show, as they are stored: it is exact on the last page.
    pub unread_total: u64,
}

/// The rows below `before`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRead {
    pub user: UserId,
    pub before: Option<InboxPosition>,
    pub limit: u32,
}

/// Ties in time are ordered by id, so that none is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InboxPosition {
    pub last_at_ms: i64,
    pub conversation: ConversationId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRows {
    pub rows: Vec<InboxRow>,
    pub has_more: bool,
    /// Of large groups that are above the page, as they are stored: it is exact on the first page.
    pub unread_total: u64,
}

/// A mailbox's row for one conversation. Of a large group, what is stored is derived anew on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    pub conversation: ConversationId,
    /// The other user of a direct conversation; `None` for a group.
    pub peer: Option<UserId>,
    /// Of a group.
    pub name: Option<String>,
    pub size: GroupSize,
    pub joined_seq: Seq,
    pub left_seq: Option<Seq>,
    pub last_seq: Seq,
    pub last_event_id: EventId,
    pub last_at_ms: i64,
    pub last_message_no: MessageNo,
    pub read_seq: Seq,
    pub read_message_no: MessageNo,
    /// The farthest that others' watermarks have come.
    pub others_delivered_seq: Seq,
    pub others_read_seq: Seq,
}

impl InboxRow {
    /// Never counted up: always what the log says. Who is no longer a member has nothing to read.
    pub const fn unread(&self) -> u64 {
        match self.left_seq {
            Some(_) => 0,
            None => self.last_message_no.get().saturating_sub(self.read_message_no.get()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlocksRead {
    pub user: UserId,
    pub after: Option<UserId>,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlocksPage {
    pub users: Vec<UserId>,
    pub has_more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRecord {
    pub user: UserId,
    pub name: Option<String>,
    pub avatar_url: Option<String>,
    /// Whether others see when the user is online and typing.
    pub shares_presence: bool,
    /// A user who may not sign in.
    pub disabled: bool,
}

/// What is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetProfile {
    pub user: UserId,
    /// The session that said so, which is not told.
    pub origin: Option<SessionId>,
    pub name: Option<String>,
    /// Empty: none.
    pub avatar_url: Option<String>,
    pub shares_presence: Option<bool>,
    pub disabled: Option<bool>,
}

/// Tells the session when these users, all of one slot, come and go. Silently never, where they do not share it with the
/// watcher: presence is shared between the two users of a direct conversation of which neither has blocked the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPresence {
    pub slot: Slot,
    pub watcher: UserId,
    pub session: SessionId,
    pub users: Vec<UserId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnwatchPresence {
    pub slot: Slot,
    pub session: SessionId,
    pub users: Vec<UserId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub user: UserId,
    pub online: bool,
    pub last_seen_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    pub conversation: ConversationId,
    pub user: UserId,
    pub origin: Option<SessionId>,
    pub typing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverTyping {
    pub typing: Typing,
    pub recipients: Vec<UserId>,
}
