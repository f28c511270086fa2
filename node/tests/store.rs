//! The store's promises, on a real Postgres: a deposed owner commits nothing, a taker misses nothing, a retry adds
//! nothing.

use std::time::Duration;

use bytes::Bytes;
use tertulia_node::store::{
    AppendBatch, DuplicateKey, FoldBatch, Lane, LaneId, NewEvent, Stamp, Store, StoreError, Writer,
    WrittenConversation, WrittenKind, WrittenMember,
};
use tertulia_shard_map::{
    ClusterId, DirectPair, Epoch, EventId, Incarnation, MessageNo, MoveId, NodeId, Seq, Slot, SlotCount, StoreId,
    UserId,
};
use tertulia_test_support::{Cluster, Member, Strace, Sync, eventually, within};
use tertulia_wire::{
    EventKind, EventRecord, Role,
    cluster::{HistoryRange, HistoryRead, Reader},
};

const SLOT: Slot = Slot::new(5);
const OTHER_SLOT: Slot = Slot::new(6);
const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);

fn pair() -> DirectPair {
    DirectPair::new(ANA, BEA)
}

fn stamp() -> Stamp {
    Stamp { cluster: ClusterId::from_u128(77), slots: SlotCount::try_from(16).expect("a power of two") }
}

fn writer(node: u32, incarnation: u64) -> Writer {
    Writer { node: NodeId::new(node), incarnation: Incarnation::new(incarnation) }
}

/// A node's way into the store: opened, with the slot taken at an epoch.
struct Owner {
    store: Store,
    lane: Lane,
    epoch: Epoch,
}

impl Owner {
    async fn take(cluster: &Cluster, writer: Writer, epoch: u64) -> Self {
        let store = Store::new(StoreId::new(1), &cluster.dsn(1), writer, 2).expect("a sound DSN");
        store.prepare(stamp()).await.expect("the store is ours");
        let mut lane = Lane::new(store.clone(), LaneId::append(0));
        lane.reopen().await.expect("the lane opens");
        let epoch = Epoch::new(epoch);
        let taken = store.take_slots(&[(SLOT, epoch), (OTHER_SLOT, epoch)]).await.expect("the store answers");
        assert_eq!(taken.len(), 2);
        Self { store, lane, epoch }
    }

    fn batch(&self, seqs: impl IntoIterator<Item = u64>) -> AppendBatch {
        AppendBatch {
            slots: vec![(SLOT, self.epoch)],
            conversations: vec![WrittenConversation {
                slot: SLOT,
                id: pair().conversation_id(),
                kind: WrittenKind::Direct(pair()),
                members: 2,
                created_by: ANA,
                created_at_ms: 1,
            }],
            members: [ANA, BEA].map(member).into(),
            events: seqs.into_iter().map(event).collect(),
            ..AppendBatch::default()
        }
    }
}

fn member(user: UserId) -> WrittenMember {
    let conversation = pair().conversation_id();
    WrittenMember { slot: SLOT, conversation, user, role: Role::Member, joined_seq: Seq::new(1), left_seq: None }
}

fn event(seq: u64) -> NewEvent {
    let record = EventRecord {
        id: EventId::from_u128(1000 + u128::from(seq)),
        conversation: pair().conversation_id(),
        seq: Seq::new(seq),
        message_no: MessageNo::new(seq),
        kind: EventKind::Message,
        sender: ANA,
        created_at_ms: 5,
        temp_id: format!("t{seq}"),
        body: Bytes::from_static(b"\x01body"),
        target: None,
        since: None,
    };
    NewEvent { slot: SLOT, record, payload_hash: 9 }
}

async fn events_in(cluster: &Cluster) -> i64 {
    cluster.sql(1).await.query_one("SELECT count(*) FROM event", &[]).await.expect("the store answers").get(0)
}

