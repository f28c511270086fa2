//! What a user has: the conversation list, its delta sync, the history of a conversation, watermarks, blocks.

use serde::{Deserialize, Serialize};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Rev, Seq, UserId};

use super::{ConversationKind, Event};

/// `sync`: which of my conversations changed after `rev`? 0 asks for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncQuery {
    pub rev: Rev,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncPage {
    /// Changed rows, least recently changed first. The last page ends with the rows of all large groups, changed or not.
    pub conversations: Vec<ConversationRow>,
    /// Ask from here next; keep it once the page is stored.
    pub rev: Rev,
    pub has_more: bool,
    /// True where the asked `rev` is unknown to this cluster (from the future, or of another life): forget all rows and
    /// sync from 0.
    #[serde(default)]
    pub reset: bool,
    /// Messages that this user has not read, over all conversations, as of this page.
    pub unread_total: u64,
}

/// One line of the conversation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConversationRow {
    pub conversation_id: ConversationId,
    pub kind: ConversationKind,
    /// The other user of a direct conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<UserId>,
    /// Of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The first event that this user may read.
    pub joined_seq: Seq,
    /// Set once the user is no longer a member: the event that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_seq: Option<Seq>,
    pub last_seq: Seq,
    pub last_event_id: EventId,
    pub last_at_ms: i64,
    /// `message_no` at `last_seq`.
    pub last_message_no: MessageNo,
    /// Events up to here count as read by this user.
    pub read_seq: Seq,
    /// Messages after `read_seq`: `last_message_no` less the `message_no` there.
    pub unread: u64,
    /// The farthest that the other members' watermarks have come: in a direct conversation, the other user's.
    pub others_delivered_seq: Seq,
    pub others_read_seq: Seq,
}

/// `history`: events of one conversation in order of `seq`. At most one of `after_seq` and `before_seq`; with neither,
/// the newest page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    pub conversation_id: ConversationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seq: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_seq: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryPage {
    pub conversation_id: ConversationId,
    /// In ascending order of `seq`, without a hole.
    pub events: Vec<Event>,
    /// Whether there are more in the direction asked: later ones with `after_seq`, earlier ones otherwise.
    pub has_more: bool,
    /// The conversation's newest `seq` at the time of the read.
    pub last_seq: Seq,
}

/// `dm:delivered`, `dm:read`: everything up to `seq`. Lower than before changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    pub conversation_id: ConversationId,
    pub seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Marked {
    pub conversation_id: ConversationId,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
    /// `message_no` at `read_seq`: what `unread` is counted from.
    pub read_message_no: MessageNo,
}

/// `block`, `unblock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockQuery {
    pub user_id: UserId,
}

/// `block:list`: whom have I blocked? In order of the ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListBlocks {
    /// Ids above this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockList {
    pub user_ids: Vec<UserId>,
    pub has_more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockChanged {
    pub user_id: UserId,
    pub blocked: bool,
}
