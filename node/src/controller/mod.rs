//! The controller: observes which nodes are alive, plans, and proposes changes of the map.
//!
//! It runs on every node and hears every node, so that a new Raft leader starts warm; only the leader proposes. It may be
//! wrong about a death: the fence makes that safe ([`crate::store`]), so `node_timeout` only decides when to try. What it
//! decided on is checked again where the change is applied: each slot's epoch is named.

mod pulse;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tertulia_shard_map::{NodeId, Plan, ShardMap, plan, take_over};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::pulse::Pulses;
use crate::{
    clock, metrics as names,
    raft::{Leadership, ProposeError, Raft},
};

/// Parts of `node_timeout`: so many heartbeats may be lost before a node counts as dead.
const BEATS_PER_TIMEOUT: u32 = 4;
/// And so often the controller looks at who was heard.
const LOOKS_PER_TIMEOUT: u32 = 12;
/// Slots go back to a node that returns once nobody has been absent for this long, so that one that keeps dying costs
/// take-overs only.
const BALANCE_AFTER: Duration = Duration::from_secs(5);
/// Slots that change hands at once to restore the balance, and the pause before the next of them.
const BALANCE_SLOTS: usize = 16;
const BALANCE_PAUSE: Duration = Duration::from_millis(250);
/// How long a node that stops waits for others to take its slots. Without a quorum nobody will.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
const HAND_OVER_POLL: Duration = Duration::from_millis(50);

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Controller {
    node: NodeId,
    raft: Raft,
    node_timeout: Duration,
    pulses: Pulses,
    is_stopping: Arc<watch::Sender<bool>>,
}

impl Controller {
    pub fn new(node: NodeId, raft: Raft, node_timeout: Duration) -> Self {
        Self { node, raft, node_timeout, pulses: Pulses::default(), is_stopping: Arc::new(watch::Sender::new(false)) }
    }

    pub fn pulses(&self) -> Pulses {
        self.pulses.clone()
    }

    /// Tells the voters that this node is alive, until `stop`.
    pub async fn beat(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = interval(self.node_timeout / BEATS_PER_TIMEOUT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_stopping = self.is_stopping.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
                changed = is_stopping.changed() => changed?,
            }
            let is_stopping = *is_stopping.borrow_and_update();
            self.raft.beat(is_stopping, self.node_timeout);
        }
    }

    /// Observes, plans and proposes, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = interval(self.node_timeout / LOOKS_PER_TIMEOUT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = BTreeSet::new();
        let mut calm_since = Instant::now();
        let mut proposal: Option<BoxFuture<'static, ()>> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = async { proposal.as_mut().expect("checked").await }, if proposal.is_some() => proposal = None,
                _ = ticks.tick() => {
                    let Some(map) = self.raft.map().borrow().clone() else { continue };
                    let absent = self.absent(&map);
                    if absent != known {
                        tracing::info!(?absent, "nodes that are not heard of, or stop");
                        metrics::gauge!(names::NODES_ABSENT).set(absent.len() as f64);
                        known = absent;
                        calm_since = Instant::now();
                    }
                    if proposal.is_none() && matches!(*self.raft.leadership().borrow(), Leadership::Leading { .. }) {
                        proposal = self.next(&map, &known, calm_since);
                    }
                }
            }
        }
    }

    /// Says that this node is about to stop, and waits until others own its slots, as long as somebody may.
    pub async fn hand_over(&self) {
        self.pulses.heard(self.node, true, Instant::now());
        self.is_stopping.send_replace(true);
        let is_done = async {
            let mut map = self.raft.map();
            loop {
                let current = map.borrow_and_update().clone();
                let Some(current) = current else { return };
                let mut absent = self.absent(&current);
                absent.insert(self.node);
                if take_over(&current, &absent).owner_changes.is_empty() {
                    return;
                }
                // Whoever is to take over may stop as well.
                let _changed_or_not = timeout(HAND_OVER_POLL, map.changed()).await;
            }
        };
        match timeout(HAND_OVER_WITHIN, is_done).await {
            Ok(()) => tracing::info!("others own the slots of this node, or nobody is left to"),
            Err(_) => tracing::warn!("nobody took the slots of this node over"),
        }
    }

    fn absent(&self, map: &ShardMap) -> BTreeSet<NodeId> {
        self.pulses.absent(map, self.node, self.node_timeout, Instant::now())
    }

    /// What to do next, if anything.
    fn next(&self, map: &ShardMap, absent: &BTreeSet<NodeId>, calm_since: Instant) -> Option<BoxFuture<'static, ()>> {
        let raft = self.raft.clone();
        if !take_over(map, absent).owner_changes.is_empty() {
            let absent = absent.clone();
            return Some(async move { propose(&raft, "take-over", |map| take_over(map, &absent)).await }.boxed());
        }
        let is_calm = absent.is_empty() && calm_since.elapsed() >= BALANCE_AFTER;
        if is_calm && !plan(map).owner_changes.is_empty() {
            let balance = |map: &ShardMap| {
                let mut plan = plan(map);
                plan.owner_changes.truncate(BALANCE_SLOTS);
                plan
            };
            let balancing = async move {
                propose(&raft, "balance", balance).await;
                sleep(BALANCE_PAUSE).await;
            };
            return Some(balancing.boxed());
        }
        None
    }
}

/// Plans once more, on the map that every change before this led to, and proposes that.
async fn propose(raft: &Raft, what: &'static str, plan: impl Fn(&ShardMap) -> Plan) {
    let proposed = async {
        let map: Option<Arc<ShardMap>> = raft.read_linearizable().await?;
        let planned = map.map(|map| plan(&map));
        let Some((planned, change)) = planned.and_then(|plan| plan.reassign().map(|change| (plan, change))) else {
            return Ok(());
        };
        tracing::info!(what, %planned, "proposing");
        let version = raft.propose(change).await?;
        metrics::counter!(names::SLOTS_REASSIGNED_TOTAL, "why" => what).increment(planned.owner_changes.len() as u64);
        tracing::info!(what, %version, slots = planned.owner_changes.len(), "slots have new owners");
        Ok::<_, ProposeError>(())
    };
    // Whatever it was: the next look plans again, on the map as it is then.
    if let Err(error) = proposed.await {
        tracing::info!(what, error = %clock::chain(&error), "a proposal of the controller was not carried out");
    }
}
