//! Fan-out of one slot's log, as a pure state machine: what to send where, what to read again, how far the cursor is.
//!
//! - The head moves along the log, fed from memory while that is without a hole and from the store otherwise.
//! - Each mailbox slot has an ordered stream. What was sent and not acknowledged is remembered by id only. A stream that
//!   fails or does not keep up falls *behind*: it is fed from the store, page by page, until it has caught up with the
//!   head. Nothing is ever held in memory for it, and the others do not wait.
//! - The cursor is the id up to which every stream has acknowledged everything.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use tertulia_shard_map::{Epoch, EventId, Slot, SlotCount};
use tertulia_wire::cluster::Recipient;

use crate::{append::Committed, entry::LogEntry, known_faults::KnownFault, store::TakenSlot};

/// Entries on their way on one stream; one more and it falls behind.
const STREAM_ENTRIES_MAX: usize = 2048;
/// A send grows no further once it has so many bytes of bodies.
pub const SEND_BYTES_MAX: usize = 1024 * 1024;
/// What a recipient adds to a send, in bytes.
pub const RECIPIENT_BYTES: usize = 32;
/// Entries in a page of the log. A shorter page is the end of the log.
pub const PAGE_ENTRIES: u32 = 500;

/// Names one send, for its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SendId {
    pub from: Slot,
    /// Of `from`: numbers start anew with each.
    pub epoch: Epoch,
    pub to: Slot,
    pub number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Head,
    Stream(Slot),
}

/// An entry and those of its recipients whose mailboxes are in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    pub entry: Arc<LogEntry>,
    pub recipients: Vec<Recipient>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Send {
        id: SendId,
        previous: Option<EventId>,
        items: Vec<Addressed>,
    },
    Read {
        slot: Slot,
        purpose: Purpose,
        after: EventId,
    },
    /// Call [`Tail::resume`] with the number after a pause, the longer the higher it is.
    Pause {
        slot: Slot,
        purpose: Purpose,
        number: u32,
    },
    Cursor {
        slot: Slot,
        epoch: Epoch,
        event: EventId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    Failed,
}

pub struct Tail {
    slot: Slot,
    epoch: Epoch,
    slots: SlotCount,
    head: EventId,
    reading: Reading,
    streams: HashMap<Slot, Stream>,
    cursor: EventId,
    sends: u64,
    head_pauses: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Once,
    /// More was committed since the read was asked for.
    Again,
}

#[derive(Default)]
struct Stream {
    unacked: VecDeque<Sent>,
    entries: usize,
    behind: Option<Behind>,
}

