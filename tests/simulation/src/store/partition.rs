//! A slot's partitions: its rows, with the indexes that refuse what is there already.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use tertulia_node::{
    append::Details,
    entry::{LogEntry, Reach, staying},
    store::{
        AppendBatch, NEWEST_EVENTS, NewEvent, PositionKey, StoredConversation, StoredEvent, StoredMember,
        StoredPosition, WrittenConversation, WrittenKind, WrittenMember, WrittenStanding, both,
    },
};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_test_invariants::MemberRow;
use tertulia_wire::cluster::{
    ConversationView, DeliverEntry, DeliverEvent, DeliverStanding, GroupSize, InboxRow, Standing,
};

/// A row as a commit writes it, and as replication carries it.
#[derive(Debug, Clone)]
pub enum Row {
    Conversation(WrittenConversation),
    Member(WrittenMember),
    Event(Rc<NewEvent>),
    Standing(WrittenStanding),
    Inbox(UserId, InboxRow),
}

/// What a row is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    Conversation(ConversationId),
    Member(ConversationId, UserId),
    Event(ConversationId, Seq),
    Inbox(UserId, ConversationId),
}

impl Row {
    pub fn key(&self) -> RowKey {
        match self {
            Self::Conversation(it) => RowKey::Conversation(it.id),
            Self::Member(it) => RowKey::Member(it.conversation, it.user),
            Self::Standing(it) => RowKey::Member(it.conversation, it.standing.user),
            Self::Event(it) => RowKey::Event(it.record.conversation, it.record.seq),
            Self::Inbox(user, row) => RowKey::Inbox(*user, row.conversation),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    written: WrittenMember,
    standing: Option<(EventId, Standing)>,
}

/// Under which an event was sent, for ever.
type TempKey = (ConversationId, UserId, String);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    conversations: BTreeMap<ConversationId, WrittenConversation>,
    members: BTreeMap<(ConversationId, UserId), Member>,
    events: BTreeMap<(ConversationId, Seq), Rc<NewEvent>>,
    /// The unique index on (conversation, sender, `temp_id`).
    keys: BTreeMap<TempKey, Seq>,
    inbox: BTreeMap<(UserId, ConversationId), InboxRow>,
}

fn temp_key(event: &NewEvent) -> TempKey {
    (event.record.conversation, event.record.sender, event.record.temp_id.clone())
}

/// Writing.
impl Partition {
    /// Whether an index has one of the events' places, keys or ids.
    pub fn refuses(&self, event: &NewEvent) -> bool {
        let record = &event.record;
        self.events.contains_key(&(record.conversation, record.seq))
            || self.keys.contains_key(&temp_key(event))
            || self.events.values().any(|it| it.record.id == record.id)
    }

    pub fn put(&mut self, row: Row) {
        match row {
            Row::Conversation(it) => drop(self.conversations.insert(it.id, it)),
            Row::Member(it) => {
                let member = self.members.entry((it.conversation, it.user));
                member.or_insert(Member { written: it, standing: None }).written = it;
            }
            Row::Event(it) => {
                self.keys.insert(temp_key(&it), it.record.seq);
                self.events.insert((it.record.conversation, it.record.seq), it);
            }
            Row::Standing(it) => {
                if let Some(member) = self.members.get_mut(&(it.conversation, it.standing.user)) {
                    member.standing = Some((it.id, it.standing));
                }
            }
            Row::Inbox(user, row) => drop(self.inbox.insert((user, row.conversation), row)),
        }
    }

    pub fn forget_keys(&mut self) {
        self.keys.clear();
    }
}

/// Comparing.
impl Partition {
    pub fn is_same_without_keys(&self, other: &Self) -> bool {
        let Self { conversations, members, events, inbox, keys: _ } = self;
        (conversations, members, events, inbox) == (&other.conversations, &other.members, &other.events, &other.inbox)
    }

    /// Whether both have the same under this key.
    pub fn is_same_at(&self, key: RowKey, other: &Self) -> bool {
        match key {
            RowKey::Conversation(id) => self.conversations.get(&id) == other.conversations.get(&id),
            RowKey::Member(id, user) => self.members.get(&(id, user)) == other.members.get(&(id, user)),
            RowKey::Event(id, seq) => self.events.get(&(id, seq)) == other.events.get(&(id, seq)),
            RowKey::Inbox(user, id) => self.inbox.get(&(user, id)) == other.inbox.get(&(user, id)),
        }
    }

    /// Of each conversation, how long its log is.
    pub fn lengths(&self) -> BTreeMap<ConversationId, usize> {
        let mut lengths = BTreeMap::new();
        for &(id, _) in self.events.keys() {
            *lengths.entry(id).or_default() += 1;
        }
        lengths
    }
}

/// What an owner reads before it writes.
impl Partition {
    pub fn conversation(&self, id: ConversationId) -> Option<StoredConversation> {
        let it = self.conversations.get(&id)?;
        let newest = self.log_of(id).rev().take(NEWEST_EVENTS).map(|event| {
            let record = &event.record;
            let (seq, message_no) = (record.seq, record.message_no);
            StoredPosition { seq, message_no, kind: record.kind, sender: record.sender }
        });
        Some(StoredConversation {
            id,
            kind: it.kind.clone(),
            member_count: it.members,
            created_by: it.created_by,
            created_at_ms: it.created_at_ms,
            newest: newest.collect(),
            members: self.members_of(id).map(stored_member).collect(),
        })
    }

    pub fn position(&self, key: PositionKey, details: &mut Details) {
        if let Some(event) = self.events.get(&(key.conversation, key.seq)) {
            details.add_position(key, event.record.message_no);
        }
    }

