//! A node that answers from memory, unless its script says otherwise.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tertulia_runtime::{
    rpc::{Connection, Endpoint, EndpointConfig, Responder, Service},
    tasks::Supervisor,
    tls::Identity,
};
use tertulia_shard_map::{ConversationId, Epoch, EventId, MessageNo, Rev, Seq, SessionId, ShardMap, UserId};
use tertulia_wire::{
    EventKind, EventRecord, GroupBody, GroupMember, MessageBody, ReactionBody, Role, TraceId,
    cluster::{
        Action, Answer, Append, Appended, Attached, Block, BlocksPage, Call, ConversationRecord, ConversationView,
        GroupSize, HistoryEvents, InboxPosition, InboxRow, InboxRows, Mark, Marked, MemberRecord, MembersPage, Notice,
        Presence, ProfileRecord, PushBatch, PushItem, PushTarget, Reader, Refusal, SyncRows, Typing, WatchPresence,
    },
    encode_group, encode_message, encode_reaction,
};
use tokio::sync::watch;

use super::WITHIN;

/// What the next append meets.
pub enum Act {
    Refuse(Refusal),
    /// No answer, ever.
    Hang,
}

#[derive(Default)]
pub struct Memory {
    pub script: VecDeque<Act>,
    /// Every append that came, also the refused ones.
    pub appends: Vec<Append>,
    pub committed: Vec<(Append, Appended)>,
    pub attached: HashMap<SessionId, (UserId, Connection)>,
    pub attaches: usize,
    pub detached: Vec<SessionId>,
    pub traces: Vec<TraceId>,
    pub marks: Vec<Mark>,
    pub typing: Vec<Typing>,
    /// Who is online, to those who watch; everybody else is not.
    pub online: Vec<UserId>,
    pub watches: Vec<WatchPresence>,
    pub unwatched: Vec<UserId>,
    /// How many attaches are answered as an owner that was deposed would.
    pub stale_attaches: usize,
    /// Whose attaches are refused.
    pub disabled: Vec<UserId>,
    /// Who does not share presence.
    pub discreet: Vec<UserId>,
    /// Attaches have no answer.
    pub hangs: bool,
    /// How many detaches are refused as a mailbox that is being opened would.
    pub refused_detaches: usize,
    pub refuses_typing: bool,
    /// Every history that is asked for.
    pub history: Vec<EventRecord>,
    /// Rows of everybody's conversation list.
    pub inbox: Vec<InboxRow>,
    /// Those that differ from [`profile`].
    pub profiles: HashMap<UserId, ProfileRecord>,
    /// Who has never signed in.
    pub unknown: Vec<UserId>,
    pub blocks: Vec<Block>,
    /// With whose eyes conversations were read.
    pub readers: Vec<Reader>,
    watchers: Vec<Connection>,
    hung: Vec<Responder>,
}

pub struct FakeNode {
    service: Arc<Scripted>,
    endpoint: Endpoint,
    supervisor: Supervisor,
}

struct Scripted {
    memory: Mutex<Memory>,
    map: Mutex<ShardMap>,
    changes: watch::Sender<u64>,
}

impl FakeNode {
    pub async fn start(identity: Arc<Identity>, address: SocketAddr, map: ShardMap) -> Self {
        let supervisor = Supervisor::new();
        // The socket of an earlier life is closed a moment after its endpoint.
        let deadline = Instant::now() + WITHIN;
        let endpoint = loop {
            match Endpoint::bind(EndpointConfig { listen: address, identity: identity.clone() }, &supervisor) {
                Ok(endpoint) => break endpoint,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let (memory, map, changes) = (Mutex::default(), Mutex::new(map), watch::Sender::new(0));
        let service = Arc::new(Scripted { memory, map, changes });
        endpoint.serve(service.clone());
        Self { service, endpoint, supervisor }
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.service.memory.lock().unwrap()
    }

    /// Waits until something about the node's memory is true.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Memory) -> bool) {
        let mut changes = self.service.changes.subscribe();
        let reached = tokio::time::timeout(WITHIN, async {
            while !condition(&self.memory()) {
                changes.changed().await.unwrap();
            }
        });
        assert!(reached.await.is_ok(), "never: {what}");
    }

    pub fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.memory().script.extend(acts);
    }

    /// A new map, told to those who watch.
    pub fn publish(&self, map: ShardMap) {
        *self.service.map.lock().unwrap() = map.clone();
        for watcher in &self.memory().watchers {
            let _closed = watcher.notify(Notice::Map(Box::new(map.clone())));
        }
    }

    /// A message for a session.
    pub fn push(&self, session: SessionId, seq: u64, text: &str) {
        let body = MessageBody { content: Some(text.to_owned()), ..MessageBody::default() };
        self.push_item(session, PushItem::Event(event(seq, EventKind::Message, encode_message(&body))));
    }

