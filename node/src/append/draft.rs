//! The next batch while it is put together: what is to be written, and what fan-out is to have once it is committed.

use std::collections::{BTreeMap, HashMap, HashSet};

use tertulia_shard_map::{ConversationId, Epoch, Seq, Slot, UserId};
use tertulia_wire::{EventRecord, ReactionChange, cluster::DeliverEntry};

use crate::{
    entry::LogEntry,
    store::{AppendBatch, NewEvent, WrittenConversation, WrittenMember, WrittenReaction, WrittenStanding},
};

#[derive(Default)]
pub struct Draft {
    pub batch: AppendBatch,
    /// Of each slot, in the order of their ids.
    pub entries: BTreeMap<Slot, Vec<LogEntry>>,
    /// The keys of the batch's events: a retry of one of them waits for the next batch.
    pub keys: HashSet<(ConversationId, UserId, String)>,
    conversations: HashMap<ConversationId, usize>,
    members: HashMap<(ConversationId, UserId), usize>,
    standings: HashMap<(ConversationId, UserId), (usize, Slot, usize)>,
}

impl Draft {
    pub fn touch(&mut self, slot: Slot, epoch: Epoch) {
        if !self.batch.slots.iter().any(|&(it, _)| it == slot) {
            self.batch.slots.push((slot, epoch));
        }
    }

    /// Whether the batch writes this conversation.
    pub fn creates(&self, conversation: ConversationId) -> bool {
        self.conversations.contains_key(&conversation)
    }

    /// In place of what the batch has of this conversation already.
    pub fn conversation(&mut self, written: WrittenConversation) {
        let conversations = &mut self.batch.conversations;
        match self.conversations.get(&written.id) {
            Some(&place) => conversations[place] = written,
            None => {
                self.conversations.insert(written.id, conversations.len());
                conversations.push(written);
            }
        }
    }

    /// In place of what the batch has of this membership already.
    pub fn member(&mut self, written: WrittenMember) {
        let members = &mut self.batch.members;
        match self.members.get(&(written.conversation, written.user)) {
            Some(&place) => members[place] = written,
            None => {
                self.members.insert((written.conversation, written.user), members.len());
                members.push(written);
            }
        }
    }

    pub fn event(&mut self, slot: Slot, record: EventRecord, payload_hash: i64, entry: LogEntry) {
        self.keys.insert((record.conversation, record.sender, record.temp_id.clone()));
        self.batch.events.push(NewEvent { slot, record, payload_hash });
        self.entries.entry(slot).or_default().push(entry);
    }

    pub fn reaction(&mut self, written: WrittenReaction) {
        self.batch.reactions.push(written);
    }

    /// What a batch adds to a message that it then deletes must not outlive it.
    pub fn forget_reactions(&mut self, conversation: ConversationId, message: Seq) {
        self.batch.reactions.retain(|it| {
            (it.conversation, it.message_seq) != (conversation, message) || it.change == ReactionChange::Remove
        });
    }

    /// In place of what the batch has of this standing already, for whoever was to have that.
    pub fn standing(&mut self, slot: Slot, mut entry: LogEntry) {
        let DeliverEntry::Standing(told) = &mut entry.entry else { return };
        let (id, conversation, standing) = (told.id, told.conversation, told.standing);
        let key = (conversation, standing.user);
        let written = WrittenStanding { slot, conversation, id, standing };
        let entries = self.entries.entry(slot).or_default();
        let place = match self.standings.get(&key) {
            Some(&(place, _, at)) => {
                self.batch.standings[place] = written;
                // To the end, as its id is: it may tell of events that came after it.
                let before = entries.remove(at);
                for (_, of, at_of) in self.standings.values_mut().filter(|(_, of, _)| *of == slot) {
                    *at_of -= usize::from(*of == slot && *at_of > at);
                }
                if let DeliverEntry::Standing(before) = &before.entry
                    && before.origin != told.origin
                {
                    told.origin = None;
                }
                let missing = before.recipients.iter().filter(|it| !entry.recipients.contains(it));
                entry.recipients = entry.recipients.iter().chain(missing).copied().collect();
                place
            }
            None => {
                self.batch.standings.push(written);
                self.batch.standings.len() - 1
            }
        };
        self.standings.insert(key, (place, slot, entries.len()));
        entries.push(entry);
    }
}
