//! The attached sessions, and the first stop of every delivery.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tertulia_runtime::rpc::{Connection, ConnectionId, Responder};
use tertulia_shard_map::{Epoch, EventId, SessionId, Slot, StoreId, UserId};
use tertulia_wire::{
    EventRecord,
    cluster::{Answer, Attach, Deliver, Notice, PushBatch, PushTarget, Refusal, StreamResult},
    limits::NAME_BYTES,
};
use tokio_util::sync::CancellationToken;

use super::{
    Control, DeliverReply, Input, MailboxInputs, PresenceHandle, RETRY_AFTER_MS, Ticket,
    fold::FoldItem,
    folder::{AttachJob, FoldJob, FolderHandle, Job, Start},
};
use crate::metrics as names;

const INPUTS_AT_ONCE: usize = 256;
/// A notice grows no further once it has so many bytes.
const PUSH_BYTES_MAX: usize = 1024 * 1024;
/// What an event and a session add to it beyond the body, in bytes.
const EVENT_BYTES: usize = 256;
const SESSION_BYTES: usize = 24;
/// Sessions of one user; the next one is refused.
const SESSIONS_PER_USER_MAX: usize = 64;

struct MailboxSlot {
    epoch: Epoch,
    store: StoreId,
    users: HashMap<UserId, Vec<Attached>>,
    /// Per conversation slot, the last event of its stream to this slot that was taken.
    streams: HashMap<Slot, EventId>,
}

#[derive(Clone, Copy)]
struct Attached {
    session: SessionId,
    connection: ConnectionId,
}

/// A router's connection, with the sessions that came over it.
struct Router {
    connection: Connection,
    sessions: HashMap<SessionId, (Slot, UserId)>,
}

struct Sessions {
    folders: Arc<BTreeMap<StoreId, FolderHandle>>,
    slots: HashMap<Slot, MailboxSlot>,
    routers: HashMap<ConnectionId, Router>,
    attached: Arc<AtomicU64>,
    presence: PresenceHandle,
}

/// Runs until `stop`.
pub async fn run(inputs: MailboxInputs, presence: PresenceHandle, stop: CancellationToken) -> anyhow::Result<()> {
    let MailboxInputs { mut inputs, mut control, folders, attached } = inputs;
    let mut sessions = Sessions { folders, slots: HashMap::new(), routers: HashMap::new(), attached, presence };
    let mut received = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(told) = control.recv() => match told {
                Control::Open { slot, epoch, store } => sessions.open(slot, epoch, store),
                Control::Close(slot) => sessions.close(slot),
            },
            count = inputs.recv_many(&mut received, INPUTS_AT_ONCE) => if count == 0 { break },
        }
        let mut pushes = Pushes::default();
        for input in received.drain(..) {
            match input {
                Input::Deliver { deliver, reply } => sessions.deliver(deliver, reply, &mut pushes),
                Input::Attach { slot, attach, connection, reply } => sessions.attach(slot, attach, connection, reply),
                Input::Detach { slot, user, session, reply } => {
                    sessions.detach(slot, user, session);
                    reply.send(Answer::Detach);
                }
                Input::ConnectionClosed(id) => sessions.connection_closed(id),
            }
        }
        sessions.push(pushes);
    }
    // Whoever waits is told at once to look for another owner.
    inputs.close();
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Deliver { deliver, reply } => reply.send(vec![StreamResult::Retry; deliver.streams.len()]),
            Input::Attach { reply, .. } => reply.refuse(Refusal::NotServing),
            Input::Detach { reply, .. } => reply.send(Answer::Detach),
            Input::ConnectionClosed(_) => {}
        }
    }
    Ok(())
}

impl Sessions {
    fn open(&mut self, slot: Slot, epoch: Epoch, store: StoreId) {
        let fresh = MailboxSlot { epoch, store, users: HashMap::new(), streams: HashMap::new() };
        self.slots.insert(slot, fresh);
        if let Some(folder) = self.folders.get(&store) {
            folder.open(slot, epoch);
        }
    }

    fn close(&mut self, slot: Slot) {
        let Some(closed) = self.slots.remove(&slot) else { return };
        for user in closed.users.keys() {
            self.presence.gone(*user);
        }
        for attached in closed.users.into_values().flatten() {
            if let Some(router) = self.routers.get_mut(&attached.connection) {
                router.sessions.remove(&attached.session);
            }
        }
        self.count();
        if let Some(folder) = self.folders.get(&closed.store) {
            folder.close(slot);
        }
    }

