use super::*;
use crate::{
    Weight,
    fixtures::{after, all_started, cluster, genesis, new_node, new_store, small_map, started},
};

const NODE: NodeId = NodeId::new(1);
const STORE: StoreId = StoreId::new(1);
const UNKNOWN_NODE: NodeId = NodeId::new(9);
const UNKNOWN_STORE: StoreId = StoreId::new(9);

/// Asserts that the change is refused as wanted.
#[track_caller]
fn refused(map: &ShardMap, change: &Change, want: ChangeRefused) {
    assert_eq!(apply(Some(map), change).unwrap_err(), want);
}

#[track_caller]
fn genesis_refused(stores: &[NewStore], nodes: &[NewNode], want: ChangeRefused) {
    assert_eq!(apply(None, &genesis(16, stores, nodes)).unwrap_err(), want);
}

pub(super) fn node_started(node: NodeId, incarnation: u64, address: &str) -> Change {
    Change::NodeStarted { node, incarnation: Incarnation::new(incarnation), address: address.to_owned() }
}

fn draining(node: u32) -> Change {
    Change::SetNodeState { node: NodeId::new(node), state: NodeState::Draining }
}

/// Everything that `from` owns goes to `to`.
pub(super) fn hand_over(map: &ShardMap, from: u32, to: u32) -> Change {
    let change =
        |(slot, entry): (Slot, &SlotEntry)| OwnerChange { slot, expected_epoch: entry.epoch, to: NodeId::new(to) };
    Change::Reassign { slots: map.owned_by(NodeId::new(from)).map(change).collect() }
}

/// A hand-over of one slot of node 1 to node 2.
fn one_hand_over(map: &ShardMap) -> OwnerChange {
    let (slot, entry) = map.owned_by(NODE).next().unwrap();
    OwnerChange { slot, expected_epoch: entry.epoch, to: NodeId::new(2) }
}

fn reassign(slots: &[OwnerChange]) -> Change {
    Change::Reassign { slots: slots.to_vec() }
}

#[test]
fn genesis_places_every_slot_at_epoch_one() {
    let map = small_map();
    assert_eq!((map.cluster(), map.version()), (cluster(), MapVersion::new(1)));
    assert!(map.slots().all(|(_, entry)| entry.owner.is_some() && entry.epoch == Epoch::new(1)));
    assert!(map.nodes().all(|(_, entry)| entry.incarnation == Incarnation::ZERO && entry.state == NodeState::Active));
    assert!(map.stores().all(|(_, entry)| entry.state == StoreState::Active));
    assert_eq!(map.check(), Ok(()));
}

#[test]
fn nothing_but_genesis_applies_to_no_map() {
    let change = Change::RemoveNode { node: NODE };
    assert_eq!(apply(None, &change), Err(ChangeRefused::NotInitialised));
}

#[test]
fn a_second_genesis_is_refused() {
    let again = genesis(16, &[new_store(1, 1_000)], &[new_node(1, 1, 1_000)]);
    refused(&small_map(), &again, ChangeRefused::AlreadyInitialised(cluster()));
}

#[test]
fn a_genesis_without_stores_or_nodes_is_refused() {
    genesis_refused(&[], &[], ChangeRefused::NoStores);
    genesis_refused(&[new_store(1, 1_000)], &[], ChangeRefused::NoNodes);
}

#[test]
fn a_genesis_obeys_the_rules_of_joining() {
    let (store, node) = (new_store(1, 1_000), new_node(1, 1, 1_000));
    let twice = [store.clone(), store.clone()];
    genesis_refused(&twice, std::slice::from_ref(&node), ChangeRefused::StoreExists(STORE));
    genesis_refused(&[store], &[node.clone(), node], ChangeRefused::NodeExists(NODE));
}

#[test]
fn a_genesis_beyond_the_limits_is_refused() {
    let stores: Vec<_> = (1..=257).map(|id| new_store(id, 10)).collect();
    let nodes: Vec<_> = (1..=257).map(|id| new_node(id, 1, 10)).collect();
    genesis_refused(&stores, &nodes[..1], ChangeRefused::TooManyStores);
    genesis_refused(&stores[..1], &nodes, ChangeRefused::TooManyNodes);
}

