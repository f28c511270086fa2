//! The users' side of a store, on a real Postgres: what was folded is read as it was folded, and only by the owner.

use tertulia_node::store::{
    BlockKey, FoldBatch, HOT_INBOX_STATEMENTS, InboxKey, Lane, LaneId, MailboxHead, NameFrom, Sight, Stamp, Store,
    StoreError, StoredBlock, StoredInboxRow, StoredProfile, Writer,
};
use tertulia_shard_map::{
    ClusterId, ConversationId, DirectPair, Epoch, EventId, Incarnation, MessageNo, NodeId, Rev, Seq, Slot, SlotCount,
    StoreId, UserId,
};
use tertulia_test_support::Cluster;
use tertulia_wire::cluster::{GroupSize, InboxPosition, InboxRow, ProfileRecord};

const SLOT: Slot = Slot::new(5);
const EPOCH: Epoch = Epoch::new(1);
const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);
const CARO: UserId = UserId::from_u128(3);

fn store(cluster: &Cluster, node: u32) -> Store {
    let writer = Writer { node: NodeId::new(node), incarnation: Incarnation::new(1) };
    Store::new(StoreId::new(1), &cluster.dsn(1), writer, 2).expect("a sound DSN")
}

/// The owner of the slot, and its lane.
async fn owner(cluster: &Cluster) -> (Store, Lane) {
    let store = store(cluster, 1);
    let slots = SlotCount::try_from(16).expect("a power of two");
    store.prepare(Stamp { cluster: ClusterId::from_u128(77), slots }).await.expect("the store is ours");
    let mut lane = Lane::new(store.clone(), LaneId::FOLD);
    lane.reopen().await.expect("the lane opens");
    assert_eq!(store.take_slots(&[(SLOT, EPOCH)]).await.expect("the store answers").len(), 1);
    (store, lane)
}

fn batch() -> FoldBatch {
    FoldBatch { slots: vec![(SLOT, EPOCH)], ..FoldBatch::default() }
}

fn direct_row(peer: UserId, last_seq: u64, last_at_ms: i64) -> InboxRow {
    InboxRow {
        conversation: DirectPair::new(ANA, peer).conversation_id(),
        peer: Some(peer),
        name: None,
        size: GroupSize::Small,
        joined_seq: Seq::new(1),
        left_seq: None,
        last_seq: Seq::new(last_seq),
        last_event_id: EventId::from_u128(last_seq.into()),
        last_at_ms,
        last_message_no: MessageNo::new(last_seq),
        read_seq: Seq::new(1),
        read_message_no: MessageNo::new(1),
        others_delivered_seq: Seq::new(3),
        others_read_seq: Seq::new(2),
    }
}

fn group_row(conversation: u128, size: GroupSize, left: Option<u64>, last_at_ms: i64) -> InboxRow {
    InboxRow {
        conversation: ConversationId::from_u128(conversation),
        peer: None,
        name: Some("us".into()),
        size,
        joined_seq: Seq::new(2),
        left_seq: left.map(Seq::new),
        ..direct_row(BEA, 9, last_at_ms)
    }
}

fn stored(row: InboxRow, rev: u64) -> (Slot, UserId, StoredInboxRow) {
    (SLOT, ANA, StoredInboxRow { row, rev: Rev::new(rev) })
}

#[tokio::test]
async fn rows_are_read_as_they_were_folded() {
    let cluster = Cluster::builder().start_servers().await;
    let (store, mut lane) = owner(&cluster).await;
    for (seq, rev) in [(1, 1), (4, 2)] {
        lane.fold(&FoldBatch { rows: vec![stored(direct_row(BEA, seq, 5), rev)], ..batch() }).await.expect("folds");
    }
    let gone = group_row(20, GroupSize::Small, Some(9), 7);
    let large = group_row(21, GroupSize::Large, None, 8);
    let gone_large = group_row(22, GroupSize::Large, Some(9), 9);
    let rows = vec![stored(gone.clone(), 3), stored(large.clone(), 4), stored(gone_large.clone(), 5)];
    lane.fold(&FoldBatch { rows, ..batch() }).await.expect("folds");

    let key = |conversation| InboxKey { slot: SLOT, user: ANA, conversation };
    let unknown = InboxKey { user: BEA, ..key(large.conversation) };
    let keys = [unknown, key(direct_row(BEA, 4, 5).conversation), key(gone.conversation), key(large.conversation)];
    let found = store.load_inbox_rows(&keys).await.expect("the store answers");
    let found: Vec<_> = found.into_iter().map(|it| it.map(|stored| (stored.row, stored.rev.get()))).collect();
    assert_eq!(found, [None, Some((direct_row(BEA, 4, 5), 2)), Some((gone.clone(), 3)), Some((large.clone(), 4))]);

    let heads = store.load_mailboxes(&[(SLOT, ANA), (SLOT, BEA)]).await.expect("the store answers");
    let large_ones = vec![(large.conversation, Seq::new(2))];
    assert_eq!(heads, [MailboxHead { rev: Rev::new(5), large: large_ones }, MailboxHead::default()]);

    let page = store.sync_page(SLOT, EPOCH, ANA, Rev::new(1), 2).await.expect("the store answers");
    let revs: Vec<u64> = page.rows.iter().map(|row| row.rev.get()).collect();
    assert_eq!((revs, page.has_more, page.rev), (vec![2, 3], true, Rev::new(5)));
    assert_eq!((&page.large, page.unread), (&vec![large], 3), "of the one that she is in and that is small");
    let page = store.sync_page(SLOT, EPOCH, ANA, Rev::new(3), 2).await.expect("the store answers");
    assert_eq!((page.rows.len(), page.has_more), (1, false));
    assert_eq!(page.rows[0].row, gone_large, "who is no longer in it is not told of it anew");
    let nobody = store.sync_page(SLOT, EPOCH, CARO, Rev::ZERO, 2).await.expect("the store answers");
    assert_eq!((nobody.rows.len(), nobody.large.len(), nobody.rev, nobody.unread), (0, 0, Rev::ZERO, 0));
}

