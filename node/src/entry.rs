//! An entry of a slot's log on its way to mailboxes: the same whether it comes straight from its commit or from a read of
//! the store.

use std::sync::Arc;

use tertulia_shard_map::{EventId, UserId};
use tertulia_wire::cluster::{DeliverEntry, Membership, Recipient};

/// Who is to have an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its recipients, by their mailboxes.
    Recipients,
    /// Besides, whoever has declared an interest in the conversation, which is a large one.
    Interested,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub entry: DeliverEntry,
    /// Each once. Shared by all entries of a conversation whose members did not change between them.
    pub recipients: Arc<[Recipient]>,
    pub reach: Reach,
}

impl LogEntry {
    /// Its place in the slot's log.
    pub fn id(&self) -> EventId {
        match &self.entry {
            DeliverEntry::Event(event) => event.record.id,
            DeliverEntry::Standing(standing) => standing.id,
        }
    }

    pub fn body_bytes(&self) -> usize {
        match &self.entry {
            DeliverEntry::Event(event) => event.record.body.len(),
            DeliverEntry::Standing(_) => 0,
        }
    }

    /// Those for whom it is the first or the last event.
    pub fn changing(&self, membership: Membership) -> Vec<UserId> {
        self.recipients.iter().filter(|it| it.membership == membership).map(|it| it.user).collect()
    }
}

/// Recipients whose membership the entry does not change.
pub fn staying(users: impl IntoIterator<Item = UserId>) -> Arc<[Recipient]> {
    users.into_iter().map(|user| Recipient { user, membership: Membership::Stays }).collect()
}