    pub fn duplicate(&self, conversation: ConversationId, sender: UserId, temp_id: &str) -> Option<StoredEvent> {
        let seq = self.keys.get(&(conversation, sender, temp_id.to_owned()))?;
        let event = self.events.get(&(conversation, *seq))?;
        Some(StoredEvent { record: event.record.clone(), payload_hash: event.payload_hash })
    }

    pub fn inbox_row(&self, user: UserId, conversation: ConversationId) -> Option<&InboxRow> {
        self.inbox.get(&(user, conversation))
    }

    pub fn event(&self, conversation: ConversationId, seq: Seq) -> Option<&NewEvent> {
        self.events.get(&(conversation, seq)).map(Rc::as_ref)
    }
}

/// The log.
impl Partition {
    pub fn last_entry(&self) -> EventId {
        let events = self.events.values().map(|event| event.record.id);
        let standings = self.members.values().filter_map(|member| Some(member.standing?.0));
        events.chain(standings).max().unwrap_or(EventId::from_u128(0))
    }

    /// What comes after the id, in order of ids.
    pub fn entries_after(&self, after: EventId) -> Vec<LogEntry> {
        let events = self.events.values().filter(|event| event.record.id > after).map(|event| {
            let record = event.record.clone();
            let view = self.view(record.conversation);
            self.entry(record.conversation, DeliverEntry::Event(DeliverEvent { record, view, origin: None }))
        });
        let standings = self.members.iter().filter_map(|(&(conversation, _), member)| {
            let (id, standing) = member.standing.filter(|(id, _)| *id > after)?;
            let view = self.view(conversation);
            let told = DeliverStanding { id, conversation, view, standing, origin: None };
            Some(self.entry(conversation, DeliverEntry::Standing(told)))
        });
        let mut entries: Vec<LogEntry> = events.chain(standings).collect();
        entries.sort_by_key(LogEntry::id);
        entries
    }

    fn entry(&self, conversation: ConversationId, entry: DeliverEntry) -> LogEntry {
        let recipients = match self.conversations.get(&conversation).map(|it| &it.kind) {
            Some(WrittenKind::Direct(pair)) => both(*pair),
            _ => staying(self.members_of(conversation).map(|member| member.written.user)),
        };
        LogEntry { entry, recipients, reach: Reach::Recipients }
    }

    fn view(&self, conversation: ConversationId) -> ConversationView {
        match self.conversations.get(&conversation).map(|it| &it.kind) {
            Some(WrittenKind::Direct(pair)) => ConversationView::Direct { pair: *pair, blocked: false },
            Some(WrittenKind::Group { name, .. }) => {
                ConversationView::Group { name: name.clone(), size: GroupSize::Small }
            }
            None => unreachable!("an event has a conversation: they are written together"),
        }
    }
}

/// What is checked at the end.
impl Partition {
    pub fn conversations(&self) -> impl Iterator<Item = ConversationId> {
        self.conversations.keys().copied()
    }

    /// In order of seq.
    pub fn log_of(&self, id: ConversationId) -> impl DoubleEndedIterator<Item = &NewEvent> {
        self.events.range((id, Seq::ZERO)..=(id, Seq::new(u64::MAX))).map(|(_, event)| event.as_ref())
    }

    fn members_of(&self, id: ConversationId) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |((of, _), _)| *of == id).map(|(_, member)| member)
    }

    pub fn member_rows(&self, id: ConversationId) -> impl Iterator<Item = MemberRow> {
        self.members_of(id).map(|member| {
            let StoredMember { user, joined_seq, delivered_seq, read_seq, read_message_no, blocks_peer, .. } =
                stored_member(member);
            let left_seq = member.written.left_seq;
            MemberRow { user, joined_seq, left_seq, delivered_seq, read_seq, read_message_no, blocks_peer }
        })
    }

    pub fn inbox_of(&self, user: UserId) -> impl Iterator<Item = &InboxRow> {
        self.inbox.iter().filter(move |((of, _), _)| *of == user).map(|(_, row)| row)
    }
}

fn stored_member(member: &Member) -> StoredMember {
    let WrittenMember { user, role, joined_seq, .. } = member.written;
    let none = Standing {
        user,
        delivered_seq: Seq::ZERO,
        read_seq: Seq::ZERO,
        read_message_no: MessageNo::ZERO,
        blocks_peer: false,
    };
    let Standing { delivered_seq, read_seq, read_message_no, blocks_peer, .. } =
        member.standing.map_or(none, |(_, standing)| standing);
    StoredMember { user, role, joined_seq, delivered_seq, read_seq, read_message_no, blocks_peer }
}

/// The rows of a batch by their slots, in the order in which they are written.
pub fn rows_of(batch: &AppendBatch) -> Vec<(Slot, Row)> {
    let conversations = batch.conversations.iter().map(|it| (it.slot, Row::Conversation(it.clone())));
    let members = batch.members.iter().map(|it| (it.slot, Row::Member(*it)));
    let events = batch.events.iter().map(|it| (it.slot, Row::Event(Rc::new(it.clone()))));
    let standings = batch.standings.iter().map(|it| (it.slot, Row::Standing(*it)));
    conversations.chain(members).chain(events).chain(standings).collect()
}

/// Whether two events of one batch are in each other's way is decided before: the lane never drafts such a batch.
pub fn places_are_free(partitions: &BTreeMap<Slot, Partition>, batch: &AppendBatch) -> bool {
    let mut ids = BTreeSet::new();
    batch.events.iter().all(|event| {
        ids.insert(event.record.id) && partitions.get(&event.slot).is_none_or(|partition| !partition.refuses(event))
    })
}