#[test]
fn a_start_registers_the_node_and_bumps_the_epochs_of_its_slots_alone() {
    let before = small_map();
    let map = after(&before, &node_started(NODE, 7, "10.9.9.9:1"));
    let entry = map.node(NODE).unwrap();
    assert_eq!((entry.incarnation, entry.address.as_str()), (Incarnation::new(7), "10.9.9.9:1"));
    for ((_, was), (_, is)) in before.slots().zip(map.slots()) {
        let grown = u64::from(was.owner == Some(NODE));
        assert_eq!((is.owner, is.store, is.epoch.get()), (was.owner, was.store, was.epoch.get() + grown));
    }
    assert!(map.owned_by(NODE).count() > 0);
}

#[test]
fn a_start_with_an_old_incarnation_is_refused() {
    let map = started(&small_map(), 1, 7);
    for stale in [0, 6, 7] {
        let known = Incarnation::new(7);
        refused(&map, &node_started(NODE, stale, "h:1"), ChangeRefused::StaleIncarnation { node: NODE, known });
    }
}

#[test]
fn a_start_that_is_out_of_range_unknown_or_nowhere_is_refused() {
    let map = small_map();
    let out_of_range = ChangeRefused::IncarnationOutOfRange(Incarnation::new(u64::MAX));
    refused(&map, &node_started(NODE, u64::MAX, "h:1"), out_of_range);
    refused(&map, &node_started(UNKNOWN_NODE, 1, "h:1"), ChangeRefused::UnknownNode(UNKNOWN_NODE));
    refused(&map, &node_started(NODE, 1, "h"), ChangeRefused::BadAddress(NODE));
}

#[test]
fn a_start_at_the_address_of_another_node_is_allowed() {
    let map = small_map();
    let address = map.node(NodeId::new(2)).unwrap().address.clone();
    assert_eq!(after(&map, &node_started(NODE, 1, &address)).check(), Ok(()));
}

#[test]
fn a_node_joins_with_nothing() {
    let map = after(&small_map(), &Change::AddNode(new_node(4, 2, 2_000)));
    let entry = map.node(NodeId::new(4)).unwrap();
    assert_eq!((entry.incarnation, entry.home_store), (Incarnation::ZERO, StoreId::new(2)));
    assert_eq!(map.owned_by(NodeId::new(4)).count(), 0);
}

#[test]
fn a_node_that_may_not_join_is_refused() {
    let map = small_map();
    let add = |change: fn(&mut NewNode)| {
        let mut node = new_node(9, 1, 1_000);
        change(&mut node);
        Change::AddNode(node)
    };
    refused(&map, &add(|node| node.id = NODE), ChangeRefused::NodeExists(NODE));
    refused(&map, &add(|node| node.home_store = StoreId::new(9)), ChangeRefused::UnknownStore(UNKNOWN_STORE));
    refused(&map, &add(|node| node.address.push('x')), ChangeRefused::BadAddress(UNKNOWN_NODE));
    refused(&map, &add(|node| node.address = "10.0.0.1:7001".to_owned()), ChangeRefused::AddressTaken(NODE));
}

#[test]
fn the_257th_node_and_store_are_refused() {
    let map = (4..=256).fold(small_map(), |map, id| after(&map, &Change::AddNode(new_node(id, 1, 1_000))));
    refused(&map, &Change::AddNode(new_node(257, 1, 1_000)), ChangeRefused::TooManyNodes);
    let map = (3..=256).fold(map, |map, id| after(&map, &Change::AddStore(new_store(id, 1_000))));
    refused(&map, &Change::AddStore(new_store(257, 1_000)), ChangeRefused::TooManyStores);
}

#[test]
fn a_node_that_owns_nothing_is_removed_and_its_id_never_comes_back() {
    let map = small_map();
    let map = after(&map, &hand_over(&map, 1, 2));
    let map = after(&map, &Change::RemoveNode { node: NODE });
    assert_eq!(map.node(NODE), None);
    refused(&map, &Change::AddNode(new_node(1, 1, 1_000)), ChangeRefused::NodeRetired(NODE));
}

