//! Mailboxes: each user's attached sessions and inbox rows, in the slot of the user's id.
//!
//! The tasks that share the work, each with its state to itself:
//! - [`sessions`] takes every delivery first, pushes it to the attached sessions at once and hands it on. It never waits.
//! - A [`folder`] per store folds what queued into inbox rows, mirrors blocks and keeps profiles; it commits, and only then
//!   is the delivery acknowledged. So a push never waits for a commit, and an acknowledgement always does.
//! - [`interest`] tells the owners of large groups that members are attached here, and finds what was missed of them.
//! - [`presence`] knows who is online and tells those who may know; beside it Redis is told.
//!
//! What is ephemeral is dropped where something is busy: typing for good, presence until soon after. Everything else that a router's connection does
//! not take ends the connection, so that its clients learn of it.

mod delivery;
pub mod fold;
#[cfg(test)]
mod fold_tests;
mod folder;
mod interest;
mod news;
mod presence;
mod pushes;
mod sessions;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tertulia_runtime::{
    rpc::{Connection, ConnectionId, Responder},
    tasks::{Supervisor, TaskSpec},
};
use tertulia_shard_map::{Epoch, SessionId, Slot, StoreId, UserId};
use tertulia_wire::cluster::{
    Announcement, Answer, Attach, Deliver, DeliverTyping, Notice, Refusal, SetProfile, StreamResult, UnwatchPresence,
    WatchPresence,
};
use tokio::sync::{mpsc, oneshot};

use self::{
    delivery::{Budget, DeliverReply, announcement_bytes, delivery_bytes},
    folder::{FolderParts, PersonJob, PersonWork},
    interest::InterestHandle,
    presence::{PresenceHandle, PresenceParts, RedisHandle},
    pushes::Batch,
    sessions::{Control, Input, SessionsParts},
};
use crate::{
    metrics as names,
    peers::Peers,
    store::{Lane, LaneId, Store},
};

pub use folder::{FolderHandle, FolderSettings};

/// Deliveries and attachments that wait; beyond, deliveries are to be sent again and sessions are told `Overloaded`.
const CHANNEL: usize = 8192;
/// What the parts of the mailboxes have to tell the sessions; beyond, they wait.
const NEWS: usize = 1024;
/// Who types; beyond, nobody is told.
const TYPING: usize = 1024;
const RETRY_AFTER_MS: u64 = 250;

/// What the mailboxes of a node work with.
pub struct MailboxParts {
    pub stores: Arc<BTreeMap<StoreId, Store>>,
    pub peers: Peers,
    pub redis: redis::Client,
    pub settings: FolderSettings,
}

/// The mailboxes of this node. Cheap to clone.
#[derive(Clone)]
pub struct MailboxHandle {
    inputs: mpsc::Sender<Input>,
    control: mpsc::UnboundedSender<Control>,
    typing: mpsc::Sender<DeliverTyping>,
    arrivals: Budget,
    folders: Arc<BTreeMap<StoreId, FolderHandle>>,
    presence: PresenceHandle,
    attached: Arc<AtomicU64>,
}

