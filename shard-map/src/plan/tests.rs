use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    AbortReason, MoveId, apply,
    fixtures::{
        after, all_started, any_genesis, any_weight, begun, carried_out, flipped, genesis, new_move, new_node,
        new_store, small_map, started,
    },
};

/// Slots of each store that the planner would not change, by hand: ⌊0.9 share⌋ to ⌈1.1 share⌉.
fn assert_stores_within_bounds(map: &ShardMap) {
    let active = || map.stores().filter(|(_, entry)| entry.state == StoreState::Active);
    let total: f64 = active().map(|(_, entry)| entry.weight.as_f64()).sum();
    for (id, entry) in active() {
        let share = f64::from(map.slot_count().get()) * entry.weight.as_f64() / total;
        let held = map.held_by(id).count() as f64;
        let (low, high) = ((share * 0.9 - 1e-6).floor(), (share * 1.1 + 1e-6).ceil());
        assert!((low..=high).contains(&held), "store {id} holds {held}, of {low} to {high}");
    }
}

/// Every owner is at home wherever the slot's store is some active node's home, and those of one home are even.
fn assert_owners_at_home_and_even(map: &ShardMap) {
    let at_home = |store| map.nodes().filter(move |(_, n)| n.home_store == store && n.state == NodeState::Active);
    for (store, _) in map.stores() {
        let total: f64 = at_home(store).map(|(_, entry)| entry.weight.as_f64()).sum();
        let held = map.held_by(store).count() as f64;
        for (id, entry) in at_home(store) {
            let share = held * entry.weight.as_f64() / total;
            let owned = map.held_by(store).filter(|(_, slot)| slot.owner == Some(id)).count() as f64;
            assert!((owned - share).abs() < 1.0 + 1e-6, "node {id} owns {owned} of its share {share} in store {store}");
        }
    }
}

fn cluster_of(slots: u32, stores: u32, nodes: u32) -> ShardMap {
    let new_stores: Vec<_> = (1..=stores).map(|id| new_store(id, 1_000)).collect();
    let new_nodes: Vec<_> = (1..=nodes).map(|id| new_node(id, (id - 1) % stores + 1, 1_000)).collect();
    all_started(&apply(None, &genesis(slots, &new_stores, &new_nodes)).unwrap())
}

