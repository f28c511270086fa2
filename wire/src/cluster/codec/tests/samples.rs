//! One of each call, answer and push: those whose fields vary least.

use tertulia_shard_map::{
    ClusterId, ConversationId, DirectPair, Epoch, EventId, MapVersion, MessageNo, NodeId, Rev, Seq, SessionId, Slot,
    StoreId, UserId,
};

use crate::{
    EventKind, EventRecord, ReactionChange, ReactionCount, Role, Since, Target,
    cluster::{
        Action, Announcement, Answer, Append, Appended, Attach, Attached, Authority, Block, BlockChange, BlocksPage,
        BlocksRead, Call, ConversationRead, ConversationRecord, ConversationView, DeliverEntry, DeliverEvent,
        DeliverStanding, DeliverTyping, GroupSize, Head, HistoryEvents, HistoryRange, HistoryRead, InboxPosition,
        InboxRead, InboxRow, InboxRows, Mark, Marked, MemberRecord, MembersPage, MembersRead, MembershipChange,
        NodeLoad, NodeStatus, Presence, ProfileRecord, PushItem, RaftMember, Reader, Refusal, SetProfile, SlotLoad,
        Standing, StoreLoad, StreamResult, SyncRead, SyncRows, Typing, UnwatchPresence, WatchPresence,
    },
};

const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);
const CONVERSATION: ConversationId = ConversationId::from_u128(3);
const SESSION: SessionId = SessionId::from_u128(4);
const EVENT: EventId = EventId::from_u128(5);

fn record() -> EventRecord {
    EventRecord {
        id: EVENT,
        conversation: CONVERSATION,
        seq: Seq::new(9),
        message_no: MessageNo::new(8),
        kind: EventKind::Reaction,
        sender: ANA,
        created_at_ms: -1,
        temp_id: "t".into(),
        body: vec![1, 0x80].into(),
        target: Some(Target { id: EVENT, seq: Seq::new(7) }),
        since: Some(Box::new(Since {
            edited_at_ms: Some(1),
            deleted_at_ms: None,
            reactions: vec![ReactionCount { emoji: "👍".into(), count: 3, mine: true }],
        })),
    }
}

fn standing() -> Standing {
    Standing {
        user: BEA,
        delivered_seq: Seq::new(9),
        read_seq: Seq::new(7),
        read_message_no: MessageNo::new(6),
        blocks_peer: true,
    }
}

fn typing() -> Typing {
    Typing { conversation: CONVERSATION, user: ANA, origin: Some(SESSION), typing: true }
}

fn profile() -> ProfileRecord {
    ProfileRecord { user: ANA, name: Some("Ana".into()), avatar_url: None, shares_presence: false, disabled: true }
}

fn event() -> DeliverEvent {
    let view = ConversationView::Direct { pair: DirectPair::new(ANA, BEA), blocked: true };
    DeliverEvent { record: record(), view, origin: Some(SESSION) }
}

fn actions() -> Vec<Action> {
    vec![
        Action::Message { body: vec![1].into() },
        Action::Edit { message: EVENT, body: vec![1].into() },
        Action::Delete { message: EVENT },
        Action::React { message: EVENT, emoji: "👍".into(), change: ReactionChange::Remove },
        Action::Create { name: "us".into(), users: vec![BEA] },
        Action::Rename { name: "them".into() },
        Action::Add { users: vec![BEA] },
        Action::Remove { users: vec![BEA] },
        Action::SetRole { user: BEA, role: Role::Owner },
        Action::Leave,
    ]
}