/// Starts the tasks.
pub fn start(parts: MailboxParts, supervisor: &Supervisor) -> MailboxHandle {
    let MailboxParts { stores, peers, redis, settings } = parts;
    let token = supervisor.token();
    let (news, told) = mpsc::channel(NEWS);
    let (presence, presence_inputs) = PresenceHandle::new();
    let mut folders = BTreeMap::new();
    for (&id, store) in stores.iter() {
        let (handle, inputs) = FolderHandle::new();
        let lane = Lane::new(store.clone(), LaneId::FOLD);
        let parts =
            FolderParts { lane, peers: peers.clone(), settings, presence: presence.clone(), news: news.clone() };
        supervisor.spawn(TaskSpec::fatal(format!("folder of store {id}")), folder::run(parts, inputs, token.clone()));
        folders.insert(id, handle);
    }
    let folders = Arc::new(folders);

    let (redis_handle, redis_inputs) = RedisHandle::new();
    supervisor.spawn(TaskSpec::fatal("presence in Redis"), presence::run_redis(redis, redis_inputs, token.clone()));
    let parts = PresenceParts { inputs: presence_inputs, stores, redis: redis_handle };
    supervisor.spawn(TaskSpec::fatal("presence"), presence::run(parts, token.clone()));
    let (interest, parts) = InterestHandle::new(peers, news);
    supervisor.spawn(TaskSpec::fatal("interest in large groups"), interest::run(parts, token.clone()));

    let (inputs, received) = mpsc::channel(CHANNEL);
    let (control, controlled) = mpsc::unbounded_channel();
    let (typing, typed) = mpsc::channel(TYPING);
    let attached = Arc::new(AtomicU64::new(0));
    let parts = SessionsParts {
        inputs: received,
        control: controlled,
        news: told,
        typing: typed,
        folders: folders.clone(),
        presence: presence.clone(),
        interest,
        attached: attached.clone(),
    };
    supervisor.spawn(TaskSpec::fatal("sessions"), sessions::run(parts, token));
    MailboxHandle { inputs, control, typing, arrivals: Budget::new(), folders, presence, attached }
}

impl MailboxHandle {
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
        let Some(arrived) = self.arrivals.take(delivery_bytes(&deliver)) else { return reply.retry(streams) };
        if let Err(error) = self.inputs.try_send(Input::Deliver { deliver, reply, arrived })
            && let Input::Deliver { reply, .. } = error.into_inner()
        {
            reply.retry(streams);
        }
    }

    /// New events of large groups. Dropped under load: who misses one notices.
    pub fn announce(&self, announcements: Vec<Announcement>) {
        if let Some(bytes) = self.arrivals.take(announcement_bytes(&announcements)) {
            let _ = self.inputs.try_send(Input::Announce { announcements, _bytes: bytes });
        }
    }

    /// Dropped under load.
    pub fn typing(&self, typing: DeliverTyping) {
        if self.typing.try_send(typing).is_err() {
            metrics::counter!(names::EPHEMERAL_DROPPED_TOTAL).increment(1);
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

    /// Answered once committed. The fields are within the limits of the wire.
    pub fn set_profile(&self, slot: Slot, epoch: Epoch, store: StoreId, change: SetProfile, reply: Responder) {
        let Some(folder) = self.folders.get(&store) else { return reply.refuse(Refusal::Internal) };
        let user = change.user;
        folder.person(PersonJob { slot, epoch, user, what: PersonWork::SetProfile(change), reply });
    }

    pub fn watch(&self, watch: WatchPresence, connection: Connection, reply: Responder) {
        self.presence.watch(watch, connection, reply);
    }

    pub fn unwatch(&self, unwatch: UnwatchPresence, connection: &Connection, reply: Responder) {
        self.presence.unwatch(unwatch, connection.id());
        reply.send(Answer::UnwatchPresence);
    }

    /// Sessions and watches of a connection that is gone are dropped: the router makes them anew.
    pub async fn connection_closed(&self, connection: ConnectionId) {
        let _ = self.inputs.send(Input::ConnectionClosed(connection)).await;
        self.presence.connection_closed(connection);
    }

    pub fn open(&self, slot: Slot, epoch: Epoch, store: StoreId) {
        // Mailboxes that have ended take their process down with them: nobody is left to be told.
        let _ = self.control.send(Control::Open { slot, epoch, store });
    }

    pub fn close(&self, slot: Slot) {
        let _ = self.control.send(Control::Close(slot));
    }
}

/// Whether the connection took all of it: what it is too busy for is dropped.
fn notify_ephemeral(connection: &Connection, batch: Batch) -> bool {
    let mut taken = true;
    for part in batch.finish() {
        if connection.notify_ephemeral(Notice::Push(part)).is_err() {
            metrics::counter!(names::EPHEMERAL_DROPPED_TOTAL).increment(1);
            taken = false;
        }
    }
    taken
}
