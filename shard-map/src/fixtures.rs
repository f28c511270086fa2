//! Maps and members for tests.

use proptest::prelude::*;

use crate::{
    Change, ClusterId, Incarnation, MAX_SLOTS_PER_MOVE, MoveId, MovingSlot, NewMove, NewNode, NewStore, NodeId,
    OwnerChange, Plan, ShardMap, Slot, StoreId, Weight, apply,
};

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

/// A move of the slots as they are now.
pub(crate) fn new_move(map: &ShardMap, source: u32, target: u32, slots: impl IntoIterator<Item = Slot>) -> NewMove {
    let moving = |slot| MovingSlot { slot, expected_epoch: map.slot(slot).epoch };
    let slots = slots.into_iter().map(moving).collect();
    NewMove { source: StoreId::new(source), target: StoreId::new(target), slots }
}

/// The map with the move begun, and the move's id.
pub(crate) fn begun(map: &ShardMap, new: NewMove) -> (ShardMap, MoveId) {
    let map = after(map, &Change::BeginMove(new));
    let id = MoveId::from(map.version());
    (map, id)
}

pub(crate) fn flipped(map: &ShardMap, id: MoveId) -> ShardMap {
    after(&after(map, &Change::SealMove { id }), &Change::FlipMove { id })
}

/// The map once the plan is carried out, hand-overs after moves and all.
pub(crate) fn carried_out(map: &ShardMap, plan: &Plan) -> ShardMap {
    let reassigned = |map: &ShardMap, reassign: Option<Change>| match reassign {
        Some(reassign) => after(map, &reassign),
        None => map.clone(),
    };
    let mut map = reassigned(map, plan.reassign());
    for NewMove { source, target, slots } in plan.new_moves(MAX_SLOTS_PER_MOVE) {
        let new = new_move(&map, source.get(), target.get(), slots.into_iter().map(|moving| moving.slot));
        let (begun, id) = begun(&map, new);
        map = after(&flipped(&begun, id), &Change::EndMove { id });
    }
    let hand_overs = plan.store_moves.iter().filter_map(|store_move| {
        let entry = map.slot(store_move.slot);
        let to = store_move.then_owner.filter(|&to| entry.owner != Some(to))?;
        Some(OwnerChange { slot: store_move.slot, expected_epoch: entry.epoch, to })
    });
    let slots: Vec<_> = hand_overs.collect();
    let map = reassigned(&map, (!slots.is_empty()).then_some(Change::Reassign { slots }));
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
