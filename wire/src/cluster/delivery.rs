//! What was committed, on its way to mailboxes, and from there to sessions.

use serde::{Deserialize, Serialize};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, SessionId, Slot, UserId};

use super::{BlockChange, ConversationView, Presence, ProfileRecord, Typing};
use crate::EventRecord;

/// Committed entries of the log for the mailboxes of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    pub entries: Vec<DeliverEntry>,
    pub streams: Vec<DeliverStream>,
}

/// What a slot's log holds, in order of the ids: events, and the newest state of members that changed theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliverEntry {
    Event(DeliverEvent),
    Standing(DeliverStanding),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverEvent {
    pub record: EventRecord,
    pub view: ConversationView,
    pub origin: Option<SessionId>,
}

/// A member's watermarks, and whether the user has blocked the other of a direct conversation. Absolute: merged by max,
/// but for the block, of which the newest counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverStanding {
    /// In the same order as the slot's events.
    pub id: EventId,
    pub conversation: ConversationId,
    pub view: ConversationView,
    pub standing: Standing,
    pub origin: Option<SessionId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub user: UserId,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
    /// `message_no` at `read_seq`.
    pub read_message_no: MessageNo,
    pub blocks_peer: bool,
}

/// The ordered stream of one conversation slot to one mailbox slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverStream {
    pub from: Slot,
    pub to: Slot,
    /// The last entry sent on this stream and not yet acknowledged: what the receiver must have seen just before.
    /// `None` where all that was sent is acknowledged.
    pub previous: Option<EventId>,
    pub deliveries: Vec<Delivery>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Index into [`Deliver::entries`].
    pub entry: u32,
    pub recipients: Vec<Recipient>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub user: UserId,
    pub membership: Membership,
}

/// What an event does to a recipient's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    Stays,
    /// The recipient's first event.
    Joins,
    /// The recipient's last event.
    Leaves,
}

/// What became of one stream of a [`Deliver`], in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamResult {
    /// Every row that these entries touch is committed.
    Committed,
    /// Nothing is promised: send again, to the slot's owner.
    Retry,
}

/// An event of a large conversation, and whose membership it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    pub event: DeliverEvent,
    pub joining: Vec<UserId>,
    pub leaving: Vec<UserId>,
}

/// Where a large group is now: its name and its newest event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub name: String,
    pub last_seq: Seq,
    pub last_event_id: EventId,
    pub last_at_ms: i64,
    pub last_message_no: MessageNo,
}

/// What sessions of one router are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushBatch {
    pub items: Vec<PushItem>,
    pub targets: Vec<PushTarget>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushItem {
    Event(EventRecord),
    Receipt { conversation: ConversationId, standing: Standing },
    Blocked { user: UserId, change: BlockChange },
    Profile(ProfileRecord),
    Typing(Typing),
    Presence(Presence),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushTarget {
    /// Index into [`PushBatch::items`].
    pub item: u32,
    pub sessions: Vec<SessionId>,
}
