//! Calls, answers and notices between processes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tertulia_shard_map::{
    Change, ClusterId, ConversationId, DirectPair, Epoch, EventId, MapVersion, MessageNo, NodeId, Rev, Seq, SessionId,
    ShardMap, Slot, UserId,
};

use crate::{EventKind, EventRecord, ReactionChange, Role, TraceId};

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
    Initialise {
        cluster: ClusterId,
    },
    Status(Box<NodeStatus>),
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
    Direct { pair: DirectPair, blocked: bool },
    Group { name: String, size: GroupSize },
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

/// The newest event of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
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
