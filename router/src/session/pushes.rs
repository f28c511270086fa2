//! What nodes send without being asked: maps to the follower, everything else to the sessions that it names.
//!
//! Runs inline in the reader of a node's connection, so nothing here waits. Each item is decoded once, and encoded once
//! per format however many sessions get it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tertulia_runtime::{PeerName, rpc::Inbox};
use tertulia_wire::{
    EventKind, EventRecord,
    client::{BlockChanged, Event, EventPush, Format, NewMessage, Push, Receipt, TypingState, encode_push},
    cluster::{BlockChange, Notice, PushBatch, PushItem},
    limits::TYPING_EXPIRES_MS,
};

use super::{
    core::Standing,
    mailslot::{Mailslot, Pushed},
    registry::Registry,
};
use crate::{
    commands::{presence_state, profile},
    metrics::{DELIVERY_LATENCY, EPHEMERAL_DROPPED, PUSHES, PUSHES_DROPPED, PUSHES_UNREADABLE},
    routing::Offers,
};

/// The router's end of every connection to a node.
pub struct RouterInbox {
    registry: Registry,
    offers: Offers,
    pushed: metrics::Counter,
    dropped: metrics::Counter,
    ephemeral_dropped: metrics::Counter,
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
            ephemeral_dropped: metrics::counter!(EPHEMERAL_DROPPED, "what" => "push"),
            latency: metrics::histogram!(DELIVERY_LATENCY),
        }
    }

    fn deliver(&self, batch: &PushBatch) {
        let now_ms = unix_ms();
        let mut items: Vec<Lazy<'_>> = batch.items.iter().map(Lazy::new).collect();
        for target in &batch.targets {
            let Some(item) = items.get_mut(target.item as usize) else { continue };
            for &session in &target.sessions {
                // A session that just ended: the node will hear of it.
                if let Some(mailslot) = self.registry.get(session) {
                    self.hand_over(item, &mailslot, now_ms);
                }
            }
        }
    }

    fn hand_over(&self, item: &mut Lazy<'_>, mailslot: &Mailslot, now_ms: i64) {
        match item.item {
            PushItem::Presence(presence) if !mailslot.is_news(presence) => return,
            PushItem::Profile(record) => {
                let (shares_presence, disabled) = (record.shares_presence, record.disabled);
                mailslot.set_standing(Standing { shares_presence, disabled });
                if disabled {
                    return;
                }
            }
            _ => {}
        }
        let Some(envelope) = item.encoded(mailslot.format) else { return };
        let (pushed, dropped) = match item.item {
            PushItem::Presence(presence) => (mailslot.push_presence(presence, envelope), &self.ephemeral_dropped),
            PushItem::Typing(_) => (mailslot.push_ephemeral(envelope), &self.ephemeral_dropped),
            _ => (mailslot.push(envelope), &self.dropped),
        };
        match (pushed, item.item) {
            (Pushed::Queued, PushItem::Event(record)) => {
                self.pushed.increment(1);
                let latency_ms = now_ms.saturating_sub(record.created_at_ms).max(0);
                self.latency.record(latency_ms as f64 / 1000.0);
            }
            (Pushed::Queued, _) => self.pushed.increment(1),
            (Pushed::Dropped, _) => dropped.increment(1),
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

/// Something that is decoded and encoded when first needed.
struct Lazy<'a> {
    item: &'a PushItem,
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
    fn new(item: &'a PushItem) -> Self {
        Self { item, push: Decoded::NotYet, json: None, message_pack: None }
    }

    fn encoded(&mut self, format: Format) -> Option<Bytes> {
        if matches!(self.push, Decoded::NotYet) {
            self.push = push_of(self.item).map_or(Decoded::Unreadable, |push| Decoded::Push(Box::new(push)));
        }
        let Decoded::Push(push) = &self.push else { return None };
        let encoded = match format {
            Format::Json => &mut self.json,
            Format::MessagePack => &mut self.message_pack,
        };
        let body_bytes = if let PushItem::Event(record) = self.item { record.body.len() } else { 0 };
        let bytes = encoded.get_or_insert_with(|| {
            let mut buffer = Vec::with_capacity(ENVELOPE_BYTES_MOST + body_bytes);
            encode_push(format, push, &mut buffer);
            buffer.into()
        });
        Some(bytes.clone())
    }
}

/// What clients are told; `None` for an event that this version cannot read.
fn push_of(item: &PushItem) -> Option<Push> {
    Some(match item {
        PushItem::Event(record) => return event_push(record),
        PushItem::Receipt { conversation, standing } => Push::Receipt(Receipt {
            conversation_id: *conversation,
            user_id: standing.user,
            delivered_seq: standing.delivered_seq,
            read_seq: standing.read_seq,
            read_message_no: standing.read_message_no,
        }),
        PushItem::Blocked { user, change } => {
            Push::BlockChanged(BlockChanged { user_id: *user, blocked: *change == BlockChange::Block })
        }
        // Only ever sent to the user's own sessions.
        PushItem::Profile(record) => Push::ProfileChanged(profile(record.clone(), record.user)),
        PushItem::Typing(typing) => Push::Typing(TypingState {
            conversation_id: typing.conversation,
            user_id: typing.user,
            typing: typing.typing,
            expires_in_ms: if typing.typing { TYPING_EXPIRES_MS } else { 0 },
        }),
        PushItem::Presence(presence) => Push::Presence(presence_state(*presence)),
    })
}

fn event_push(record: &EventRecord) -> Option<Push> {
    let event = match Event::from_record(record) {
        Ok(event) => event,
        Err(error) => {
            metrics::counter!(PUSHES_UNREADABLE).increment(1);
            tracing::warn!(event = %record.id, %error, "an event cannot be read");
            return None;
        }
    };
    Some(match record.kind {
        EventKind::Message => Push::New(NewMessage { message: event }),
        EventKind::Edit => Push::Edited(EventPush { event }),
        EventKind::Delete => Push::Deleted(EventPush { event }),
        EventKind::Reaction => Push::Reacted(EventPush { event }),
        EventKind::Created | EventKind::Renamed | EventKind::Joined | EventKind::Left | EventKind::RoleChanged => {
            Push::ConversationChanged(EventPush { event })
        }
    })
}

/// An envelope without its text is rarely larger; where it is, the buffer grows.
const ENVELOPE_BYTES_MOST: usize = 400;

pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
