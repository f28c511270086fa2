//! Slots move between stores while people chat, and nobody notices.

mod chatting;

use std::{collections::BTreeSet, process::Output, sync::Arc};

use chatting::Chatting;
use tertulia_shard_map::ClusterId;
use tertulia_test_support::{Cluster, Member, eventually};

const SLOTS: u32 = 32;

async fn cluster() -> Arc<Cluster> {
    Arc::new(Cluster::builder().nodes(3).stores(2).slots(SLOTS).start().await)
}

/// Without keeping this thread from what others do.
async fn ctl(cluster: &Arc<Cluster>, arguments: &[&str]) -> Output {
    let (cluster, arguments) = (cluster.clone(), arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
    let run = move || cluster.ctl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.expect("the command runs")
}

fn succeeded(output: &Output) -> String {
    let (out, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{complaints}");
    out.into_owned()
}

/// By store, as the map has them.
async fn slots_of(cluster: &Arc<Cluster>, store: u64) -> BTreeSet<u64> {
    let map: serde_json::Value =
        serde_json::from_str(&succeeded(&ctl(cluster, &["map", "--json"]).await)).expect("JSON");
    let slots = map["slots"].as_array().expect("slots");
    slots.iter().filter(|it| it["store"] == store).filter_map(|it| it["slot"].as_u64()).collect()
}

fn list(slots: &BTreeSet<u64>) -> String {
    slots.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// What moves leave behind in a store: nothing, but for the marks.
async fn assert_clean(cluster: &Arc<Cluster>, store: u32, gone: &BTreeSet<u64>) {
    let client = cluster.sql(store).await;
    let objects = "SELECT (SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
                            WHERE d.datname = current_database()) + (SELECT count(*) FROM pg_publication) \
                          + (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) \
                          + (SELECT count(*) FROM move_marker)";
    let left: i64 = client.query_one(objects, &[]).await.expect("it answers").get(0);
    assert_eq!(left, 0, "replication objects in store {store}");
    for slot in gone {
        let leaf = format!("event_s{slot}");
        let found: bool =
            client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&leaf]).await.expect("it answers").get(0);
        assert!(!found, "{leaf} is still in store {store}");
    }
}

