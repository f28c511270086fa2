//! Drives the moves of the map: does in the two stores what a move's step asks for, then proposes the change to the next.
//!
//! It runs on every node, and the Raft leader's is the one that works. What a move needs to go on is in the map and in the
//! stores: another leader goes on from there. Two may drive at once, where one does not know yet that it is deposed; the
//! marks in the target stop whichever is late (`migrations/V2__moves.sql`). Which changes are allowed, and when a move can
//! still be aborted, is the map's business ([`tertulia_shard_map::MoveStep`]).
//!
//! Failures: before the seal everything is tried again for [`driver::GIVE_UP_AFTER`], then the move is aborted. Sealed, there is
//! [`driver::STALL_MAX`] for all of it; then an abort is proposed, and Raft decides. After the flip, and after an abort, the
//! clean-up is tried until it succeeds.

mod comparison;
mod driver;
mod progress;
mod steps;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tertulia_shard_map::{MoveId, StoreId};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::driver::Driver;
pub use self::progress::Progresses;
use crate::{
    clock,
    raft::{Leadership, Raft},
    store::{Store, StoreError},
};

/// How often a driver that ended is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the leader looks for what a driver made that was so late that its move had ended: a replication slot that nobody
/// reads keeps its store's log until the disk is full.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

pub struct Mover {
    pub raft: Raft,
    pub stores: Arc<BTreeMap<StoreId, Store>>,
    /// What one move copies in a second.
    pub bytes_per_second: u64,
    pub progresses: Progresses,
}

impl Mover {
    /// Until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut map, mut leadership) = (self.raft.map(), self.raft.leadership());
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut _sweeping;
        let mut drivers: BTreeMap<MoveId, AbortOnDropHandle<()>> = BTreeMap::new();
        loop {
            let leads = matches!(*leadership.borrow_and_update(), Leadership::Leading { .. });
            let current = map.borrow_and_update().clone().filter(|_| leads);
            let is_under_way = |id: &MoveId| current.as_ref().is_some_and(|map| map.move_entry(*id).is_some());
            drivers.retain(|id, driver| is_under_way(id) && !driver.is_finished());
            self.progresses.retain(is_under_way);
            for (id, _) in current.iter().flat_map(|map| map.moves()) {
                drivers.entry(id).or_insert_with(|| {
                    let driver = Driver {
                        id,
                        raft: self.raft.clone(),
                        stores: self.stores.clone(),
                        bytes_per_second: self.bytes_per_second,
                        progresses: self.progresses.clone(),
                    };
                    AbortOnDropHandle::new(tokio::spawn(driver.run()))
                });
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = map.changed() => changed?,
                changed = leadership.changed() => changed?,
                _ = looks.tick(), if !drivers.is_empty() => {}
                _ = sweeps.tick(), if leads => {
                    // Where the last one hangs, it is given up.
                    _sweeping = AbortOnDropHandle::new(tokio::spawn(sweep(self.raft.clone(), self.stores.clone())));
                }
            }
        }
    }
}

async fn sweep(raft: Raft, stores: Arc<BTreeMap<StoreId, Store>>) {
    let Some(cluster) = raft.map().borrow().as_ref().map(|map| map.cluster()) else { return };
    for (id, store) in stores.iter() {
        let swept = async {
            let found = store.moves_with_objects(cluster).await?;
            // After it: a move is in the map before anything is made for it.
            let Ok(Some(map)) = raft.read_linearizable().await else { return Ok(()) };
            for stray in found.into_iter().filter(|id| map.move_entry(*id).is_none()) {
                tracing::warn!(store = %id, %stray, "removing what a late driver of a move has left");
                let end = store.move_end(cluster, stray, Vec::new()).await?;
                end.unsubscribe().await?;
                end.unpublish().await?;
            }
            Ok::<_, StoreError>(())
        };
        // The next one tries again.
        if let Err(error) = swept.await {
            tracing::debug!(store = %id, error = %clock::chain(&error), "not swept");
        }
    }
}
