//! The append path: a lane per store and share of its slots, each drained by one committer, so that commit order is log
//! order within a slot.

mod driver;
mod log;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::{DirectPair, Epoch, EventId, SessionId, Slot};
use tertulia_wire::{
    EventRecord,
    cluster::{Answer, Append, Refusal},
};
use tokio::sync::mpsc;

pub use driver::{LaneSettings, run};

use crate::store::TakenSlot;

/// Commands that wait in a lane's channel; beyond, or beyond its bytes, senders are told `Overloaded`.
const CHANNEL_COMMANDS: usize = 16 * 1024;
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

enum Input {
    Append { slot: Slot, append: Append, reply: Responder },
    Open(TakenSlot),
    Close(Slot),
    Cursor { slot: Slot, epoch: Epoch, event: EventId },
}

/// A lane. Cheap to clone.
#[derive(Clone)]
pub struct LaneHandle {
    inputs: mpsc::Sender<Input>,
    queued_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// The other end of a [`LaneHandle`], for [`run`].
pub struct LaneInputs {
    inputs: mpsc::Receiver<Input>,
    queued_bytes: Arc<AtomicUsize>,
}

impl LaneHandle {
    pub fn new(max_bytes: usize) -> (Self, LaneInputs) {
        let (sender, receiver) = mpsc::channel(CHANNEL_COMMANDS);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let inputs = LaneInputs { inputs: receiver, queued_bytes: queued_bytes.clone() };
        (Self { inputs: sender, queued_bytes, max_bytes }, inputs)
    }

    /// Queues a command, or refuses it at once where the queue is full.
    pub fn append(&self, slot: Slot, append: Append, reply: Responder) {
        let bytes = cost(&append);
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.max_bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return reply.send(Answer::Refused(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS }));
        }
        if let Err(error) = self.inputs.try_send(Input::Append { slot, append, reply }) {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            let (input, refusal) = match error {
                mpsc::error::TrySendError::Full(input) => {
                    (input, Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS })
                }
                mpsc::error::TrySendError::Closed(input) => (input, Refusal::NotServing),
            };
            if let Input::Append { reply, .. } = input {
                reply.send(Answer::Refused(refusal));
            }
        }
    }

    /// From now on the lane writes the slot.
    pub async fn open(&self, taken: TakenSlot) {
        // A lane that has ended takes its process down with it: nobody is left to be told.
        let _ = self.inputs.send(Input::Open(taken)).await;
    }

    pub async fn close(&self, slot: Slot) {
        let _ = self.inputs.send(Input::Close(slot)).await;
    }

    /// The mailboxes have everything of the slot up to this event. May be dropped under load: the next one says more.
    pub fn advance_cursor(&self, slot: Slot, epoch: Epoch, event: EventId) {
        let _ = self.inputs.try_send(Input::Cursor { slot, epoch, event });
    }
}

fn cost(append: &Append) -> usize {
    COMMAND_BYTES + append.body.len() + append.temp_id.len()
}