#[tokio::test]
async fn slots_move_to_another_store_and_back_under_chat() {
    let cluster = cluster().await;
    let chatting = Chatting::start(&cluster).await;
    let moving = slots_of(&cluster, 1).await;

    let moved = ctl(&cluster, &["move", &list(&moving), "--to", "2", "--slots-per-move", "8"]).await;
    assert_eq!(succeeded(&moved), format!("{} slots have moved\n", moving.len()));
    assert_eq!(slots_of(&cluster, 1).await, BTreeSet::new());
    assert_clean(&cluster, 1, &moving).await;
    assert_clean(&cluster, 2, &BTreeSet::new()).await;

    // The plan wants what was there before, or as good.
    let back = ctl(&cluster, &["rebalance", "--at-most", "2", "--slots-per-move", "4", "--json"]).await;
    let ended: serde_json::Value = serde_json::from_str(&succeeded(&back)).expect("JSON");
    assert!(ended.as_array().is_some_and(|it| it.iter().any(|it| it["ended"] == "moved")), "{ended}");
    let (here, there) = (slots_of(&cluster, 1).await, slots_of(&cluster, 2).await);
    assert!(here.len().abs_diff(there.len()) <= 4, "store 1 has {here:?}, store 2 {there:?}");
    assert_clean(&cluster, 1, &BTreeSet::new()).await;
    assert_clean(&cluster, 2, &here).await;
    chatting.check().await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_move_goes_on_under_another_leader() {
    let slow = Cluster::builder().nodes(3).stores(2).slots(SLOTS).set("node.move_bytes_per_second", 65_536);
    let cluster = Arc::new(slow.start().await);
    let chatting = Chatting::start(&cluster).await;
    let moving = slots_of(&cluster, 1).await;
    let slots = list(&moving);
    // Stalls apart, all of them go in one move.
    let command = ["move", slots.as_str(), "--to", "2", "--slots-per-move", "32"];
    let (moved, id) = tokio::join!(ctl(&cluster, &command), async {
        let id = copying(&cluster).await;
        let leader = leader(&cluster).await;
        cluster.kill(leader);
        assert_eq!(copying(&cluster).await, id, "whoever leads now goes on with the same move");
        cluster.start(leader);
        cluster.wait_ready(leader).await;
        id
    });
    assert_eq!(succeeded(&moved), format!("{} slots have moved\n", moving.len()));
    assert_clean(&cluster, 1, &moving).await;
    assert_clean(&cluster, 2, &BTreeSet::new()).await;
    // With what there was: the first driver's copy was not thrown away.
    let fill = "SELECT max(fill) FROM slot_move WHERE move_id = $1";
    let fill: Option<i32> = cluster.sql(2).await.query_one(fill, &[&(id as i64)]).await.expect("it answers").get(0);
    assert!(fill.is_none_or(|fill| fill == 1), "{fill:?}");
    chatting.check().await;
}

/// What a crash of the target leaves where it comes between a table's last step and the note of it.
#[tokio::test]
async fn a_copy_that_a_crash_has_stranded_begins_anew() {
    let slow = Cluster::builder().nodes(3).stores(2).slots(SLOTS).set("node.move_bytes_per_second", 65_536);
    let cluster = Arc::new(slow.start().await);
    let chatting = Chatting::start(&cluster).await;
    let moving = slots_of(&cluster, 1).await;
    let slots = list(&moving);
    let command = ["move", slots.as_str(), "--to", "2", "--slots-per-move", "32"];
    let (moved, id) = tokio::join!(ctl(&cluster, &command), async {
        let id = copying(&cluster).await;
        let strand = "UPDATE pg_subscription_rel SET srsubstate = 'f' WHERE srrelid = \
                      (SELECT min(srrelid) FROM pg_subscription_rel WHERE srsubstate = 'r') AND srsubstate = 'r'";
        let stranded = cluster.sql(2).await.execute(strand, &[]).await.expect("a superuser may");
        assert_eq!(stranded, 1);
        id
    });
    assert_eq!(succeeded(&moved), format!("{} slots have moved\n", moving.len()));
    assert_clean(&cluster, 1, &moving).await;
    assert_clean(&cluster, 2, &BTreeSet::new()).await;
    let fill = "SELECT max(fill) FROM slot_move WHERE move_id = $1";
    let fill: Option<i32> = cluster.sql(2).await.query_one(fill, &[&(id as i64)]).await.expect("it answers").get(0);
    assert!(fill.is_none_or(|fill| fill == 2), "{fill:?}");
    chatting.check().await;
    cluster.assert_no_errors();
}

/// Waits until some slots of a move are copied; its id.
async fn copying(cluster: &Arc<Cluster>) -> u64 {
    eventually("slots to be copied", async || {
        let moves = moves(cluster).await;
        let is_copied = moves.first().is_some_and(|it| it["progress"]["slots_copied"].as_u64() > Some(0));
        if is_copied { moves[0]["move"].as_u64() } else { None }
    })
    .await
}

async fn leader(cluster: &Arc<Cluster>) -> Member {
    let told = succeeded(&ctl(cluster, &["raft", "members", "--json"]).await);
    let members: Vec<serde_json::Value> = serde_json::from_str(&told).expect("JSON");
    let leader = members.iter().find(|it| it["leads"] == true).and_then(|it| it["node"].as_u64());
    Member::Node(leader.and_then(|id| u32::try_from(id).ok()).expect("one leads"))
}

async fn moves(cluster: &Arc<Cluster>) -> Vec<serde_json::Value> {
    let told = ctl(cluster, &["moves", "--json"]).await;
    serde_json::from_slice(&told.stdout).unwrap_or_default()
}

#[tokio::test]
async fn a_copy_that_differs_never_becomes_the_data() {
    let cluster = cluster().await;
    let chatting = Chatting::start(&cluster).await;
    let moving = slots_of(&cluster, 1).await;
    // Partitions that are made in store 2 from now on lose one text.
    cluster
        .sql(2)
        .await
        .batch_execute(
            "ALTER FUNCTION create_slot RENAME TO create_sound_slot;
             CREATE FUNCTION lose_a_text() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF new.seq = 3 THEN new.body = ''; END IF;
                 RETURN new;
             END $$;
             CREATE FUNCTION create_slot(p_slot integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM create_sound_slot(p_slot);
                 EXECUTE format('CREATE TRIGGER lose BEFORE INSERT ON event_s%1$s FOR EACH ROW EXECUTE FUNCTION lose_a_text();
                                 ALTER TABLE event_s%1$s ENABLE ALWAYS TRIGGER lose', p_slot);
             END $$",
        )
        .await
        .expect("store 2 can be broken");
    let refused = ctl(&cluster, &["move", &list(&moving), "--to", "2", "--slots-per-move", "32"]).await;
    let complaints = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && complaints.contains("the copy differs"), "{complaints}");
    assert_eq!(slots_of(&cluster, 1).await, moving);
    assert_clean(&cluster, 1, &BTreeSet::new()).await;
    assert_clean(&cluster, 2, &moving).await;
    chatting.check().await;
    cluster.assert_no_errors_but(&["the target's copy is not the source's data"]);
}

#[tokio::test]
async fn an_operator_aborts_a_move_and_begins_it_again() {
    let slow = Cluster::builder().nodes(3).stores(2).slots(SLOTS).set("node.move_bytes_per_second", 65_536);
    let cluster = Arc::new(slow.start().await);
    let chatting = Chatting::start(&cluster).await;
    let moving = slots_of(&cluster, 1).await;
    let slots = list(&moving);
    let command = ["move", slots.as_str(), "--to", "2", "--slots-per-move", "32"];
    let (aborted, ()) = tokio::join!(ctl(&cluster, &command), async {
        let id = copying(&cluster).await;
        succeeded(&ctl(&cluster, &["abort", &id.to_string()]).await);
    });
    let complaints = String::from_utf8_lossy(&aborted.stderr);
    assert!(aborted.status.code() == Some(1) && complaints.contains("an operator wanted it"), "{complaints}");
    assert_eq!(slots_of(&cluster, 1).await, moving);
    assert_clean(&cluster, 2, &moving).await;

    let few: BTreeSet<u64> = moving.iter().copied().take(4).collect();
    succeeded(&ctl(&cluster, &["move", &list(&few), "--to", "2"]).await);
    assert_clean(&cluster, 1, &few).await;
    chatting.check().await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn what_a_late_driver_left_is_swept() {
    let cluster = cluster().await;
    let map: serde_json::Value =
        serde_json::from_str(&succeeded(&ctl(&cluster, &["map", "--json"]).await)).expect("JSON");
    let id: ClusterId = map["cluster"].as_str().and_then(|id| id.parse().ok()).expect("the cluster's id");
    let end = u32::from_be_bytes(id.to_bytes()[12..].try_into().expect("four bytes"));
    let stray = format!("tertulia_move_{end:08x}_999_1");
    let store = cluster.sql(1).await;
    let slot = format!("SELECT pg_create_logical_replication_slot('{stray}', 'pgoutput')");
    store.batch_execute(&format!("CREATE PUBLICATION {stray} FOR TABLE move_marker")).await.expect("it can be made");
    store.batch_execute(&slot).await.expect("it can be made");
    // Another cluster's, or somebody's who has nothing to do with us.
    store
        .batch_execute("CREATE PUBLICATION tertulia_move_00000000_999_1 FOR TABLE move_marker")
        .await
        .expect("it can be made");

    // Whoever leads next looks at once.
    for node in [1, 2, 3].map(Member::Node) {
        cluster.restart(node).await;
    }
    let left = "SELECT (SELECT count(*) FROM pg_publication WHERE pubname = $1) \
                     + (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)";
    eventually("it to be removed", async || {
        let row = store.query_one(left, &[&stray]).await.expect("it answers");
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    let others: i64 = store.query_one("SELECT count(*) FROM pg_publication", &[]).await.expect("it answers").get(0);
    assert_eq!(others, 1);
}
