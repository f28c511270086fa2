//! A bounded cache that forgets what was not used lately.

use std::{collections::HashMap, hash::Hash, mem};

/// Two maps: what was used since the last turn, and what was used in the turn before. When the young one is full it
/// becomes the old one, and what nobody touched for a whole turn goes. Costs one look-up on a hit; holds at most twice
/// `turn` entries.
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    turn: usize,
}

impl<K: Eq + Hash + Copy, V> Generations<K, V> {
    pub fn new(turn: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), turn }
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.insert(*key, value);
        }
        self.young.get_mut(key)
    }

    pub fn contains(&self, key: &K) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.turn && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.young.retain(|key, value| keep(key, value));
        self.old.retain(|key, value| keep(key, value));
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