#[test]
fn a_node_that_owns_slots_is_unknown_or_the_last_is_not_removed() {
    let map = small_map();
    let slots = map.owned_by(NODE).count() as u32;
    refused(&map, &Change::RemoveNode { node: NODE }, ChangeRefused::NodeOwnsSlots { node: NODE, slots });
    refused(&map, &Change::RemoveNode { node: UNKNOWN_NODE }, ChangeRefused::UnknownNode(UNKNOWN_NODE));

    let mut alone = small_map();
    alone.nodes.retain(|&id, _| id == NODE);
    alone.slots.iter_mut().for_each(|slot| slot.owner = None);
    refused(&alone, &Change::RemoveNode { node: NODE }, ChangeRefused::LastNode(NODE));
}

#[test]
fn no_more_ids_are_retired_than_the_map_remembers() {
    let mut map = after(&small_map(), &Change::AddNode(new_node(9, 1, 1_000)));
    map = after(&map, &Change::AddStore(new_store(9, 1_000)));
    map.retired_nodes.extend((1_000..5_096).map(NodeId::new));
    map.retired_stores.extend((1_000..5_096).map(StoreId::new));
    assert_eq!(map.check(), Ok(()));
    refused(&map, &Change::RemoveNode { node: UNKNOWN_NODE }, ChangeRefused::TooManyRetired);
    refused(&map, &Change::RemoveStore { store: UNKNOWN_STORE }, ChangeRefused::TooManyRetired);
}

#[test]
fn a_store_joins_with_nothing_and_is_removed_for_ever() {
    let map = after(&small_map(), &Change::AddStore(new_store(9, 500)));
    assert_eq!(map.held_by(UNKNOWN_STORE).count(), 0);
    let map = after(&map, &Change::RemoveStore { store: UNKNOWN_STORE });
    assert_eq!(map.store(UNKNOWN_STORE), None);
    refused(&map, &Change::AddStore(new_store(9, 500)), ChangeRefused::StoreRetired(UNKNOWN_STORE));
}

#[test]
fn a_store_that_may_not_join_is_refused() {
    let map = small_map();
    refused(&map, &Change::AddStore(new_store(1, 1_000)), ChangeRefused::StoreExists(STORE));
    let unnamed = NewStore { name: String::new(), ..new_store(9, 1_000) };
    refused(&map, &Change::AddStore(unnamed), ChangeRefused::BadStoreName(UNKNOWN_STORE));
    let namesake = NewStore { name: "store-1".to_owned(), ..new_store(9, 1_000) };
    refused(&map, &Change::AddStore(namesake), ChangeRefused::StoreNameTaken(STORE));
}

#[test]
fn a_store_that_is_in_use_or_unknown_is_not_removed() {
    let map = small_map();
    let slots = map.held_by(STORE).count() as u32;
    refused(&map, &Change::RemoveStore { store: STORE }, ChangeRefused::StoreHoldsSlots { store: STORE, slots });
    refused(&map, &Change::RemoveStore { store: UNKNOWN_STORE }, ChangeRefused::UnknownStore(UNKNOWN_STORE));
    let map = after(&map, &Change::AddStore(new_store(9, 1_000)));
    let map = after(&map, &Change::SetNodeHome { node: NODE, store: UNKNOWN_STORE });
    let is_home = ChangeRefused::StoreIsHome { store: UNKNOWN_STORE, node: NODE };
    refused(&map, &Change::RemoveStore { store: UNKNOWN_STORE }, is_home);
}

