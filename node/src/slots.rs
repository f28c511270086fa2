//! Which slots this node serves: follows the map, takes over in the stores what the map gives to this incarnation, opens
//! it in every part of the node, and closes what the map takes away.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tertulia_shard_map::{Epoch, ShardMap, Slot, StoreId};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    append::LaneHandle,
    clock,
    fanout::FanoutHandle,
    mailbox::MailboxHandle,
    metrics as names,
    store::{Stamp, Store, StoreError, Writer},
};

/// Migrations, partitions and the fence of all slots of a store.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same where no slot waits for it.
const PREPARE_AHEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// After a take-over that a store did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A slot that this node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    pub store: StoreId,
    pub epoch: Epoch,
}

/// The slots that are taken over and open. Cheap to clone; reading takes no lock.
#[derive(Clone, Default)]
pub struct SlotTable {
    serving: Arc<ArcSwap<HashMap<Slot, Serving>>>,
}

impl SlotTable {
    pub fn get(&self, slot: Slot) -> Option<Serving> {
        self.serving.load().get(&slot).copied()
    }

    pub fn len(&self) -> usize {
        self.serving.load().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set(&self, held: &HashMap<Slot, Serving>) {
        self.serving.store(Arc::new(held.clone()));
        metrics::gauge!(names::SLOTS_SERVING).set(held.len() as f64);
    }
}

/// The append lanes of every store. Cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    by_store: Arc<BTreeMap<StoreId, Vec<LaneHandle>>>,
}

impl Lanes {
    pub fn new(by_store: BTreeMap<StoreId, Vec<LaneHandle>>) -> Self {
        Self { by_store: Arc::new(by_store) }
    }

    /// A slot always goes to the same lane.
    pub fn of(&self, store: StoreId, slot: Slot) -> Option<&LaneHandle> {
        let lanes = self.by_store.get(&store)?;
        lanes.get(slot.index() % lanes.len().max(1))
    }
}

/// What the keeper works with.
pub struct Keeper {
    pub writer: Writer,
    pub stores: Arc<BTreeMap<StoreId, Store>>,
    pub lanes: Lanes,
    pub fanout: FanoutHandle,
    pub mailboxes: MailboxHandle,
    pub table: SlotTable,
}

/// Runs until `stop`, or until a store turns out to belong to another cluster.
pub async fn run(
    keeper: Keeper,
    mut map: watch::Receiver<Option<Arc<ShardMap>>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut held = HashMap::new();
    let mut prepared = HashSet::new();
    loop {
        let current = map.borrow_and_update().clone();
        let complete = match current {
            Some(ref current) => keeper.follow(current, &mut held, &mut prepared).await?,
            None => true,
        };
        let prepare_ahead = async {
            if let Some(current) = current.as_ref().filter(|_| complete) {
                keeper.prepare_ahead(current, &mut prepared).await;
            }
            pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = map.changed() => changed?,
            () = sleep(RETRY_PAUSE), if !complete => {}
            // Ends with the next map, which goes first.
            () = prepare_ahead => {}
        }
    }
}

impl Keeper {
    /// The other stores of the map as well, so that a take-over there need not. What fails is tried again when it is needed.
    async fn prepare_ahead(&self, map: &ShardMap, prepared: &mut HashSet<StoreId>) {
        let stamp = Stamp { cluster: map.cluster(), slots: map.slot_count() };
        for (&id, store) in self.stores.iter().filter(|(id, _)| map.store(**id).is_some()) {
            if prepared.contains(&id) {
                continue;
            }
            match timeout(PREPARE_AHEAD_TIMEOUT, store.prepare(stamp)).await {
                Ok(Ok(())) => drop(prepared.insert(id)),
                Ok(Err(error)) => tracing::debug!(store = %id, error = %clock::chain(&error), "not prepared ahead"),
                Err(_) => tracing::debug!(store = %id, "not prepared ahead: the store does not answer"),
            }
        }
    }

    /// Whether everything that the map says could be done.
    async fn follow(
        &self,
        map: &ShardMap,
        held: &mut HashMap<Slot, Serving>,
        prepared: &mut HashSet<StoreId>,
    ) -> anyhow::Result<bool> {
        let mut wanted = HashMap::new();
        // Sealed ones take no writes, in neither store, and the move's driver has the fence.
        for (slot, _) in map.owned_by(self.writer.node).filter(|(_, entry)| entry.sealed_by.is_none()) {
            if let Some(owner) = map.owner(slot)
                && owner.incarnation == self.writer.incarnation
            {
                wanted.insert(slot, Serving { store: owner.store, epoch: owner.epoch });
            }
        }
        metrics::gauge!(names::SLOTS_OWNED).set(wanted.len() as f64);

        let lost: Vec<(Slot, Serving)> =
            held.iter().filter(|(slot, serving)| wanted.get(slot) != Some(serving)).map(|(&s, &v)| (s, v)).collect();
        for (slot, serving) in &lost {
            held.remove(slot);
            self.table.set(held);
            if let Some(lane) = self.lanes.of(serving.store, *slot) {
                lane.close(*slot);
            }
            self.fanout.close(*slot);
            self.mailboxes.close(*slot);
        }

        let mut missing: BTreeMap<StoreId, Vec<(Slot, Epoch)>> = BTreeMap::new();
        for (slot, serving) in &wanted {
            if !held.contains_key(slot) {
                missing.entry(serving.store).or_default().push((*slot, serving.epoch));
            }
        }
        let started = Instant::now();
        let stamp = Stamp { cluster: map.cluster(), slots: map.slot_count() };
        let takes = missing.iter().map(|(id, slots)| {
            let first_use = !prepared.contains(id);
            async move {
                let store =
                    self.stores.get(id).ok_or(StoreError::Unreadable("no [stores] entry for a store of the map"))?;
                let taking = async {
                    if first_use {
                        store.prepare(stamp).await?;
                    }
                    store.take_slots(slots).await
                };
                // A store that hangs must not keep the others' slots closed for ever.
                timeout(TAKE_TIMEOUT, taking).await.unwrap_or(Err(StoreError::Unavailable(None)))
            }
        });
        let mut complete = true;
        for ((&store, slots), taken) in missing.iter().zip(join_all(takes).await) {
            let taken = match taken {
                Ok(taken) => taken,
                Err(error @ (StoreError::Foreign(_) | StoreError::Migration(_))) => {
                    return Err(anyhow::Error::new(error).context(format!("store {store} cannot be used")));
                }
                Err(error) => {
                    tracing::warn!(%store, error = %clock::chain(&error), "slots cannot be taken over yet");
                    complete = false;
                    continue;
                }
            };
            prepared.insert(store);
            tracing::info!(%store, slots = taken.len(), wanted = slots.len(), took = ?started.elapsed(), "took slots over");
            for taken in taken {
                self.mailboxes.open(taken.slot, taken.epoch, store);
                self.fanout.open(taken, store);
                if let Some(lane) = self.lanes.of(store, taken.slot) {
                    lane.open(taken);
                }
                held.insert(taken.slot, Serving { store, epoch: taken.epoch });
            }
            self.table.set(held);
        }
        Ok(complete)
    }
}
