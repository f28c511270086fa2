//! What sessions are told, gathered per router's connection: each item once, with the sessions that it is for.

use std::collections::HashMap;

use tertulia_runtime::rpc::ConnectionId;
use tertulia_shard_map::{EventId, SessionId};
use tertulia_wire::cluster::{PushBatch, PushItem, PushTarget};

/// A notice grows no further once it has so many bytes.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// What an item and a session add to it beyond the body, in bytes.
const ITEM_BYTES: usize = 256;
const SESSION_BYTES: usize = 24;

#[derive(Default)]
pub(super) struct Pushes {
    by_connection: HashMap<ConnectionId, Batch>,
}

#[derive(Default)]
pub(super) struct Batch {
    items: Vec<(PushItem, Vec<SessionId>)>,
    /// Where the item of an entry of the log is.
    places: HashMap<EventId, usize>,
    targets: usize,
}

impl Pushes {
    /// An entry of the log: of several recipients, it is there once.
    pub fn add_entry(
        &mut self,
        connection: ConnectionId,
        session: SessionId,
        entry: EventId,
        item: impl FnOnce() -> PushItem,
    ) {
        let batch = self.by_connection.entry(connection).or_default();
        let place = *batch.places.entry(entry).or_insert_with(|| {
            batch.items.push((item(), Vec::new()));
            batch.items.len() - 1
        });
        batch.items[place].1.push(session);
        batch.targets += 1;
    }

    /// Something else, for these sessions of one connection.
    pub fn add(&mut self, connection: ConnectionId, sessions: Vec<SessionId>, item: PushItem) {
        let batch = self.by_connection.entry(connection).or_default();
        batch.targets += sessions.len();
        batch.items.push((item, sessions));
    }

    pub fn into_batches(self) -> impl Iterator<Item = (ConnectionId, Batch)> {
        self.by_connection.into_iter()
    }
}

impl Batch {
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// In parts that fit into a frame many times over.
    pub fn finish(self) -> Vec<PushBatch> {
        let mut parts = Vec::new();
        let (mut part, mut bytes) = (PushBatch { items: Vec::new(), targets: Vec::new() }, 0);
        for (item, sessions) in self.items {
            if bytes > BATCH_BYTES_MAX {
                parts.push(std::mem::replace(&mut part, PushBatch { items: Vec::new(), targets: Vec::new() }));
                bytes = 0;
            }
            bytes += item_bytes(&item) + SESSION_BYTES * sessions.len();
            part.targets.push(PushTarget { item: part.items.len() as u32, sessions });
            part.items.push(item);
        }
        parts.push(part);
        parts
    }
}

fn item_bytes(item: &PushItem) -> usize {
    ITEM_BYTES
        + match item {
            PushItem::Event(record) => record.body.len(),
            PushItem::Profile(profile) => profile.avatar_url.as_ref().map_or(0, String::len),
            PushItem::Receipt { .. } | PushItem::Blocked { .. } | PushItem::Typing(_) | PushItem::Presence(_) => 0,
        }
}
