//! Which sessions are attached, and by which router's connection.

use std::{collections::HashMap, sync::atomic::Ordering};

use tertulia_runtime::rpc::{Connection, ConnectionId, Responder};
use tertulia_shard_map::{ConversationId, Epoch, Seq, SessionId, Slot, StoreId, UserId};
use tertulia_wire::{
    cluster::{Attach, Refusal},
    limits::NAME_BYTES,
};

use super::{
    super::{
        RETRY_AFTER_MS,
        folder::{PersonJob, PersonWork},
    },
    AttachedSession, MailboxSlot, Sessions,
};
use crate::{clock, metrics as names};

/// Sessions of one user; the next one is refused.
const SESSIONS_PER_USER_MAX: usize = 64;

/// A router's connection, with the sessions that came over it.
pub(super) struct Router {
    pub connection: Connection,
    sessions: HashMap<SessionId, (Slot, UserId)>,
}

impl Sessions {
    pub(super) fn open(&mut self, slot: Slot, epoch: Epoch, store: StoreId) {
        self.close(slot);
        let fresh = MailboxSlot { epoch, store, users: HashMap::new(), streams: HashMap::new() };
        self.slots.insert(slot, fresh);
        self.presence.open(slot, epoch, store);
        if let Some(folder) = self.folders.get(&store) {
            folder.open(slot, epoch);
        }
    }

    pub(super) fn close(&mut self, slot: Slot) {
        let Some(closed) = self.slots.remove(&slot) else { return };
        for (user, sessions) in closed.users {
            self.slot_of.remove(&user);
            self.forget_interest(user);
            for attached in sessions {
                if let Some(router) = self.routers.get_mut(&attached.connection) {
                    router.sessions.remove(&attached.session);
                }
            }
        }
        self.count();
        self.presence.close(slot);
        if let Some(folder) = self.folders.get(&closed.store) {
            folder.close(slot);
        }
    }

    pub(super) fn sessions_of(&self, slot: Slot, user: UserId) -> &[AttachedSession] {
        self.slots.get(&slot).and_then(|mailboxes| mailboxes.users.get(&user)).map_or(&[], Vec::as_slice)
    }

    /// Registers the session before its mailbox is read: what arrives in between is seen twice, never missed.
    pub(super) fn attach(&mut self, slot: Slot, attach: Attach, connection: Connection, reply: Responder) {
        let Some(mailboxes) = self.slots.get_mut(&slot) else { return reply.refuse(Refusal::NotServing) };
        let Some(folder) = self.folders.get(&mailboxes.store) else { return reply.refuse(Refusal::Internal) };
        if connection.is_closed() {
            return reply.refuse(Refusal::NotServing);
        }
        let Attach { user, session, name } = attach;
        // The store could not hold it, and refusing it there would fail all that is folded along with it.
        let name = name.filter(|name| name.len() <= NAME_BYTES && !name.contains('\0'));
        let attached = mailboxes.users.entry(user).or_default();
        if let Some(place) = attached.iter().position(|other| other.session == session) {
            let before = attached.swap_remove(place);
            if let Some(router) = self.routers.get_mut(&before.connection) {
                router.sessions.remove(&session);
            }
        }
        if attached.len() >= SESSIONS_PER_USER_MAX {
            return reply.refuse(Refusal::Overloaded { retry_after_ms: 10 * RETRY_AFTER_MS });
        }
        attached.push(AttachedSession { session, connection: connection.id() });
        self.slot_of.insert(user, slot);
        self.large.attached(user);
        let router =
            self.routers.entry(connection.id()).or_insert_with(|| Router { connection, sessions: HashMap::new() });
        router.sessions.insert(session, (slot, user));
        let what = PersonWork::Attach { session, name };
        folder.person(PersonJob { slot, epoch: mailboxes.epoch, user, what, reply });
        self.count();
    }

    /// The user is here: others may see so, and large groups are to tell of what happens.
    pub(super) fn attachment_answered(
        &mut self,
        slot: Slot,
        epoch: Epoch,
        user: UserId,
        session: SessionId,
        large: Vec<(ConversationId, Seq)>,
    ) {
        let is_current = self.slots.get(&slot).is_some_and(|mailboxes| mailboxes.epoch == epoch);
        if is_current && self.sessions_of(slot, user).iter().any(|attached| attached.session == session) {
            self.presence.attached(slot, user);
            let added = self.large.loaded(user, large, clock::unix_ms());
            self.interest.add(added);
        }
    }

    pub(super) fn detach(&mut self, slot: Slot, user: UserId, session: SessionId) {
        let Some(attached) = self.slots.get_mut(&slot).and_then(|mailboxes| mailboxes.users.get_mut(&user)) else {
            return;
        };
        for gone in attached.extract_if(.., |attached| attached.session == session) {
            if let Some(router) = self.routers.get_mut(&gone.connection) {
                router.sessions.remove(&session);
            }
        }
        self.if_last(slot, user);
        self.count();
    }

    pub(super) fn connection_closed(&mut self, id: ConnectionId) {
        let Some(router) = self.routers.remove(&id) else { return };
        for (session, (slot, user)) in router.sessions {
            if let Some(attached) = self.slots.get_mut(&slot).and_then(|mailboxes| mailboxes.users.get_mut(&user)) {
                attached.retain(|attached| !(attached.session == session && attached.connection == id));
                self.if_last(slot, user);
            }
        }
        self.count();
    }

    fn if_last(&mut self, slot: Slot, user: UserId) {
        let Some(mailboxes) = self.slots.get_mut(&slot) else { return };
        if mailboxes.users.get(&user).is_some_and(Vec::is_empty) {
            mailboxes.users.remove(&user);
            self.slot_of.remove(&user);
            self.presence.left(slot, user);
            self.forget_interest(user);
        }
    }

    fn forget_interest(&mut self, user: UserId) {
        let dropped = self.large.left(user);
        self.interest.remove(dropped);
    }

    fn count(&self) {
        let sessions: usize = self.routers.values().map(|router| router.sessions.len()).sum();
        self.attached.store(sessions as u64, Ordering::Relaxed);
        metrics::gauge!(names::ATTACHED_SESSIONS).set(sessions as f64);
    }
}
