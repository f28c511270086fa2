//! What goes to one node, for one store, in one call. An entry that several streams carry is sent once.

use std::collections::HashMap;

use tertulia_shard_map::EventId;
use tertulia_wire::cluster::{Deliver, DeliverStream, Delivery};

use super::tail::{Addressed, RECIPIENT_BYTES, SendId};

/// What an entry adds to a send beyond the body, in bytes.
const ENTRY_BYTES: usize = 256;

pub struct Outgoing {
    pub sends: Vec<SendId>,
    pub deliver: Deliver,
    pub bytes: usize,
    places: HashMap<EventId, u32>,
}

impl Default for Outgoing {
    fn default() -> Self {
        let deliver = Deliver { entries: Vec::new(), streams: Vec::new() };
        Self { sends: Vec::new(), deliver, bytes: 0, places: HashMap::new() }
    }
}

impl Outgoing {
    pub fn add(&mut self, id: SendId, previous: Option<EventId>, items: Vec<Addressed>) {
        let mut deliveries = Vec::with_capacity(items.len());
        for Addressed { entry, recipients } in items {
            let (entries, bytes) = (&mut self.deliver.entries, &mut self.bytes);
            let place = *self.places.entry(entry.id()).or_insert_with(|| {
                *bytes += ENTRY_BYTES + entry.body_bytes();
                entries.push(entry.entry.clone());
                (entries.len() - 1) as u32
            });
            self.bytes += RECIPIENT_BYTES * recipients.len();
            deliveries.push(Delivery { entry: place, recipients });
        }
        self.sends.push(id);
        self.deliver.streams.push(DeliverStream { from: id.from, to: id.to, previous, deliveries });
    }
}
