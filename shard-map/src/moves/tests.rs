use super::*;
use crate::{
    Change, Incarnation, MapVersion, NodeId, NodeState, OwnerChange, apply,
    fixtures::{after, all_started, begun, flipped, genesis, new_move, new_node, new_store, small_map, started},
};

const SOURCE: StoreId = StoreId::new(1);
const TARGET: StoreId = StoreId::new(2);
const UNKNOWN_STORE: StoreId = StoreId::new(9);

/// Asserts that the change is refused as wanted.
#[track_caller]
fn refused(map: &ShardMap, change: &Change, want: ChangeRefused) {
    assert_eq!(apply(Some(map), change).unwrap_err(), want);
}

/// The first two slots of the source.
fn two_slots(map: &ShardMap) -> [Slot; 2] {
    let mut slots = map.held_by(SOURCE).map(|(slot, _)| slot);
    [slots.next().unwrap(), slots.next().unwrap()]
}

/// The small map, all started, with two slots of the source in a move.
fn copying() -> (ShardMap, MoveId) {
    let map = all_started(&small_map());
    begun(&map, new_move(&map, 1, 2, two_slots(&map)))
}

fn sealed() -> (ShardMap, MoveId) {
    let (map, id) = copying();
    (after(&map, &Change::SealMove { id }), id)
}

fn abort(id: MoveId) -> Change {
    Change::AbortMove { id, reason: AbortReason::Stalled }
}

/// Asserts that the change did to the slots of the move what is wanted, at their next epoch, and to no other slot anything.
#[track_caller]
fn assert_changed(before: &ShardMap, after: &ShardMap, id: MoveId, want: impl Fn(SlotEntry) -> SlotEntry) {
    let slots = &before.move_entry(id).unwrap().slots;
    for ((slot, was), (_, is)) in before.slots().zip(after.slots()) {
        let want = if slots.contains(&slot) { SlotEntry { epoch: was.epoch.next(), ..want(*was) } } else { *was };
        assert_eq!(*is, want, "slot {slot}");
    }
}

#[test]
fn a_move_begins_without_its_slots_noticing() {
    let before = all_started(&small_map());
    let slots = two_slots(&before);
    let (map, id) = begun(&before, new_move(&before, 1, 2, slots));
    assert_eq!(MapVersion::new(id.get()), map.version());
    let entry = MoveEntry { source: SOURCE, target: TARGET, slots: slots.into(), step: MoveStep::Copying };
    assert_eq!(map.moves().collect::<Vec<_>>(), [(id, &entry)]);
    assert_eq!((map.move_entry(id), map.move_of(slots[1])), (Some(&entry), Some((id, &entry))));
    assert_eq!((entry.store(), entry.destination()), (SOURCE, TARGET));
    assert_eq!(map.slots, before.slots);
}

#[test]
fn a_seal_marks_the_slots_of_the_move_at_their_next_epoch() {
    let (before, id) = copying();
    let map = after(&before, &Change::SealMove { id });
    assert_changed(&before, &map, id, |was| SlotEntry { sealed_by: Some(id), ..was });
}

#[test]
fn a_flip_puts_the_slots_into_the_target_with_their_owners_at_their_next_epoch() {
    let (before, id) = sealed();
    let map = after(&before, &Change::FlipMove { id });
    assert_changed(&before, &map, id, |was| SlotEntry { store: TARGET, sealed_by: None, ..was });
    let entry = map.move_entry(id).unwrap();
    assert_eq!((entry.step, entry.store(), entry.destination()), (MoveStep::Flipped, TARGET, TARGET));
}

#[test]
fn an_abort_before_the_seal_changes_no_slot() {
    let (before, id) = copying();
    let map = after(&before, &abort(id));
    assert_eq!(map.slots, before.slots);
    let entry = map.move_entry(id).unwrap();
    assert_eq!(entry.step, MoveStep::Aborted(AbortReason::Stalled));
    assert_eq!((entry.store(), entry.destination()), (SOURCE, SOURCE));
}

#[test]
fn an_abort_after_the_seal_opens_the_slots_in_the_source_at_their_next_epoch() {
    let (before, id) = sealed();
    let map = after(&before, &abort(id));
    assert_changed(&before, &map, id, |was| SlotEntry { sealed_by: None, ..was });
}

