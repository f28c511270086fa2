//! Maps and members for tests.

use proptest::prelude::*;

use crate::{Change, ClusterId, Incarnation, NewNode, NewStore, NodeId, Plan, ShardMap, StoreId, Weight, apply};

pub(crate) fn cluster() -> ClusterId {
    ClusterId::from_u128(0x0192_5e7b)
}

pub(crate) fn new_store(id: u32, weight: u32) -> NewStore {
    NewStore { id: StoreId::new(id), name: format!("store-{id}"), weight: weight.try_into().unwrap() }
}

pub(crate) fn new_node(id: u32, home_store: u32, weight: u32) -> NewNode {
    NewNode {
        id: NodeId::new(id),
        address: format!("10.0.0.{}:{}", id % 256, 7_000 + id),
        home_store: StoreId::new(home_store),
        weight: weight.try_into().unwrap(),
    }
}

pub(crate) fn genesis(slots: u32, stores: &[NewStore], nodes: &[NewNode]) -> Change {
    Change::Genesis {
        cluster: cluster(),
        slots: slots.try_into().unwrap(),
        stores: stores.to_vec(),
        nodes: nodes.to_vec(),
    }
}

/// 16 slots, stores 1 and 2, nodes 1 and 3 at home in store 1, node 2 in store 2; nobody has started.
pub(crate) fn small_map() -> ShardMap {
    let one = Weight::ONE.thousandths();
    let stores = [new_store(1, one), new_store(2, one)];
    let nodes = [new_node(1, 1, one), new_node(2, 2, one), new_node(3, 1, one)];
    apply(None, &genesis(16, &stores, &nodes)).unwrap()
}

pub(crate) fn after(map: &ShardMap, change: &Change) -> ShardMap {
    apply(Some(map), change).unwrap()
}

pub(crate) fn started(map: &ShardMap, node: u32, incarnation: u64) -> ShardMap {
    let node = NodeId::new(node);
    let address = map.node(node).unwrap().address.clone();
    after(map, &Change::NodeStarted { node, incarnation: Incarnation::new(incarnation), address })
}

pub(crate) fn all_started(map: &ShardMap) -> ShardMap {
    let nodes: Vec<_> = map.nodes().map(|(id, _)| id.get()).collect();
    nodes.into_iter().fold(map.clone(), |map, node| started(&map, node, 1))
}

/// The map once the plan is carried out. Moves between stores have no change of their own yet: they are written in.
pub(crate) fn carried_out(map: &ShardMap, plan: &Plan) -> ShardMap {
    let mut map = match plan.reassign() {
        Some(reassign) => after(map, &reassign),
        None => map.clone(),
    };
    for store_move in &plan.store_moves {
        let entry = &mut map.slots[store_move.slot.index()];
        assert_eq!(entry.store, store_move.from);
        entry.store = store_move.to;
        if entry.owner != store_move.then_owner {
            entry.owner = store_move.then_owner;
            entry.epoch = entry.epoch.next();
        }
    }
    map.check().unwrap();
    map
}

pub(crate) fn any_weight() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1_000u32), 10u32..=4_000]
}

/// A genesis of up to 6 stores and 8 nodes, any weights, any homes, 1 to 1,024 slots.
pub(crate) fn any_genesis() -> impl Strategy<Value = Change> {
    let stores = prop::collection::vec(any_weight(), 1..=6);
    let nodes = prop::collection::vec((any_weight(), any::<prop::sample::Index>()), 1..=8);
    (0u32..=10, stores, nodes).prop_map(|(bits, stores, nodes)| {
        let home = |index: prop::sample::Index| index.index(stores.len()) as u32 + 1;
        let nodes: Vec<_> =
            (1..).zip(&nodes).map(|(id, (weight, index))| new_node(id, home(*index), *weight)).collect();
        let stores: Vec<_> = (1..).zip(&stores).map(|(id, weight)| new_store(id, *weight)).collect();
        genesis(1 << bits, &stores, &nodes)
    })
}
