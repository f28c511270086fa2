use proptest::prelude::*;

use super::*;
use crate::{
    Change,
    fixtures::{after, any_genesis, begun, genesis, new_move, new_node, new_store, small_map, started},
};

#[test]
fn accessors_agree_with_each_other() {
    let map = started(&small_map(), 2, 5);
    assert_eq!(map.slots().len(), 16);
    for (slot, entry) in map.slots() {
        assert_eq!((map.slot(slot), map.get(slot)), (entry, Some(entry)));
        let owner = map.owner(slot).unwrap();
        assert_eq!((Some(owner.node), owner.epoch, owner.store), (entry.owner, entry.epoch, entry.store));
        assert_eq!(owner.incarnation, map.node(owner.node).unwrap().incarnation);
        assert!(map.owned_by(owner.node).any(|(owned, _)| owned == slot));
        assert!(map.held_by(owner.store).any(|(held, _)| held == slot));
    }
    let owned: usize = map.nodes().map(|(node, _)| map.owned_by(node).count()).sum();
    let held: usize = map.stores().map(|(store, _)| map.held_by(store).count()).sum();
    assert_eq!((owned, held), (16, 16));
}

#[test]
fn a_slot_beyond_the_count_has_no_entry_and_no_owner() {
    let map = small_map();
    assert_eq!(map.get(Slot::new(16)), None);
    assert_eq!(map.owner(Slot::new(u16::MAX)), None);
}

#[test]
fn addresses_are_host_and_port() {
    for good in ["127.0.0.1:7101", "node-1.tertulia.internal:1", "[::1]:65535", "a_b:80"] {
        assert!(is_address(good), "{good}");
    }
    let long = format!("{}:1", "a".repeat(MAX_ADDRESS_BYTES));
    for bad in [
        "",
        ":",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:+1",
        "::1:80",
        "[::1:80",
        "[x]:80",
        "ho st:1",
        &long,
    ] {
        assert!(!is_address(bad), "{bad}");
    }
}

#[test]
fn store_names_are_short_and_plain() {
    assert!(is_store_name("a") && is_store_name("store_2-b") && is_store_name(&"a".repeat(64)));
    for bad in ["", "A", "a b", "é", "a.b", &"a".repeat(65)] {
        assert!(!is_store_name(bad), "{bad}");
    }
}

/// Each way to break the map, and what `check` says of it.
#[test]
fn check_names_each_broken_invariant() {
    type Break = fn(&mut ShardMap);
    let (one, two, nine) = (StoreId::new(1), StoreId::new(2), StoreId::new(9));
    let (node, gone, slot) = (NodeId::new(1), NodeId::new(9), Slot::new(3));
    let cases: [(Break, UnsoundMap); 20] = [
        (|map| map.version = MapVersion::ZERO, UnsoundMap::Version(MapVersion::ZERO)),
        (|map| map.slots.truncate(15), UnsoundMap::SlotsListed { len: 15, slot_count: small_map().slot_count }),
        (|map| map.stores.clear(), UnsoundMap::Stores(0)),
        (
            |map| {
                let entry = map.stores[&StoreId::new(1)].clone();
                let copy = |id| (StoreId::new(id), StoreEntry { name: id.to_string(), ..entry.clone() });
                map.stores.extend((100..355).map(copy));
            },
            UnsoundMap::Stores(257),
        ),
        (|map| map.nodes.clear(), UnsoundMap::Nodes(0)),
        (
            |map| {
                let entry = map.nodes[&NodeId::new(1)].clone();
                map.nodes.extend((100..354).map(|id| (NodeId::new(id), entry.clone())));
            },
            UnsoundMap::Nodes(257),
        ),
        (|map| map.retired_stores.extend((100..4_197).map(StoreId::new)), UnsoundMap::Retired),
        (|map| map.retired_nodes.extend((100..4_197).map(NodeId::new)), UnsoundMap::Retired),
        (|map| store(map, 1).name.push('!'), UnsoundMap::StoreName(one)),
        (|map| store(map, 2).name = "store-1".to_owned(), UnsoundMap::StoreNameTwice(one, two)),
        (|map| map.retired_stores.extend([StoreId::new(2)]), UnsoundMap::StoreRetired(two)),
        (|map| node_1(map).address = "nowhere".to_owned(), UnsoundMap::NodeAddress(node)),
        (|map| map.retired_nodes.extend([NodeId::new(1)]), UnsoundMap::NodeRetired(node)),
        (|map| node_1(map).incarnation = Incarnation::new(u64::MAX), UnsoundMap::NodeIncarnation(node)),
        (|map| node_1(map).home_store = StoreId::new(9), UnsoundMap::HomeStore { node, store: nine }),
        (|map| map.slots[3].store = StoreId::new(9), UnsoundMap::SlotStore { slot, store: nine }),
        (|map| map.slots[3].owner = Some(NodeId::new(9)), UnsoundMap::SlotOwner { slot, node: gone }),
        (|map| map.slots[3].epoch = Epoch::ZERO, UnsoundMap::SlotEpoch { slot, epoch: Epoch::ZERO }),
        (|map| map.slots[3].epoch = Epoch::new(u64::MAX), UnsoundMap::SlotEpoch { slot, epoch: Epoch::new(u64::MAX) }),
        (|map| map.version = MapVersion::new(u64::MAX), UnsoundMap::Version(MapVersion::new(u64::MAX))),
    ];
    assert_eq!(small_map().check(), Ok(()));
    for (break_it, want) in cases {
        let mut map = small_map();
        break_it(&mut map);
        assert_eq!(map.check(), Err(want.clone()));
        // What is not sound does not decode either.
        let encoded = serde_json::to_string(&map).unwrap();
        let error = serde_json::from_str::<ShardMap>(&encoded).unwrap_err().to_string();
        assert!(error.contains(&want.to_string()), "{error}");
    }
}

