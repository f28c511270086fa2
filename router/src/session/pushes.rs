//! What nodes send without being asked: maps to the follower, events to the sessions that they name.
//!
//! Runs inline in the reader of a node's connection, so nothing here waits. Each event is decoded once, and encoded once
//! per format however many sessions get it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tertulia_runtime::{PeerName, rpc::Inbox};
use tertulia_wire::{
    EventRecord,
    client::{Event, Format, NewMessage, Push, encode_push},
    cluster::{Notice, PushBatch},
};

use super::{mailslot::Pushed, registry::Registry};
use crate::{
    metrics::{DELIVERY_LATENCY, PUSHES, PUSHES_DROPPED, PUSHES_UNREADABLE},
    routing::Offers,
};

/// The router's end of every connection to a node.
pub struct RouterInbox {
    registry: Registry,
    offers: Offers,
    pushed: metrics::Counter,
    dropped: metrics::Counter,
    latency: metrics::Histogram,
}

impl RouterInbox {
    /// Call after the metrics recorder is installed.
    pub fn new(registry: Registry, offers: Offers) -> Self {
        Self {
            registry,
            offers,
            pushed: metrics::counter!(PUSHES),
            dropped: metrics::counter!(PUSHES_DROPPED),
            latency: metrics::histogram!(DELIVERY_LATENCY),
        }
    }

    fn deliver(&self, batch: &PushBatch) {
        let now_ms = unix_ms();
        let mut events: Vec<Lazy<'_>> = batch.events.iter().map(Lazy::new).collect();
        for target in &batch.targets {
            let Some(event) = events.get_mut(target.event as usize) else { continue };
            for &session in &target.sessions {
                // A session that just ended: the node will hear of it.
                let Some(mailslot) = self.registry.get(session) else { continue };
                let Some(envelope) = event.encoded(mailslot.format) else { break };
                match mailslot.push(envelope) {
                    Pushed::Queued => {
                        self.pushed.increment(1);
                        let latency_ms = now_ms.saturating_sub(event.record.created_at_ms).max(0);
                        self.latency.record(latency_ms as f64 / 1000.0);
                    }
                    Pushed::Dropped => self.dropped.increment(1),
                }
            }
        }
    }
}

impl Inbox for RouterInbox {
    fn notice(&self, _from: &PeerName, _generation: u64, notice: Notice) {
        match notice {
            Notice::Map(map) => self.offers.offer(map),
            Notice::Push(batch) => self.deliver(&batch),
        }
    }
}

/// An event that is decoded and encoded when first needed.
struct Lazy<'a> {
    record: &'a EventRecord,
    push: Decoded,
    json: Option<Bytes>,
    message_pack: Option<Bytes>,
}

enum Decoded {
    NotYet,
    Push(Box<Push>),
    Unreadable,
}

impl<'a> Lazy<'a> {
    fn new(record: &'a EventRecord) -> Self {
        Self { record, push: Decoded::NotYet, json: None, message_pack: None }
    }

    fn encoded(&mut self, format: Format) -> Option<Bytes> {
        if matches!(self.push, Decoded::NotYet) {
            self.push = decode(self.record);
        }
        let Decoded::Push(push) = &self.push else { return None };
        let encoded = match format {
            Format::Json => &mut self.json,
            Format::MessagePack => &mut self.message_pack,
        };
        let bytes = encoded.get_or_insert_with(|| {
            let mut buffer = Vec::with_capacity(ENVELOPE_BYTES_MOST + self.record.body.len());
            encode_push(format, push, &mut buffer);
            buffer.into()
        });
        Some(bytes.clone())
    }
}

fn decode(record: &EventRecord) -> Decoded {
    match Event::from_record(record) {
        Ok(message) => Decoded::Push(Box::new(Push::New(NewMessage { message }))),
        Err(error) => {
            metrics::counter!(PUSHES_UNREADABLE).increment(1);
            tracing::warn!(event = %record.id, %error, "an event cannot be read");
            Decoded::Unreadable
        }
    }
}

/// An envelope without its text is rarely larger; where it is, the buffer grows.
const ENVELOPE_BYTES_MOST: usize = 400;

pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