#[tokio::test]
async fn a_deposed_owner_commits_nothing_and_its_neighbour_slots_stay() {
    let cluster = Cluster::builder().start_servers().await;
    let mut old = Owner::take(&cluster, writer(1, 1), 1).await;
    old.lane.append(&old.batch([1])).await.expect("the owner writes");

    let new = Store::new(StoreId::new(1), &cluster.dsn(1), writer(2, 1), 2).expect("a sound DSN");
    let taken = new.take_slots(&[(SLOT, Epoch::new(2))]).await.expect("the store answers");
    assert_eq!((taken[0].last_entry, taken[0].mailbox_cursor), (EventId::from_u128(1001), EventId::from_u128(0)));

    let refused = old.lane.append(&old.batch([2])).await;
    assert!(matches!(&refused, Err(StoreError::SlotsFenced(slots)) if slots == &[SLOT]), "{refused:?}");
    let mut both = old.batch([2]);
    both.slots.push((OTHER_SLOT, old.epoch));
    let refused = old.lane.append(&both).await;
    assert!(
        matches!(&refused, Err(StoreError::SlotsFenced(slots)) if slots == &[SLOT]),
        "only the slot that moved: {refused:?}"
    );
    let refused = old.lane.fold(&FoldBatch { slots: vec![(SLOT, old.epoch)], ..FoldBatch::default() }).await;
    assert!(matches!(refused, Err(StoreError::SlotsFenced(_))), "mailboxes are fenced as appends are");
    assert_eq!(events_in(&cluster).await, 1);

    // Nor does it read with authority, and its late take-over at the old epoch gets it nothing.
    let read = HistoryRead {
        conversation: pair().conversation_id(),
        reader: Reader::Member(ANA),
        range: HistoryRange::Latest,
        limit: 10,
    };
    assert!(matches!(old.store.history(SLOT, old.epoch, &read).await, Err(StoreError::NotOwner)));
    assert!(old.store.take_slots(&[(SLOT, Epoch::new(1))]).await.expect("the store answers").is_empty());
    let other = AppendBatch { slots: vec![(OTHER_SLOT, old.epoch)], ..AppendBatch::default() };
    old.lane.append(&other).await.expect("its other slot is still its own");
}

#[tokio::test]
async fn a_taker_waits_for_the_batch_in_flight_and_sees_what_it_wrote() {
    let cluster = Cluster::builder().start_servers().await;
    let mut old = Owner::take(&cluster, writer(1, 1), 1).await;
    old.lane.append(&old.batch([1])).await.expect("the owner writes");

    // A batch in flight: the fence checked, the event inserted, the commit still to come.
    let mut in_flight = cluster.sql(1).await;
    let transaction = in_flight.transaction().await.expect("a transaction");
    let checked = "SELECT check_fence(1, 0::smallint, 1, 1, '{5}', '{1}')";
    transaction.execute(checked, &[]).await.expect("the owner may write");
    let insert = "INSERT INTO event (conversation_id, id, sender_id, seq, message_no, created_at_ms, payload_hash, slot, kind, temp_id, body) \
                  SELECT conversation_id, '00000000-0000-0000-0000-0000000007d0', sender_id, 2, 2, created_at_ms, payload_hash, slot, \
                         kind, 't2', body FROM event WHERE seq = 1";
    transaction.execute(insert, &[]).await.expect("a row");

    let new = Store::new(StoreId::new(1), &cluster.dsn(1), writer(2, 1), 2).expect("a sound DSN");
    let taking = tokio::spawn(async move { new.take_slots(&[(SLOT, Epoch::new(2))]).await });
    let mut watching = cluster.sql(1).await;
    wait_for_blocked(&mut watching).await;
    transaction.commit().await.expect("the batch commits");
    let taken =
        within("the take-over", Duration::from_secs(5), taking).await.expect("no panic").expect("the store answers");
    assert_eq!(taken[0].last_entry, EventId::from_u128(2000), "what was in flight is part of what the taker sees");
}

#[tokio::test]
async fn a_batch_that_never_ends_does_not_hold_a_taker_up_for_ever() {
    let cluster = Cluster::builder().start_servers().await;
    let _old = Owner::take(&cluster, writer(1, 1), 1).await;
    let mut config: tokio_postgres::Config = cluster.dsn(1).parse().expect("a sound DSN");
    config.application_name("tertulia node-1 i1 lane 0");
    let (stuck, connection) = config.connect(tokio_postgres::NoTls).await.expect("the store answers");
    let connection = tokio::spawn(connection);
    stuck
        .batch_execute("BEGIN; SELECT check_fence(1, 0::smallint, 1, 1, '{5}', '{1}')")
        .await
        .expect("the owner may write");

    let new = Store::new(StoreId::new(1), &cluster.dsn(1), writer(2, 1), 2).expect("a sound DSN");
    let wanted = [(SLOT, Epoch::new(2))];
    let taken =
        within("the take-over", Duration::from_secs(10), new.take_slots(&wanted)).await.expect("the store answers");
    assert_eq!(taken.len(), 1);
    connection.await.expect("no panic").expect_err("the old owner's backend was ended");
}

