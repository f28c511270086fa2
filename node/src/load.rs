//! How busy this node is: the events that it appends to each slot, its commits to each store, and what waits for them.
//!
//! Lanes only count. A rate is the difference between the counters now and as they were five to ten seconds ago, so it
//! is of the last moments, and costs the append path one addition for each event. A slot that was just taken over counts
//! from zero, and shows less than its rate for as long.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tertulia_shard_map::{Slot, SlotCount, StoreId};
use tertulia_wire::cluster::StoreLoad;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::append::LaneHandle;

/// How often the counters are remembered. Rates are over one to two of these.
const WINDOW: Duration = Duration::from_secs(5);
/// Rates over less than this would be noise: so shortly after its start a node shows less than there is.
const SHORTEST: Duration = Duration::from_secs(1);

/// The counters. They begin anew after 2^32, of which a difference over ten seconds sees nothing.
struct Counters {
    /// By slot: events. Of all slots that a cluster can have, so that the map need not be known: 64 KiB.
    events: Box<[AtomicU32]>,
    commits: BTreeMap<StoreId, Commits>,
}

#[derive(Default)]
struct Commits {
    count: AtomicU32,
    micros: AtomicU64,
}

/// The counters as they were.
struct Mark {
    at: Instant,
    events: Vec<u32>,
    commits: BTreeMap<StoreId, (u32, u64)>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Meter {
    counters: Arc<Counters>,
    /// What rates are counted from.
    since: Arc<ArcSwap<Mark>>,
}

impl Meter {
    pub fn new(stores: impl IntoIterator<Item = StoreId>) -> Self {
        let events = (0..SlotCount::MAX).map(|_| AtomicU32::new(0)).collect();
        let commits = stores.into_iter().map(|store| (store, Commits::default())).collect();
        let counters = Arc::new(Counters { events, commits });
        let since = Arc::new(ArcSwap::from_pointee(counters.mark(Instant::now())));
        Self { counters, since }
    }

    /// A group of events, of these slots, is committed.
    pub fn committed(&self, store: StoreId, slots: impl Iterator<Item = Slot>, took: Duration) {
        for slot in slots {
            if let Some(events) = self.counters.events.get(slot.index()) {
                events.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(commits) = self.counters.commits.get(&store) {
            commits.count.fetch_add(1, Ordering::Relaxed);
            commits.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// Remembers the counters from time to time, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut last = self.since.load_full();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(WINDOW) => {}
            }
            last = self.turn(last, Instant::now());
        }
    }

    /// From now on, rates are counted from the last mark. Returns a new one.
    fn turn(&self, last: Arc<Mark>, now: Instant) -> Arc<Mark> {
        self.since.store(last);
        Arc::new(self.counters.mark(now))
    }

    /// Events a second, of these slots, in their order.
    pub fn events_per_s(&self, slots: impl Iterator<Item = Slot>, now: Instant) -> Vec<f64> {
        let since = self.since.load();
        let seconds = since.seconds_until(now);
        let counted = |slot: Slot| {
            let now = self.counters.events.get(slot.index())?.load(Ordering::Relaxed);
            Some(now.wrapping_sub(*since.events.get(slot.index())?))
        };
        slots.map(|slot| f64::from(counted(slot).unwrap_or(0)) / seconds).collect()
    }

    /// Of each store, with what waits in its lanes.
    pub fn stores(&self, lanes: &BTreeMap<StoreId, Vec<LaneHandle>>, now: Instant) -> Vec<StoreLoad> {
        let since = self.since.load();
        let seconds = since.seconds_until(now);
        let of_store = |(&store, lanes): (&StoreId, &Vec<LaneHandle>)| {
            let (count, micros) = self.counters.commits.get(&store).map_or((0, 0), Commits::now);
            let (count_then, micros_then) = since.commits.get(&store).copied().unwrap_or_default();
            let commits = count.wrapping_sub(count_then);
            let micros = micros.wrapping_sub(micros_then) as f64;
            StoreLoad {
                store,
                commits_per_s: f64::from(commits) / seconds,
                commit_ms: (commits > 0).then(|| micros / 1000.0 / f64::from(commits)),
                queued_bytes: lanes.iter().map(|lane| lane.queued_bytes() as u64).sum(),
            }
        };
        lanes.iter().map(of_store).collect()
    }
}

impl Counters {
    fn mark(&self, at: Instant) -> Mark {
        Mark {
            at,
            events: self.events.iter().map(|events| events.load(Ordering::Relaxed)).collect(),
            commits: self.commits.iter().map(|(&store, commits)| (store, commits.now())).collect(),
        }
    }
}

impl Mark {
    fn seconds_until(&self, now: Instant) -> f64 {
        now.duration_since(self.at).max(SHORTEST).as_secs_f64()
    }
}

impl Commits {
    fn now(&self) -> (u32, u64) {
        (self.count.load(Ordering::Relaxed), self.micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId::new(1);
    const BUSY: Slot = Slot::new(3);
    const IDLE: Slot = Slot::new(4);

    fn commit(meter: &Meter, events: usize) {
        meter.committed(STORE, std::iter::repeat_n(BUSY, events), Duration::from_millis(4));
    }

    fn rate(meter: &Meter, slot: Slot, now: Instant) -> f64 {
        meter.events_per_s([slot].into_iter(), now)[0]
    }

    #[test]
    fn a_rate_is_of_the_last_moments() {
        let meter = Meter::new([STORE]);
        let (lanes, start) = (BTreeMap::from([(STORE, vec![LaneHandle::new(1).0])]), Instant::now());
        let mut last = meter.since.load_full();
        commit(&meter, 50);
        assert_eq!(rate(&meter, BUSY, start), 50.0, "not of less than a second");
        for turn in 1..=3 {
            last = meter.turn(last, start + turn * WINDOW);
            commit(&meter, 50);
        }
        let now = start + 4 * WINDOW;
        assert_eq!((rate(&meter, BUSY, now), rate(&meter, IDLE, now)), (10.0, 0.0), "a hundred events in ten seconds");
        let load = StoreLoad { store: STORE, commits_per_s: 0.2, commit_ms: Some(4.0), queued_bytes: 0 };
        assert_eq!(meter.stores(&lanes, now), [load]);

        last = meter.turn(last, now);
        meter.turn(last, now + WINDOW);
        assert_eq!(rate(&meter, BUSY, now + 2 * WINDOW), 0.0);
        assert_eq!(meter.stores(&lanes, now + 2 * WINDOW)[0].commit_ms, None);
    }

    #[test]
    fn a_counter_that_begins_anew_is_no_matter() {
        let (meter, start) = (Meter::new([STORE]), Instant::now());
        meter.counters.events[BUSY.index()].store(u32::MAX, Ordering::Relaxed);
        meter.turn(Arc::new(meter.counters.mark(start)), start);
        commit(&meter, 20);
        assert_eq!(rate(&meter, BUSY, start + Duration::from_secs(2)), 10.0);
    }
}
