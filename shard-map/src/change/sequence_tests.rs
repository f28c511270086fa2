//! Any sequence of changes, valid or not.

use std::collections::HashMap;

use proptest::{prelude::*, sample::Index};

use super::{
    tests::{hand_over, node_started},
    *,
};
use crate::{
    MovingSlot,
    fixtures::{any_genesis, any_weight, new_move, new_node, new_store, small_map},
};

fn any_reason() -> impl Strategy<Value = AbortReason> {
    prop_oneof![
        Just(AbortReason::Operator),
        Just(AbortReason::TimelineChanged),
        Just(AbortReason::Stalled),
        Just(AbortReason::VerificationFailed),
        Just(AbortReason::StoreUnavailable),
    ]
}

/// A change of a move that has begun.
fn any_change_of(id: impl Strategy<Value = MoveId>) -> impl Strategy<Value = Change> {
    (id, 0..4, any_reason()).prop_map(|(id, kind, reason)| match kind {
        0 => Change::SealMove { id },
        1 => Change::FlipMove { id },
        2 => Change::AbortMove { id, reason },
        _ => Change::EndMove { id },
    })
}

/// Any change over a few ids, so that about as many are refused as are applied. Epochs are guessed low.
fn any_change() -> impl Strategy<Value = Change> {
    let node = || (1u32..6).prop_map(NodeId::new);
    let store = || (1u32..5).prop_map(StoreId::new);
    let weight = || any_weight().prop_map(|weight| Weight::try_from(weight).unwrap());
    let address = prop_oneof![4 => Just("10.1.1.1:1"), 1 => Just("nowhere")];
    let node_state = prop_oneof![2 => Just(NodeState::Active), 1 => Just(NodeState::Draining)];
    let store_state = prop_oneof![Just(StoreState::Active), Just(StoreState::Draining)];
    let at_epoch = || (0u16..17, 1u64..4).prop_map(|(slot, epoch)| (Slot::new(slot), Epoch::new(epoch)));
    let owner_change =
        (at_epoch(), node()).prop_map(|((slot, expected_epoch), to)| OwnerChange { slot, expected_epoch, to });
    let moving = at_epoch().prop_map(|(slot, expected_epoch)| MovingSlot { slot, expected_epoch });
    let begin_move = (store(), store(), prop::collection::vec(moving, 0..3));
    prop_oneof![
        1 => any_genesis(),
        4 => (node(), 0u64..9, address).prop_map(|(node, incarnation, address)| node_started(node, incarnation, address)),
        3 => (1u32..6, 1u32..5, any_weight()).prop_map(|(id, home, weight)| Change::AddNode(new_node(id, home, weight))),
        3 => node().prop_map(|node| Change::RemoveNode { node }),
        3 => (1u32..5, any_weight()).prop_map(|(id, weight)| Change::AddStore(new_store(id, weight))),
        3 => store().prop_map(|store| Change::RemoveStore { store }),
        1 => (node(), weight()).prop_map(|(node, weight)| Change::SetNodeWeight { node, weight }),
        3 => (node(), store()).prop_map(|(node, store)| Change::SetNodeHome { node, store }),
        3 => (node(), node_state).prop_map(|(node, state)| Change::SetNodeState { node, state }),
        1 => (store(), weight()).prop_map(|(store, weight)| Change::SetStoreWeight { store, weight }),
        1 => (store(), store_state).prop_map(|(store, state)| Change::SetStoreState { store, state }),
        6 => prop::collection::vec(owner_change, 0..4).prop_map(|slots| Change::Reassign { slots }),
        3 => begin_move.prop_map(|(source, target, slots)| Change::BeginMove(NewMove { source, target, slots })),
        3 => any_change_of((0u64..40).prop_map(MoveId::new)),
    ]
}

/// A random change, or one that the map itself suggests, and so is never stale.
#[derive(Debug, Clone)]
enum Step {
    Random(Change),
    /// Of all that a node has.
    HandOver {
        from: u32,
        to: u32,
    },
    PlannedOwners,
    PlannedMove,
    /// Of some of what a store has.
    Begin {
        source: u32,
        target: u32,
        every: usize,
    },
    /// Of one of the moves that are not ended.
    OfMove {
        which: Index,
        change: Change,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let of_move = (any::<Index>(), any_change_of(Just(MoveId::new(0))));
    prop_oneof![
        10 => any_change().prop_map(Step::Random),
        2 => (1u32..6, 1u32..6).prop_map(|(from, to)| Step::HandOver { from, to }),
        1 => Just(Step::PlannedOwners),
        1 => Just(Step::PlannedMove),
        5 => (1u32..4, 1u32..4, 1usize..6).prop_map(|(source, target, every)| Step::Begin { source, target, every }),
        10 => of_move.prop_map(|(which, change)| Step::OfMove { which, change }),
    ]
}

fn change_of(step: Step, map: &ShardMap) -> Change {
    match step {
        Step::Random(change) => change,
        Step::HandOver { from, to } => hand_over(map, from, to),
        Step::PlannedOwners => plan::plan(map).reassign().unwrap_or(Change::Reassign { slots: Vec::new() }),
        Step::PlannedMove => match plan::plan(map).new_moves(3).pop() {
            Some(new) => Change::BeginMove(new),
            None => Change::BeginMove(new_move(map, 1, 2, [])),
        },
        Step::Begin { source, target, every } => {
            let slots = map.held_by(StoreId::new(source)).map(|(slot, _)| slot).step_by(every);
            Change::BeginMove(new_move(map, source, target, slots))
        }
        Step::OfMove { which, change } => {
            let ids: Vec<MoveId> = map.moves().map(|(id, _)| id).collect();
            let id = if ids.is_empty() { MoveId::new(1) } else { *which.get(&ids) };
            match change {
                Change::SealMove { .. } => Change::SealMove { id },
                Change::FlipMove { .. } => Change::FlipMove { id },
                Change::AbortMove { reason, .. } => Change::AbortMove { id, reason },
                _ => Change::EndMove { id },
            }
        }
    }
}

/// All that writers of a slot go by, but its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meaning {
    store: StoreId,
    owner: Option<(NodeId, Incarnation)>,
    sealed_by: Option<MoveId>,
}