#[test]
fn settings_of_members_are_set() {
    let weight = Weight::try_from(2_500).unwrap();
    let changes = [
        Change::SetNodeWeight { node: NODE, weight },
        Change::SetNodeHome { node: NODE, store: StoreId::new(2) },
        draining(1),
        Change::SetStoreWeight { store: STORE, weight },
        Change::SetStoreState { store: STORE, state: StoreState::Draining },
    ];
    let map = changes.iter().fold(small_map(), |map, change| after(&map, change));
    let (node, store) = (map.node(NODE).unwrap(), map.store(STORE).unwrap());
    assert_eq!((node.weight, node.home_store, node.state), (weight, StoreId::new(2), NodeState::Draining));
    assert_eq!((store.weight, store.state), (weight, StoreState::Draining));
    // Settings move nothing by themselves.
    assert_eq!(map.slots, small_map().slots);
    for change in changes {
        refused(&map, &change, ChangeRefused::Unchanged);
    }
}

#[test]
fn settings_of_unknown_members_are_refused() {
    let map = small_map();
    let (node, store, weight) = (UNKNOWN_NODE, UNKNOWN_STORE, Weight::ONE);
    let (no_node, no_store) = (ChangeRefused::UnknownNode(node), ChangeRefused::UnknownStore(store));
    refused(&map, &Change::SetNodeWeight { node, weight }, no_node.clone());
    refused(&map, &Change::SetNodeHome { node, store: STORE }, no_node.clone());
    refused(&map, &Change::SetNodeHome { node: NODE, store }, no_store.clone());
    refused(&map, &draining(9), no_node);
    refused(&map, &Change::SetStoreWeight { store, weight }, no_store.clone());
    refused(&map, &Change::SetStoreState { store, state: StoreState::Draining }, no_store);
}

#[test]
fn a_hand_over_gives_the_slots_to_the_new_owner_at_the_next_epoch() {
    let before = all_started(&small_map());
    let map = after(&before, &hand_over(&before, 1, 2));
    for ((_, was), (_, is)) in before.slots().zip(map.slots()) {
        let handed_over = was.owner == Some(NODE);
        assert_eq!(is.epoch.get(), was.epoch.get() + u64::from(handed_over));
        assert_eq!(is.owner, if handed_over { Some(NodeId::new(2)) } else { was.owner });
        assert_eq!(is.store, was.store);
    }
}

#[test]
fn a_hand_over_to_a_node_that_may_not_own_is_refused() {
    let map = small_map();
    let one = one_hand_over(&map);
    let unknown = OwnerChange { to: UNKNOWN_NODE, ..one };
    refused(&map, &reassign(&[unknown]), ChangeRefused::UnknownNode(UNKNOWN_NODE));
    let itself = OwnerChange { to: NODE, ..one };
    refused(&map, &reassign(&[itself]), ChangeRefused::AlreadyOwner { slot: one.slot, node: NODE });
    let map = after(&map, &draining(2));
    refused(&map, &reassign(&[one]), ChangeRefused::NodeDraining(one.to));
}

#[test]
fn a_hand_over_decided_on_an_old_epoch_is_refused() {
    let map = small_map();
    let one = one_hand_over(&map);
    let map = started(&map, 1, 1);
    let current = Epoch::new(2);
    refused(&map, &reassign(&[one]), ChangeRefused::EpochMismatch { slot: one.slot, current });
    let future = OwnerChange { expected_epoch: Epoch::new(3), ..one };
    refused(&map, &reassign(&[future]), ChangeRefused::EpochMismatch { slot: one.slot, current });
}

#[test]
fn a_hand_over_of_nothing_of_an_unknown_slot_or_twice_is_refused() {
    let map = small_map();
    let one = one_hand_over(&map);
    refused(&map, &reassign(&[]), ChangeRefused::Unchanged);
    let beyond = OwnerChange { slot: Slot::new(16), ..one };
    refused(&map, &reassign(&[one, beyond]), ChangeRefused::UnknownSlot(beyond.slot));
    refused(&map, &reassign(&[one, one]), ChangeRefused::SlotTwice(one.slot));
}

#[test]
fn refusals_survive_the_wire() {
    let refusal = ChangeRefused::EpochMismatch { slot: Slot::new(3), current: Epoch::new(2) };
    let bytes = rmp_serde::to_vec(&refusal).unwrap();
    assert_eq!(rmp_serde::from_slice::<ChangeRefused>(&bytes).unwrap(), refusal);
    assert_eq!(refusal.to_string(), "slot 3 is at epoch 2");
}
