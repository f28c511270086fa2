//! What a lane knows of the conversations that it writes, and the decision what becomes of each command. Pure: the
//! driver beside it reads and writes the store.
//!
//! Everything here may be stale, and that is safe: an epoch that has passed is stopped by the fence, a seq that is taken
//! and a duplicate by a unique index. What is found stale is forgotten and loaded anew.

use std::collections::{BTreeMap, HashMap, HashSet};

use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, Slot, UserId};
use tertulia_wire::{
    EventKind, EventRecord, Role,
    cluster::{Action, Answer, Append, Appended, Authority, DeliverTyping, GroupSize, Refusal},
};

use super::{
    Request,
    conversation::{Conversation, Existence, Kind, Recent},
    details::{Details, Wanted},
    draft::Draft,
    event, group,
    hash::{check, payload_hash},
    standing,
};
use crate::{
    generations::Generations,
    store::{
        AppendBatch, ConversationKey, MemberKey, PositionKey, StoredConversation, StoredEvent, StoredMember, TakenSlot,
        TargetKey,
    },
};

/// Conversations that a lane remembers, per generation of its cache; groups count for more.
const CONVERSATIONS: usize = 32 * 1024;

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing is to be written: it was committed before, or changes nothing.
    Known(Answer),
    /// Unless the store has an event under its key: then that is the answer.
    Refuse(Refusal),
    /// Whatever the conversation is like.
    Reject(Refusal),
    /// It is in the batch: answered so once that is committed.
    Commit(Due),
    /// It has to wait until the batch is committed, and be decided again.
    Later,
    /// Nothing is to be written: these are to be told.
    Tell(DeliverTyping),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Due {
    /// By the batch's event at this place.
    Event(usize),
    Answer(Answer),
}

/// A slot that this lane writes.
struct OwnedSlot {
    epoch: Epoch,
    last_entry: EventId,
}

pub struct Log {
    slots: HashMap<Slot, OwnedSlot>,
    conversations: Generations<ConversationId, Conversation>,
    /// A group with more members than this is a large one, for good.
    fanout_limit: u64,
}

/// The clock and the dice, handed in by the driver.
pub struct Moment<'a> {
    pub now_ms: i64,
    /// 80 random bits in the low end.
    pub entropy: &'a mut dyn FnMut() -> u128,
}

/// One command, and everything that deciding it may look at or change.
pub(super) struct Scene<'a, 'm> {
    pub slot: Slot,
    pub id: ConversationId,
    pub conversation: &'a mut Conversation,
    pub draft: &'a mut Draft,
    pub details: &'a mut Details,
    pub moment: &'a mut Moment<'m>,
    pub fanout_limit: u64,
    owned: &'a mut OwnedSlot,
}

impl Scene<'_, '_> {
    /// Has the batch committed under this slot's epoch, whether it writes anything or not.
    pub fn touch(&mut self) {
        self.draft.touch(self.slot, self.owned.epoch);
    }

    /// The next id of the slot's log.
    pub fn next_id(&mut self) -> EventId {
        self.touch();
        self.owned.last_entry = next_id(self.owned.last_entry, self.moment);
        self.owned.last_entry
    }
}

impl Log {
    pub fn new(fanout_limit: u64) -> Self {
        Self { slots: HashMap::new(), conversations: Generations::in_rounds(CONVERSATIONS), fanout_limit }
    }

    pub fn open_slot(&mut self, taken: &TakenSlot) {
        self.close_slot(taken.slot);
        self.slots.insert(taken.slot, OwnedSlot { epoch: taken.epoch, last_entry: taken.last_entry });
    }

    pub fn close_slot(&mut self, slot: Slot) {
        // Of a slot that is not open nothing is remembered.
        if self.slots.remove(&slot).is_some() {
            self.conversations.retain(|_, conversation| conversation.slot != slot);
        }
    }

    pub fn epoch(&self, slot: Slot) -> Option<Epoch> {
        self.slots.get(&slot).map(|owned| owned.epoch)
    }

    pub fn last_entry(&self, slot: Slot) -> Option<EventId> {
        self.slots.get(&slot).map(|owned| owned.last_entry)
    }

