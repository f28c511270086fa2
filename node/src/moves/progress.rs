//! How far the moves are that this node drives, for operators.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tertulia_shard_map::MoveId;
use tertulia_wire::cluster::{MoveProgress, MoveStage};
use tokio::time::Instant;

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Progresses {
    inner: Arc<Mutex<BTreeMap<MoveId, Known>>>,
}

#[derive(Clone)]
struct Known {
    began: Instant,
    /// When the copying began, and how much was there by then.
    copying: Option<(Instant, u64)>,
    progress: MoveProgress,
}

impl Progresses {
    pub fn all(&self) -> Vec<MoveProgress> {
        let now = Instant::now();
        self.lock().values().map(|known| known.at(now)).collect()
    }

    pub fn retain(&self, is_under_way: impl Fn(&MoveId) -> bool) {
        self.lock().retain(|id, _| is_under_way(id));
    }

    /// The stage is as it was unless `change` says otherwise; an error is over with the next change.
    pub fn update(&self, id: MoveId, change: impl FnOnce(&mut MoveProgress)) {
        let now = Instant::now();
        let mut all = self.lock();
        let known =
            all.entry(id).or_insert_with(|| Known { began: now, copying: None, progress: MoveProgress::new(id) });
        known.progress.error = None;
        change(&mut known.progress);
        if known.progress.stage == MoveStage::Copying && known.copying.is_none() {
            known.copying = Some((now, known.progress.bytes));
        }
    }

    /// Slots that were copied, and those that were compared.
    pub fn slots_done(&self, id: MoveId) -> u32 {
        self.lock().get(&id).map_or(0, |known| known.progress.slots_copied + known.progress.slots_compared)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MoveId, Known>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn at(&self, now: Instant) -> MoveProgress {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let left_ms = self.copying.and_then(|(since, at_first)| {
            let copied = self.progress.bytes.checked_sub(at_first).filter(|bytes| *bytes > 0)?;
            let left = self.progress.bytes_total.saturating_sub(self.progress.bytes);
            let took = now.saturating_duration_since(since).as_secs_f64();
            (self.progress.stage == MoveStage::Copying)
                .then(|| millis(Duration::from_secs_f64(took * left as f64 / copied as f64)))
        });
        MoveProgress { elapsed_ms: millis(now.saturating_duration_since(self.began)), left_ms, ..self.progress.clone() }
    }
}
