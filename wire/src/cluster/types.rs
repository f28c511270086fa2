//! Calls, answers and notices between processes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tertulia_shard_map::{
    Change, ClusterId, ConversationId, DirectPair, EventId, MapVersion, MessageNo, NodeId, Rev, Seq, SessionId,
    ShardMap, Slot, UserId,
};

use crate::{EventKind, EventRecord, TraceId};

/// One frame of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    Call { id: u64, trace: Option<TraceId>, call: Call },
    Answer { id: u64, answer: Answer },
    Notice(Notice),
}

/// A request. Each is answered once, by the [`Answer`] variant of the same name or by `Refused`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// Proves that the peer accepted our certificate; the first call on every connection.
    Ping,
    /// An openraft RPC, opaque here.
    Raft(Bytes),
    /// Sends the current map, and from then on a `Notice::Map` at each change, on this connection.
    WatchMap {
        have: MapVersion,
    },
    /// Asks the Raft leader to apply a change. From a node or an operator.
    Propose(Box<Change>),
    /// Makes a new cluster of the configured nodes and stores. From an operator, once.
    Initialise,
    Status,

    /// To the owner of the conversation's slot.
    Append(Append),
    /// To the owner of the conversation's slot.
    History(HistoryRead),

    /// To the owner of the user's slot.
    Attach(Attach),
    /// To the owner of the user's slot.
    Detach {
        user: UserId,
        session: SessionId,
    },
    /// To the owner of the user's slot.
    Sync(SyncRead),
    /// To the owner of the users' slot (all of one slot).
    Profiles {
        slot: Slot,
        users: Vec<UserId>,
    },

    /// From a conversation slot's owner to the owners of its members' slots.
    Deliver(Deliver),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Ping,
    Raft(Bytes),
    WatchMap(Option<Box<ShardMap>>),
    Propose { version: MapVersion },
    Initialise { cluster: ClusterId },
    Status(Box<NodeStatus>),
    Append(Appended),
    History(HistoryEvents),
    Attach { rev: Rev },
    Detach,
    Sync(SyncRows),
    Profiles(Vec<NamedUser>),
    Deliver(Vec<StreamResult>),
    Refused(Refusal),
}

/// One-way, unacknowledged; lost with the connection, after which its receiver starts anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// From a node, to those that watch the map.
    Map(Box<ShardMap>),
    /// From a mailbox's owner to the router that holds the sessions.
    Push(PushBatch),
}

/// Why a call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Ask the owner that a map of at least this version names.
    #[error("not the owner of the slot (map version {version})")]
    NotOwner { version: MapVersion },
    /// The owner, but still loading or re-fencing; retry shortly.
    #[error("the owner is not serving the slot yet")]
    NotServing,
    #[error("a queue is full")]
    Overloaded { retry_after_ms: u64 },
    #[error("the store cannot be reached")]
    StoreUnavailable,
    #[error("no such conversation for this user")]
    NotFound,
    #[error("this temp_id was used with another payload")]
    Conflict,
    #[error("invalid: {0}")]
    Invalid(String),
    #[error("not the Raft leader")]
    NotLeader { leader: Option<NodeId> },
    #[error("the cluster is not initialised")]
    NotInitialised,
    #[error("this peer may not make this call")]
    Forbidden,
    #[error("an internal fault")]
    Internal,
}

impl Refusal {
    /// Whether the same call may succeed shortly, here or at another owner.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NotOwner { .. }
                | Self::NotServing
                | Self::Overloaded { .. }
                | Self::StoreUnavailable
                | Self::NotLeader { .. }
                | Self::NotInitialised
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub conversation: ConversationId,
    /// Set where the client named the other user: the owner verifies the derivation and creates the conversation.
    pub direct_peer: Option<UserId>,
    pub sender: UserId,
    /// The session that sent it, which is not told of its own message.
    pub origin: Option<SessionId>,
    pub temp_id: String,
    pub kind: EventKind,
    pub body: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    pub id: EventId,
    pub seq: Seq,
    pub message_no: MessageNo,
    pub created_at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRead {
    pub conversation: ConversationId,
    pub reader: UserId,
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub user: UserId,
    pub session: SessionId,
    /// Display name from the token, stored in the user's profile where it differs.
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRead {
    pub user: UserId,
    pub after: Rev,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRows {
    pub rows: Vec<InboxRow>,
    pub rev: Rev,
    pub has_more: bool,
    pub reset: bool,
}

/// A mailbox's row for one conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    pub conversation: ConversationId,
    pub peer: Option<UserId>,
    pub last_seq: Seq,
    pub last_event_id: EventId,
    pub last_at_ms: i64,
    pub last_message_no: MessageNo,
    pub read_seq: Seq,
    pub read_message_no: MessageNo,
}

impl InboxRow {
    /// Never counted up: always what the log says.
    pub const fn unread(&self) -> u64 {
        self.last_message_no.get().saturating_sub(self.read_message_no.get())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedUser {
    pub user: UserId,
    pub name: String,
}

/// Committed events for the mailboxes of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    pub events: Vec<DeliverEvent>,
    pub streams: Vec<DeliverStream>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverEvent {
    pub record: EventRecord,
    /// The two users of a direct conversation; `None` for a group.
    pub direct: Option<DirectPair>,
    pub origin: Option<SessionId>,
}

/// The ordered stream of one conversation slot to one mailbox slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverStream {
    pub from: Slot,
    pub to: Slot,
    /// The last event sent on this stream and not yet acknowledged: what the receiver must have seen just before.
    /// `None` where all that was sent is acknowledged.
    pub previous: Option<EventId>,
    pub deliveries: Vec<Delivery>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Index into [`Deliver::events`].
    pub event: u32,
    pub recipients: Vec<UserId>,
}

/// What became of one stream of a [`Deliver`], in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamResult {
    /// Every inbox row that these events touch is committed.
    Committed,
    /// Nothing is promised: send again, to the slot's owner.
    Retry,
}

/// Events for sessions of one router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushBatch {
    pub events: Vec<EventRecord>,
    pub targets: Vec<PushTarget>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushTarget {
    /// Index into [`PushBatch::events`].
    pub event: u32,
    pub sessions: Vec<SessionId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: NodeId,
    pub cluster: Option<ClusterId>,
    pub raft_leader: Option<NodeId>,
    pub raft_term: u64,
    pub map_version: MapVersion,
    pub slots_owned: u32,
    pub slots_serving: u32,
    pub sessions: u64,
}