    /// Which conversations must be loaded before these commands can be decided.
    ///
    /// What is here counts as used now, and stays until the commands are decided.
    pub fn missing<'a>(&mut self, commands: impl Iterator<Item = (Slot, &'a Request)>) -> Vec<ConversationKey> {
        self.conversations.make_room();
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for (slot, request) in commands {
            let id = request.conversation();
            if self.conversations.get_mut(&id).is_none() && seen.insert(id) {
                missing.push(ConversationKey { slot, id });
            }
        }
        missing
    }

    pub fn load(&mut self, slot: Slot, stored: StoredConversation) {
        let id = stored.id;
        let conversation = Conversation::stored(slot, stored);
        let weight = conversation.weight();
        self.conversations.insert_weighed(id, conversation, weight);
    }

    /// What else must be looked up before these commands can be decided; their conversations are loaded.
    pub fn wanted<'a>(&mut self, commands: impl Iterator<Item = (Slot, &'a Request)> + Clone) -> Wanted {
        let mut wanted = Wanted::default();
        for (_, request) in commands.clone() {
            if let Some(conversation) = self.conversations.get_mut(&request.conversation()) {
                conversation.make_room();
            }
        }
        for (slot, request) in commands {
            let id = request.conversation();
            let Some(conversation) = self.conversations.peek(&id) else { continue };
            let mut member = |user| {
                if !conversation.knows(user) {
                    wanted.members.push(MemberKey { slot, conversation: id, user });
                }
            };
            member(request.user());
            match request {
                Request::Append(append) => match &append.action {
                    Action::Edit { message, .. } | Action::Delete { message } | Action::React { message, .. } => {
                        let (message, user) = (*message, append.sender);
                        wanted.targets.push(TargetKey { slot, conversation: id, message, user });
                    }
                    Action::Add { users } | Action::Remove { users } => users.iter().copied().for_each(member),
                    Action::SetRole { user, .. } => member(*user),
                    Action::Leave | Action::Message { .. } | Action::Create { .. } | Action::Rename { .. } => {}
                },
                Request::Mark(mark) => {
                    if mark.read <= conversation.last_seq && conversation.message_no_at(mark.read).is_none() {
                        wanted.positions.push(PositionKey { slot, conversation: id, seq: mark.read });
                    }
                }
                Request::Block(_) | Request::Typing(_) => {}
            }
        }
        wanted.dedup();
        wanted
    }

    /// What the store says of a user of a large group.
    pub fn learn(&mut self, key: &MemberKey, found: Option<StoredMember>) {
        if let Some(conversation) = self.conversations.get_mut(&key.conversation) {
            conversation.learn(key.user, found);
            self.conversations.reweigh(&key.conversation, Conversation::weight);
        }
    }

    /// The groups of which it must be known who is senior, because an owner may go; the members whom the commands are about
    /// are known. Each once.
    pub fn wanted_seniority<'a>(&self, commands: impl Iterator<Item = (Slot, &'a Request)>) -> Vec<ConversationKey> {
        let mut wanted = Vec::new();
        for (slot, request) in commands {
            let Request::Append(append) = request else { continue };
            let (id, own) = (append.conversation, [append.sender]);
            let going = match &append.action {
                Action::Remove { users } => &users[..],
                Action::Leave => &own[..],
                Action::SetRole { user, .. } => std::slice::from_ref(user),
                _ => continue,
            };
            let Some(conversation) = self.conversations.peek(&id).filter(|it| !it.is_complete()) else { continue };
            let is_owner = |user: &UserId| conversation.member(*user).is_some_and(|it| it.role == Role::Owner);
            let key = ConversationKey { slot, id };
            if going.iter().any(is_owner) && !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        wanted
    }

    /// Decides all commands, in order, and drafts the batch of those to commit. What is remembered moves at once: the batch
    /// must be [`confirm`](Self::confirm)ed or [`forget`](Self::forget)ten before the next.
    pub fn assign(
        &mut self,
        commands: &[(Slot, &Request)],
        details: &mut Details,
        mut moment: Moment<'_>,
    ) -> (Vec<Decision>, Draft) {
        let mut draft = Draft::default();
        let decisions = commands
            .iter()
            .map(|&(slot, request)| {
                self.decide(slot, request, &mut draft, details, &mut moment).unwrap_or_else(Decision::Refuse)
            })
            .collect();
        (decisions, draft)
    }

    fn decide(
        &mut self,
        slot: Slot,
        request: &Request,
        draft: &mut Draft,
        details: &mut Details,
        moment: &mut Moment<'_>,
    ) -> Result<Decision, Refusal> {
        let owned = self.slots.get_mut(&slot).ok_or(Refusal::NotServing)?;
        if let Request::Append(append) = request {
            if let Err(refusal) = check(append) {
                return Ok(Decision::Reject(refusal));
            }
            if draft.keys.contains(&(append.conversation, append.sender, append.temp_id.clone())) {
                return Ok(Decision::Later);
            }
        }
        let id = request.conversation();
        let is_new = !self.conversations.contains(&id);
        if is_new {
            let Some(kind) = imagined(request)? else { return absent(request) };
            let conversation = Conversation::imagined(slot, kind, request.user(), moment.now_ms);
            self.conversations.insert(id, conversation);
        }
        let conversation = self.conversations.get_mut(&id).ok_or(Refusal::Internal)?;
        let mut scene = Scene {
            slot,
            id,
            conversation,
            draft: &mut *draft,
            details,
            moment,
            fanout_limit: self.fanout_limit,
            owned,
        };
        let decision = match request {
            Request::Append(append) => scene.append(append),
            Request::Mark(mark) => standing::mark(&mut scene, mark),
            Request::Block(block) => standing::block(&mut scene, block),
            Request::Typing(typing) => Ok(standing::typing(&mut scene, typing)),
        };
        // What nothing came of was never there.
        if is_new && !(matches!(decision, Ok(Decision::Commit(_))) && draft.creates(id)) {
            self.conversations.remove(&id);
        }
        decision
    }

    /// The batch is committed.
    pub fn confirm(&mut self, batch: &AppendBatch) {
        for written in &batch.conversations {
            if let Some(conversation) = self.conversations.get_mut(&written.id) {
                conversation.existence = Existence::Stored;
            }
            self.conversations.reweigh(&written.id, Conversation::weight);
        }
        for event in &batch.events {
            let Some(conversation) = self.conversations.get_mut(&event.record.conversation) else { continue };
            conversation.trim();
            conversation.remember(Recent {
                sender: event.record.sender,
                temp_id: event.record.temp_id.clone(),
                payload_hash: event.payload_hash,
                appended: appended(&event.record),
            });
        }
    }

    /// The batch is known not to be committed: its ids were never there.
    pub fn take_back(&mut self, batch: &AppendBatch, previous: &BTreeMap<Slot, EventId>) {
        self.forget(batch);
        for (slot, owned) in &mut self.slots {
            if let Some(previous) = previous.get(slot) {
                owned.last_entry = *previous;
            }
        }
    }

    /// The batch is not committed, or not known to be: what it assumed is loaded anew.
    pub fn forget(&mut self, batch: &AppendBatch) {
        let events = batch.events.iter().map(|event| event.record.conversation);
        let standings = batch.standings.iter().map(|standing| standing.conversation);
        let conversations = batch.conversations.iter().map(|conversation| conversation.id);
        for conversation in events.chain(standings).chain(conversations) {
            self.conversations.remove(&conversation);
        }
    }
}