fn meaning(map: &ShardMap, slot: Slot) -> Meaning {
    let SlotEntry { store, sealed_by, .. } = *map.slot(slot);
    Meaning { store, owner: map.owner(slot).map(|owner| (owner.node, owner.incarnation)), sealed_by }
}

/// What may become of a slot by one change.
fn assert_slot_is_lawful(before: &ShardMap, change: &Change, next: &ShardMap, slot: Slot) {
    let (was, is) = (meaning(before, slot), meaning(next, slot));
    let (old, new) = (before.slot(slot).epoch, next.slot(slot).epoch);
    assert_eq!(new, if was == is { old } else { old.next() }, "epoch of slot {slot} after {change:?}");
    if was.store != is.store {
        let Change::FlipMove { id } = change else { panic!("{change:?} moved slot {slot}") };
        assert_eq!((was.sealed_by, is.sealed_by), (Some(*id), None));
    }
    match change {
        Change::SealMove { id } => assert!(was.sealed_by == is.sealed_by || is.sealed_by == Some(*id)),
        Change::FlipMove { id } | Change::AbortMove { id, .. } => {
            assert!(was.sealed_by == is.sealed_by || (was.sealed_by, is.sealed_by) == (Some(*id), None));
        }
        _ => assert_eq!(was.sealed_by, is.sealed_by, "seal of slot {slot} after {change:?}"),
    }
}

/// No move is lost, none changes but by its own changes, and those take it one step on.
fn assert_moves_are_lawful(before: &ShardMap, change: &Change, next: &ShardMap) {
    let mut moves = before.moves.clone();
    let expected = match change {
        Change::BeginMove(_) => {
            let id = MoveId::from(next.version);
            let began = next.move_entry(id).cloned().expect("it has begun");
            assert_eq!((moves.insert(id, began.clone()), began.step), (None, MoveStep::Copying));
            moves
        }
        Change::EndMove { id } => {
            let ended = moves.remove(id).expect("it had begun");
            assert!(matches!(ended.step, MoveStep::Flipped | MoveStep::Aborted(_)));
            moves
        }
        Change::SealMove { id } | Change::FlipMove { id } | Change::AbortMove { id, .. } => {
            let step = match change {
                Change::SealMove { .. } => MoveStep::Sealed,
                Change::AbortMove { reason, .. } => MoveStep::Aborted(*reason),
                _ => MoveStep::Flipped,
            };
            let entry = moves.get_mut(id).expect("it had begun");
            let was = std::mem::replace(&mut entry.step, step);
            assert!(was == MoveStep::Sealed || was == MoveStep::Copying && step != MoveStep::Flipped);
            moves
        }
        _ => moves,
    };
    assert_eq!(next.moves, expected, "{change:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_changes_keep_the_map_sound(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut map = small_map();
        let mut meanings = HashMap::new();
        for step in steps {
            let change = change_of(step, &map);
            let before = map.clone();
            match apply(Some(&map), &change) {
                Ok(next) => {
                    prop_assert_eq!(next.check(), Ok(()));
                    prop_assert_eq!(next.version, before.version.next());
                    prop_assert!(before.retired_nodes.is_subset(&next.retired_nodes));
                    prop_assert!(before.retired_stores.is_subset(&next.retired_stores));
                    prop_assert_ne!(&ShardMap { version: before.version, ..next.clone() }, &before);
                    assert_moves_are_lawful(&before, &change, &next);
                    for (slot, entry) in next.slots() {
                        assert_slot_is_lawful(&before, &change, &next, slot);
                        // An epoch never means two things, in whichever store.
                        let is = meaning(&next, slot);
                        prop_assert_eq!(*meanings.entry((slot, entry.epoch)).or_insert(is), is);
                    }
                    map = next;
                }
                Err(refusal) => {
                    prop_assert_eq!(&map, &before);
                    // The reason is the same on every replica.
                    prop_assert_eq!(apply(Some(&map), &change), Err(refusal));
                }
            }
            let again: ShardMap = rmp_serde::from_slice(&rmp_serde::to_vec_named(&map).unwrap()).unwrap();
            prop_assert_eq!(&again, &map);
        }
    }

    #[test]
    fn a_change_survives_json_and_messagepack(change in any_change()) {
        let json = serde_json::to_vec(&change).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Change>(&json).unwrap(), &change);
        let array = rmp_serde::to_vec(&change).unwrap();
        prop_assert_eq!(&rmp_serde::from_slice::<Change>(&array).unwrap(), &change);
    }
}