fn store(map: &mut ShardMap, id: u32) -> &mut StoreEntry {
    map.stores.get_mut(&StoreId::new(id)).unwrap()
}

fn node_1(map: &mut ShardMap) -> &mut NodeEntry {
    map.nodes.get_mut(&NodeId::new(1)).unwrap()
}

#[test]
fn a_slot_without_an_owner_is_sound() {
    let mut map = small_map();
    map.slots[3] = SlotEntry { owner: None, epoch: Epoch::ZERO, ..map.slots[3] };
    assert_eq!(map.check(), Ok(()));
    assert_eq!(map.owner(Slot::new(3)), None);
}

/// One slot, in store 1; store 2 is empty.
fn smallest_map() -> ShardMap {
    let genesis = genesis(1, &[new_store(1, 1_000)], &[new_node(1, 1, 1_000)]);
    after(&crate::apply(None, &genesis).unwrap(), &Change::AddStore(new_store(2, 1_000)))
}

const CLUSTER: &[u8] = b"\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\x01\x92\x5e\x7b";
const MEMBERS: &[u8] = b"\x82\x01\x93\xa7store-1\xcd\x03\xe8\xa6Active\x02\x93\xa7store-2\xcd\x03\xe8\xa6Active\
    \x81\x01\x95\xad10.0.0.1:7001\0\xcd\x03\xe8\x01\xa6Active";

#[track_caller]
fn is_sent_as(map: &ShardMap, golden: &[&[u8]]) {
    let golden = golden.concat();
    let encoded = rmp_serde::to_vec(map).unwrap();
    assert_eq!(encoded.escape_ascii().to_string(), golden.escape_ascii().to_string());
    assert_eq!(rmp_serde::from_slice::<ShardMap>(&golden).unwrap(), *map);
}

/// By processes that have never heard of moves, too.
#[test]
fn a_map_without_moves_is_sent_like_this() {
    is_sent_as(&smallest_map(), &[b"\x98", CLUSTER, b"\x02\x01", MEMBERS, b"\x91\x93\x01\x01\x01\x90\x90"]);
}

#[test]
fn a_map_with_a_move_is_sent_like_this() {
    let map = smallest_map();
    let (map, id) = begun(&map, new_move(&map, 1, 2, [Slot::new(0)]));
    let before_the_move = |version| [b"\x99", CLUSTER, version, MEMBERS].concat();
    is_sent_as(
        &map,
        &[&before_the_move(b"\x03\x01"), b"\x91\x93\x01\x01\x01\x90\x90", b"\x81\x03\x94\x01\x02\x91\0\xa7Copying"],
    );
    let map = after(&map, &Change::SealMove { id });
    is_sent_as(
        &map,
        &[&before_the_move(b"\x04\x01"), b"\x91\x94\x01\x01\x02\x03\x90\x90", b"\x81\x03\x94\x01\x02\x91\0\xa6Sealed"],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_map_survives_json_and_both_forms_of_messagepack(genesis in any_genesis()) {
        let map = crate::apply(None, &genesis).unwrap();
        let json = serde_json::to_vec(&map).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<ShardMap>(&json).unwrap(), &map);
        let array = rmp_serde::to_vec(&map).unwrap();
        prop_assert_eq!(&rmp_serde::from_slice::<ShardMap>(&array).unwrap(), &map);
        let named = rmp_serde::to_vec_named(&map).unwrap();
        prop_assert_eq!(&rmp_serde::from_slice::<ShardMap>(&named).unwrap(), &map);
    }
}