struct Sent {
    number: u64,
    first: EventId,
    last: EventId,
    entries: usize,
    acknowledged: Ack,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ack {
    Open,
    Done,
}

struct Behind {
    /// Everything up to here is acknowledged or among the unacknowledged.
    after: EventId,
    /// Everything up to here has been looked at.
    scanned: EventId,
    state: Catching,
    /// How often it has paused since it fell behind.
    pauses: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Catching {
    Paused,
    /// For what is unacknowledged to be settled.
    Waiting,
    /// `head` as it was when the read was asked for: all of the log up to it is visible to the read.
    Reading {
        head: EventId,
    },
}

impl Tail {
    pub fn new(taken: &TakenSlot, slots: SlotCount, effects: &mut Vec<Effect>) -> Self {
        let mut tail = Self {
            slot: taken.slot,
            epoch: taken.epoch,
            slots,
            head: taken.mailbox_cursor,
            reading: Reading::No,
            streams: HashMap::new(),
            cursor: taken.mailbox_cursor,
            sends: 0,
            head_pauses: 0,
        };
        if taken.last_entry > taken.mailbox_cursor {
            tail.read_head(effects);
        }
        tail
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A group commit of this slot.
    pub fn committed(&mut self, committed: Committed, effects: &mut Vec<Effect>) {
        if self.reading != Reading::No {
            self.reading = Reading::Again;
        } else if committed.previous == self.head {
            self.dispatch(committed.entries, effects);
        } else {
            self.read_head(effects);
        }
    }

    pub fn page(&mut self, purpose: Purpose, entries: Vec<LogEntry>, effects: &mut Vec<Effect>) {
        match purpose {
            Purpose::Head => self.head_page(entries, effects),
            Purpose::Stream(to) => self.stream_page(to, entries, effects),
        }
    }

    pub fn read_failed(&mut self, purpose: Purpose, effects: &mut Vec<Effect>) {
        match purpose {
            Purpose::Head => {
                self.head_pauses += 1;
                effects.push(Effect::Pause { slot: self.slot, purpose, number: self.head_pauses });
            }
            Purpose::Stream(to) => self.pause(to, effects),
        }
    }

    fn pause(&mut self, to: Slot, effects: &mut Vec<Effect>) {
        if let Some(behind) = self.streams.get_mut(&to).and_then(|stream| stream.behind.as_mut()) {
            behind.state = Catching::Paused;
            behind.pauses += 1;
            effects.push(Effect::Pause { slot: self.slot, purpose: Purpose::Stream(to), number: behind.pauses });
        }
    }

    /// A pause is over.
    pub fn resume(&mut self, purpose: Purpose, number: u32, effects: &mut Vec<Effect>) {
        match purpose {
            Purpose::Head if self.reading != Reading::No && number == self.head_pauses => {
                effects.push(Effect::Read { slot: self.slot, purpose, after: self.head });
            }
            Purpose::Head => {}
            // Of an earlier pause, where the number is another: this one has a timer of its own.
            Purpose::Stream(to)
                if self.streams.get(&to).and_then(|s| s.behind.as_ref()).is_some_and(|b| b.pauses == number) =>
            {
                self.resume_stream(to, effects);
            }
            Purpose::Stream(_) => {}
        }
    }

    /// The owner of `to` may be another now: no reason to wait longer.
    pub fn resume_stream(&mut self, to: Slot, effects: &mut Vec<Effect>) {
        if self.streams.get(&to).and_then(|s| s.behind.as_ref()).is_some_and(|b| b.state == Catching::Paused) {
            self.read_stream(to, effects);
        }
    }

    /// Every stream that is behind and pausing.
    pub fn paused_streams(&self) -> Vec<Slot> {
        let paused = |stream: &Stream| stream.behind.as_ref().is_some_and(|b| b.state == Catching::Paused);
        self.streams.iter().filter(|(_, stream)| paused(stream)).map(|(&to, _)| to).collect()
    }

    pub fn settled(&mut self, id: SendId, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(&id.to) else { return };
        // Not there: it was given up when an earlier one failed.
        let Some(sent) = stream.unacked.iter_mut().find(|sent| sent.number == id.number) else { return };
        match outcome {
            Outcome::Acknowledged => {
                sent.acknowledged = Ack::Done;
                while stream.unacked.front().is_some_and(|sent| sent.acknowledged == Ack::Done) {
                    stream.entries -= stream.unacked.pop_front().map_or(0, |sent| sent.entries);
                }
                if stream.unacked.is_empty() {
                    match &mut stream.behind {
                        // All of the log up to the head was looked at.
                        Some(behind) if behind.state == Catching::Waiting && behind.scanned >= self.head => {
                            self.streams.remove(&id.to);
                        }
                        Some(behind) if behind.state == Catching::Waiting => {
                            behind.after = behind.scanned;
                            self.read_stream(id.to, effects);
                        }
                        Some(_) => {}
                        None => {
                            self.streams.remove(&id.to);
                        }
                    }
                }
                self.advance_cursor(effects);
            }
            Outcome::Failed => {
                let first = stream.unacked.front().map_or(sent_before(self.head), |sent| sent_before(sent.first));
                stream.unacked.clear();
                stream.entries = 0;
                let pauses = stream.behind.as_ref().map_or(0, |behind| behind.pauses);
                stream.behind = Some(Behind { after: first, scanned: first, state: Catching::Paused, pauses });
                self.pause(id.to, effects);
            }
        }
    }

    fn read_head(&mut self, effects: &mut Vec<Effect>) {
        self.reading = Reading::Once;
        effects.push(Effect::Read { slot: self.slot, purpose: Purpose::Head, after: self.head });
    }

    fn head_page(&mut self, entries: Vec<LogEntry>, effects: &mut Vec<Effect>) {
        let last_page = entries.len() < PAGE_ENTRIES as usize;
        let again = self.reading == Reading::Again;
        self.dispatch(entries, effects);
        if last_page && !again {
            self.reading = Reading::No;
        } else {
            self.read_head(effects);
        }
        self.advance_cursor(effects);
    }

    fn dispatch(&mut self, entries: Vec<LogEntry>, effects: &mut Vec<Effect>) {
        let Some(last) = entries.last().map(LogEntry::id) else { return };
        for (to, items) in by_mailbox_slot(entries, self.slots) {
            self.send(to, items, effects);
        }
        self.head = last;
    }

    /// On a stream that keeps up.
    fn send(&mut self, to: Slot, items: Vec<Addressed>, effects: &mut Vec<Effect>) {
        let head = self.head;
        let stream = self.streams.entry(to).or_default();
        if stream.behind.is_some() {
            return;
        }
        if stream.entries + items.len() > STREAM_ENTRIES_MAX {
            let idle = stream.unacked.is_empty();
            stream.behind = Some(Behind { after: head, scanned: head, state: Catching::Waiting, pauses: 0 });
            if idle {
                self.pause(to, effects);
            }
            return;
        }
        self.send_now(to, items, effects);
    }

    fn send_now(&mut self, to: Slot, items: Vec<Addressed>, effects: &mut Vec<Effect>) {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for item in items {
            if bytes > SEND_BYTES_MAX {
                self.send_chunk(to, std::mem::take(&mut chunk), effects);
                bytes = 0;
            }
            bytes += item.entry.body_bytes() + RECIPIENT_BYTES * item.recipients.len();
            chunk.push(item);
        }
        self.send_chunk(to, chunk, effects);
    }

    fn send_chunk(&mut self, to: Slot, items: Vec<Addressed>, effects: &mut Vec<Effect>) {
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return };
        let (first, last) = (first.entry.id(), last.entry.id());
        self.sends += 1;
        let stream = self.streams.entry(to).or_default();
        let previous = stream.unacked.back().map(|sent| sent.last);
        stream.unacked.push_back(Sent {
            number: self.sends,
            first,
            last,
            entries: items.len(),
            acknowledged: Ack::Open,
        });
        stream.entries += items.len();
        let id = SendId { from: self.slot, epoch: self.epoch, to, number: self.sends };
        effects.push(Effect::Send { id, previous, items });
    }

