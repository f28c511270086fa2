//! Who is online, and who is told: other users through their routers, the app's other services through Redis.
//!
//! A user is online while a session is attached, and a little longer, so that a reconnect or the restart of a router does
//! not flicker. Who may see whom is asked of the store, at each watch and whenever something changes that it depends on.
//! [`board`] decides, [`driver`] does. Nothing here is stored, and all of it may be dropped where a router is busy.

mod board;
mod driver;
mod loads;
mod redis;

use tertulia_runtime::rpc::{Connection, ConnectionId, Responder};
use tertulia_shard_map::{Epoch, Slot, StoreId, UserId};
use tertulia_wire::cluster::{Refusal, UnwatchPresence, WatchPresence};
use tokio::sync::mpsc;

use super::RETRY_AFTER_MS;
use crate::store::Sight;

pub(super) use self::{
    driver::{PresenceParts, run},
    redis::{RedisHandle, run as run_redis},
};

/// Watches that wait; beyond, routers are told `Overloaded`.
const REQUESTS: usize = 4096;

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
    Watch { watch: WatchPresence, connection: Connection, reply: Responder },
    Unwatch { unwatch: UnwatchPresence, connection: ConnectionId },
    ConnectionClosed(ConnectionId),
}

/// Tells of users. Never waits: what is told is bounded by attachments and commits, and taken at once.
#[derive(Clone)]
pub struct PresenceHandle {
    facts: mpsc::UnboundedSender<Fact>,
    requests: mpsc::Sender<Request>,
}

/// The other end of a [`PresenceHandle`].
pub(super) struct PresenceInputs {
    facts: mpsc::UnboundedReceiver<Fact>,
    requests: mpsc::Receiver<Request>,
}

impl PresenceHandle {
    pub(super) fn new() -> (Self, PresenceInputs) {
        let (facts, told) = mpsc::unbounded_channel();
        let (requests, asked) = mpsc::channel(REQUESTS);
        (Self { facts, requests }, PresenceInputs { facts: told, requests: asked })
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
        if let Err(error) = self.requests.try_send(Request::Watch { watch, connection, reply })
            && let Request::Watch { reply, .. } = error.into_inner()
        {
            reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
    }

    /// False at the limit: to be said again.
    pub(super) fn unwatch(&self, unwatch: UnwatchPresence, connection: ConnectionId) -> bool {
        self.requests.try_send(Request::Unwatch { unwatch, connection }).is_ok()
    }

    pub(super) async fn connection_closed(&self, connection: ConnectionId) {
        let _ = self.requests.send(Request::ConnectionClosed(connection)).await;
    }
}
