//! A bounded cache that forgets what was not used lately.

use std::{collections::HashMap, hash::Hash, mem};

/// Two maps: what was used since the last turn, and what was used in the turn before. When the young one is full it
/// becomes the old one, and what nobody touched for a whole turn goes. Costs one look-up on a hit; holds at most twice
/// `turn` of weight, and what came in since the last chance to turn.
pub struct Generations<K, V> {
    young: HashMap<K, Weighed<V>>,
    old: HashMap<K, Weighed<V>>,
    young_weight: usize,
    turn: usize,
    turns: Turns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turns {
    /// With whatever comes in while it is full.
    ByItself,
    /// Only when it is told to.
    WhenTold,
}

struct Weighed<V> {
    value: V,
    weight: usize,
}

impl<K: Eq + Hash + Copy, V> Generations<K, V> {
    pub fn new(turn: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_weight: 0, turn, turns: Turns::ByItself }
    }

    /// Forgets only in [`make_room`](Self::make_room): what was brought in or used since stays.
    pub fn in_rounds(turn: usize) -> Self {
        Self { turns: Turns::WhenTold, ..Self::new(turn) }
    }

    pub fn make_room(&mut self) {
        if self.young_weight >= self.turn {
            self.old = mem::take(&mut self.young);
            self.young_weight = 0;
        }
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let Weighed { value, weight } = self.old.remove(key)?;
            self.insert_weighed(*key, value, weight);
        }
        self.young.get_mut(key).map(|weighed| &mut weighed.value)
    }

    /// Without counting it as used.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key)).map(|weighed| &weighed.value)
    }

    pub fn contains(&self, key: &K) -> bool {
        self.peek(key).is_some()
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.insert_weighed(key, value, 1);
    }

    pub fn insert_weighed(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if self.turns == Turns::ByItself {
            self.make_room();
        }
        self.young_weight += weight;
        self.young.insert(key, Weighed { value, weight });
    }

    /// The entry has grown, or shrunk.
    pub fn reweigh(&mut self, key: &K, weigh: impl FnOnce(&V) -> usize) {
        if let Some(weighed) = self.young.get_mut(key) {
            let weight = weigh(&weighed.value);
            self.young_weight = self.young_weight + weight - weighed.weight;
            weighed.weight = weight;
        }
    }

    pub fn remove(&mut self, key: &K) {
        self.old.remove(key);
        if let Some(weighed) = self.young.remove(key) {
            self.young_weight -= weighed.weight;
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.young.retain(|key, weighed| keep(key, &weighed.value));
        self.old.retain(|key, weighed| keep(key, &weighed.value));
        self.young_weight = self.young.values().map(|weighed| weighed.weight).sum();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Generations;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut cache = Generations::new(10);
        cache.insert(0, "kept");
        for key in 1..1000 {
            cache.insert(key, "passing");
            assert!(cache.get_mut(&0).is_some(), "used in every step, so it stays");
            assert!(cache.len() <= 20);
        }
        assert!(!cache.contains(&1));
    }

    #[test]
    fn heavy_entries_make_room_sooner() {
        let mut cache = Generations::new(10);
        for key in 0..1000 {
            cache.insert_weighed(key, (), 5);
            assert!(cache.len() <= 4, "{}", cache.len());
        }
        cache.insert_weighed(2000, (), 100);
        assert!(cache.contains(&2000), "even what is larger than a turn has its turn");
    }

    #[test]
    fn in_rounds_nothing_goes_before_the_round_is_over() {
        let mut cache = Generations::in_rounds(10);
        for key in 0..1000 {
            cache.insert(key, ());
        }
        assert!((0..1000).all(|key| cache.get_mut(&key).is_some()));
        cache.make_room();
        cache.insert(2000, ());
        cache.reweigh(&2000, |()| 10);
        assert_eq!(cache.len(), 1001);
        cache.make_room();
        assert!(cache.contains(&2000) && !cache.contains(&0));
    }

    #[test]
    fn a_key_is_in_one_generation_only() {
        let mut cache = Generations::new(1);
        cache.insert(1, "first");
        cache.insert(2, "other");
        cache.insert(1, "second");
        assert_eq!(cache.get_mut(&1), Some(&mut "second"));
        cache.remove(&1);
        assert_eq!(cache.get_mut(&1), None);
    }
}
