//! Who is online, and who is told: other users through their routers, the app's other services through Redis.
//!
//! A user is online while a session is attached, and a little longer, so that a reconnect or the restart of a router does
//! not flicker. Who may see whom is asked of the store, at each watch and whenever something changes that it depends on.
//! [`board`] decides, [`driver`] does. Nothing here is stored, and what a busy router does not take is told a little later.

mod board;
mod driver;
mod loads;
mod redis;

use std::sync::Arc;

use tertulia_runtime::rpc::{Connection, ConnectionId, Responder};
use tertulia_shard_map::{Epoch, Slot, StoreId, UserId};
use tertulia_wire::cluster::{Refusal, UnwatchPresence, WatchPresence};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::RETRY_AFTER_MS;
use crate::store::Sight;

pub(super) use self::{
    driver::{PresenceParts, run},
    redis::{RedisHandle, run as run_redis},
};

/// Watches that wait; beyond, routers are told `Overloaded`.
const WATCHES_WAITING: usize = 4096;

/// What presence depends on.
enum Fact {
    Open {
        slot: Slot,
        epoch: Epoch,
        store: StoreId,
    },
    Close(Slot),
    Attached {
        slot: Slot,
        user: UserId,
    },
    /// The last session ended.
    Left {
        slot: Slot,
        user: UserId,
    },
    /// A first event in the conversation of two users, or a block between them: committed.
    SightChanged(Sight),
    /// Whether the user shares presence: committed.
    UserChanged(UserId),
}

enum Request {
    Watch {
        watch: WatchPresence,
        connection: Connection,
        reply: Responder,
        _waits: OwnedSemaphorePermit,
    },
    /// Never refused: nobody would say it again.
    Unwatch {
        unwatch: UnwatchPresence,
        connection: ConnectionId,
    },
    ConnectionClosed(ConnectionId),
}

/// Tells of users. Never waits: what is told is bounded by attachments and commits, and taken at once.
#[derive(Clone)]
pub struct PresenceHandle {
    facts: mpsc::UnboundedSender<Fact>,
    requests: mpsc::UnboundedSender<Request>,
    may_wait: Arc<Semaphore>,
}

/// The other end of a [`PresenceHandle`].
pub(super) struct PresenceInputs {
    facts: mpsc::UnboundedReceiver<Fact>,
    requests: mpsc::UnboundedReceiver<Request>,
}

impl PresenceHandle {
    pub(super) fn new() -> (Self, PresenceInputs) {
        let (facts, told) = mpsc::unbounded_channel();
        let (requests, asked) = mpsc::unbounded_channel();
        let may_wait = Arc::new(Semaphore::new(WATCHES_WAITING));
        (Self { facts, requests, may_wait }, PresenceInputs { facts: told, requests: asked })
    }

    pub(super) fn open(&self, slot: Slot, epoch: Epoch, store: StoreId) {
        self.tell(Fact::Open { slot, epoch, store });
    }

    pub(super) fn close(&self, slot: Slot) {
        self.tell(Fact::Close(slot));
    }

    pub(super) fn attached(&self, slot: Slot, user: UserId) {
        self.tell(Fact::Attached { slot, user });
    }

    pub(super) fn left(&self, slot: Slot, user: UserId) {
        self.tell(Fact::Left { slot, user });
    }

    pub(super) fn sight_changed(&self, sight: Sight) {
        self.tell(Fact::SightChanged(sight));
    }

    pub(super) fn user_changed(&self, user: UserId) {
        self.tell(Fact::UserChanged(user));
    }

    fn tell(&self, fact: Fact) {
        // At the stop of the process nobody is left to be told.
        let _ = self.facts.send(fact);
    }

    pub(super) fn watch(&self, watch: WatchPresence, connection: Connection, reply: Responder) {
        let Ok(waits) = self.may_wait.clone().try_acquire_owned() else {
            return reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        };
        if let Err(error) = self.requests.send(Request::Watch { watch, connection, reply, _waits: waits })
            && let Request::Watch { reply, .. } = error.0
        {
            reply.refuse(Refusal::NotServing);
        }
    }

    /// After the watches that were asked for before.
    pub(super) fn unwatch(&self, unwatch: UnwatchPresence, connection: ConnectionId) {
        // At the stop of the process nothing is watched any more.
        let _ = self.requests.send(Request::Unwatch { unwatch, connection });
    }

    pub(super) fn connection_closed(&self, connection: ConnectionId) {
        let _ = self.requests.send(Request::ConnectionClosed(connection));
    }
}