impl Scene<'_, '_> {
    fn append(&mut self, append: &Append) -> Result<Decision, Refusal> {
        let payload_hash = payload_hash(append);
        if let Some(recent) = self.conversation.recent(append.sender, &append.temp_id) {
            return if recent.payload_hash == payload_hash {
                Ok(Decision::Known(Answer::Append(recent.appended.clone())))
            } else {
                Err(Refusal::Conflict)
            };
        }
        let may_create = self.conversation.existence == Existence::Imagined && self.conversation.last_seq.get() == 0;
        match &append.action {
            // The id is taken, unless the store knows this very command.
            Action::Create { .. } if !may_create => return Err(Refusal::Conflict),
            Action::Create { .. } => {}
            // That it is there because of a block is nobody's business.
            _ if self.id.is_direct() && self.conversation.last_seq.get() == 0 && append.direct_peer.is_none() => {
                return Err(Refusal::NotFound);
            }
            _ if append.authority == Authority::App => {}
            _ if self.conversation.member(append.sender).is_none() => return Err(Refusal::NotFound),
            _ => {}
        }
        match append.action.kind() {
            EventKind::Message | EventKind::Edit | EventKind::Delete | EventKind::Reaction => {
                event::decide(self, append, payload_hash)
            }
            _ => group::decide(self, append, payload_hash),
        }
    }
}

/// What a command makes of a conversation that does not exist: `None` where it cannot make one.
fn imagined(request: &Request) -> Result<Option<Kind>, Refusal> {
    match request {
        Request::Append(append) => match (&append.action, append.direct_peer) {
            (_, Some(peer)) => Ok(Some(Kind::Direct(DirectPair::new(append.sender, peer)))),
            (Action::Create { name, .. }, None) => Ok(Some(Kind::Group { name: name.clone(), size: GroupSize::Small })),
            (_, None) => Ok(None),
        },
        Request::Block(block) => {
            let pair = DirectPair::new(block.user, block.peer);
            if pair.conversation_id() != block.conversation || pair.lo() == pair.hi() {
                return Err(Refusal::Invalid("not the direct conversation of two users".into()));
            }
            Ok(Some(Kind::Direct(pair)))
        }
        Request::Mark(_) | Request::Typing(_) => Ok(None),
    }
}

fn absent(request: &Request) -> Result<Decision, Refusal> {
    match request {
        Request::Typing(_) => Ok(Decision::Known(Answer::Typing)),
        _ => Err(Refusal::NotFound),
    }
}

/// The answer to a command whose key is already in the store.
pub fn answer_duplicate(append: &Append, stored: &StoredEvent) -> Result<Appended, Refusal> {
    if stored.payload_hash == payload_hash(append) { Ok(appended(&stored.record)) } else { Err(Refusal::Conflict) }
}

/// A message's body is known to its sender; of everything else the event as it was committed is told.
pub fn appended(record: &EventRecord) -> Appended {
    Appended {
        id: record.id,
        seq: record.seq,
        message_no: record.message_no,
        created_at_ms: record.created_at_ms,
        record: (record.kind != EventKind::Message).then(|| Box::new(record.clone())),
    }
}

/// A ULID of now, or the successor of the slot's last one where the clock has not moved past it: ids of a slot only grow.
fn next_id(last: EventId, moment: &mut Moment<'_>) -> EventId {
    const ENTROPY: u128 = (1 << 80) - 1;
    let now = u128::from(moment.now_ms.max(0).unsigned_abs()) << 80 | ((moment.entropy)() & ENTROPY);
    EventId::from_u128(now.max(last.to_u128() + 1))
}
