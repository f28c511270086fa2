//! Who is here, who watches whom, and what each watcher was told last. Pure: time is handed in, loads and pushes are
//! effects.
//!
//! [`watches`] keeps who watches whom, [`sights`] finds out who may see whom, and tells.

mod sights;
#[cfg(test)]
mod tests;
mod watches;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use tertulia_shard_map::{Epoch, SessionId, Slot, StoreId, UserId};
use tertulia_wire::cluster::{Presence, Refusal, WatchPresence};
use tokio::time::Instant;

use crate::{generations::Generations, store::Sight};

/// A user stays online for so long after the last session ended.
pub const LINGER: Duration = Duration::from_secs(5);
/// After a take-over, who is not attached may still be about to be: nobody is said to be offline before this.
pub const GRACE: Duration = Duration::from_secs(5);
/// Users whose last session is remembered, per generation.
const LAST_SEEN: usize = 64 * 1024;

const _: () = assert!(GRACE.as_millis() <= LINGER.as_millis(), "who was seen here outlasts the grace of the slot");

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
    /// When the grace of a slot ends, in order of time.
    graces: VecDeque<(Instant, Slot)>,
    here: HashMap<UserId, Here>,
    /// In order of time.
    leaving: VecDeque<(Instant, UserId)>,
    last_seen: Generations<UserId, i64>,
    watched: HashMap<UserId, Watched<C>>,
    by_connection: HashMap<C, HashMap<SessionId, HashSet<Sight>>>,
    watches: usize,
    to_load: Vec<Sight>,
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
            graces: VecDeque::new(),
            here: HashMap::new(),
            leaving: VecDeque::new(),
            last_seen: Generations::new(LAST_SEEN),
            watched: HashMap::new(),
            by_connection: HashMap::new(),
            watches: 0,
            to_load: Vec::new(),
            to_retry: Vec::new(),
            pending: HashMap::new(),
            in_grace: Vec::new(),
        }
    }

    pub fn open(&mut self, slot: Slot, epoch: Epoch, store: StoreId, now: Now, effects: &mut Vec<Effect<C>>) {
        self.close(slot, effects);
        let grace_until = now.at + GRACE;
        self.slots.insert(slot, OpenSlot { epoch, store, grace_until });
        self.graces.push_back((grace_until, slot));
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
                    watches::forget(&mut self.by_connection, connection, session, Sight { user, watcher });
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
        self.end_graces(now, effects);
        for ticket in std::mem::take(&mut self.in_grace) {
            self.answer(ticket, now, effects);
        }
        for sight in std::mem::take(&mut self.to_retry) {
            self.look_up(sight);
        }
    }

    /// Who has not come by now is offline, also for those who were told otherwise, or less, before.
    fn end_graces(&mut self, now: Now, effects: &mut Vec<Effect<C>>) {
        let mut over = HashSet::new();
        while let Some(&(until, slot)) = self.graces.front()
            && until <= now.at
        {
            self.graces.pop_front();
            if self.slots.get(&slot).is_some_and(|open| open.grace_until == until) {
                over.insert(slot);
            }
        }
        if over.is_empty() {
            return;
        }
        let of_them = self.watched.iter().filter(|(_, watched)| over.contains(&watched.slot));
        let users: Vec<UserId> = of_them.map(|(user, _)| *user).collect();
        for user in users {
            self.publish(user, now, effects);
        }
    }
}