#[test]
fn an_ended_move_is_forgotten_and_its_slots_may_move_again_as_another() {
    let (map, first) = sealed();
    let map = after(&after(&map, &abort(first)), &Change::EndMove { id: first });
    assert_eq!((map.moves().len(), map.move_entry(first)), (0, None));
    let (map, second) = begun(&map, new_move(&map, 1, 2, two_slots(&map)));
    let map = after(&flipped(&map, second), &Change::EndMove { id: second });
    let back = two_slots(&copying().0);
    let (map, third) = begun(&map, new_move(&map, 2, 1, back));
    assert_eq!(flipped(&map, third).slot(back[0]).store, SOURCE);
    assert!(first < second && second < third);
}

#[test]
fn a_move_takes_no_step_but_its_next() {
    let (copying, id) = copying();
    let sealed = after(&copying, &Change::SealMove { id });
    let (flipped, aborted) = (after(&sealed, &Change::FlipMove { id }), after(&sealed, &abort(id)));
    let changes = [Change::SealMove { id }, Change::FlipMove { id }, abort(id), Change::EndMove { id }];
    let cases = [
        (&copying, [true, false, true, false]),
        (&sealed, [false, true, true, false]),
        (&flipped, [false, false, false, true]),
        (&aborted, [false, false, false, true]),
    ];
    for (map, may_follow) in cases {
        for (change, may_follow) in changes.iter().zip(may_follow) {
            match may_follow {
                true => assert_eq!(after(map, change).check(), Ok(())),
                false => refused(map, change, ChangeRefused::MoveIsAt { id, step: map.move_entry(id).unwrap().step }),
            }
        }
    }
}

#[test]
fn a_move_that_is_ended_or_never_began_takes_no_step() {
    let (map, id) = copying();
    let map = after(&after(&map, &abort(id)), &Change::EndMove { id });
    for id in [id, MoveId::new(0), MoveId::new(u64::MAX)] {
        for change in [Change::SealMove { id }, Change::FlipMove { id }, abort(id), Change::EndMove { id }] {
            refused(&map, &change, ChangeRefused::UnknownMove(id));
        }
    }
}

#[test]
fn a_move_between_stores_that_may_not_take_part_is_refused() {
    let map = all_started(&small_map());
    let begin = |source, target| Change::BeginMove(new_move(&map, source, target, two_slots(&map)));
    refused(&map, &begin(9, 2), ChangeRefused::UnknownStore(UNKNOWN_STORE));
    refused(&map, &begin(1, 9), ChangeRefused::UnknownStore(UNKNOWN_STORE));
    refused(&map, &begin(1, 1), ChangeRefused::MoveToItself(SOURCE));
    let drain = |map, store| after(map, &Change::SetStoreState { store, state: StoreState::Draining });
    refused(&drain(&map, TARGET), &begin(1, 2), ChangeRefused::StoreDraining(TARGET));
    after(&drain(&map, SOURCE), &begin(1, 2));
}

#[test]
fn a_move_of_slots_that_may_not_move_is_refused() {
    let map = all_started(&small_map());
    let [slot, other] = two_slots(&map);
    let of = |slots: &[Slot]| Change::BeginMove(new_move(&map, 1, 2, slots.iter().copied()));
    refused(&map, &of(&[]), ChangeRefused::Unchanged);
    refused(&map, &of(&[slot, slot]), ChangeRefused::SlotTwice(slot));
    let (elsewhere, _) = map.held_by(TARGET).next().unwrap();
    refused(&map, &of(&[slot, elsewhere]), ChangeRefused::SlotElsewhere { slot: elsewhere, store: TARGET });
    let beyond = MovingSlot { slot: Slot::new(16), expected_epoch: Epoch::new(1) };
    let beyond = NewMove { slots: vec![beyond], ..new_move(&map, 1, 2, []) };
    refused(&map, &Change::BeginMove(beyond), ChangeRefused::UnknownSlot(Slot::new(16)));

    let owner = map.slot(slot).owner.unwrap();
    let restarted = started(&map, owner.get(), 2);
    refused(&restarted, &of(&[slot]), ChangeRefused::EpochMismatch { slot, current: Epoch::new(3) });

    let (moving, id) = begun(&map, new_move(&map, 1, 2, [slot]));
    refused(&moving, &of(&[other, slot]), ChangeRefused::SlotInMove { slot, id });
    // Until the clean-up is done.
    let aborted = after(&moving, &abort(id));
    refused(&aborted, &of(&[slot]), ChangeRefused::SlotInMove { slot, id });
    after(&after(&aborted, &Change::EndMove { id }), &of(&[slot]));
}

