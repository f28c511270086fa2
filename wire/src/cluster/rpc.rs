//! Calls, answers and notices between processes, and why a call is refused.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tertulia_shard_map::{
    Change, ClusterId, ConversationId, MapVersion, NodeId, SessionId, ShardMap, Slot, StoreId, UserId,
};

use super::*;
use crate::TraceId;

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
    /// Asks the Raft leader to change who takes part in Raft. From an operator.
    ChangeMembership(MembershipChange),
    /// Makes a new cluster of the configured nodes and stores. From an operator, once.
    Initialise,
    Status,
    /// How busy the node is. From an operator.
    Load,
    /// How far the moves are. Of the Raft leader, which drives them; from an operator.
    Moves,

    // To the owner of the conversation's slot, from routers.
    Append(Box<Append>),
    Mark(Mark),
    Block(Block),
    Conversation(ConversationRead),
    Members(MembersRead),
    /// Ephemeral: answered at once, promises nothing.
    Typing(Typing),
    /// To the owner of the conversation's slot, from routers, and from mailboxes that have missed something.
    History(HistoryRead),

    // To the owner of the user's slot, from routers.
    Attach(Attach),
    Detach {
        user: UserId,
        session: SessionId,
    },
    Sync(SyncRead),
    /// The conversation list in order of the newest event.
    Inbox(InboxRead),
    Blocks(BlocksRead),
    /// All of one slot.
    Profiles {
        slot: Slot,
        users: Vec<UserId>,
    },
    SetProfile(SetProfile),
    WatchPresence(WatchPresence),
    UnwatchPresence(UnwatchPresence),

    // Between nodes.
    /// From a conversation slot's owner to the owners of its members' slots.
    Deliver(Deliver),
    /// Typing, from a conversation slot's owner to the owners of its members' slots. Promises nothing.
    DeliverTyping(DeliverTyping),
    /// To the owners of large conversations, from the nodes to whose mailboxes members are attached: tell me of new
    /// events, for [`INTEREST_MS`] from now. All conversations are of slots of the called node.
    Interest(Vec<ConversationId>),
    /// New events of large conversations, to nodes with an interest in them. Promises nothing: who misses one notices by
    /// `seq`, at the latest with the next interest.
    Announce(Vec<Announcement>),
    /// Where these conversations are now. All are of slots of the called node.
    Heads(Vec<ConversationId>),
    /// From every node to all voters, on the connection of Raft: it is alive, and perhaps about to stop.
    Heartbeat {
        is_stopping: bool,
    },
}

/// How long an interest in a large conversation holds, in milliseconds.
pub const INTEREST_MS: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Ping,
    Raft(Bytes),
    WatchMap(Option<Box<ShardMap>>),
    Propose {
        version: MapVersion,
    },
    ChangeMembership,
    Initialise {
        cluster: ClusterId,
    },
    Status(Box<NodeStatus>),
    Load(Box<NodeLoad>),
    Moves(Vec<MoveProgress>),
    Append(Appended),
    Mark(Marked),
    Block,
    Conversation(ConversationRecord),
    Members(MembersPage),
    Typing,
    History(HistoryEvents),
    Attach(Attached),
    Detach,
    Sync(SyncRows),
    Inbox(InboxRows),
    Blocks(BlocksPage),
    Profiles(Vec<ProfileRecord>),
    SetProfile(ProfileRecord),
    WatchPresence(Vec<Presence>),
    UnwatchPresence,
    Deliver(Vec<StreamResult>),
    DeliverTyping,
    /// In the order of the call; `None` where this node does not serve the slot, or there is no such conversation.
    Interest(Vec<Option<Head>>),
    Announce,
    /// As for `Interest`.
    Heads(Vec<Option<Head>>),
    Heartbeat,
    Refused(Refusal),
}

/// A node that takes part in Raft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMember {
    pub node: NodeId,
    /// `host:port`
    pub address: String,
    /// One that is joining receives the log, and has no vote yet.
    pub is_voter: bool,
}

/// A change of who takes part in Raft; one at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// Sends it the log, and gives it a vote once it has that.
    Add {
        node: NodeId,
        address: String,
    },
    Remove {
        node: NodeId,
    },
    /// Has the leader write a snapshot, which it would do by itself after some changes.
    Snapshot,
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
    /// One of the two users of the direct conversation has blocked the other.
    #[error("blocked")]
    Blocked,
    /// A member, but not of a role that may do this; or a user who is disabled.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    #[error("no change: {0}")]
    NoChange(String),
    #[error("a limit is reached: {0}")]
    LimitReached(String),
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
pub struct NodeStatus {
    pub node: NodeId,
    pub cluster: Option<ClusterId>,
    pub raft_leader: Option<NodeId>,
    pub raft_term: u64,
    /// Index of the last entry of the Raft log that the map reflects.
    pub raft_applied: u64,
    pub raft_members: Vec<RaftMember>,
    pub map_version: MapVersion,
    pub slots_owned: u32,
    pub slots_serving: u32,
    pub sessions: u64,
}

/// How busy a node is. All of it is of the last five to ten seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Those that it serves, in order.
    pub slots: Vec<SlotLoad>,
    /// Those that it has lanes for: all of its configuration.
    pub stores: Vec<StoreLoad>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlotLoad {
    pub slot: Slot,
    /// Appended by this node.
    pub events_per_s: f64,
}

/// What a node's appends to a store cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StoreLoad {
    pub store: StoreId,
    pub commits_per_s: f64,
    /// Mean time of a commit; `None` where there was none.
    pub commit_ms: Option<f64>,
    /// What waits in the lanes now, or is being committed.
    pub queued_bytes: u64,
}
