//! What a lane knows of the conversations that it writes, and the decision what becomes of each command. Pure: the
//! driver beside it reads and writes the store.
//!
//! Everything here may be stale, and that is safe: an epoch that has passed is stopped by the fence, a seq that is taken
//! and a duplicate by a unique index. What is found stale is forgotten and loaded anew.

use std::collections::{HashMap, HashSet, VecDeque};

use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{
    EventRecord,
    cluster::{Append, Appended, Refusal},
    limits::TEMP_ID_BYTES,
};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    generations::Generations,
    store::{AppendBatch, ConversationKey, NewConversation, NewEvent, StoredConversation, StoredEvent, TakenSlot},
};

/// Conversations that a lane remembers, per generation of its cache.
const CONVERSATIONS: usize = 32 * 1024;
/// Newest commits of a conversation that are remembered, so that the retry of a lost ack needs no look into the store.
const RECENT: usize = 4;

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It was committed before: the first answer again.
    Known(Appended),
    Refuse(Refusal),
    /// It is the batch's next event.
    Commit,
    /// The same `temp_id` is already in the batch: decide again once that is committed.
    Later,
}

/// A slot that this lane writes.
struct OwnedSlot {
    epoch: Epoch,
    last_event: EventId,
}

struct Conversation {
    slot: Slot,
    pair: DirectPair,
    last_seq: Seq,
    message_no: MessageNo,
    existence: Existence,
    recent: VecDeque<Recent>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existence {
    /// In memory only: the next batch creates it.
    Imagined,
    Stored,
}

struct Recent {
    sender: UserId,
    temp_id: String,
    payload_hash: i64,
    appended: Appended,
}

pub struct Log {
    slots: HashMap<Slot, OwnedSlot>,
    conversations: Generations<ConversationId, Conversation>,
}

/// The clock and the dice, handed in by the driver.
pub struct Moment<'a> {
    pub now_ms: i64,
    /// 80 random bits in the low end.
    pub entropy: &'a mut dyn FnMut() -> u128,
}

impl Log {
    pub fn new() -> Self {
        Self { slots: HashMap::new(), conversations: Generations::new(CONVERSATIONS) }
    }

    pub fn open_slot(&mut self, taken: &TakenSlot) {
        self.slots.insert(taken.slot, OwnedSlot { epoch: taken.epoch, last_event: taken.last_event });
        self.conversations.retain(|_, conversation| conversation.slot != taken.slot);
    }

    pub fn close_slot(&mut self, slot: Slot) {
        self.slots.remove(&slot);
        self.conversations.retain(|_, conversation| conversation.slot != slot);
    }

    pub fn epoch(&self, slot: Slot) -> Option<Epoch> {
        self.slots.get(&slot).map(|owned| owned.epoch)
    }

    pub fn last_event(&self, slot: Slot) -> Option<EventId> {
        self.slots.get(&slot).map(|owned| owned.last_event)
    }

