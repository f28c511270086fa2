//! The bounded way into a lane.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::{ConversationId, Epoch, EventId, Slot, UserId};
use tertulia_wire::cluster::{Action, Answer, Append, Block, Mark, Refusal, Typing};
use tokio::sync::mpsc;

use crate::store::TakenSlot;

/// Commands that wait in a lane's channel; beyond, or beyond its bytes, senders are told `Overloaded`.
const CHANNEL_COMMANDS: usize = 16 * 1024;
/// Typing is dropped while more commands than this wait.
const TYPING_COMMANDS_MAX: usize = 256;
/// Cursors that wait in a lane's control channel.
const CURSORS_WAITING_MAX: usize = 64 * 1024;
/// What an overloaded lane asks senders to wait.
const RETRY_AFTER_MS: u64 = 250;
/// What a queued command costs beyond its content, in bytes.
const COMMAND_BYTES: usize = 256;
/// What a user in a command's list costs, in bytes: a row here, and one in a mailbox.
const USER_BYTES: usize = 256;

/// What a lane is asked to do.
#[derive(Debug)]
pub enum Request {
    Append(Box<Append>),
    Mark(Mark),
    Block(Block),
    /// Writes nothing; in here because the lane knows who the members are.
    Typing(Typing),
}

impl Request {
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Append(append) => append.conversation,
            Self::Mark(mark) => mark.conversation,
            Self::Block(block) => block.conversation,
            Self::Typing(typing) => typing.conversation,
        }
    }

    /// On whose behalf.
    pub fn user(&self) -> UserId {
        match self {
            Self::Append(append) => append.sender,
            Self::Mark(mark) => mark.user,
            Self::Block(block) => block.user,
            Self::Typing(typing) => typing.user,
        }
    }

    pub(super) fn cost(&self) -> usize {
        let Self::Append(append) = self else { return COMMAND_BYTES };
        let content = match &append.action {
            Action::Message { body } | Action::Edit { body, .. } => body.len(),
            Action::Create { name, users } => name.len() + USER_BYTES * users.len(),
            Action::Rename { name } => name.len(),
            Action::Add { users } | Action::Remove { users } => USER_BYTES * users.len(),
            Action::React { emoji, .. } => emoji.len(),
            Action::Delete { .. } | Action::SetRole { .. } | Action::Leave => 0,
        };
        COMMAND_BYTES + append.temp_id.len() + content
    }
}

pub(super) struct Queued {
    pub slot: Slot,
    pub request: Request,
    pub reply: Responder,
}

/// What the node itself tells a lane. Has a channel of its own, so that it never waits behind clients while the store is
/// away; as long as the map changes and cursors move, no longer.
pub(super) enum Control {
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

/// The other end of a [`LaneHandle`], for [`run`](super::run).
pub struct LaneInputs {
    pub(super) queue: mpsc::Receiver<Queued>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
    pub(super) cursors_waiting: Arc<AtomicUsize>,
    pub(super) queued_bytes: Arc<AtomicUsize>,
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

    /// Queues a request, or refuses it at once where the queue is full. Typing is then forgotten.
    pub fn request(&self, slot: Slot, request: Request, reply: Responder) {
        if matches!(request, Request::Typing(_)) && self.waiting() > TYPING_COMMANDS_MAX {
            return reply.send(Answer::Typing);
        }
        let bytes = request.cost();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.max_bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
        if let Err(error) = self.queue.try_send(Queued { slot, request, reply }) {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(queued) => {
                    queued.reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
                }
                mpsc::error::TrySendError::Closed(queued) => queued.reply.refuse(Refusal::NotServing),
            }
        }
    }

    /// What waits, or is being committed.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// From now on the lane writes the slot.
    pub fn open(&self, taken: TakenSlot) {
        // A lane that has ended takes its process down with it: nobody is left to be told.
        let _ = self.control.send(Control::Open(taken));
    }

    pub fn close(&self, slot: Slot) {
        let _ = self.control.send(Control::Close(slot));
    }

    /// The mailboxes have everything of the slot up to this entry. Dropped while too many wait: the next one says more.
    pub fn advance_cursor(&self, slot: Slot, epoch: Epoch, event: EventId) {
        if self.cursors_waiting.fetch_add(1, Ordering::Relaxed) >= CURSORS_WAITING_MAX
            || self.control.send(Control::Cursor { slot, epoch, event }).is_err()
        {
            self.cursors_waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
