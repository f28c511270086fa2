//! For tests: a map of two stores and two nodes.

use tertulia_shard_map::{Change, ClusterId, NewNode, NewStore, NodeId, ShardMap, SlotCount, StoreId, Weight, apply};

pub fn map() -> ShardMap {
    let store = |id: u32| NewStore { id: StoreId::new(id), name: format!("store-{id}"), weight: Weight::default() };
    let node = |id: u32| NewNode {
        id: NodeId::new(id),
        address: format!("host:{id}"),
        home_store: StoreId::new(id),
        weight: Weight::default(),
    };
    let genesis = Change::Genesis {
        cluster: ClusterId::from_u128(7),
        slots: SlotCount::try_from(64).unwrap(),
        stores: vec![store(1), store(2)],
        nodes: vec![node(1), node(2)],
    };
    apply(None, &genesis).unwrap()
}