    /// Which conversations must be loaded before these commands can be decided.
    ///
    /// What is here counts as used now, so that loading the others does not push it out.
    pub fn missing<'a>(&mut self, commands: impl Iterator<Item = (Slot, &'a Append)>) -> Vec<ConversationKey> {
        let mut seen = HashSet::new();
        let unknown = |(_, append): &(Slot, &Append)| {
            self.conversations.get_mut(&append.conversation).is_none() && seen.insert(append.conversation)
        };
        commands.filter(unknown).map(|(slot, append)| ConversationKey { slot, id: append.conversation }).collect()
    }

    pub fn load(&mut self, slot: Slot, stored: &StoredConversation) {
        let conversation = Conversation {
            slot,
            pair: stored.pair,
            last_seq: stored.last_seq,
            message_no: stored.message_no,
            existence: Existence::Stored,
            recent: VecDeque::new(),
        };
        self.conversations.insert(stored.id, conversation);
    }

    /// Decides all commands, in order, and makes the batch of those to commit. Counters move at once: the batch must be
    /// [`confirm`](Self::confirm)ed or [`forget`](Self::forget)ten before the next.
    pub fn assign(&mut self, commands: &[(Slot, &Append)], mut moment: Moment<'_>) -> (Vec<Decision>, AppendBatch) {
        let mut batch = AppendBatch::default();
        let mut keys = HashSet::with_capacity(commands.len());
        let decisions = commands
            .iter()
            .map(|&(slot, append)| {
                let key = (append.conversation, append.sender, append.temp_id.as_str());
                if keys.contains(&key) {
                    return Decision::Later;
                }
                let decision = self.decide(slot, append, &mut batch, &mut moment).unwrap_or_else(Decision::Refuse);
                if decision == Decision::Commit {
                    keys.insert(key);
                }
                decision
            })
            .collect();
        (decisions, batch)
    }

    fn decide(
        &mut self,
        slot: Slot,
        append: &Append,
        batch: &mut AppendBatch,
        moment: &mut Moment<'_>,
    ) -> Result<Decision, Refusal> {
        check(append)?;
        let owned = self.slots.get_mut(&slot).ok_or(Refusal::NotServing)?;
        if !self.conversations.contains(&append.conversation) {
            let pair = imagined_pair(append)?;
            let conversation = Conversation {
                slot,
                pair,
                last_seq: Seq::ZERO,
                message_no: MessageNo::ZERO,
                existence: Existence::Imagined,
                recent: VecDeque::new(),
            };
            self.conversations.insert(append.conversation, conversation);
        }
        let conversation = self.conversations.get_mut(&append.conversation).ok_or(Refusal::Internal)?;
        if !conversation.pair.contains(append.sender) {
            return Err(Refusal::NotFound);
        }
        let payload_hash = payload_hash(append);
        if let Some(recent) =
            conversation.recent.iter().find(|r| r.sender == append.sender && r.temp_id == append.temp_id)
        {
            return if recent.payload_hash == payload_hash {
                Ok(Decision::Known(recent.appended.clone()))
            } else {
                Err(Refusal::Conflict)
            };
        }

        if conversation.existence == Existence::Imagined
            && !batch.conversations.iter().any(|c| c.id == append.conversation)
        {
            batch.conversations.push(NewConversation {
                slot,
                id: append.conversation,
                pair: conversation.pair,
                created_by: append.sender,
                created_at_ms: moment.now_ms,
            });
        }
        if !batch.slots.iter().any(|&(s, _)| s == slot) {
            batch.slots.push((slot, owned.epoch));
        }
        owned.last_event = next_event_id(owned.last_event, moment);
        conversation.last_seq = conversation.last_seq.next();
        if append.kind.counts_as_message() {
            conversation.message_no = conversation.message_no.next();
        }
        let record = EventRecord {
            id: owned.last_event,
            conversation: append.conversation,
            seq: conversation.last_seq,
            message_no: conversation.message_no,
            kind: append.kind,
            sender: append.sender,
            created_at_ms: moment.now_ms,
            temp_id: append.temp_id.clone(),
            body: append.body.clone(),
        };
        batch.events.push(NewEvent { slot, record, payload_hash });
        Ok(Decision::Commit)
    }

    /// The batch is committed.
    pub fn confirm(&mut self, batch: &AppendBatch) {
        for event in &batch.events {
            let Some(conversation) = self.conversations.get_mut(&event.record.conversation) else { continue };
            conversation.existence = Existence::Stored;
            if conversation.recent.len() == RECENT {
                conversation.recent.pop_front();
            }
            conversation.recent.push_back(Recent {
                sender: event.record.sender,
                temp_id: event.record.temp_id.clone(),
                payload_hash: event.payload_hash,
                appended: appended(&event.record),
            });
        }
    }

    /// The batch is not committed, or not known to be: what it assumed is loaded anew.
    pub fn forget(&mut self, batch: &AppendBatch) {
        for event in &batch.events {
            self.conversations.remove(&event.record.conversation);
        }
    }

    /// The two users of a conversation that was just written.
    pub fn pair(&mut self, conversation: ConversationId) -> Option<DirectPair> {
        self.conversations.get_mut(&conversation).map(|c| c.pair)
    }
}

/// The answer to a command whose key is already in the store.
pub fn answer_duplicate(append: &Append, stored: &StoredEvent) -> Result<Appended, Refusal> {
    if stored.payload_hash != payload_hash(append) {
        return Err(Refusal::Conflict);
    }
    Ok(Appended { id: stored.id, seq: stored.seq, message_no: stored.message_no, created_at_ms: stored.created_at_ms })
}

pub fn appended(record: &EventRecord) -> Appended {
    Appended { id: record.id, seq: record.seq, message_no: record.message_no, created_at_ms: record.created_at_ms }
}

/// What the store could not hold is refused before it reaches a batch, where it would fail its neighbours.
fn check(append: &Append) -> Result<(), Refusal> {
    let invalid = |what: &str| Err(Refusal::Invalid(what.to_owned()));
    if append.temp_id.is_empty() || append.temp_id.len() > TEMP_ID_BYTES {
        return invalid("temp_id must have 1 to 64 bytes");
    }
    if append.temp_id.contains('\0') {
        return invalid("temp_id must not contain a NUL character");
    }
    if let Some(peer) = append.direct_peer {
        if !peer.is_valid() || !append.sender.is_valid() {
            return invalid("not the id of a user");
        }
        if DirectPair::new(append.sender, peer).conversation_id() != append.conversation {
            return invalid("the conversation is not the direct one of these two users");
        }
    }
    Ok(())
}

/// A direct conversation comes into being with its first message, where the sender names the other user.
fn imagined_pair(append: &Append) -> Result<DirectPair, Refusal> {
    append.direct_peer.map(|peer| DirectPair::new(append.sender, peer)).ok_or(Refusal::NotFound)
}

fn payload_hash(append: &Append) -> i64 {
    let mut hash = Xxh3::new();
    hash.update(&[u8::from(append.kind)]);
    hash.update(&append.body);
    hash.digest() as i64
}

/// A ULID of now, or the successor of the slot's last one where the clock has not moved past it: ids of a slot only grow.
fn next_event_id(last: EventId, moment: &mut Moment<'_>) -> EventId {
    const ENTROPY: u128 = (1 << 80) - 1;
    let now = u128::from(moment.now_ms.max(0).unsigned_abs()) << 80 | ((moment.entropy)() & ENTROPY);
    EventId::from_u128(now.max(last.to_u128() + 1))
}