#[tokio::test]
async fn a_lane_that_was_opened_anew_refuses_its_old_connection() {
    let cluster = Cluster::builder().start_servers().await;
    let mut owner = Owner::take(&cluster, writer(1, 1), 1).await;
    let mut restarted = Lane::new(
        Store::new(StoreId::new(1), &cluster.dsn(1), writer(1, 2), 2).expect("a sound DSN"),
        LaneId::append(0),
    );
    restarted.reopen().await.expect("the newer incarnation gets it");
    let batch = owner.batch([1]);
    assert!(matches!(owner.lane.append(&batch).await, Err(StoreError::LaneFenced)));
    assert!(matches!(owner.lane.reopen().await, Err(StoreError::LaneFenced)), "and the older does not get it back");
    assert_eq!(events_in(&cluster).await, 0);
}

#[tokio::test]
async fn a_batch_that_the_store_failed_to_sync_may_be_committed_nevertheless() {
    if let Some(why) = Strace::unavailable() {
        return eprintln!("not tried: {why}");
    }
    let cluster = Cluster::builder().start_servers().await;
    let mut owner = Owner::take(&cluster, writer(1, 1), 1).await;
    let strace = cluster.spoil_syncs(Member::Postgres, Sync::Failing);
    let outcome = owner.lane.append(&owner.batch([1])).await;
    assert!(matches!(&outcome, Err(StoreError::Unavailable(_))), "whether it is, is not known: {outcome:?}");
    drop(strace);

    eventually("Postgres to recover", async || owner.lane.reopen().await.ok()).await;
    let outcome = owner.lane.append(&owner.batch([1])).await;
    assert!(matches!(&outcome, Ok(()) | Err(StoreError::Duplicate)), "{outcome:?}");
    assert_eq!(events_in(&cluster).await, 1);
}

#[tokio::test]
async fn duplicates_and_stale_seqs_refuse_their_batch_and_are_found_by_their_key() {
    let cluster = Cluster::builder().start_servers().await;
    let mut owner = Owner::take(&cluster, writer(1, 1), 1).await;
    owner.lane.append(&owner.batch([1, 2])).await.expect("the owner writes");

    let mut retry = owner.batch([3]);
    retry.events[0].record.temp_id = "t2".into();
    assert!(matches!(owner.lane.append(&retry).await, Err(StoreError::Duplicate)), "the same temp_id");
    let mut stale = owner.batch([3]);
    stale.events[0].record.seq = Seq::new(2);
    assert!(matches!(owner.lane.append(&stale).await, Err(StoreError::Duplicate)), "a seq that is taken");
    let mixed = owner.batch([3, 2]);
    assert!(matches!(owner.lane.append(&mixed).await, Err(StoreError::Duplicate)));
    assert_eq!(events_in(&cluster).await, 2, "a refused batch leaves nothing");

    let key = |temp_id| DuplicateKey { slot: SLOT, conversation: pair().conversation_id(), sender: ANA, temp_id };
    let found = owner.store.find_duplicates(&[key("new"), key("t2"), key("t1")]).await.expect("the store answers");
    let seqs: Vec<Option<u64>> = found.iter().map(|event| event.as_ref().map(|event| event.record.seq.get())).collect();
    assert_eq!(seqs, [None, Some(2), Some(1)]);
}

#[tokio::test]
async fn cursors_only_grow() {
    let cluster = Cluster::builder().start_servers().await;
    let mut owner = Owner::take(&cluster, writer(1, 1), 1).await;
    for cursor in [20, 10] {
        let cursors = vec![(SLOT, "mailbox", EventId::from_u128(cursor))];
        let batch = AppendBatch { slots: vec![(SLOT, owner.epoch)], cursors, ..AppendBatch::default() };
        owner.lane.append(&batch).await.expect("a cursor alone is a batch");
    }
    let taken = owner.store.take_slots(&[(SLOT, Epoch::new(2))]).await.expect("the store answers");
    assert_eq!(taken[0].mailbox_cursor, EventId::from_u128(20));
}

