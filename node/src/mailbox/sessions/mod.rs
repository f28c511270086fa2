//! The attached sessions, and the first stop of every delivery.
//!
//! Nothing here waits: not for a store, not for a router, not for another part of the mailboxes. What a router's connection
//! does not take is dropped, and the router made to start anew, so that its clients learn that they missed something;
//! except typing, which nobody misses.

mod attached;
mod deliver;
mod large;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicU64},
};

use tertulia_runtime::rpc::{Connection, ConnectionId, Responder};
use tertulia_shard_map::{Epoch, EventId, SessionId, Slot, StoreId, UserId};
use tertulia_wire::cluster::{Announcement, Answer, Attach, Deliver, DeliverTyping, Notice, PushItem, Refusal};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use self::attached::Router;
use super::{
    delivery::DeliverReply,
    folder::FolderHandle,
    interest::{Interest, InterestHandle},
    news::News,
    presence::PresenceHandle,
    pushes::Pushes,
};
use crate::metrics as names;

const INPUTS_AT_ONCE: usize = 256;

pub(super) enum Input {
    Deliver { deliver: Deliver, reply: DeliverReply, arrived: OwnedSemaphorePermit },
    Announce { announcements: Vec<Announcement>, _bytes: OwnedSemaphorePermit },
    Attach { slot: Slot, attach: Attach, connection: Connection, reply: Responder },
    Detach { slot: Slot, user: UserId, session: SessionId, reply: Responder },
    ConnectionClosed(ConnectionId),
}

/// Which slots are here. As long as the map changes, no longer: nobody waits.
pub(super) enum Control {
    Open { slot: Slot, epoch: Epoch, store: StoreId },
    Close(Slot),
}

/// What the sessions' task works with.
pub struct SessionsParts {
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) typing: mpsc::Receiver<DeliverTyping>,
    pub(super) folders: Arc<BTreeMap<StoreId, FolderHandle>>,
    pub(super) presence: PresenceHandle,
    pub(super) interest: InterestHandle,
    pub(super) attached: Arc<AtomicU64>,
}

struct MailboxSlot {
    epoch: Epoch,
    store: StoreId,
    users: HashMap<UserId, Vec<AttachedSession>>,
    /// Per conversation slot, the last entry of its stream to this slot that was taken.
    streams: HashMap<Slot, EventId>,
}

#[derive(Clone, Copy)]
struct AttachedSession {
    session: SessionId,
    connection: ConnectionId,
}

struct Sessions {
    folders: Arc<BTreeMap<StoreId, FolderHandle>>,
    slots: HashMap<Slot, MailboxSlot>,
    routers: HashMap<ConnectionId, Router>,
    /// Of which slot the attached users are, for what names users only.
    slot_of: HashMap<UserId, Slot>,
    attached: Arc<AtomicU64>,
    presence: PresenceHandle,
    large: Interest,
    interest: InterestHandle,
}

/// Runs until `stop`.
pub async fn run(parts: SessionsParts, stop: CancellationToken) -> anyhow::Result<()> {
    let SessionsParts { mut inputs, mut control, mut news, mut typing, folders, presence, interest, attached } = parts;
    let mut sessions = Sessions {
        folders,
        slots: HashMap::new(),
        routers: HashMap::new(),
        slot_of: HashMap::new(),
        attached,
        presence,
        large: Interest::default(),
        interest,
    };
    let (mut received, mut told) = (Vec::new(), Vec::new());
    loop {
        let (mut pushes, mut ephemeral) = (Pushes::default(), Pushes::default());
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(told) = control.recv() => match told {
                Control::Open { slot, epoch, store } => sessions.open(slot, epoch, store),
                Control::Close(slot) => sessions.close(slot),
            },
            _ = news.recv_many(&mut told, INPUTS_AT_ONCE) => {}
            count = inputs.recv_many(&mut received, INPUTS_AT_ONCE) => if count == 0 { break },
            // Last: never ahead of a message.
            Some(typing) = typing.recv() => sessions.typing(&typing, &mut ephemeral),
        }
        for news in told.drain(..) {
            sessions.news(news, &mut pushes);
        }
        for input in received.drain(..) {
            sessions.input(input, &mut pushes);
        }
        sessions.push(pushes);
        sessions.push_ephemeral(ephemeral);
    }
    // Whoever waits is told at once to look for another owner.
    inputs.close();
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Deliver { deliver, reply, .. } => reply.retry(deliver.streams.len()),
            Input::Attach { reply, .. } => reply.refuse(Refusal::NotServing),
            Input::Detach { reply, .. } => reply.send(Answer::Detach),
            Input::Announce { .. } | Input::ConnectionClosed(_) => {}
        }
    }
    Ok(())
}

