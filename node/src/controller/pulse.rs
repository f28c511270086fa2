//! Who was heard when, and who said that it stops.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tertulia_shard_map::{NodeId, ShardMap};
use tokio::time::Instant;

/// Heartbeats of the other nodes. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Pulses {
    inner: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    at: BTreeMap<NodeId, Instant>,
    stopping: BTreeSet<NodeId>,
    looked: Option<Instant>,
}

/// A pause between two looks that is longer than this part of the timeout was a standstill of this process, or of the
/// machine: nobody could be heard meanwhile, so it counts against nobody.
const STANDSTILL_PART: u32 = 3;

impl Pulses {
    /// A node, which may be this one, is alive, and perhaps about to stop.
    pub fn heard(&self, node: NodeId, is_stopping: bool, now: Instant) {
        let mut heard = self.lock();
        heard.at.insert(node, now);
        if is_stopping {
            heard.stopping.insert(node)
        } else {
            heard.stopping.remove(&node)
        };
    }

    /// The nodes of the map that were not heard for `timeout`, or have said that they stop. One that is new in the map has
    /// that long from now on; one that never started is not expected. This node hears itself.
    pub fn absent(&self, map: &ShardMap, own: NodeId, timeout: Duration, now: Instant) -> BTreeSet<NodeId> {
        let mut heard = self.lock();
        let Heard { at, stopping, looked } = &mut *heard;
        let paused = looked.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        if paused > timeout / STANDSTILL_PART {
            at.values_mut().for_each(|at| *at = (*at + paused).min(now));
        }
        at.retain(|node, _| map.node(*node).is_some());
        stopping.retain(|node| map.node(*node).is_some());
        let expected = map.nodes().filter(|(_, entry)| entry.incarnation.get() > 0).map(|(id, _)| id);
        let mut is_silent = |id| id != own && now.saturating_duration_since(*at.entry(id).or_insert(now)) >= timeout;
        expected.filter(|&id| stopping.contains(&id) || is_silent(id)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{Change, Incarnation, apply};

    use super::*;
    use crate::raft::fixtures::genesis;

    const TIMEOUT: Duration = Duration::from_millis(600);
    const STEP: Duration = Duration::from_millis(50);
    const NOBODY: [u32; 0] = [];

    /// Three nodes, of which all have started.
    fn map() -> ShardMap {
        let mut map = apply(None, &genesis(7)).unwrap();
        for id in 1..=3 {
            let address = map.node(NodeId::new(id)).unwrap().address.clone();
            let started = Change::NodeStarted { node: NodeId::new(id), incarnation: Incarnation::new(1), address };
            map = apply(Some(&map), &started).unwrap();
        }
        map
    }

    struct Watch {
        pulses: Pulses,
        map: ShardMap,
        now: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self { pulses: Pulses::default(), map: map(), now: Instant::now() }
        }

        /// Time goes by, in which these are heard.
        fn pass(&mut self, time: Duration, alive: &[u32]) -> Vec<u32> {
            let until = self.now + time;
            let mut absent = BTreeSet::new();
            while self.now < until {
                self.now += STEP;
                alive.iter().for_each(|id| self.pulses.heard(NodeId::new(*id), false, self.now));
                absent = self.pulses.absent(&self.map, NodeId::new(1), TIMEOUT, self.now);
            }
            absent.into_iter().map(NodeId::get).collect()
        }
    }

    #[test]
    fn who_falls_silent_is_absent_after_the_timeout_and_back_with_the_next_heartbeat() {
        let mut watch = Watch::new();
        assert_eq!(watch.pass(2 * TIMEOUT, &[2, 3]), NOBODY);
        assert_eq!(watch.pass(TIMEOUT - STEP, &[3]), NOBODY);
        assert_eq!(watch.pass(STEP, &[3]), [2]);
        assert_eq!(watch.pass(10 * TIMEOUT, &[3]), [2]);
        assert_eq!(watch.pass(STEP, &[2, 3]), NOBODY);
    }

    #[test]
    fn a_new_controller_gives_everybody_the_whole_timeout() {
        let mut watch = Watch::new();
        assert_eq!(watch.pass(TIMEOUT, &[]), NOBODY);
        assert_eq!(watch.pass(STEP, &[]), [2, 3]);
    }

    #[test]
    fn a_standstill_of_its_own_counts_against_nobody() {
        let mut watch = Watch::new();
        watch.pass(TIMEOUT, &[2, 3]);
        watch.now += 100 * TIMEOUT;
        assert_eq!(watch.pass(STEP, &[]), NOBODY, "what came meanwhile could not be heard");
        assert_eq!(watch.pass(TIMEOUT, &[2]), [3]);
    }

    #[test]
    fn who_never_started_is_not_expected() {
        let mut watch = Watch::new();
        watch.map = apply(None, &genesis(7)).unwrap();
        assert_eq!(watch.pass(3 * TIMEOUT, &[]), NOBODY);
    }

    #[test]
    fn who_says_that_it_stops_is_absent_at_once_until_it_says_otherwise() {
        let mut watch = Watch::new();
        watch.pass(TIMEOUT, &[2, 3]);
        for own_or_other in [1, 2] {
            watch.pulses.heard(NodeId::new(own_or_other), true, watch.now);
        }
        assert_eq!(watch.pass(STEP, &[3]), [1, 2]);
        assert_eq!(watch.pass(2 * TIMEOUT, &[3]), [1, 2], "and while it is away");
        assert_eq!(watch.pass(STEP, &[1, 2, 3]), NOBODY);
    }
}