    pub fn push_item(&self, session: SessionId, item: PushItem) {
        let to = self.memory().attached[&session].1.clone();
        let targets = vec![PushTarget { item: 0, sessions: vec![session] }];
        to.notify(Notice::Push(PushBatch { items: vec![item], targets })).unwrap();
    }

    /// Dies without a word to callers that wait.
    pub async fn die(self) {
        self.endpoint.close().await;
        self.supervisor.drain(WITHIN).await;
    }
}

pub fn event(seq: u64, kind: EventKind, body: bytes::Bytes) -> EventRecord {
    EventRecord {
        id: EventId::from_u128(seq.into()),
        conversation: ConversationId::from_u128(1),
        seq: Seq::new(seq),
        message_no: MessageNo::new(seq),
        kind,
        sender: UserId::from_u128(5),
        created_at_ms: 1,
        temp_id: format!("t{seq}"),
        body,
        target: None,
        since: None,
    }
}

pub fn profile(user: UserId) -> ProfileRecord {
    ProfileRecord { user, name: Some(user.to_string()), avatar_url: None, shares_presence: true, disabled: false }
}

impl Service for Scripted {
    fn call(&self, from: &Connection, trace: Option<TraceId>, call: Call, reply: Responder) {
        let mut memory = self.memory.lock().unwrap();
        memory.traces.extend(trace);
        match call {
            Call::WatchMap { have } => {
                memory.watchers.push(from.clone());
                let map = self.map.lock().unwrap().clone();
                reply.send(Answer::WatchMap((map.version() > have).then(|| Box::new(map))));
            }
            Call::Attach(attach) => {
                memory.attaches += 1;
                if memory.hangs {
                    memory.hung.push(reply);
                    drop(memory);
                    return self.changes.send_modify(|count| *count += 1);
                }
                if memory.disabled.contains(&attach.user) {
                    return reply.refuse(Refusal::NotAllowed("disabled".into()));
                }
                memory.attached.insert(attach.session, (attach.user, from.clone()));
                let epoch = if memory.stale_attaches > 0 {
                    memory.stale_attaches -= 1;
                    Epoch::ZERO
                } else {
                    let map = self.map.lock().unwrap();
                    map.owner(map.slot_of_user(attach.user)).unwrap().epoch
                };
                memory.unknown.retain(|user| *user != attach.user);
                let own = memory.profile(attach.user);
                let shares_presence = own.shares_presence && !memory.discreet.contains(&attach.user);
                let profile = ProfileRecord { shares_presence, ..own };
                let (rev, in_large_group) = (Rev::new(3), false);
                reply.send(Answer::Attach(Attached { rev, in_large_group, profile, epoch }));
            }
            Call::Detach { .. } if memory.refused_detaches > 0 => {
                memory.refused_detaches -= 1;
                reply.refuse(Refusal::NotServing);
            }
            Call::Detach { session, .. } => {
                memory.attached.remove(&session);
                memory.detached.push(session);
                reply.send(Answer::Detach);
            }
            Call::Append(append) => memory.append(*append, reply),
            Call::Mark(mark) => {
                let marked = Marked { delivered: mark.delivered.max(mark.read), read: mark.read };
                memory.marks.push(mark);
                reply.send(Answer::Mark(marked));
            }
            Call::Typing(_) if memory.refuses_typing => reply.refuse(Refusal::NotFound),
            Call::Typing(typing) => {
                memory.typing.push(typing);
                reply.send(Answer::Typing);
            }
            Call::WatchPresence(watch) => {
                let state =
                    |user: &UserId| Presence { user: *user, online: memory.online.contains(user), last_seen_ms: None };
                let states = watch.users.iter().map(state).collect();
                memory.watches.push(watch);
                reply.send(Answer::WatchPresence(states));
            }
            Call::UnwatchPresence(unwatch) => {
                memory.unwatched.extend(unwatch.users);
                reply.send(Answer::UnwatchPresence);
            }
            Call::Sync(read) => {
                let (rows, rev, has_more) = (vec![], read.after, false);
                reply.send(Answer::Sync(SyncRows { rows, rev, has_more, reset: false, unread_total: 0 }));
            }
            Call::History(read) => {
                memory.readers.push(read.reader);
                let mut events = memory.history.clone();
                if events.is_empty() {
                    let body = MessageBody { content: Some("hi".into()), ..MessageBody::default() };
                    events.push(event(1, EventKind::Message, encode_message(&body)));
                }
                reply.send(Answer::History(HistoryEvents { events, has_more: false, last_seq: Seq::new(1) }));
            }
            Call::Profiles { users, .. } => {
                let records =
                    users.iter().filter(|user| !memory.unknown.contains(user)).map(|user| memory.profile(*user));
                reply.send(Answer::Profiles(records.collect()));
            }
            Call::SetProfile(change) => {
                let mut record = memory.profile(change.user);
                record.name = change.name.or(record.name);
                record.avatar_url = change.avatar_url.or(record.avatar_url).filter(|url| !url.is_empty());
                record.shares_presence = change.shares_presence.unwrap_or(record.shares_presence);
                record.disabled = change.disabled.unwrap_or(record.disabled);
                memory.unknown.retain(|user| *user != record.user);
                memory.profiles.insert(record.user, record.clone());
                reply.send(Answer::SetProfile(record));
            }
            Call::Inbox(read) => {
                let position =
                    |row: &InboxRow| InboxPosition { last_at_ms: row.last_at_ms, conversation: row.conversation };
                let mut rows = memory.inbox.clone();
                rows.sort_by_key(|row| std::cmp::Reverse(position(row)));
                rows.retain(|row| read.before.is_none_or(|before| position(row) < before));
                let has_more = rows.len() > read.limit as usize;
                rows.truncate(read.limit as usize);
                reply.send(Answer::Inbox(InboxRows { rows, has_more, unread_total: 5 }));
            }
            Call::Conversation(read) => {
                let (view, role) = (ConversationView::Group { name: "us".into(), size: GroupSize::Small }, Role::Owner);
                let (created_by, created_at_ms) = (UserId::from_u128(5), 1);
                let record =
                    ConversationRecord { view, created_by, created_at_ms, members: 2, role, last_seq: Seq::new(7) };
                memory.readers.push(read.reader);
                reply.send(Answer::Conversation(record));
            }
            Call::Members(read) => {
                let (user, seq) = (UserId::from_u128(5), Seq::new(1));
                let member =
                    MemberRecord { user, role: Role::Member, joined_seq: seq, delivered_seq: seq, read_seq: seq };
                memory.readers.push(read.reader);
                reply.send(Answer::Members(MembersPage { members: vec![member], has_more: false }));
            }
            Call::Block(block) => {
                memory.blocks.push(block);
                reply.send(Answer::Block);
            }
            Call::Blocks(_) => {
                let users = memory.blocks.iter().map(|block| block.peer).collect();
                reply.send(Answer::Blocks(BlocksPage { users, has_more: false }));
            }
            other => panic!("no router makes this call: {other:?}"),
        }
        drop(memory);
        self.changes.send_modify(|count| *count += 1);
    }