#[test]
fn a_move_has_no_more_slots_and_a_map_no_more_moves_than_is_allowed() {
    let stores = [new_store(1, 16_000), new_store(2, 10)];
    let map = apply(None, &genesis(2_048, &stores, &[new_node(1, 1, 1_000)])).unwrap();
    let slots: Vec<Slot> = map.held_by(SOURCE).map(|(slot, _)| slot).collect();
    let begin = |slots: &[Slot]| Change::BeginMove(new_move(&map, 1, 2, slots.iter().copied()));
    refused(&map, &begin(&slots[..1_025]), ChangeRefused::TooManySlots);
    assert_eq!(after(&map, &begin(&slots[..1_024])).check(), Ok(()));
    let full = slots[..256].iter().fold(map.clone(), |map, slot| after(&map, &begin(&[*slot])));
    assert_eq!((full.check(), full.moves().len()), (Ok(()), 256));
    refused(&full, &begin(&slots[256..257]), ChangeRefused::TooManyMoves);
}

#[test]
fn a_seal_outlives_restarts_hand_overs_and_take_overs() {
    let (map, id) = sealed();
    let slot = two_slots(&map)[0];
    let SlotEntry { owner, epoch, .. } = *map.slot(slot);
    let owner = owner.unwrap();
    let map = started(&map, owner.get(), 2);
    let to = NodeId::new(2);
    let hand_over = OwnerChange { slot, expected_epoch: epoch.next(), to };
    let map = after(&map, &Change::Reassign { slots: vec![hand_over] });
    let want = SlotEntry { store: SOURCE, owner: Some(to), epoch: epoch.next().next(), sealed_by: Some(id) };
    assert_eq!(*map.slot(slot), want);
    // The flip keeps whoever owns the slot by then, even one that is about to leave.
    let map = after(&map, &Change::SetNodeState { node: to, state: NodeState::Draining });
    let map = after(&map, &Change::FlipMove { id });
    let want = SlotEntry { store: TARGET, epoch: want.epoch.next(), sealed_by: None, ..want };
    assert_eq!(*map.slot(slot), want);
    assert_eq!(map.owner(slot).map(|owner| (owner.node, owner.incarnation)), Some((to, Incarnation::new(1))));
}

#[test]
fn a_move_goes_on_when_its_target_begins_to_drain() {
    let (map, id) = copying();
    let map = after(&map, &Change::SetStoreState { store: TARGET, state: StoreState::Draining });
    assert_eq!(flipped(&map, id).check(), Ok(()));
}

#[test]
fn a_store_is_not_removed_before_the_moves_that_it_has_a_part_in_are_ended() {
    // Store 9 holds nothing and is nobody's home: only the moves keep it.
    let map = after(&all_started(&small_map()), &Change::AddStore(new_store(9, 10)));
    let remove = Change::RemoveStore { store: UNKNOWN_STORE };
    let slots = two_slots(&map);
    let kept_by = |map: &ShardMap, id| refused(map, &remove, ChangeRefused::StoreInMove { store: UNKNOWN_STORE, id });

    let (copying, there) = begun(&map, new_move(&map, 1, 9, slots));
    kept_by(&copying, there);
    kept_by(&after(&copying, &Change::SealMove { id: there }), there);
    let aborted = after(&copying, &abort(there));
    kept_by(&aborted, there);
    after(&after(&aborted, &Change::EndMove { id: there }), &remove);

    let moved = after(&flipped(&copying, there), &Change::EndMove { id: there });
    let (copying, back) = begun(&moved, new_move(&moved, 9, 2, slots));
    refused(&copying, &remove, ChangeRefused::StoreHoldsSlots { store: UNKNOWN_STORE, slots: 2 });
    let flipped = flipped(&copying, back);
    kept_by(&flipped, back);
    after(&after(&flipped, &Change::EndMove { id: back }), &remove);
}

#[test]
fn refusals_say_where_a_move_is() {
    let id = MoveId::new(7);
    let at = |step| ChangeRefused::MoveIsAt { id, step }.to_string();
    assert_eq!(at(MoveStep::Copying), "move 7 is copying");
    assert_eq!(at(MoveStep::Sealed), "move 7 is sealed");
    assert_eq!(at(MoveStep::Flipped), "move 7 is flipped");
    assert_eq!(at(MoveStep::Aborted(AbortReason::TimelineChanged)), "move 7 is aborted (a store failed over)");
    let refusal = ChangeRefused::MoveIsAt { id, step: MoveStep::Aborted(AbortReason::Operator) };
    let bytes = rmp_serde::to_vec(&refusal).unwrap();
    assert_eq!(rmp_serde::from_slice::<ChangeRefused>(&bytes).unwrap(), refusal);
}

