//! Mailboxes: each user's attached sessions and inbox rows, in the slot of the user's id.
//!
//! Two tasks share the work. [`sessions`] takes every delivery first, pushes it to the attached sessions at once and
//! hands it on; a [`folder`] per store folds what queued into inbox rows, commits, and only then is the delivery
//! acknowledged. So a push never waits for a commit, and an acknowledgement always does. Beside them, [`presence`]
//! tells Redis who is online.

mod fold;
mod folder;
mod presence;
mod sessions;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tertulia_runtime::rpc::{Connection, ConnectionId, Responder};
use tertulia_shard_map::{Epoch, SessionId, Slot, StoreId, UserId};
use tertulia_wire::cluster::{Answer, Attach, Deliver, Refusal, StreamResult};
use tokio::sync::{mpsc, oneshot};

pub use folder::{FolderHandle, FolderSettings, run as run_folder};
pub use presence::{PresenceHandle, PresenceInputs, run as run_presence};
pub use sessions::run as run_sessions;

/// Deliveries and attachments that wait; beyond, deliveries are to be sent again and sessions are told `Overloaded`.
const CHANNEL: usize = 8192;
const RETRY_AFTER_MS: u64 = 250;

enum Input {
    Deliver { deliver: Deliver, reply: DeliverReply },
    Attach { slot: Slot, attach: Attach, connection: Connection, reply: Responder },
    Detach { slot: Slot, user: UserId, session: SessionId, reply: Responder },
    ConnectionClosed(ConnectionId),
}

/// Which slots are here. As long as the map changes, no longer: nobody waits.
enum Control {
    Open { slot: Slot, epoch: Epoch, store: StoreId },
    Close(Slot),
}

/// Where the results of a delivery go.
enum DeliverReply {
    Remote(Responder),
    Local(oneshot::Sender<Vec<StreamResult>>),
}

impl DeliverReply {
    fn send(self, results: Vec<StreamResult>) {
        match self {
            Self::Remote(responder) => responder.send(Answer::Deliver(results)),
            // Fan-out that no longer waits sends again.
            Self::Local(sender) => drop(sender.send(results)),
        }
    }
}

/// The mailboxes of this node. Cheap to clone.
#[derive(Clone)]
pub struct MailboxHandle {
    inputs: mpsc::Sender<Input>,
    control: mpsc::UnboundedSender<Control>,
    folders: Arc<BTreeMap<StoreId, FolderHandle>>,
    attached: Arc<AtomicU64>,
}

/// The other end of a [`MailboxHandle`], for [`run_sessions`].
pub struct MailboxInputs {
    inputs: mpsc::Receiver<Input>,
    control: mpsc::UnboundedReceiver<Control>,
    folders: Arc<BTreeMap<StoreId, FolderHandle>>,
    attached: Arc<AtomicU64>,
}

impl MailboxHandle {
    pub fn new(folders: BTreeMap<StoreId, FolderHandle>) -> (Self, MailboxInputs) {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let folders = Arc::new(folders);
        let attached = Arc::new(AtomicU64::new(0));
        let (control, told) = mpsc::unbounded_channel();
        let inputs =
            MailboxInputs { inputs: receiver, control: told, folders: folders.clone(), attached: attached.clone() };
        (Self { inputs: sender, control, folders, attached }, inputs)
    }

    /// Sessions attached to mailboxes of this node.
    pub fn sessions(&self) -> u64 {
        self.attached.load(Ordering::Relaxed)
    }

    /// The folder of a store, for reads that must see what was delivered before.
    pub fn folder(&self, store: StoreId) -> Option<&FolderHandle> {
        self.folders.get(&store)
    }

    pub fn deliver(&self, deliver: Deliver, reply: Responder) {
        self.try_deliver(deliver, DeliverReply::Remote(reply));
    }

    /// `None` where nothing is promised.
    pub fn deliver_locally(
        &self,
        deliver: Deliver,
    ) -> impl Future<Output = Option<Vec<StreamResult>>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.try_deliver(deliver, DeliverReply::Local(sender));
        async move { receiver.await.ok() }
    }

    fn try_deliver(&self, deliver: Deliver, reply: DeliverReply) {
        let streams = deliver.streams.len();
        if let Err(error) = self.inputs.try_send(Input::Deliver { deliver, reply })
            && let Input::Deliver { reply, .. } = error.into_inner()
        {
            reply.send(vec![StreamResult::Retry; streams]);
        }
    }

    pub fn attach(&self, slot: Slot, attach: Attach, connection: Connection, reply: Responder) {
        if let Err(error) = self.inputs.try_send(Input::Attach { slot, attach, connection, reply })
            && let Input::Attach { reply, .. } = error.into_inner()
        {
            reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
    }

    pub fn detach(&self, slot: Slot, user: UserId, session: SessionId, reply: Responder) {
        if let Err(error) = self.inputs.try_send(Input::Detach { slot, user, session, reply })
            && let Input::Detach { reply, .. } = error.into_inner()
        {
            reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
    }

    /// Sessions of a connection that is gone are dropped: the router attaches them anew.
    pub async fn connection_closed(&self, connection: ConnectionId) {
        let _ = self.inputs.send(Input::ConnectionClosed(connection)).await;
    }

    pub fn open(&self, slot: Slot, epoch: Epoch, store: StoreId) {
        // Mailboxes that have ended take their process down with them: nobody is left to be told.
        let _ = self.control.send(Control::Open { slot, epoch, store });
    }

    pub fn close(&self, slot: Slot) {
        let _ = self.control.send(Control::Close(slot));
    }
}

/// Collects the results of a delivery's streams, which several folders may hold, and answers when the last of them lets
/// go. A stream that nobody marked as committed is to be sent again.
struct Ticket {
    committed: Box<[AtomicBool]>,
    /// Taken once, on drop.
    reply: Mutex<Option<DeliverReply>>,
}

impl Ticket {
    fn new(streams: usize, reply: DeliverReply) -> Arc<Self> {
        Arc::new(Self {
            committed: (0..streams).map(|_| AtomicBool::new(false)).collect(),
            reply: Mutex::new(Some(reply)),
        })
    }

    fn commit(&self, stream: usize) {
        self.committed[stream].store(true, Ordering::Release);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let result = |done: &AtomicBool| {
                if done.load(Ordering::Acquire) { StreamResult::Committed } else { StreamResult::Retry }
            };
            reply.send(self.committed.iter().map(result).collect());
        }
    }
}