    fn read_stream(&mut self, to: Slot, effects: &mut Vec<Effect>) {
        let head = self.head;
        if let Some(behind) = self.streams.get_mut(&to).and_then(|stream| stream.behind.as_mut()) {
            behind.state = Catching::Reading { head };
            effects.push(Effect::Read { slot: self.slot, purpose: Purpose::Stream(to), after: behind.after });
        }
    }

    fn stream_page(&mut self, to: Slot, entries: Vec<LogEntry>, effects: &mut Vec<Effect>) {
        let Some(behind) = self.streams.get_mut(&to).and_then(|stream| stream.behind.as_mut()) else { return };
        let Catching::Reading { head } = behind.state else { return };
        let last_page = entries.len() < PAGE_ENTRIES as usize;
        let last = entries.last().map_or(behind.after, LogEntry::id);
        behind.scanned = if last_page { last.max(head) } else { last };
        let items = by_mailbox_slot(entries, self.slots).remove(&to).unwrap_or_default();
        if !items.is_empty() {
            behind.state = Catching::Waiting;
            return self.send_now(to, items, effects);
        }
        behind.after = behind.scanned;
        if behind.after >= self.head {
            self.streams.remove(&to);
        } else {
            self.read_stream(to, effects);
        }
        self.advance_cursor(effects);
    }

    fn advance_cursor(&mut self, effects: &mut Vec<Effect>) {
        let of_stream = |stream: &Stream| {
            let sent = stream.unacked.front().map(|sent| sent_before(sent.first));
            let behind = stream.behind.as_ref().map(|behind| behind.after);
            sent.into_iter().chain(behind).min()
        };
        // A stream that catches up may have read beyond the head: the others have not been sent that yet.
        let streams = self.streams.values().filter(|_| !KnownFault::CursorBeforeDelivery.is_on());
        let cursor = streams.filter_map(of_stream).min().map_or(self.head, |least| least.min(self.head));
        if cursor > self.cursor {
            self.cursor = cursor;
            effects.push(Effect::Cursor { slot: self.slot, epoch: self.epoch, event: cursor });
        }
    }
}

/// The greatest id below `event`: whether an entry has it does not matter to a cursor.
fn sent_before(event: EventId) -> EventId {
    EventId::from_u128(event.to_u128().saturating_sub(1))
}

fn by_mailbox_slot(entries: Vec<LogEntry>, slots: SlotCount) -> BTreeMap<Slot, Vec<Addressed>> {
    let mut grouped: BTreeMap<Slot, Vec<Addressed>> = BTreeMap::new();
    for entry in entries {
        let entry = Arc::new(entry);
        for recipient in entry.recipients.iter().copied() {
            let of_slot = grouped.entry(slots.of_user(recipient.user)).or_default();
            match of_slot.last_mut() {
                Some(last) if Arc::ptr_eq(&last.entry, &entry) => last.recipients.push(recipient),
                _ => of_slot.push(Addressed { entry: entry.clone(), recipients: vec![recipient] }),
            }
        }
    }
    grouped
}
