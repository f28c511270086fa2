//! A delivery on its way through the mailboxes: its bytes count until it is answered, and it is answered when the last
//! of its streams is. They count for its store, so that one that is away does not stop what is for the others.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tertulia_runtime::rpc::Responder;
use tertulia_wire::cluster::{Announcement, Answer, Deliver, DeliverEntry, DeliverEvent, StreamResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes of deliveries and announcements that have arrived at a node and wait for the sessions; and those of the deliveries
/// to each of its stores, from there to the commit of their rows. What is beyond is to be sent again.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an entry and a recipient cost beyond the body, in bytes, in queues and when folded.
const ENTRY_BYTES: usize = 512;
const RECIPIENT_BYTES: usize = 64;

const _: () =
    assert!(tertulia_wire::limits::CLUSTER_FRAME_BYTES * 4 <= BYTES_MAX, "any delivery must fit several times");

/// Bytes that deliveries may have. Cheap to clone.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(BYTES_MAX)))
    }

    /// `None` at the limit.
    pub fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(BYTES_MAX)).unwrap_or(u32::MAX);
        self.0.clone().try_acquire_many_owned(bytes).ok()
    }
}

pub(super) fn delivery_bytes(deliver: &Deliver) -> usize {
    let entry = |entry: &DeliverEntry| match entry {
        DeliverEntry::Event(event) => event_bytes(event),
        DeliverEntry::Standing(_) => ENTRY_BYTES,
    };
    let recipients = deliver.streams.iter().flat_map(|stream| &stream.deliveries).map(|it| it.recipients.len());
    deliver.entries.iter().map(entry).sum::<usize>() + RECIPIENT_BYTES * recipients.sum::<usize>()
}

pub(super) fn announcement_bytes(announcements: &[Announcement]) -> usize {
    let one = |it: &Announcement| event_bytes(&it.event) + RECIPIENT_BYTES * (it.joining.len() + it.leaving.len());
    announcements.iter().map(one).sum()
}

fn event_bytes(event: &DeliverEvent) -> usize {
    ENTRY_BYTES + event.record.body.len()
}

/// Where the results of a delivery go.
pub(super) enum DeliverReply {
    Remote(Responder),
    Local(oneshot::Sender<Vec<StreamResult>>),
}

impl DeliverReply {
    pub fn send(self, results: Vec<StreamResult>) {
        match self {
            Self::Remote(responder) => responder.send(Answer::Deliver(results)),
            // Fan-out that no longer waits sends again.
            Self::Local(sender) => drop(sender.send(results)),
        }
    }

    /// Nothing is promised.
    pub fn retry(self, streams: usize) {
        self.send(vec![StreamResult::Retry; streams]);
    }
}

/// Collects the results of a delivery's streams, which several folders may hold, and answers when the last of them lets
/// go. A stream that nobody marked as committed is to be sent again.
pub(super) struct Ticket {
    committed: Box<[AtomicBool]>,
    /// Taken once, on drop.
    reply: Mutex<Option<DeliverReply>>,
    _bytes: OwnedSemaphorePermit,
}

impl Ticket {
    pub fn new(streams: usize, reply: DeliverReply, bytes: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            committed: (0..streams).map(|_| AtomicBool::new(false)).collect(),
            reply: Mutex::new(Some(reply)),
            _bytes: bytes,
        })
    }

    pub fn commit(&self, stream: usize) {
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