pub fn calls() -> Vec<Call> {
    let append = |action| {
        let (temp_id, authority) = ("t".to_owned(), Authority::App);
        Call::Append(Box::new(Append {
            conversation: CONVERSATION,
            direct_peer: Some(BEA),
            sender: ANA,
            authority,
            origin: None,
            temp_id,
            action,
        }))
    };
    let ranges = [HistoryRange::Latest, HistoryRange::After(Seq::new(1)), HistoryRange::Before(Seq::new(2))];
    let history = ranges.into_iter().map(|range| {
        Call::History(HistoryRead { conversation: CONVERSATION, reader: Reader::Mailbox(ANA), range, limit: 3 })
    });
    let announcement = Announcement { event: event(), joining: vec![ANA], leaving: vec![BEA] };
    let mut calls = vec![
        Call::Ping,
        Call::Initialise,
        Call::Status,
        Call::Load,
        Call::WatchMap { have: MapVersion::new(1) },
        Call::Mark(Mark {
            conversation: CONVERSATION,
            user: ANA,
            origin: Some(SESSION),
            delivered: Seq::new(2),
            read: Seq::new(1),
        }),
        Call::Block(Block {
            conversation: CONVERSATION,
            user: ANA,
            peer: BEA,
            origin: None,
            change: BlockChange::Unblock,
        }),
        Call::Conversation(ConversationRead { conversation: CONVERSATION, reader: Reader::Member(ANA) }),
        Call::Members(MembersRead { conversation: CONVERSATION, reader: Reader::App, after: Some(ANA), limit: 5 }),
        Call::Typing(typing()),
        Call::Attach(Attach { user: ANA, session: SESSION, name: Some("Ana".into()) }),
        Call::Detach { user: ANA, session: SESSION },
        Call::Sync(SyncRead { user: ANA, after: Rev::new(7), limit: 9 }),
        Call::Inbox(InboxRead {
            user: ANA,
            before: Some(InboxPosition { last_at_ms: 1, conversation: CONVERSATION }),
            limit: 9,
        }),
        Call::Blocks(BlocksRead { user: ANA, after: None, limit: 9 }),
        Call::SetProfile(SetProfile {
            user: ANA,
            origin: None,
            name: None,
            avatar_url: Some(String::new()),
            shares_presence: Some(true),
            disabled: None,
        }),
        Call::WatchPresence(WatchPresence { slot: Slot::new(1), watcher: ANA, session: SESSION, users: vec![BEA] }),
        Call::UnwatchPresence(UnwatchPresence { slot: Slot::new(1), session: SESSION, users: vec![BEA] }),
        Call::DeliverTyping(DeliverTyping { typing: typing(), recipients: vec![BEA] }),
        Call::Interest(vec![CONVERSATION]),
        Call::Announce(vec![announcement]),
        Call::ChangeMembership(MembershipChange::Add { node: NodeId::new(4), address: "a:1".into() }),
        Call::ChangeMembership(MembershipChange::Remove { node: NodeId::new(4) }),
        Call::ChangeMembership(MembershipChange::Snapshot),
        Call::Heartbeat { is_stopping: true },
        Call::Heads(vec![CONVERSATION]),
    ];
    calls.extend(actions().into_iter().map(append));
    calls.extend(history);
    calls
}

fn row() -> InboxRow {
    InboxRow {
        conversation: CONVERSATION,
        peer: None,
        name: Some("us".into()),
        size: GroupSize::Large,
        joined_seq: Seq::new(1),
        left_seq: Some(Seq::new(9)),
        last_seq: Seq::new(9),
        last_event_id: EVENT,
        last_at_ms: 1,
        last_message_no: MessageNo::new(8),
        read_seq: Seq::new(7),
        read_message_no: MessageNo::new(6),
        others_delivered_seq: Seq::new(5),
        others_read_seq: Seq::new(4),
    }
}

