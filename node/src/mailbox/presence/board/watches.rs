//! Who watches whom, bounded, by which router's connection.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::{
    cluster::{Refusal, UnwatchPresence, WatchPresence},
    limits::PRESENCE_USERS_MAX,
};

use super::{Board, Effect, Now, Pending, Ticket, Watch, Watched};
use crate::{mailbox::RETRY_AFTER_MS, store::Sight};

/// Watches of one node, each of one session for one user; the next is refused.
const WATCHES_MAX: usize = 500_000;
/// Watches whose answer is being found out.
const PENDING_MAX: usize = 16 * 1024;

impl<C: Copy + Eq + Hash> Board<C> {
    pub fn watch(
        &mut self,
        ticket: Ticket,
        watch: WatchPresence,
        connection: C,
        now: Now,
        effects: &mut Vec<Effect<C>>,
    ) {
        if let Err(refusal) = self.may_watch(&watch, connection) {
            effects.push(Effect::Refuse { ticket, refusal });
            return;
        }
        let mut users = watch.users.clone();
        users.sort();
        users.dedup();
        for &user in &users {
            let sight = Sight { user, watcher: watch.watcher };
            let sights = self.by_connection.entry(connection).or_default().entry(watch.session).or_default();
            let watched =
                self.watched.entry(user).or_insert_with(|| Watched { slot: watch.slot, watchers: HashMap::new() });
            let found = watched.watchers.entry(watch.watcher).or_insert_with(Watch::new);
            if sights.insert(sight) {
                found.sessions.push((connection, watch.session));
                self.watches += 1;
            }
            found.waiting.push(ticket);
            self.look_up(sight);
        }
        self.pending.insert(ticket, Pending { unknown: users.len(), watch });
        if users.is_empty() {
            self.answer(ticket, now, effects);
        }
    }

    fn may_watch(&self, watch: &WatchPresence, connection: C) -> Result<(), Refusal> {
        if !self.slots.contains_key(&watch.slot) {
            return Err(Refusal::NotServing);
        }
        let known = self.by_connection.get(&connection).and_then(|sessions| sessions.get(&watch.session));
        let is_new =
            |user: &&UserId| known.is_none_or(|known| !known.contains(&Sight { user: **user, watcher: watch.watcher }));
        let new = watch.users.iter().filter(is_new).count();
        if known.map_or(0, HashSet::len) + new > PRESENCE_USERS_MAX {
            return Err(Refusal::LimitReached(format!("a session watches up to {PRESENCE_USERS_MAX} users")));
        }
        if self.watches + new > WATCHES_MAX || self.pending.len() >= PENDING_MAX {
            return Err(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
        Ok(())
    }

    pub fn unwatch(&mut self, unwatch: &UnwatchPresence, connection: C) {
        let Some(sights) = self.by_connection.get(&connection).and_then(|sessions| sessions.get(&unwatch.session))
        else {
            return;
        };
        let wanted = |sight: &&Sight| unwatch.users.contains(&sight.user);
        let gone: Vec<Sight> = sights.iter().filter(wanted).copied().collect();
        for sight in gone {
            self.remove(sight, connection, unwatch.session);
            forget(&mut self.by_connection, connection, unwatch.session, sight);
        }
    }

    pub fn connection_closed(&mut self, connection: C) {
        for (session, sights) in self.by_connection.remove(&connection).unwrap_or_default() {
            for sight in sights {
                self.remove(sight, connection, session);
            }
        }
    }

    fn remove(&mut self, sight: Sight, connection: C, session: SessionId) {
        let Some(watched) = self.watched.get_mut(&sight.user) else { return };
        let Some(watch) = watched.watchers.get_mut(&sight.watcher) else { return };
        let before = watch.sessions.len();
        watch.sessions.retain(|it| *it != (connection, session));
        self.watches -= before - watch.sessions.len();
        self.sweep(sight);
    }

    /// Forgets a watch that nobody has any more, nor waits for.
    pub(super) fn sweep(&mut self, sight: Sight) {
        let Some(watched) = self.watched.get_mut(&sight.user) else { return };
        if watched.watchers.get(&sight.watcher).is_some_and(|it| it.sessions.is_empty() && it.waiting.is_empty()) {
            watched.watchers.remove(&sight.watcher);
            if watched.watchers.is_empty() {
                self.watched.remove(&sight.user);
            }
        }
    }
}

pub(super) fn forget<C: Eq + Hash>(
    by_connection: &mut HashMap<C, HashMap<SessionId, HashSet<Sight>>>,
    connection: C,
    session: SessionId,
    sight: Sight,
) {
    let Some(sessions) = by_connection.get_mut(&connection) else { return };
    if let Some(sights) = sessions.get_mut(&session) {
        sights.remove(&sight);
        if sights.is_empty() {
            sessions.remove(&session);
        }
    }
    if sessions.is_empty() {
        by_connection.remove(&connection);
    }
}