/// SHA-256 of each slot's store and owner.
fn fingerprint(map: &ShardMap) -> String {
    let mut hasher = Sha256::new();
    for (_, entry) in map.slots() {
        hasher.update(entry.store.get().to_be_bytes());
        hasher.update(entry.owner.map_or(0, NodeId::get).to_be_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All nodes of a cluster place for themselves, of different releases at times: never change these.
#[test]
fn placement_never_changes() {
    let joined = after(&cluster_of(256, 2, 3), &Change::AddStore(new_store(3, 2_000)));
    let maps = [cluster_of(256, 2, 3), cluster_of(16_384, 7, 20), carried_out(&joined, &plan(&joined))];
    assert_eq!(maps.map(|map| fingerprint(&map)), GOLDEN);
}

const GOLDEN: [&str; 3] = [
    "a2f12d9fbd0a4409a13e438a79581c48691c23192115f8c9cb7d20de60967d92",
    "1bf592a8f72eb7df3914a8c2742f0bdee5e9bd88cac00161a7585b56eccda4c2",
    "967e4dbc6ce503d6361f8bd8acd524f6110530548444ae85e6bcdbba617554fd",
];

#[test]
fn a_new_cluster_needs_no_plan() {
    let map = cluster_of(256, 2, 3);
    let plan = plan(&map);
    assert!(plan.is_empty());
    assert_eq!(plan.reassign(), None);
    assert_eq!(plan.to_string(), "map version 4: every slot is where it should be");
    assert_stores_within_bounds(&map);
    assert_owners_at_home_and_even(&map);
}

#[test]
fn a_store_that_joins_gets_its_share_and_no_more() {
    let map = after(&cluster_of(256, 3, 3), &Change::AddStore(new_store(4, 1_000)));
    let plan = plan(&map);
    assert!(plan.store_moves.iter().filter(|to| to.to == StoreId::new(4)).count() >= 57);
    assert!(plan.store_moves.len() <= 71, "{}", plan.store_moves.len());
    let map = carried_out(&map, &plan);
    assert_stores_within_bounds(&map);
}

#[test]
fn a_draining_store_loses_all_and_nothing_else_moves() {
    let map = cluster_of(256, 4, 4);
    let leaving = StoreId::new(2);
    let map = after(&map, &Change::SetStoreState { store: leaving, state: StoreState::Draining });
    let plan = plan(&map);
    assert_eq!(plan.store_moves.len(), map.held_by(leaving).count());
    assert!(plan.store_moves.iter().all(|to| to.from == leaving && to.reason == MoveReason::StoreDraining));
    let map = carried_out(&map, &plan);
    assert_eq!(map.held_by(leaving).count(), 0);
    assert_stores_within_bounds(&map);
}

#[test]
fn a_draining_node_hands_its_slots_to_its_neighbours_at_home() {
    let map = cluster_of(256, 2, 4);
    let leaving = NodeId::new(1);
    let map = after(&map, &Change::SetNodeState { node: leaving, state: NodeState::Draining });
    let plan = plan(&map);
    assert_eq!(plan.owner_changes.len(), map.owned_by(leaving).count());
    let to_neighbour = |planned: &PlannedOwnerChange| {
        planned.change.to == NodeId::new(3) && planned.reason == OwnerReason::NodeDraining
    };
    assert!(plan.owner_changes.iter().all(to_neighbour));
    let map = carried_out(&map, &plan);
    after(&map, &Change::RemoveNode { node: leaving });
}

#[test]
fn the_slots_of_a_store_that_is_nobodys_home_go_to_all_nodes() {
    let map = cluster_of(256, 2, 3);
    let map = after(&map, &Change::SetNodeState { node: NodeId::new(2), state: NodeState::Draining });
    let of_store: Vec<_> = map.held_by(StoreId::new(2)).map(|(slot, _)| slot).collect();
    let map = carried_out(&map, &plan(&map));
    let owned_by = |node| of_store.iter().filter(|&&slot| map.slot(slot).owner == Some(NodeId::new(node))).count();
    assert!(owned_by(1).abs_diff(owned_by(3)) <= 1);
    assert_eq!(owned_by(1) + owned_by(3), of_store.len());
}

#[test]
fn a_node_that_joins_gets_its_share_of_its_home_and_no_more() {
    let map = after(&cluster_of(256, 2, 4), &Change::AddNode(new_node(5, 1, 1_000)));
    assert!(plan(&map).is_empty(), "a node that never started gets nothing");
    let map = started(&map, 5, 1);
    let plan = plan(&map);
    let share = map.held_by(StoreId::new(1)).count() / 3;
    assert!((share..=share + 1).contains(&plan.owner_changes.len()));
    assert!(plan.owner_changes.iter().all(|planned| planned.change.to == NodeId::new(5)));
    assert_owners_at_home_and_even(&carried_out(&map, &plan));
}

#[test]
fn a_node_that_moves_home_changes_places() {
    let map = after(&cluster_of(64, 2, 3), &Change::SetNodeHome { node: NodeId::new(3), store: StoreId::new(2) });
    let plan = plan(&map);
    assert!(plan.store_moves.is_empty());
    assert!(plan.owner_changes.iter().any(|planned| planned.reason == OwnerReason::NodeNotAtHome));
    assert_owners_at_home_and_even(&carried_out(&map, &plan));
}

#[test]
fn where_nobody_may_take_anything_nothing_is_planned() {
    let drain_store = |map: ShardMap, id| {
        after(&map, &Change::SetStoreState { store: StoreId::new(id), state: StoreState::Draining })
    };
    let drain_node =
        |map: ShardMap, id| after(&map, &Change::SetNodeState { node: NodeId::new(id), state: NodeState::Draining });
    let map = (1..=2).fold(cluster_of(16, 2, 3), drain_store);
    let map = (1..=3).fold(map, drain_node);
    assert!(plan(&map).is_empty());
}

#[test]
fn a_slot_without_an_owner_gets_one() {
    let mut map = all_started(&small_map());
    map.slots[5].owner = None;
    let plan = plan(&map);
    assert_eq!(plan.owner_changes.len(), 1);
    assert_eq!(plan.owner_changes[0].reason, OwnerReason::NoOwner);
}

#[test]
fn a_slot_that_moves_keeps_its_owner_until_then_unless_that_is_draining() {
    let map =
        after(&cluster_of(64, 2, 2), &Change::SetStoreState { store: StoreId::new(1), state: StoreState::Draining });
    let moving = plan(&map);
    assert!(moving.owner_changes.is_empty());
    assert!(moving.store_moves.iter().all(|to| to.then_owner == Some(NodeId::new(2))));
    let map = after(&map, &Change::SetNodeState { node: NodeId::new(1), state: NodeState::Draining });
    let both = plan(&map);
    assert_eq!(both.store_moves, moving.store_moves);
    assert_eq!(both.owner_changes.len(), moving.store_moves.len());
}

#[test]
fn a_plan_is_printed_for_people() {
    let map = after(&all_started(&small_map()), &Change::AddStore(new_store(3, 10)));
    let mut plan = plan(&map);
    assert!(plan.is_empty(), "a hundredth of a share is no slot");
    plan.store_moves.push(StoreMove {
        slot: Slot::new(3),
        expected_epoch: Epoch::new(2),
        from: StoreId::new(1),
        to: StoreId::new(3),
        then_owner: Some(NodeId::new(2)),
        reason: MoveReason::TargetBelowBound,
    });
    let change = OwnerChange { slot: Slot::new(4), expected_epoch: Epoch::new(2), to: NodeId::new(3) };
    plan.owner_changes.push(PlannedOwnerChange {
        change,
        from: Some(NodeId::new(1)),
        reason: OwnerReason::NodeDraining,
    });
    plan.owner_changes.push(PlannedOwnerChange { change, from: None, reason: OwnerReason::NoOwner });
    let want = "map version 5: 1 to move between stores, 2 to change owner\n  \
                slot 3: store 1 → 3, owner node 2 (store 3 is below its bound)\n  \
                slot 4: owner node 1 → 3 (node 1 is draining)\n  \
                slot 4: owner node 3 (it has none)";
    assert_eq!(plan.to_string(), want);
}

/// A change of who the members are, or how much they should carry.
fn any_membership_change() -> impl Strategy<Value = Change> {
    let weight = || any_weight().prop_map(|weight| weight.try_into().unwrap());
    let node = || (1u32..10).prop_map(NodeId::new);
    let store = || (1u32..8).prop_map(StoreId::new);
    let node_state = prop_oneof![Just(NodeState::Active), Just(NodeState::Draining)];
    let store_state = prop_oneof![Just(StoreState::Active), Just(StoreState::Draining)];
    prop_oneof![
        (1u32..10, 1u32..8, any_weight()).prop_map(|(id, home, weight)| Change::AddNode(new_node(id, home, weight))),
        (1u32..8, any_weight()).prop_map(|(id, weight)| Change::AddStore(new_store(id, weight))),
        (node(), weight()).prop_map(|(node, weight)| Change::SetNodeWeight { node, weight }),
        (store(), weight()).prop_map(|(store, weight)| Change::SetStoreWeight { store, weight }),
        (node(), store()).prop_map(|(node, store)| Change::SetNodeHome { node, store }),
        (node(), node_state).prop_map(|(node, state)| Change::SetNodeState { node, state }),
        (store(), store_state).prop_map(|(store, state)| Change::SetStoreState { store, state }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_new_cluster_of_any_members_is_within_bounds_and_needs_no_plan(genesis in any_genesis()) {
        let map = all_started(&apply(None, &genesis).unwrap());
        assert_stores_within_bounds(&map);
        assert_owners_at_home_and_even(&map);
        prop_assert!(plan(&map).is_empty());
    }

    #[test]
    fn after_any_changes_of_members_one_plan_brings_the_map_within_bounds(
        genesis in any_genesis(),
        changes in prop::collection::vec(any_membership_change(), 1..6),
    ) {
        let mut map = all_started(&apply(None, &genesis).unwrap());
        for change in &changes {
            map = apply(Some(&map), change).unwrap_or(map);
            if let Change::AddNode(node) = change && map.node(node.id).is_some_and(|node| node.incarnation.get() == 0) {
                map = started(&map, node.id.get(), 1);
            }
        }
        let before = plan(&map);
        let map = carried_out(&map, &before);
        let after = plan(&map);
        prop_assert!(after.is_empty(), "{before}\n{after}");
        if map.stores().any(|(_, entry)| entry.state == StoreState::Active) {
            assert_stores_within_bounds(&map);
            let may_hold = |entry: &SlotEntry| map.store(entry.store).unwrap().state == StoreState::Active;
            prop_assert!(map.slots().all(|(_, entry)| may_hold(entry)));
        }
        if map.nodes().any(|(_, entry)| entry.state == NodeState::Active) {
            assert_owners_at_home_and_even(&map);
            let may_own = |node| map.node(node).unwrap().state == NodeState::Active;
            prop_assert!(map.slots().all(|(_, entry)| entry.owner.is_some_and(may_own)));
        }
    }

    #[test]
    fn what_is_planned_is_begun_once_in_parts_or_whole_and_leads_to_balance(
        genesis in any_genesis(),
        changes in prop::collection::vec(any_membership_change(), 1..6),
        slots_max in 1usize..40,
        at_once in 1usize..=crate::MAX_MOVES,
        is_aborted in any::<bool>(),
    ) {
        let map = all_started(&apply(None, &genesis).unwrap());
        let map = changes.iter().fold(map, |map, change| apply(Some(&map), change).unwrap_or(map));
        let map = plan(&map).reassign().map_or(map.clone(), |reassign| after(&map, &reassign));
        let planned = plan(&map);
        let begin = |map, new| begun(&map, new).0;
        let under_way = planned.new_moves(slots_max).into_iter().take(at_once).fold(map.clone(), begin);
        let left = plan(&under_way).store_moves;
        let slots_under_way: usize = under_way.moves().map(|(_, entry)| entry.slots.len()).sum();
        prop_assert_eq!(left.len() + slots_under_way, planned.store_moves.len());
        prop_assert!(!left.iter().any(|moving| under_way.move_of(moving.slot).is_some()));

        let ids: Vec<MoveId> = under_way.moves().map(|(id, _)| id).collect();
        let end = |map, id| after(&map, &Change::EndMove { id });
        if is_aborted {
            let abort = |map, &id| after(&map, &Change::AbortMove { id, reason: AbortReason::Stalled });
            let aborted = ids.iter().fold(under_way, abort);
            prop_assert!(!plan(&aborted).store_moves.iter().any(|moving| aborted.move_of(moving.slot).is_some()));
            // As it was: what was planned then is planned again.
            let ended = ids.into_iter().fold(aborted, end);
            prop_assert_eq!(plan(&ended).store_moves, planned.store_moves);
        } else {
            let there = ids.iter().fold(under_way, |map, &id| flipped(&map, id));
            let hand_overs = plan(&there);
            prop_assert_eq!(hand_overs.store_moves.len(), left.len(), "{}", hand_overs);
            let ended = ids.into_iter().fold(there, end);
            prop_assert_eq!(&plan(&ended).owner_changes, &hand_overs.owner_changes);
            let balanced = hand_overs.reassign().map_or(ended.clone(), |reassign| after(&ended, &reassign));
            prop_assert!(!left.is_empty() || plan(&balanced).is_empty());
        }
    }
}

/// A map whose store 1 is draining, with four of its slots in a move to store 2.
fn partly_moving() -> (ShardMap, MoveId, Vec<Slot>) {
    let drain = Change::SetStoreState { store: StoreId::new(1), state: StoreState::Draining };
    let map = after(&cluster_of(64, 3, 3), &drain);
    let slots: Vec<Slot> = map.held_by(StoreId::new(1)).map(|(slot, _)| slot).take(4).collect();
    let (map, id) = begun(&map, new_move(&map, 1, 2, slots.iter().copied()));
    (map, id, slots)
}

#[test]
fn slots_that_are_moving_are_not_planned_for_and_keep_their_owners_until_they_are_there() {
    let (map, id, slots) = partly_moving();
    for map in [map.clone(), after(&map, &Change::SealMove { id })] {
        let plan = plan(&map);
        assert_eq!(plan.store_moves.len(), map.held_by(StoreId::new(1)).count() - 4);
        assert!(!plan.store_moves.iter().any(|store_move| slots.contains(&store_move.slot)));
        assert!(plan.owner_changes.is_empty());
    }
    let there = plan(&flipped(&map, id));
    let handed_over: Vec<_> =
        there.owner_changes.iter().map(|planned| (planned.change.slot, planned.change.to)).collect();
    assert_eq!(handed_over, slots.iter().map(|&slot| (slot, NodeId::new(2))).collect::<Vec<_>>());
}

#[test]
fn slots_whose_move_was_aborted_are_planned_for_again_once_it_is_ended() {
    let (map, id, slots) = partly_moving();
    let aborted = after(&map, &Change::AbortMove { id, reason: AbortReason::Operator });
    assert!(!plan(&aborted).store_moves.iter().any(|store_move| slots.contains(&store_move.slot)));
    let ended = plan(&after(&aborted, &Change::EndMove { id }));
    assert!(slots.iter().all(|slot| ended.store_moves.iter().any(|store_move| store_move.slot == *slot)));
}

#[test]
fn slots_that_move_are_taken_over_and_leave_a_draining_owner_as_all_do() {
    let (map, id, _) = partly_moving();
    let map = after(&map, &Change::SealMove { id });
    let owned: Vec<Slot> = map.owned_by(NodeId::new(1)).map(|(slot, _)| slot).collect();
    let slots_of = |plan: Plan| plan.owner_changes.iter().map(|planned| planned.change.slot).collect::<Vec<_>>();
    assert_eq!(slots_of(take_over(&map, &absent(&[1]))), owned);
    let map = after(&map, &Change::SetNodeState { node: NodeId::new(1), state: NodeState::Draining });
    assert_eq!(slots_of(plan(&map)), owned);
}

#[test]
fn moves_are_of_one_source_one_target_and_so_many_slots() {
    let map =
        after(&cluster_of(256, 3, 3), &Change::SetStoreState { store: StoreId::new(1), state: StoreState::Draining });
    let plan = plan(&map);
    let moves = plan.new_moves(20);
    assert!(moves.iter().all(|new| new.source == StoreId::new(1) && (1..=20).contains(&new.slots.len())));
    for target in [2, 3].map(StoreId::new) {
        let planned = plan.store_moves.iter().filter(|store_move| store_move.to == target);
        let planned: Vec<_> = planned.map(|it| (it.slot, it.expected_epoch)).collect();
        let of_target = || moves.iter().filter(|new| new.target == target);
        let moving: Vec<_> = of_target().flat_map(|new| &new.slots).map(|it| (it.slot, it.expected_epoch)).collect();
        assert_eq!(moving, planned);
        assert_eq!(of_target().count(), planned.len().div_ceil(20));
    }
    assert_eq!(plan.new_moves(0).len(), plan.store_moves.len());
    assert_eq!(plan.new_moves(usize::MAX).len(), 2);
}

fn absent(ids: &[u32]) -> BTreeSet<NodeId> {
    ids.iter().map(|id| NodeId::new(*id)).collect()
}

/// Two of four nodes are at home in each store.
#[test]
fn the_slots_of_an_absent_node_go_to_those_at_home_there_and_no_others_move() {
    let map = cluster_of(256, 2, 4);
    let planned = take_over(&map, &absent(&[1]));
    assert_eq!(planned.owner_changes.len(), map.owned_by(NodeId::new(1)).count());
    assert!(planned.store_moves.is_empty());
    for change in &planned.owner_changes {
        assert_eq!((change.from, change.change.to), (Some(NodeId::new(1)), NodeId::new(3)), "{planned}");
        assert_eq!(change.reason, OwnerReason::NodeAbsent);
    }
    let after = after(&map, &planned.reassign().unwrap());
    assert!(take_over(&after, &absent(&[1])).is_empty(), "nothing is left to take over");
    assert!(!plan(&after).is_empty(), "when it is back, it gets its share back");
}

#[test]
fn where_nobody_at_home_is_left_all_others_share() {
    let map = cluster_of(256, 2, 4);
    let planned = take_over(&map, &absent(&[1, 3]));
    let after = after(&map, &planned.reassign().unwrap());
    for id in [2, 4] {
        let from_store_1 =
            after.held_by(StoreId::new(1)).filter(|(_, slot)| slot.owner == Some(NodeId::new(id))).count();
        assert!(from_store_1 >= 60, "node {id} took {from_store_1} slots");
    }
}

#[test]
fn there_is_no_take_over_without_absent_owners_or_without_heirs() {
    let map = cluster_of(64, 2, 3);
    assert!(take_over(&map, &absent(&[])).is_empty());
    assert!(take_over(&map, &absent(&[9])).is_empty());
    assert!(take_over(&map, &absent(&[1, 2, 3])).is_empty());
}
