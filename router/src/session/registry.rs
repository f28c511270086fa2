//! All sessions of this router by id. Looked up for every push, so it is cut into shards with a lock each.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tertulia_shard_map::SessionId;

use super::mailslot::Mailslot;

const SHARDS: usize = 64;

/// Cheap to clone; all clones are one registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    shards: [Mutex<Shard>; SHARDS],
    sessions: AtomicUsize,
}

type Shard = HashMap<SessionId, Arc<Mailslot>, BuildHasherDefault<IdHasher>>;

/// Removes the session when dropped.
pub struct Registration {
    registry: Registry,
    mailslot: Arc<Mailslot>,
}

impl Registry {
    pub fn new() -> Self {
        let inner = Inner { shards: std::array::from_fn(|_| Mutex::default()), sessions: AtomicUsize::new(0) };
        Self { inner: Arc::new(inner) }
    }

    pub fn register(&self, mailslot: Arc<Mailslot>) -> Registration {
        self.shard(mailslot.id).insert(mailslot.id, mailslot.clone());
        self.inner.sessions.fetch_add(1, Ordering::Relaxed);
        Registration { registry: self.clone(), mailslot }
    }

    pub fn get(&self, id: SessionId) -> Option<Arc<Mailslot>> {
        self.shard(id).get(&id).cloned()
    }

    pub fn len(&self) -> usize {
        self.inner.sessions.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits every session, one shard locked at a time: `visit` must be short and must not call back.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Mailslot>)) {
        for shard in &self.inner.shards {
            lock(shard).values().for_each(&mut visit);
        }
    }

    fn shard(&self, id: SessionId) -> MutexGuard<'_, Shard> {
        lock(&self.inner.shards[id.to_u128() as usize % SHARDS])
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registration {
    pub(super) fn mailslot(&self) -> &Arc<Mailslot> {
        &self.mailslot
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let removed = self.registry.shard(self.mailslot.id).remove(&self.mailslot.id);
        if removed.is_some() {
            self.registry.inner.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Session ids are made here and end in 80 random bits: some of those are as good as any hash of them.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        // The low bits choose the shard.
        self.0 = (id >> 8) as u64;
    }
}

#[cfg(test)]
mod tests {
    use tertulia_wire::client::Format;

    use super::*;

    fn mailslot(id: u128) -> Arc<Mailslot> {
        Arc::new(Mailslot::new(SessionId::from_u128(id), Format::Json, 1000))
    }

    #[test]
    fn a_session_is_found_until_its_registration_is_dropped() {
        let registry = Registry::new();
        let registrations: Vec<_> = (0..1000).map(|id| registry.register(mailslot(id))).collect();
        assert_eq!(registry.len(), 1000);
        assert!((0..1000).all(|id| registry.get(SessionId::from_u128(id)).is_some()));
        drop(registrations);
        assert!(registry.is_empty());
        assert!(registry.get(SessionId::from_u128(1)).is_none());
    }
}
