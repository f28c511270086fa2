//! Who is here, who watches whom, and what each watcher was told last. Pure: time is handed in, loads and pushes are
//! effects.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use tertulia_shard_map::{Epoch, SessionId, Slot, StoreId, UserId};
use tertulia_wire::{
    cluster::{Presence, Refusal, UnwatchPresence, WatchPresence},
    limits::PRESENCE_USERS_MAX,
};
use tokio::time::Instant;

use super::super::RETRY_AFTER_MS;
use crate::{generations::Generations, store::Sight};

/// A user stays online for so long after the last session ended.
pub const LINGER: Duration = Duration::from_secs(5);
/// After a take-over, who is not attached may still be about to be: nobody is said to be offline before this.
pub const GRACE: Duration = Duration::from_secs(3);
/// Watches of one node, each of one session for one user; the next is refused.
const WATCHES_MAX: usize = 1_000_000;
/// Watches whose answer is being found out.
const PENDING_MAX: usize = 16 * 1024;
/// Users whose last session is remembered, per generation.
const LAST_SEEN: usize = 64 * 1024;

const _: () = assert!(GRACE.as_millis() < LINGER.as_millis(), "who was seen here outlasts the grace of the slot");

#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub at: Instant,
    pub unix_ms: i64,
}

/// Names a watch that waits for its answer.
pub type Ticket = u64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<C> {
    Push {
        connection: C,
        session: SessionId,
        presence: Presence,
    },
    Answer {
        ticket: Ticket,
        states: Vec<Presence>,
    },
    Refuse {
        ticket: Ticket,
        refusal: Refusal,
    },
    /// For Redis.
    Online(UserId),
    Offline(UserId),
    /// The user's mailbox went to another owner, who publishes from now on.
    Gone(UserId),
}

/// Sights of one slot to be looked up: give the result to [`Board::loaded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    pub slot: Slot,
    pub epoch: Epoch,
    pub store: StoreId,
    pub sights: Vec<Sight>,
}

struct OpenSlot {
    epoch: Epoch,
    store: StoreId,
    grace_until: Instant,
}

struct Here {
    slot: Slot,
    stay: Stay,
}

enum Stay {
    Attached,
    /// The last session has ended.
    Lingering {
        until: Instant,
        seen_ms: i64,
    },
}

/// What a watcher sees of a user.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    online: bool,
    last_seen_ms: Option<i64>,
}

const HIDDEN: State = State { online: false, last_seen_ms: None };

struct Watched<C> {
    slot: Slot,
    watchers: HashMap<UserId, Watch<C>>,
}

struct Watch<C> {
    sessions: Vec<(C, SessionId)>,
    /// Whether the watcher may see the user; not before the store has said so.
    allowed: bool,
    told: Option<State>,
    /// Something changed since the last look-up began.
    stale: bool,
    loading: bool,
    waiting: Vec<Ticket>,
}

impl<C> Watch<C> {
    fn new() -> Self {
        Self { sessions: Vec::new(), allowed: false, told: None, stale: false, loading: false, waiting: Vec::new() }
    }
}

struct Pending {
    watch: WatchPresence,
    unknown: usize,
}

/// `C` names a router's connection.
pub struct Board<C> {
    slots: HashMap<Slot, OpenSlot>,
    here: HashMap<UserId, Here>,
    /// In order of time.
    leaving: VecDeque<(Instant, UserId)>,
    last_seen: Generations<UserId, i64>,
    watched: HashMap<UserId, Watched<C>>,
    by_connection: HashMap<C, HashMap<SessionId, HashSet<Sight>>>,
    watches: usize,
    to_load: VecDeque<Sight>,
    /// Look-ups that failed, until the next tick.
    to_retry: Vec<Sight>,
    pending: HashMap<Ticket, Pending>,
    /// Known but for users who may be about to be attached.
    in_grace: Vec<Ticket>,
}

impl<C: Copy + Eq + Hash> Board<C> {
    pub fn new() -> Self {
        Self {
            slots: HashMap::new(),
            here: HashMap::new(),
            leaving: VecDeque::new(),
            last_seen: Generations::new(LAST_SEEN),
            watched: HashMap::new(),
            by_connection: HashMap::new(),
            watches: 0,
            to_load: VecDeque::new(),
            to_retry: Vec::new(),
            pending: HashMap::new(),
            in_grace: Vec::new(),
        }
    }