pub fn answers() -> Vec<Answer> {
    let head = Head {
        name: "us".into(),
        last_seq: Seq::new(9),
        last_event_id: EVENT,
        last_at_ms: 1,
        last_message_no: MessageNo::new(8),
    };
    let member = MemberRecord {
        user: ANA,
        role: Role::Admin,
        joined_seq: Seq::new(1),
        delivered_seq: Seq::new(3),
        read_seq: Seq::new(2),
    };
    let status = NodeStatus {
        node: NodeId::new(1),
        cluster: Some(ClusterId::from_u128(1)),
        raft_leader: None,
        raft_term: 2,
        raft_applied: 7,
        raft_members: vec![RaftMember { node: NodeId::new(1), address: "a:1".into(), is_voter: true }],
        map_version: MapVersion::new(3),
        slots_owned: 4,
        slots_serving: 5,
        sessions: 6,
    };
    let mut answers = vec![
        Answer::Ping,
        Answer::WatchMap(None),
        Answer::Propose { version: MapVersion::new(1) },
        Answer::ChangeMembership,
        Answer::Initialise { cluster: ClusterId::from_u128(1) },
        Answer::Status(Box::new(status)),
        Answer::Load(Box::new(NodeLoad {
            slots: vec![SlotLoad { slot: Slot::new(3), events_per_s: 0.25 }],
            stores: vec![StoreLoad { store: StoreId::new(1), commits_per_s: 0.5, commit_ms: None, queued_bytes: 7 }],
        })),
        Answer::Append(Appended {
            id: EVENT,
            seq: Seq::new(1),
            message_no: MessageNo::new(1),
            created_at_ms: 2,
            record: Some(Box::new(record())),
        }),
        Answer::Mark(Marked { delivered: Seq::new(2), read: Seq::new(1) }),
        Answer::Block,
        Answer::Conversation(ConversationRecord {
            view: ConversationView::Group { name: "us".into(), size: GroupSize::Small },
            created_by: ANA,
            created_at_ms: 1,
            members: 2,
            role: Role::Owner,
            last_seq: Seq::new(3),
        }),
        Answer::Members(MembersPage { members: vec![member], has_more: true }),
        Answer::Typing,
        Answer::History(HistoryEvents { events: vec![record()], has_more: true, last_seq: Seq::new(9) }),
        Answer::Attach(Attached { rev: Rev::new(1), in_large_group: true, profile: profile(), epoch: Epoch::new(2) }),
        Answer::Detach,
        Answer::Sync(SyncRows { rows: vec![row()], rev: Rev::new(1), has_more: false, reset: true, unread_total: 4 }),
        Answer::Inbox(InboxRows { rows: vec![row()], has_more: true, unread_total: 4 }),
        Answer::Blocks(BlocksPage { users: vec![BEA], has_more: false }),
        Answer::Profiles(vec![profile()]),
        Answer::SetProfile(profile()),
        Answer::WatchPresence(vec![Presence { user: BEA, online: false, last_seen_ms: Some(1) }]),
        Answer::UnwatchPresence,
        Answer::Deliver(vec![StreamResult::Committed, StreamResult::Retry]),
        Answer::DeliverTyping,
        Answer::Interest(vec![Some(head), None]),
        Answer::Announce,
        Answer::Heartbeat,
        Answer::Heads(vec![None]),
    ];
    let refusals = [
        Refusal::NotOwner { version: MapVersion::new(1) },
        Refusal::NotServing,
        Refusal::Overloaded { retry_after_ms: 1 },
        Refusal::StoreUnavailable,
        Refusal::NotFound,
        Refusal::Conflict,
        Refusal::Blocked,
        Refusal::NotAllowed("x".into()),
        Refusal::NoChange("x".into()),
        Refusal::LimitReached("x".into()),
        Refusal::Invalid("x".into()),
        Refusal::NotLeader { leader: Some(NodeId::new(1)) },
        Refusal::NotInitialised,
        Refusal::Forbidden,
        Refusal::Internal,
    ];
    answers.extend(refusals.map(Answer::Refused));
    answers
}

pub fn push_items() -> Vec<PushItem> {
    vec![
        PushItem::Event(record()),
        PushItem::Receipt { conversation: CONVERSATION, standing: standing() },
        PushItem::Blocked { user: BEA, change: BlockChange::Block },
        PushItem::Profile(profile()),
        PushItem::Typing(typing()),
        PushItem::Presence(Presence { user: BEA, online: true, last_seen_ms: None }),
    ]
}

pub fn entries() -> Vec<DeliverEntry> {
    let standing = DeliverStanding {
        id: EVENT,
        conversation: CONVERSATION,
        view: event().view,
        standing: standing(),
        origin: Some(SESSION),
    };
    vec![DeliverEntry::Event(event()), DeliverEntry::Standing(standing)]
}