#[tokio::test]
async fn the_inbox_pages_by_time_and_ties_are_not_skipped() {
    let cluster = Cluster::builder().start_servers().await;
    let (store, mut lane) = owner(&cluster).await;
    let rows = (0..7_u64).map(|number| {
        let at_ms = if number < 4 { 100 } else { 100 + number as i64 };
        stored(group_row(u128::from(30 + number), GroupSize::Small, None, at_ms), number + 1)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.push(stored(group_row(50, GroupSize::Large, None, 103), 8));
    lane.fold(&FoldBatch { rows, ..batch() }).await.expect("folds");
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.inbox_page(SLOT, EPOCH, ANA, before, 3).await.expect("the store answers");
        assert_eq!(page.large.len(), 1, "beside every page");
        found.extend(page.rows.iter().map(|it| it.row.conversation.to_u128()));
        let last = page.rows.last().map(|it| &it.row);
        before = last.map(|row| InboxPosition { last_at_ms: row.last_at_ms, conversation: row.conversation });
        if !page.has_more {
            break;
        }
    }
    assert_eq!(found, [36, 35, 34, 33, 32, 31, 30]);
}

#[tokio::test]
async fn blocks_and_profiles_decide_who_sees_whom() {
    let cluster = Cluster::builder().start_servers().await;
    let (store, mut lane) = owner(&cluster).await;
    let sights = [BEA, CARO].map(|watcher| Sight { user: ANA, watcher });
    let seen = async || store.presence_is_shared(SLOT, EPOCH, &sights).await.expect("the store answers");
    assert_eq!(seen().await, [false, false], "strangers");
    let rows = vec![stored(direct_row(BEA, 1, 5), 1), stored(direct_row(CARO, 1, 5), 2)];
    lane.fold(&FoldBatch { rows, ..batch() }).await.expect("folds");
    assert_eq!(seen().await, [true, true]);

    let key = |other| BlockKey { slot: SLOT, user: ANA, other };
    let block = |by_user, by_other| StoredBlock { by_user, by_other };
    let blocks = vec![(key(BEA), block(true, false)), (key(CARO), block(false, true))];
    lane.fold(&FoldBatch { blocks, ..batch() }).await.expect("folds");
    assert_eq!(seen().await, [false, false]);
    let found = store.load_blocks(&[key(CARO), key(ANA), key(BEA)]).await.expect("the store answers");
    assert_eq!(found, [block(false, true), block(false, false), block(true, false)]);
    let page = store.blocks_page(SLOT, EPOCH, ANA, None, 10).await.expect("the store answers");
    assert_eq!((page.users, page.has_more), (vec![BEA], false), "she is not told who blocks her");
    let both = vec![(key(CARO), block(true, true))];
    lane.fold(&FoldBatch { blocks: both, ..batch() }).await.expect("folds");
    let page = store.blocks_page(SLOT, EPOCH, ANA, None, 1).await.expect("the store answers");
    assert_eq!((page.users, page.has_more), (vec![BEA], true));
    let page = store.blocks_page(SLOT, EPOCH, ANA, Some(BEA), 1).await.expect("the store answers");
    assert_eq!((page.users, page.has_more), (vec![CARO], false));

    let blocks = [BEA, CARO].map(|other| (key(other), block(false, false))).to_vec();
    lane.fold(&FoldBatch { blocks, ..batch() }).await.expect("folds");
    assert_eq!(seen().await, [true, true]);
    let hidden = profile(false, NameFrom::Token);
    lane.fold(&FoldBatch { profiles: vec![(SLOT, hidden)], ..batch() }).await.expect("folds");
    assert_eq!(seen().await, [false, false]);
}

fn profile(shares_presence: bool, name_from: NameFrom) -> StoredProfile {
    let record = ProfileRecord {
        user: ANA,
        name: Some("Ana".into()),
        avatar_url: Some("https://example.org/ana.png".into()),
        shares_presence,
        disabled: true,
    };
    StoredProfile { record, name_from }
}

#[tokio::test]
async fn profiles_are_read_as_they_were_stored() {
    let cluster = Cluster::builder().start_servers().await;
    let (store, mut lane) = owner(&cluster).await;
    for profile in [profile(true, NameFrom::Token), profile(false, NameFrom::Own)] {
        lane.fold(&FoldBatch { profiles: vec![(SLOT, profile.clone())], ..batch() }).await.expect("folds");
        let found = store.load_profiles(&[(SLOT, BEA), (SLOT, ANA)]).await.expect("the store answers");
        assert_eq!(found, [None, Some(profile.clone())]);
        let found = store.profiles(SLOT, EPOCH, &[ANA, BEA]).await.expect("the store answers");
        assert_eq!(found, [profile.record]);
    }
    assert!(store.profiles(SLOT, EPOCH, &[BEA]).await.expect("the store answers").is_empty());
}

#[tokio::test]
async fn a_deposed_owner_reads_no_mailbox_and_writes_none() {
    let cluster = Cluster::builder().start_servers().await;
    let (old, mut lane) = owner(&cluster).await;
    let taken = store(&cluster, 2).take_slots(&[(SLOT, Epoch::new(2))]).await.expect("the store answers");
    assert_eq!(taken.len(), 1);
    let sight = Sight { user: ANA, watcher: BEA };
    assert!(matches!(old.sync_page(SLOT, EPOCH, ANA, Rev::ZERO, 10).await, Err(StoreError::NotOwner)));
    assert!(matches!(old.inbox_page(SLOT, EPOCH, ANA, None, 10).await, Err(StoreError::NotOwner)));
    assert!(matches!(old.blocks_page(SLOT, EPOCH, ANA, None, 10).await, Err(StoreError::NotOwner)));
    assert!(matches!(old.profiles(SLOT, EPOCH, &[ANA]).await, Err(StoreError::NotOwner)));
    assert!(matches!(old.presence_is_shared(SLOT, EPOCH, &[sight]).await, Err(StoreError::NotOwner)));
    for batch in [
        FoldBatch { rows: vec![stored(direct_row(BEA, 1, 5), 1)], ..batch() },
        FoldBatch { profiles: vec![(SLOT, profile(true, NameFrom::Own))], ..batch() },
    ] {
        let refused = lane.fold(&batch).await;
        assert!(matches!(&refused, Err(StoreError::SlotsFenced(slots)) if slots == &[SLOT]), "{refused:?}");
    }
}

/// With the types of a statement's parameters written out: the planner is told nothing else of them.
fn with_values(sql: &str, values: &[&str]) -> String {
    (1..=values.len())
        .rev()
        .fold(sql.to_owned(), |sql, number| sql.replace(&format!("${number}"), &format!("({})", values[number - 1])))
}

#[tokio::test]
async fn what_mailboxes_ask_is_answered_by_an_index_of_one_slot() {
    let cluster = Cluster::builder().start_servers().await;
    let (store, _lane) = owner(&cluster).await;
    let taken = store.take_slots(&[(Slot::new(6), EPOCH), (Slot::new(7), EPOCH)]).await.expect("the store answers");
    assert_eq!(taken.len(), 2);
    let sql = cluster.sql(1).await;
    sql.batch_execute("SET enable_seqscan = off").await.expect("the tables are too small for an index to pay");
    let id = "'00000000-0000-0000-0000-000000000001'::uuid";
    let ids = "'{00000000-0000-0000-0000-000000000001}'::uuid[]";
    let head = ["5", "1", "1", "1", id];
    for (name, statement) in HOT_INBOX_STATEMENTS {
        let values: Vec<&str> = match name {
            "rows" => vec!["5", ids, ids],
            "mailboxes" => vec!["5", ids],
            "sync" => [&head[..], &["1", "10"]].concat(),
            "inbox from the top" => [&head[..], &["10"]].concat(),
            _ => [&head[..], &["1", id, "10"]].concat(),
        };
        let explain = format!("EXPLAIN {}", with_values(statement, &values));
        let rows = sql.query(&explain, &[]).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let scans: Vec<&String> = plan.iter().filter(|line| line.contains(" on inbox")).collect();
        assert!(!scans.is_empty(), "{name}: {plan:#?}");
        for scan in scans {
            assert!(scan.contains("Index") && scan.contains("inbox_s5"), "{name}: {scan}");
        }
    }
}