    pub fn open(&mut self, slot: Slot, epoch: Epoch, store: StoreId, now: Now, effects: &mut Vec<Effect<C>>) {
        self.close(slot, effects);
        self.slots.insert(slot, OpenSlot { epoch, store, grace_until: now.at + GRACE });
    }

    pub fn close(&mut self, slot: Slot, effects: &mut Vec<Effect<C>>) {
        if self.slots.remove(&slot).is_none() {
            return;
        }
        for (user, _) in self.here.extract_if(|_, here| here.slot == slot) {
            effects.push(Effect::Gone(user));
        }
        for (user, watched) in self.watched.extract_if(|_, watched| watched.slot == slot) {
            for (watcher, watch) in watched.watchers {
                for (connection, session) in watch.sessions {
                    forget(&mut self.by_connection, connection, session, Sight { user, watcher });
                    self.watches -= 1;
                }
            }
        }
        for (ticket, _) in self.pending.extract_if(|_, pending| pending.watch.slot == slot) {
            effects.push(Effect::Refuse { ticket, refusal: Refusal::NotServing });
        }
    }

    pub fn attached(&mut self, slot: Slot, user: UserId, now: Now, effects: &mut Vec<Effect<C>>) {
        if !self.slots.contains_key(&slot) {
            return;
        }
        let before = self.here.insert(user, Here { slot, stay: Stay::Attached });
        if before.is_none() {
            effects.push(Effect::Online(user));
            self.publish(user, now, effects);
        }
    }

    pub fn left(&mut self, slot: Slot, user: UserId, now: Now) {
        if let Some(here) = self.here.get_mut(&user)
            && here.slot == slot
            && matches!(here.stay, Stay::Attached)
        {
            let until = now.at + LINGER;
            here.stay = Stay::Lingering { until, seen_ms: now.unix_ms };
            self.leaving.push_back((until, user));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect<C>>) {
        while let Some(&(until, user)) = self.leaving.front()
            && until <= now.at
        {
            self.leaving.pop_front();
            // Who came back meanwhile, and perhaps left again, is not meant.
            if let Some(Here { stay: Stay::Lingering { until: really, seen_ms }, .. }) = self.here.get(&user)
                && *really == until
            {
                self.last_seen.insert(user, *seen_ms);
                self.here.remove(&user);
                effects.push(Effect::Offline(user));
                self.publish(user, now, effects);
            }
        }
        for ticket in std::mem::take(&mut self.in_grace) {
            self.answer(ticket, now, effects);
        }
        for sight in std::mem::take(&mut self.to_retry) {
            self.look_up(sight);
        }
    }

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

    fn look_up(&mut self, sight: Sight) {
        if let Some(watch) = self.find(sight)
            && !std::mem::replace(&mut watch.stale, true)
            && !watch.loading
        {
            self.to_load.push_back(sight);
        }
    }

    /// Up to so many sights to be looked up.
    pub fn take_loads(&mut self, sights_max: usize) -> Vec<Load> {
        let mut loads: BTreeMap<Slot, Load> = BTreeMap::new();
        for _ in 0..sights_max.min(self.to_load.len()) {
            let Some(sight) = self.to_load.pop_front() else { break };
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
                    let waiting = std::mem::take(&mut watch.waiting);
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
            self.to_load.push_back(sight);
            return;
        }
        watch.allowed = allowed;
        let waiting = std::mem::take(&mut watch.waiting);
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

    /// Forgets a watch that nobody has any more, nor waits for.
    fn sweep(&mut self, sight: Sight) {
        let Some(watched) = self.watched.get_mut(&sight.user) else { return };
        if watched.watchers.get(&sight.watcher).is_some_and(|it| it.sessions.is_empty() && it.waiting.is_empty()) {
            watched.watchers.remove(&sight.watcher);
            if watched.watchers.is_empty() {
                self.watched.remove(&sight.user);
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, now: Now, effects: &mut Vec<Effect<C>>) {
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

    fn publish(&mut self, user: UserId, now: Now, effects: &mut Vec<Effect<C>>) {
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
}

fn forget<C: Eq + Hash>(
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