#[tokio::test]
async fn a_store_of_another_cluster_is_refused() {
    let cluster = Cluster::builder().start_servers().await;
    let store = Store::new(StoreId::new(1), &cluster.dsn(1), writer(1, 1), 2).expect("a sound DSN");
    store.prepare(stamp()).await.expect("nobody's so far");
    store.prepare(stamp()).await.expect("ours");
    let foreign = Stamp { cluster: ClusterId::from_u128(78), ..stamp() };
    assert!(matches!(store.prepare(foreign).await, Err(StoreError::Foreign(_))));
    let reshuffled = Stamp { slots: SlotCount::try_from(32).expect("a power of two"), ..stamp() };
    assert!(matches!(store.prepare(reshuffled).await, Err(StoreError::Foreign(_))));
}

/// Until somebody waits for a lock.
async fn wait_for_blocked(client: &mut tokio_postgres::Client) {
    tertulia_test_support::eventually("somebody to wait for the lock", async || {
        let blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        (!client.query(blocked, &[]).await.expect("the store answers").is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_late_driver_of_a_move_can_do_nothing() {
    let cluster = Cluster::builder().start_servers().await;
    let source = Owner::take(&cluster, writer(1, 1), 1).await;
    let target = Store::new(StoreId::new(2), &cluster.dsn(2), writer(1, 1), 2).expect("a sound DSN");
    target.prepare(stamp()).await.expect("the store is ours");
    let end = async |id| {
        target.move_end(stamp().cluster, MoveId::new(id), vec![SLOT, OTHER_SLOT]).await.expect("it connects")
    };
    let (older, newer) = (end(7).await, end(9).await);
    let from = source.store.move_end(stamp().cluster, MoveId::new(7), vec![SLOT]).await.expect("it connects");
    let timeline = from.timeline().await.expect("the store answers");

    let first = older.begin_fill(timeline).await.expect("nobody has the slots");
    older.empty_partitions(first).await.expect("it is the filling");
    let second = older.begin_fill(timeline).await.expect("the same move may begin again");
    assert!(matches!(older.empty_partitions(first).await, Err(StoreError::FillRefused(_))), "an earlier filling's");
    let third = newer.begin_fill(timeline).await.expect("a newer move has the slots");
    for refused in [
        older.empty_partitions(second).await,
        older.close_fill(second).await,
        older.begin_fill(timeline).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::FillRefused(_))), "an older move's: {refused:?}");
    }
    newer.close_fill(third).await.expect("it is the filling");
    for refused in [newer.empty_partitions(third).await, newer.begin_fill(timeline).await.map(drop)] {
        assert!(matches!(refused, Err(StoreError::FillRefused(_))), "closed: {refused:?}");
    }
    assert_eq!(older.give_up().await.expect("the store answers"), [], "a newer move has them");
    assert_eq!(newer.give_up().await.expect("the store answers").len(), 2);
}

#[tokio::test]
async fn a_sealed_slot_takes_no_writes_until_a_later_epoch() {
    let cluster = Cluster::builder().start_servers().await;
    let mut owner = Owner::take(&cluster, writer(1, 1), 1).await;
    let first = owner.batch([1]);
    owner.lane.append(&first).await.expect("it is the owner");
    let end = owner.store.move_end(stamp().cluster, MoveId::new(7), vec![SLOT]).await.expect("it connects");
    assert_eq!(end.seal(&[(SLOT, Epoch::new(2))]).await.expect("the store answers"), [SLOT].into());
    assert_eq!(end.seal(&[(SLOT, Epoch::new(2))]).await.expect("the store answers"), [SLOT].into(), "again");
    assert_eq!(end.seal(&[(SLOT, Epoch::new(1))]).await.expect("the store answers"), [].into(), "an old map's");

    let second = owner.batch([2]);
    assert!(matches!(owner.lane.append(&second).await, Err(StoreError::SlotsFenced(slots)) if slots == [SLOT]));
    for epoch in [1, 2] {
        let taken = owner.store.take_slots(&[(SLOT, Epoch::new(epoch))]).await.expect("the store answers");
        assert_eq!(taken, [], "epoch {epoch} does not unseal");
    }
    let mut owner = Owner::take(&cluster, writer(1, 2), 3).await;
    let second = owner.batch([2]);
    owner.lane.append(&second).await.expect("the map has ended the seal");
}