    fn closed(&self, from: &Connection) {
        let mut memory = self.memory.lock().unwrap();
        memory.attached.retain(|_, (_, connection)| connection.id() != from.id());
        drop(memory);
        self.changes.send_modify(|count| *count += 1);
    }
}

/// What an owner would say of an event other than a message.
fn append_record(append: &Append, id: EventId, seq: Seq) -> EventRecord {
    EventRecord {
        id,
        conversation: append.conversation,
        sender: append.sender,
        temp_id: append.temp_id.clone(),
        ..event(seq.get(), append.action.kind(), body_of(append))
    }
}

fn body_of(append: &Append) -> bytes::Bytes {
    let group = |name: Option<&str>, users: &[UserId], role| {
        let members = users.iter().map(|user| GroupMember { user: *user, role }).collect();
        encode_group(&GroupBody { name: name.map(str::to_owned), members, became_large: false })
    };
    match &append.action {
        Action::Message { body } | Action::Edit { body, .. } => body.clone(),
        Action::Delete { .. } => bytes::Bytes::new(),
        Action::React { emoji, change, .. } => encode_reaction(&ReactionBody { emoji: emoji.clone(), change: *change }),
        Action::Create { name, users } => group(Some(name), users, Role::Member),
        Action::Rename { name } => group(Some(name), &[], Role::Member),
        Action::Add { users } | Action::Remove { users } => group(None, users, Role::Member),
        Action::SetRole { user, role } => group(None, &[*user], *role),
        Action::Leave => group(None, &[append.sender], Role::Member),
    }
}

impl Memory {
    fn profile(&self, user: UserId) -> ProfileRecord {
        self.profiles.get(&user).cloned().unwrap_or_else(|| profile(user))
    }

    fn append(&mut self, append: Append, reply: Responder) {
        self.appends.push(append.clone());
        match self.script.pop_front() {
            Some(Act::Refuse(refusal)) => return reply.refuse(refusal),
            Some(Act::Hang) => return self.hung.push(reply),
            None => {}
        }
        let key = |it: &Append| (it.conversation, it.sender, it.temp_id.clone());
        let known = self.committed.iter().find(|(it, _)| key(it) == key(&append));
        let appended = match known {
            Some((before, _)) if before.action != append.action => return reply.refuse(Refusal::Conflict),
            Some((_, appended)) => appended.clone(),
            None => {
                let seq = self.committed.len() as u64 + 1;
                let (id, created_at_ms) = (EventId::from_u128(seq.into()), 1);
                let (seq, message_no) = (Seq::new(seq), MessageNo::new(seq));
                let message = matches!(append.action, Action::Message { .. });
                let record = (!message).then(|| Box::new(append_record(&append, id, seq)));
                let appended = Appended { id, seq, message_no, created_at_ms, record };
                self.committed.push((append, appended.clone()));
                appended
            }
        };
        reply.send(Answer::Append(appended));
    }
}
