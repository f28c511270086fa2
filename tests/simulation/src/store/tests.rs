//! The rules of the model: who is fenced off, and what a late driver can do.

use tertulia_shard_map::{Epoch, Incarnation, MoveId, NodeId, Slot};

use super::{filling::Refused, *};

const SLOT: Slot = Slot::new(3);

fn process(node: u32) -> Process {
    Process { node: NodeId::new(node), incarnation: Incarnation::new(1) }
}

fn wanted(node: u32, epoch: u64, seal: Seal) -> Wanted {
    Wanted { slot: SLOT, epoch: Epoch::new(epoch), owner: process(node), seal }
}

fn writer(node: u32) -> Writer {
    Writer { process: process(node), lane: LaneKind::Append, token: Token(1) }
}

fn batch(epoch: u64) -> Batch {
    let slots = vec![(SLOT, Epoch::new(epoch))];
    Batch::Append(Rc::new(AppendBatch { slots, ..AppendBatch::default() }))
}

fn begin(store: &mut Store, node: u32, epoch: u64) -> Result<Transaction, NotCommitted> {
    store.begin(writer(node), batch(epoch), IsHeard::Yes, Time::ZERO)
}

/// Node 1 has the slot, at epoch 1, and its lane open.
fn store() -> Store {
    let mut store = Store::new(None);
    assert_eq!(store.take(&[wanted(1, 1, Seal::Open)]).len(), 1);
    assert!(store.open_lane(writer(1)));
    store
}

fn slots() -> BTreeSet<Slot> {
    [SLOT].into()
}

#[test]
fn only_the_owner_at_its_epoch_passes_the_fence() {
    let mut store = store();
    assert!(begin(&mut store, 1, 1).is_ok());
    assert_eq!(begin(&mut store, 1, 2), Err(NotCommitted::SlotsFenced(vec![SLOT])));
    assert_eq!(begin(&mut store, 2, 1), Err(NotCommitted::LaneFenced));
    assert!(store.take(&[wanted(2, 1, Seal::Open)]).is_empty(), "that epoch is taken");
    assert_eq!(store.take(&[wanted(2, 2, Seal::Open)]).len(), 1);
    assert_eq!(begin(&mut store, 1, 1), Err(NotCommitted::SlotsFenced(vec![SLOT])));
}

#[test]
fn who_takes_a_slot_has_to_wait_for_its_owners_batch_in_flight() {
    let mut store = store();
    let transaction = begin(&mut store, 1, 1).unwrap();
    let lanes = store.lanes_of([SLOT].into_iter());
    assert_eq!(store.in_flight_of(&lanes), Some((Time::ZERO, vec![transaction])));
    store.commit(transaction).unwrap();
    assert_eq!(store.in_flight_of(&lanes), None);
}

#[test]
fn a_sealed_slot_takes_no_writes_until_it_is_taken_at_a_new_epoch() {
    let mut store = store();
    assert_eq!(store.take(&[wanted(1, 2, Seal::Closed)]).len(), 1);
    assert_eq!(begin(&mut store, 1, 2), Err(NotCommitted::SlotsFenced(vec![SLOT])));
    assert!(store.take(&[wanted(1, 2, Seal::Open)]).is_empty(), "the same epoch does not unseal");
    assert_eq!(store.take(&[wanted(1, 3, Seal::Open)]).len(), 1);
    assert!(begin(&mut store, 1, 3).is_ok());
}

#[test]
fn a_lane_that_is_opened_anew_refuses_what_its_old_connection_brings() {
    let mut store = store();
    assert!(store.open_lane(Writer { token: Token(2), ..writer(1) }));
    assert_eq!(begin(&mut store, 1, 1), Err(NotCommitted::LaneFenced));
    assert!(!store.open_lane(writer(1)));
}

#[test]
fn a_late_driver_can_neither_fill_nor_drop_nor_close_what_is_not_its_own() {
    let (mut store, older, newer) = (store(), MoveId::new(5), MoveId::new(9));
    let first = store.mark_filling(&slots(), older).unwrap();
    let again = store.mark_filling(&slots(), older).unwrap();
    assert_eq!(store.recreate(&slots(), older, first), Err(Refused), "another driver has begun anew");
    assert_eq!(store.close(&slots(), older, first), Err(Refused));
    store.recreate(&slots(), older, again).unwrap();

    let fill = store.mark_filling(&slots(), newer).unwrap();
    assert_eq!(store.mark_filling(&slots(), older), Err(Refused));
    assert_eq!(store.recreate(&slots(), older, again), Err(Refused));
    store.close(&slots(), newer, fill).unwrap();
    assert_eq!(store.mark_filling(&slots(), newer), Err(Refused), "nobody fills it again");
    store.partitions.insert(SLOT, Partition::default());
    store.clean_up(&slots(), older);
    assert!(store.partition(SLOT).is_some(), "a newer move's partitions stay");
    store.clean_up(&slots(), newer);
    assert!(store.partition(SLOT).is_none());
}
