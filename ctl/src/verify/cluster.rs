//! The cluster as far as it can be seen: the newest map, and the stores that answer.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tertulia_shard_map::{ShardMap, Slot, StoreId};

use super::{
    fence::{Standing, compare},
    store::{Dsn, Snapshot, Store},
};
use crate::nodes::Nodes;

pub struct Cluster<'a> {
    pub map: Box<ShardMap>,
    nodes: &'a Nodes,
    dsns: &'a BTreeMap<StoreId, Dsn>,
    stores: BTreeMap<StoreId, Store>,
}

impl<'a> Cluster<'a> {
    pub fn new(map: Box<ShardMap>, nodes: &'a Nodes, dsns: &'a BTreeMap<StoreId, Dsn>) -> Self {
        Self { map, nodes, dsns, stores: BTreeMap::new() }
    }

    /// Looks at the map again. Where no node answers, the one that is known stays.
    pub async fn refresh(&mut self) {
        if let Ok(map) = self.nodes.newest_map().await
            && map.version() > self.map.version()
        {
            self.map = map;
        }
    }

    /// Connects where that is not done yet, or was lost.
    pub async fn connect(&mut self, id: StoreId) -> anyhow::Result<()> {
        if self.stores.get(&id).is_some_and(|store| !store.is_closed()) {
            return Ok(());
        }
        self.stores.remove(&id);
        let dsn = self.dsns.get(&id).with_context(|| format!("the configuration has no [stores.{id}]"))?;
        self.stores.insert(id, Store::connect(dsn, id, &self.map).await?);
        Ok(())
    }

    /// All that the map names; those that do not answer show when they are asked for.
    pub async fn connect_all(&mut self) {
        let ids: Vec<StoreId> = self.map.stores().map(|(id, _)| id).collect();
        for id in ids {
            drop(self.connect(id).await);
        }
    }

    pub fn store(&self, id: StoreId) -> anyhow::Result<&Store> {
        self.stores.get(&id).context("there is no connection")
    }

    /// The store that holds a slot.
    pub fn store_of(&self, slot: Slot) -> anyhow::Result<&Store> {
        self.store(self.map.slot(slot).store)
    }

    /// Some rows of a slot as of now. `None` where it is elsewhere by now, or its store does not answer.
    pub async fn glance(&self, slot: Slot) -> Option<Snapshot<'_>> {
        let snapshot = self.store_of(slot).ok()?.glance(slot).await.ok()??;
        if compare(&snapshot.fence, &self.map, slot) == Standing::Fits {
            return Some(snapshot);
        }
        drop(snapshot.end().await);
        None
    }
}
