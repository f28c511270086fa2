//! Look-ups that wait for their turn: few go to a store at a time, so that they leave its connections to others, and what
//! waits meanwhile for the same slot goes as one. Pure.
//!
//! No bound of its own: of each watch there is at most one sight here, or under way.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tertulia_shard_map::{Slot, StoreId};

use super::board::Load;

/// Look-ups of one store under way, and what one asks for.
const LOADS_MAX: usize = 2;
const SIGHTS_AT_ONCE: usize = 1000;

#[derive(Default)]
pub(super) struct Loads {
    stores: BTreeMap<StoreId, OfStore>,
}

#[derive(Default)]
struct OfStore {
    waiting: HashMap<Slot, Load>,
    /// Each slot of `waiting`, once.
    order: VecDeque<Slot>,
    under_way: usize,
}

impl Loads {
    pub fn add(&mut self, load: Load) {
        let of_store = self.stores.entry(load.store).or_default();
        match of_store.waiting.get_mut(&load.slot) {
            Some(waiting) if waiting.epoch == load.epoch => waiting.sights.extend(load.sights),
            // Of the slot as it was before, nobody wants to know any more.
            Some(waiting) => *waiting = load,
            None => {
                of_store.order.push_back(load.slot);
                of_store.waiting.insert(load.slot, load);
            }
        }
    }

    /// One that may start now: it is under way until [`done`](Self::done).
    pub fn start(&mut self) -> Option<Load> {
        self.stores.values_mut().find_map(OfStore::start)
    }

    pub fn done(&mut self, store: StoreId) {
        if let Some(of_store) = self.stores.get_mut(&store) {
            of_store.under_way -= 1;
        }
    }
}

impl OfStore {
    fn start(&mut self) -> Option<Load> {
        if self.under_way >= LOADS_MAX {
            return None;
        }
        let slot = self.order.pop_front()?;
        let mut load = self.waiting.remove(&slot)?;
        if load.sights.len() > SIGHTS_AT_ONCE {
            let rest = Load { sights: load.sights.split_off(SIGHTS_AT_ONCE), ..load };
            self.waiting.insert(slot, rest);
            self.order.push_back(slot);
        }
        self.under_way += 1;
        Some(load)
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{Epoch, UserId};

    use super::*;
    use crate::store::Sight;

    fn load(store: u16, slot: u16, watchers: std::ops::Range<u128>) -> Load {
        let sight = |watcher| Sight { user: UserId::from_u128(1), watcher: UserId::from_u128(watcher) };
        let sights = watchers.map(sight).collect();
        Load { slot: Slot::new(slot), epoch: Epoch::new(1), store: StoreId::new(store.into()), sights }
    }

    fn started(loads: &mut Loads) -> Vec<(u16, usize)> {
        std::iter::from_fn(|| loads.start()).map(|load| (load.slot.get(), load.sights.len())).collect()
    }

    #[test]
    fn a_store_has_few_look_ups_at_a_time_and_those_that_wait_go_together() {
        let mut loads = Loads::default();
        (0..5).for_each(|slot| loads.add(load(1, slot, 0..1)));
        loads.add(load(2, 9, 0..1));
        assert_eq!(started(&mut loads), [(0, 1), (1, 1), (9, 1)], "one that does not answer holds nobody else up");
        loads.add(load(1, 3, 1..4));
        loads.add(load(1, 4, 0..SIGHTS_AT_ONCE as u128 + 1));
        loads.done(StoreId::new(1));
        loads.done(StoreId::new(1));
        assert_eq!(started(&mut loads), [(2, 1), (3, 4)]);
        loads.done(StoreId::new(1));
        loads.done(StoreId::new(1));
        assert_eq!(started(&mut loads), [(4, SIGHTS_AT_ONCE), (4, 2)]);
        loads.done(StoreId::new(2));
        assert_eq!(started(&mut loads), []);
    }

    #[test]
    fn what_was_asked_of_a_slot_before_it_was_opened_anew_is_not_asked() {
        let mut loads = Loads::default();
        loads.add(load(1, 0, 0..3));
        loads.add(Load { epoch: Epoch::new(2), ..load(1, 0, 0..1) });
        assert_eq!(started(&mut loads), [(0, 1)]);
    }
}
