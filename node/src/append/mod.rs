//! The append path: a lane per store and share of its slots, each drained by one committer, so that commit order is log
//! order within a slot.

mod driver;
mod log;
#[cfg(test)]
mod log_tests;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::{DirectPair, Epoch, EventId, SessionId, Slot};
use tertulia_wire::{
    EventRecord,
    cluster::{Append, Refusal},
};
use tokio::sync::mpsc;

pub use driver::{LaneSettings, run};

use crate::store::TakenSlot;

/// Commands that wait in a lane's channel; beyond, or beyond its bytes, senders are told `Overloaded`.
const CHANNEL_COMMANDS: usize = 16 * 1024;
/// Cursors that wait in a lane's control channel.
const CURSORS_WAITING_MAX: usize = 64 * 1024;
/// What an overloaded lane asks senders to wait.
const RETRY_AFTER_MS: u64 = 250;
/// What a queued command costs beyond its body, in bytes.
const COMMAND_BYTES: usize = 256;

/// Events of one slot that were committed together, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub slot: Slot,
    pub epoch: Epoch,
    /// The newest event of the slot before these: whoever has not seen it has missed something.
    pub previous: EventId,
    pub events: Vec<CommittedEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedEvent {
    pub record: EventRecord,
    pub direct: DirectPair,
    pub origin: Option<SessionId>,
}

struct Queued {
    slot: Slot,
    append: Append,
    reply: Responder,
}

/// What the node itself tells a lane. Has a channel of its own, so that it never waits behind clients while the store is
/// away; as long as the map changes and cursors move, no longer.
enum Control {
    Open(TakenSlot),
    Close(Slot),
    Cursor { slot: Slot, epoch: Epoch, event: EventId },
}

/// A lane. Cheap to clone.
#[derive(Clone)]
pub struct LaneHandle {
    queue: mpsc::Sender<Queued>,
    control: mpsc::UnboundedSender<Control>,
    cursors_waiting: Arc<AtomicUsize>,
    queued_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// The other end of a [`LaneHandle`], for [`run`].
pub struct LaneInputs {
    queue: mpsc::Receiver<Queued>,
    control: mpsc::UnboundedReceiver<Control>,
    cursors_waiting: Arc<AtomicUsize>,
    queued_bytes: Arc<AtomicUsize>,
}

impl LaneHandle {
    pub fn new(max_bytes: usize) -> (Self, LaneInputs) {
        let (sender, queue) = mpsc::channel(CHANNEL_COMMANDS);
        let (control, told) = mpsc::unbounded_channel();
        let (queued_bytes, cursors_waiting) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let inputs = LaneInputs {
            queue,
            control: told,
            cursors_waiting: cursors_waiting.clone(),
            queued_bytes: queued_bytes.clone(),
        };
        (Self { queue: sender, control, cursors_waiting, queued_bytes, max_bytes }, inputs)
    }

    /// Queues a command, or refuses it at once where the queue is full.
    pub fn append(&self, slot: Slot, append: Append, reply: Responder) {
        let bytes = cost(&append);
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.max_bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
        if let Err(error) = self.queue.try_send(Queued { slot, append, reply }) {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(queued) => {
                    queued.reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
                }
                mpsc::error::TrySendError::Closed(queued) => queued.reply.refuse(Refusal::NotServing),
            }
        }
    }

    /// From now on the lane writes the slot.
    pub fn open(&self, taken: TakenSlot) {
        // A lane that has ended takes its process down with it: nobody is left to be told.
        let _ = self.control.send(Control::Open(taken));
    }

    pub fn close(&self, slot: Slot) {
        let _ = self.control.send(Control::Close(slot));
    }

    /// The mailboxes have everything of the slot up to this event. Dropped while too many wait: the next one says more.
    pub fn advance_cursor(&self, slot: Slot, epoch: Epoch, event: EventId) {
        if self.cursors_waiting.fetch_add(1, Ordering::Relaxed) >= CURSORS_WAITING_MAX
            || self.control.send(Control::Cursor { slot, epoch, event }).is_err()
        {
            self.cursors_waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn cost(append: &Append) -> usize {
    COMMAND_BYTES + append.body.len() + append.temp_id.len()
}
