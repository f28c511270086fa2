//! Who may see whom: looked up in the store, and what that makes visible told to the watchers.

use std::{collections::BTreeMap, hash::Hash, mem};

use tertulia_shard_map::{SessionId, Slot, UserId};
use tertulia_wire::cluster::{Presence, Refusal};

use super::{Board, Effect, Load, Now, State, Ticket, Watch};
use crate::store::Sight;

/// What a watcher sees of a user whom it may not see.
const HIDDEN: State = State { online: false, last_seen_ms: None };

impl<C: Copy + Eq + Hash> Board<C> {
    /// What the sight depends on has changed.
    pub fn sight_changed(&mut self, sight: Sight) {
        self.look_up(sight);
    }

    pub fn user_changed(&mut self, user: UserId) {
        let Some(watched) = self.watched.get(&user) else { return };
        let watchers: Vec<UserId> = watched.watchers.keys().copied().collect();
        for watcher in watchers {
            self.look_up(Sight { user, watcher });
        }
    }

    fn find(&mut self, sight: Sight) -> Option<&mut Watch<C>> {
        self.watched.get_mut(&sight.user)?.watchers.get_mut(&sight.watcher)
    }

    pub(super) fn look_up(&mut self, sight: Sight) {
        if let Some(watch) = self.find(sight)
            && !mem::replace(&mut watch.stale, true)
            && !watch.loading
        {
            self.to_load.push(sight);
        }
    }

    /// What is to be looked up, slot by slot.
    pub fn take_loads(&mut self) -> Vec<Load> {
        let mut loads: BTreeMap<Slot, Load> = BTreeMap::new();
        for sight in mem::take(&mut self.to_load) {
            let Some(watched) = self.watched.get_mut(&sight.user) else { continue };
            let Some(open) = self.slots.get(&watched.slot) else { continue };
            let Some(watch) = watched.watchers.get_mut(&sight.watcher) else { continue };
            if watch.loading || !watch.stale {
                continue;
            }
            (watch.loading, watch.stale) = (true, false);
            let (slot, epoch, store) = (watched.slot, open.epoch, open.store);
            loads.entry(slot).or_insert(Load { slot, epoch, store, sights: Vec::new() }).sights.push(sight);
        }
        loads.into_values().collect()
    }

    /// What a look-up found: for each sight whether the watcher may see the user, or why that is not known.
    pub fn loaded(&mut self, load: Load, found: Result<Vec<bool>, Refusal>, now: Now, effects: &mut Vec<Effect<C>>) {
        if self.slots.get(&load.slot).is_none_or(|open| open.epoch != load.epoch) {
            return;
        }
        match found {
            Ok(allowed) => {
                for (sight, allowed) in load.sights.into_iter().zip(allowed) {
                    self.found(sight, allowed, now, effects);
                }
            }
            Err(refusal) => {
                for sight in load.sights {
                    let Some(watch) = self.find(sight) else { continue };
                    (watch.loading, watch.stale) = (false, false);
                    let waiting = mem::take(&mut watch.waiting);
                    self.to_retry.push(sight);
                    for ticket in waiting {
                        if self.pending.remove(&ticket).is_some() {
                            effects.push(Effect::Refuse { ticket, refusal: refusal.clone() });
                        }
                    }
                    self.sweep(sight);
                }
            }
        }
    }

    fn found(&mut self, sight: Sight, allowed: bool, now: Now, effects: &mut Vec<Effect<C>>) {
        let Some(watch) = self.find(sight) else { return };
        watch.loading = false;
        if watch.stale {
            // Something changed meanwhile: what was found may be old.
            self.to_load.push(sight);
            return;
        }
        watch.allowed = allowed;
        let waiting = mem::take(&mut watch.waiting);
        self.publish_to(sight, now, effects);
        for ticket in waiting {
            if let Some(pending) = self.pending.get_mut(&ticket) {
                pending.unknown -= 1;
                if pending.unknown == 0 {
                    self.answer(ticket, now, effects);
                }
            }
        }
        self.sweep(sight);
    }

    pub(super) fn answer(&mut self, ticket: Ticket, now: Now, effects: &mut Vec<Effect<C>>) {
        let Some(pending) = self.pending.get(&ticket) else { return };
        let (watcher, users) = (pending.watch.watcher, pending.watch.users.clone());
        let mut states = Vec::with_capacity(users.len());
        for &user in &users {
            match self.seen(Sight { user, watcher }, now) {
                Some(State { online, last_seen_ms }) => states.push(Presence { user, online, last_seen_ms }),
                None => {
                    self.in_grace.push(ticket);
                    return;
                }
            }
        }
        for presence in &states {
            let state = State { online: presence.online, last_seen_ms: presence.last_seen_ms };
            if let Some(watch) = self.find(Sight { user: presence.user, watcher }) {
                watch.told = Some(state);
            }
        }
        self.pending.remove(&ticket);
        effects.push(Effect::Answer { ticket, states });
    }

    /// What the watcher sees now. `None` where that is not known yet, shortly after a take-over.
    fn seen(&mut self, sight: Sight, now: Now) -> Option<State> {
        let Some(watched) = self.watched.get(&sight.user) else { return Some(HIDDEN) };
        if !watched.watchers.get(&sight.watcher).is_some_and(|watch| watch.allowed) {
            return Some(HIDDEN);
        }
        if self.here.contains_key(&sight.user) {
            return Some(State { online: true, last_seen_ms: None });
        }
        if self.slots.get(&watched.slot).is_some_and(|open| now.at < open.grace_until) {
            return None;
        }
        Some(State { online: false, last_seen_ms: self.last_seen.get_mut(&sight.user).copied() })
    }

    pub(super) fn publish(&mut self, user: UserId, now: Now, effects: &mut Vec<Effect<C>>) {
        let Some(watched) = self.watched.get(&user) else { return };
        let watchers: Vec<UserId> = watched.watchers.keys().copied().collect();
        for watcher in watchers {
            self.publish_to(Sight { user, watcher }, now, effects);
        }
    }

    fn publish_to(&mut self, sight: Sight, now: Now, effects: &mut Vec<Effect<C>>) {
        let Some(state) = self.seen(sight, now) else { return };
        let Some(watch) = self.find(sight) else { return };
        // Who was told nothing yet is about to get an answer.
        if watch.told.is_none_or(|told| told == state) {
            return;
        }
        watch.told = Some(state);
        let presence = Presence { user: sight.user, online: state.online, last_seen_ms: state.last_seen_ms };
        for &(connection, session) in &watch.sessions {
            effects.push(Effect::Push { connection, session, presence });
        }
    }

    /// What the session was told last of the user did not reach it.
    pub fn tell_again(&self, connection: C, session: SessionId, user: UserId, effects: &mut Vec<Effect<C>>) {
        let sights = self.by_connection.get(&connection).and_then(|sessions| sessions.get(&session));
        let Some(sight) = sights.and_then(|sights| sights.iter().find(|sight| sight.user == user)) else { return };
        let watch = self.watched.get(&user).and_then(|watched| watched.watchers.get(&sight.watcher));
        if let Some(State { online, last_seen_ms }) = watch.and_then(|watch| watch.told) {
            effects.push(Effect::Push { connection, session, presence: Presence { user, online, last_seen_ms } });
        }
    }
}