    /// Registers the session before its mailbox is read: what arrives in between is seen twice, never missed.
    fn attach(&mut self, slot: Slot, attach: Attach, connection: Connection, reply: Responder) {
        let Some(mailboxes) = self.slots.get_mut(&slot) else { return reply.refuse(Refusal::NotServing) };
        let Some(folder) = self.folders.get(&mailboxes.store) else { return reply.refuse(Refusal::Internal) };
        if connection.is_closed() {
            return reply.refuse(Refusal::NotServing);
        }
        // The store could not hold it, and refusing it there would fail all that is folded along with it.
        let name = attach.name.filter(|name| name.len() <= NAME_BYTES && !name.contains('\0'));
        let attached = mailboxes.users.entry(attach.user).or_default();
        attached.retain(|other| other.session != attach.session);
        if attached.len() >= SESSIONS_PER_USER_MAX {
            return reply.refuse(Refusal::Overloaded { retry_after_ms: 10 * RETRY_AFTER_MS });
        }
        if attached.is_empty() {
            self.presence.online(attach.user);
        }
        attached.push(Attached { session: attach.session, connection: connection.id() });
        let router =
            self.routers.entry(connection.id()).or_insert_with(|| Router { connection, sessions: HashMap::new() });
        router.sessions.insert(attach.session, (slot, attach.user));
        let job = AttachJob { slot, epoch: mailboxes.epoch, user: attach.user, name, reply };
        if let Err(Job::Attach(AttachJob { reply, .. })) = folder.try_send(Job::Attach(job)) {
            reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
        self.count();
    }

    fn detach(&mut self, slot: Slot, user: UserId, session: SessionId) {
        if let Some(mailboxes) = self.slots.get_mut(&slot)
            && let Some(attached) = mailboxes.users.get_mut(&user)
        {
            for gone in attached.extract_if(.., |attached| attached.session == session) {
                if let Some(router) = self.routers.get_mut(&gone.connection) {
                    router.sessions.remove(&session);
                }
            }
            if attached.is_empty() {
                mailboxes.users.remove(&user);
                self.presence.offline(user);
            }
        }
        self.count();
    }

    fn connection_closed(&mut self, id: ConnectionId) {
        let Some(router) = self.routers.remove(&id) else { return };
        for (session, (slot, user)) in router.sessions {
            if let Some(mailboxes) = self.slots.get_mut(&slot)
                && let Some(attached) = mailboxes.users.get_mut(&user)
            {
                attached.retain(|attached| !(attached.session == session && attached.connection == id));
                if attached.is_empty() {
                    mailboxes.users.remove(&user);
                    self.presence.offline(user);
                }
            }
        }
        self.count();
    }

    fn count(&self) {
        let sessions: usize = self.routers.values().map(|router| router.sessions.len()).sum();
        self.attached.store(sessions as u64, Ordering::Relaxed);
        metrics::gauge!(names::ATTACHED_SESSIONS).set(sessions as f64);
    }

    fn deliver(&mut self, deliver: Deliver, reply: DeliverReply, pushes: &mut Pushes) {
        let ticket = Ticket::new(deliver.streams.len(), reply);
        for (place, stream) in deliver.streams.iter().enumerate() {
            let Some(mailboxes) = self.slots.get_mut(&stream.to) else { continue };
            // Out of order, because what was sent before was lost with a connection: the sender will start again there.
            if stream.previous.is_some() && mailboxes.streams.get(&stream.from).copied() != stream.previous {
                continue;
            }
            let mut items = Vec::with_capacity(stream.deliveries.len());
            let mut last = None;
            for delivery in &stream.deliveries {
                let Some(event) = deliver.events.get(delivery.event as usize) else { continue };
                last = Some(event.record.id);
                for user in &delivery.recipients {
                    items.push(FoldItem::new(*user, event));
                    for attached in mailboxes.users.get(user).into_iter().flatten() {
                        if Some(attached.session) != event.origin {
                            pushes.add(attached.connection, attached.session, event.record.id, || event.record.clone());
                        }
                    }
                }
            }
            if let Some(last) = last {
                mailboxes.streams.insert(stream.from, last);
            }
            let start = if stream.previous.is_none() { Start::Afresh } else { Start::Following };
            let job = FoldJob {
                from: stream.from,
                slot: stream.to,
                epoch: mailboxes.epoch,
                start,
                items,
                ticket: ticket.clone(),
                stream: place,
            };
            if let Some(folder) = self.folders.get(&mailboxes.store)
                && folder.try_send(Job::Fold(job)).is_err()
            {
                // Nothing is promised for this stream, so what follows on it must not be taken either.
                mailboxes.streams.remove(&stream.from);
            }
        }
    }

    fn push(&self, pushes: Pushes) {
        for (id, batch) in pushes.by_connection {
            let Some(router) = self.routers.get(&id) else { continue };
            metrics::counter!(names::PUSHES_TOTAL).increment(batch.targets as u64);
            let sent = batch.finish().into_iter().try_for_each(|part| router.connection.notify(Notice::Push(part)));
            if let Err(error) = sent {
                // Closed: the router re-attaches, and its clients are told to resync. Full: likewise, once we hang up.
                tracing::warn!(router = %router.connection.peer(), %error, "pushes dropped");
                router.connection.close("pushes were dropped");
            }
        }
    }
}

/// Pushes of one round, gathered per connection; each event once.
#[derive(Default)]
struct Pushes {
    by_connection: HashMap<ConnectionId, Batch>,
}

#[derive(Default)]
struct Batch {
    events: Vec<EventRecord>,
    sessions: Vec<Vec<SessionId>>,
    places: HashMap<EventId, usize>,
    targets: usize,
}

impl Pushes {
    fn add(
        &mut self,
        connection: ConnectionId,
        session: SessionId,
        event: EventId,
        record: impl FnOnce() -> EventRecord,
    ) {
        let batch = self.by_connection.entry(connection).or_default();
        let place = *batch.places.entry(event).or_insert_with(|| {
            batch.events.push(record());
            batch.sessions.push(Vec::new());
            batch.events.len() - 1
        });
        batch.sessions[place].push(session);
        batch.targets += 1;
    }
}

impl Batch {
    /// In parts that fit into a frame many times over.
    fn finish(self) -> Vec<PushBatch> {
        let mut parts = Vec::new();
        let (mut part, mut bytes) = (PushBatch { events: Vec::new(), targets: Vec::new() }, 0);
        for (event, sessions) in self.events.into_iter().zip(self.sessions) {
            if bytes > PUSH_BYTES_MAX {
                parts.push(std::mem::replace(&mut part, PushBatch { events: Vec::new(), targets: Vec::new() }));
                bytes = 0;
            }
            bytes += EVENT_BYTES + event.body.len() + SESSION_BYTES * sessions.len();
            part.targets.push(PushTarget { event: part.events.len() as u32, sessions });
            part.events.push(event);
        }
        parts.push(part);
        parts
    }
}
