//! The planner (placement first).
use std::collections::BTreeMap;

use crate::{NodeEntry, NodeId, SlotCount, StoreEntry, StoreId};

pub(crate) struct Placed {
    pub(crate) store: StoreId,
    pub(crate) owner: NodeId,
}

pub(crate) fn place_all(
    slots: SlotCount,
    stores: &BTreeMap<StoreId, StoreEntry>,
    nodes: &BTreeMap<NodeId, NodeEntry>,
) -> Vec<Placed> {
    let (stores, nodes): (Vec<_>, Vec<_>) = (stores.keys().collect(), nodes.keys().collect());
    slots
        .slots()
        .map(|slot| Placed { store: *stores[slot.index() % stores.len()], owner: *nodes[slot.index() % nodes.len()] })
        .collect()
}