#[test]
fn steps_are_written_like_this() {
    let reasons = [
        (AbortReason::Operator, "Operator"),
        (AbortReason::TimelineChanged, "TimelineChanged"),
        (AbortReason::Stalled, "Stalled"),
        (AbortReason::VerificationFailed, "VerificationFailed"),
        (AbortReason::StoreUnavailable, "StoreUnavailable"),
    ];
    let aborted = |(reason, name)| (MoveStep::Aborted(reason), format!(r#"{{"Aborted":"{name}"}}"#));
    let others = [
        (MoveStep::Copying, r#""Copying""#.to_owned()),
        (MoveStep::Sealed, r#""Sealed""#.to_owned()),
        (MoveStep::Flipped, r#""Flipped""#.to_owned()),
    ];
    for (step, golden) in others.into_iter().chain(reasons.map(aborted)) {
        assert_eq!(serde_json::to_string(&step).unwrap(), golden);
        assert_eq!(serde_json::from_str::<MoveStep>(&golden).unwrap(), step);
    }
}

#[test]
fn every_broken_invariant_of_moves_is_found() {
    type Break = fn(&mut ShardMap, MoveId);
    let (sound, id) = sealed();
    let [slot, _] = two_slots(&sound);
    let [in_target, free] = [TARGET, SOURCE].map(|store| sound.held_by(store).last().unwrap().0);
    let (store, version) = (UNKNOWN_STORE, MoveId::new(sound.version().get() + 1));
    let cases: [(Break, UnsoundMap); 14] = [
        (|map, id| entry(map, id).target = SOURCE, UnsoundMap::MoveToItself(id)),
        (|map, id| entry(map, id).target = UNKNOWN_STORE, UnsoundMap::MoveStore { id, store }),
        (|map, id| entry(map, id).source = UNKNOWN_STORE, UnsoundMap::MoveStore { id, store }),
        (|map, id| entry(map, id).slots.clear(), UnsoundMap::MoveSlots { id, slots: 0 }),
        (|map, id| entry(map, id).slots.extend((0..1_025).map(Slot::new)), UnsoundMap::MoveSlots { id, slots: 1_025 }),
        (|map, id| entry(map, id).slots.extend([Slot::new(16)]), UnsoundMap::MoveSlot { id, slot: Slot::new(16) }),
        (
            |map, id| {
                let (slot, _) = map.held_by(TARGET).last().unwrap();
                entry(map, id).slots.extend([slot]);
            },
            UnsoundMap::MoveSlot { id, slot: in_target },
        ),
        (|map, id| entry(map, id).step = MoveStep::Flipped, UnsoundMap::MoveSlot { id, slot }),
        (|map, id| entry(map, id).step = MoveStep::Copying, UnsoundMap::SlotSeal(slot)),
        (
            |map, _| {
                let [slot, _] = two_slots(map);
                map.slots[slot.index()].sealed_by = Some(MoveId::new(1));
            },
            UnsoundMap::SlotSeal(slot),
        ),
        (
            |map, id| {
                let (slot, _) = map.held_by(SOURCE).last().unwrap();
                map.slots[slot.index()].sealed_by = Some(id);
            },
            UnsoundMap::SlotSeal(free),
        ),
        (
            |map, id| {
                let twin = MoveEntry { step: MoveStep::Sealed, ..entry(map, id).clone() };
                map.moves.insert(MoveId::new(map.version.get() + 1), twin);
            },
            UnsoundMap::MoveId(version),
        ),
        (
            |map, id| {
                map.slots.iter_mut().for_each(|slot| slot.sealed_by = None);
                entry(map, id).step = MoveStep::Copying;
                let twin = entry(map, id).clone();
                map.moves.insert(MoveId::new(1), twin);
            },
            UnsoundMap::SlotInMoves { slot, first: MoveId::new(1), second: id },
        ),
        (
            |map, id| {
                let twin = entry(map, id).clone();
                map.moves.extend((1_000..1_256).map(|id| (MoveId::new(id), twin.clone())));
            },
            UnsoundMap::Moves(257),
        ),
    ];
    assert_eq!(sound.check(), Ok(()));
    for (break_it, want) in cases {
        let mut map = sound.clone();
        break_it(&mut map, id);
        assert_eq!(map.check(), Err(want.clone()));
        // What is not sound does not decode either.
        let error = serde_json::from_str::<ShardMap>(&serde_json::to_string(&map).unwrap()).unwrap_err().to_string();
        assert!(error.contains(&want.to_string()), "{error}");
    }
}

fn entry(map: &mut ShardMap, id: MoveId) -> &mut MoveEntry {
    map.moves.get_mut(&id).unwrap()
}