impl Sessions {
    fn input(&mut self, input: Input, pushes: &mut Pushes) {
        match input {
            Input::Deliver { deliver, reply, arrived } => {
                self.deliver(deliver, reply, arrived.num_permits(), pushes);
            }
            Input::Announce { announcements, .. } => {
                for announcement in announcements {
                    self.announce(announcement, pushes);
                }
            }
            Input::Attach { slot, attach, connection, reply } => self.attach(slot, attach, connection, reply),
            Input::Detach { slot, user, session, reply } => {
                self.detach(slot, user, session);
                reply.send(Answer::Detach);
            }
            Input::ConnectionClosed(id) => self.connection_closed(id),
        }
    }

    fn news(&mut self, news: News, pushes: &mut Pushes) {
        match news {
            News::Attached { slot, epoch, user, session, large } => {
                self.attachment_answered(slot, epoch, user, session, large);
            }
            News::Refused { slot, user, session } => self.detach(slot, user, session),
            News::Blocked { slot, user, other, change, origin } => {
                self.tell(slot, user, origin, PushItem::Blocked { user: other, change }, pushes);
            }
            News::Profile { slot, record, origin } => {
                self.tell(slot, record.user, origin, PushItem::Profile(record), pushes);
            }
            News::Heads(heads) => self.heads(heads),
            News::Newest(conversation, record) => self.newest(conversation, record, pushes),
        }
    }

    /// All sessions of the user but the one that knows.
    fn tell(&self, slot: Slot, user: UserId, origin: Option<SessionId>, item: PushItem, pushes: &mut Pushes) {
        let mut by_connection: BTreeMap<ConnectionId, Vec<SessionId>> = BTreeMap::new();
        for attached in self.sessions_of(slot, user) {
            if Some(attached.session) != origin {
                by_connection.entry(attached.connection).or_default().push(attached.session);
            }
        }
        for (connection, sessions) in by_connection {
            pushes.add(connection, sessions, item.clone());
        }
    }

    fn typing(&self, deliver: &DeliverTyping, pushes: &mut Pushes) {
        for user in &deliver.recipients {
            if let Some(slot) = self.slot_of.get(user) {
                self.tell(*slot, *user, deliver.typing.origin, PushItem::Typing(deliver.typing.clone()), pushes);
            }
        }
    }

    fn push(&self, pushes: Pushes) {
        for (id, batch) in pushes.into_batches() {
            let Some(router) = self.routers.get(&id) else { continue };
            metrics::counter!(names::PUSHES_TOTAL).increment(batch.targets() as u64);
            let sent = batch.finish().into_iter().try_for_each(|part| router.connection.notify(Notice::Push(part)));
            if let Err(error) = sent {
                // Closed: the router re-attaches, and its clients are told to resync. Full: likewise, once we hang up.
                tracing::warn!(router = %router.connection.peer(), %error, "pushes dropped");
                router.connection.close("pushes were dropped");
            }
        }
    }

    fn push_ephemeral(&self, pushes: Pushes) {
        for (id, batch) in pushes.into_batches() {
            let Some(router) = self.routers.get(&id) else { continue };
            // Nobody misses typing.
            let _ = super::notify_ephemeral(&router.connection, batch);
        }
    }
}
