//! `tertuliactl verify`: finds nothing in what a cluster has written, and everything that is then broken.

mod chatting;

use std::{collections::BTreeMap, process::Output, sync::Arc};

use chatting::Chatting;
use serde_json::Value;
use tertulia_shard_map::{ConversationId, Slot, SlotCount, UserId};
use tertulia_test_support::{
    Cluster, Member,
    actor::{Actor, Skin},
    eventually,
};
use tertulia_wire::{
    ReactionChange,
    client::{
        BlockQuery, Command, DeleteMessage, EditMessage, LeaveConversation, MembersChange, ReactToMessage, Reply,
    },
};

const SLOTS: u32 = 16;

/// Without keeping this thread from what others do.
async fn ctl(cluster: &Arc<Cluster>, arguments: &[&str]) -> Output {
    let (cluster, arguments) = (cluster.clone(), arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
    let run = move || cluster.ctl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.expect("the command runs")
}

/// The exit code and what is told.
async fn verify(cluster: &Arc<Cluster>, more: &[&str]) -> (i32, Value) {
    let output = ctl(cluster, &[&["verify", "--json", "--no-rest"], more].concat()).await;
    let complaints = String::from_utf8_lossy(&output.stderr);
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaints}"));
    (output.status.code().expect("it ends by itself"), told)
}

/// How many violations of each check that has some.
fn violated(told: &Value) -> BTreeMap<&str, u64> {
    let checks = told["checks"].as_array().expect("checks").iter();
    let of = |it: &'_ Value| it["violations"].as_u64().expect("a number");
    checks.filter(|it| of(it) > 0).map(|it| (it["check"].as_str().expect("a name"), of(it))).collect()
}

fn hex(id: u128) -> String {
    format!("'{id:032x}'::uuid")
}

/// What a scene leaves behind.
struct Scene {
    cluster: Arc<Cluster>,
    /// Ana's and Bea's: messages of Ana's at seq 1 to 5.
    direct: ConversationId,
    ana: UserId,
    bea: UserId,
    /// Not a member of it.
    dan: UserId,
}

impl Scene {
    /// Everything that an app does once: a direct conversation, a group in which members come and go, a large group, a block,
    /// a note to oneself; edits, deletions, reactions and marks.
    async fn play() -> Self {
        let builder = Cluster::builder().nodes(3).stores(2).slots(SLOTS);
        let cluster = Arc::new(builder.set("node.fanout_limit", 4).start().await);
        let mut people = Vec::new();
        for (number, name) in ["ana", "bea", "caro", "dan", "eva", "flo"].into_iter().enumerate() {
            people.push(Actor::connect(&cluster, 1 + number as u32 % 2, name, Skin::NativeJson).await);
        }
        let users: Vec<UserId> = people.iter().map(Actor::user).collect();
        let [ana, bea, caro, dan, ..] = people.as_mut_slice() else { unreachable!("there are six") };

        let mut messages = Vec::new();
        for number in 1..=5 {
            messages.push(ana.send(users[1], &format!("t{number}"), &format!("message {number}")).await);
        }
        let direct = messages[0].conversation_id;
        bea.read(direct, messages[2].seq).await;
        let about = |index: usize| (messages[index].conversation_id, messages[index].id);
        let (conversation_id, message_id) = about(3);
        ana.make(Command::Edit(EditMessage::plain(conversation_id, message_id, "e".into(), "edited".into()))).await;
        for (temp_id, change) in
            [("r1", ReactionChange::Add), ("r2", ReactionChange::Remove), ("r3", ReactionChange::Add)]
        {
            let (temp_id, emoji) = (temp_id.into(), "👍".into());
            bea.make(Command::React(ReactToMessage { conversation_id, message_id, temp_id, emoji, change })).await;
        }
        let (conversation_id, message_id) = about(4);
        ana.make(Command::Edit(EditMessage::plain(conversation_id, message_id, "e2".into(), "edited".into()))).await;
        ana.make(Command::Delete(DeleteMessage { conversation_id, message_id, temp_id: "d".into() })).await;
        ana.send(users[0], "n", "a note to myself").await;

        let group = ana.create("g", "the four", &[users[1], users[2]]).await.conversation_id;
        let change =
            |temp_id: &str| MembersChange { conversation_id: group, temp_id: temp_id.into(), user_ids: vec![users[3]] };
        ana.make(Command::AddMembers(change("a1"))).await;
        let said = dan.send_in(group, "x", "hello").await;
        caro.read(group, said.seq).await;
        ana.make(Command::RemoveMembers(change("a2"))).await;
        bea.send_in(group, "y", "where is he?").await;
        ana.make(Command::AddMembers(change("a3"))).await;
        caro.make(Command::Leave(LeaveConversation { conversation_id: group, temp_id: "l".into() })).await;

        let large = ana.create("h", "all six", &users[1..]).await.conversation_id;
        for number in 0..4 {
            dan.send_in(large, &format!("h{number}"), "to all").await;
        }
        let seen = bea.send_in(large, "h9", "from one").await;
        caro.read(large, seen.seq).await;

        dan.send(users[2], "b1", "before").await;
        assert_eq!(caro.call(Command::Block(BlockQuery { user_id: users[3] })).await, Reply::Ok);
        // Blocked before anything was said.
        assert_eq!(caro.call(Command::Block(BlockQuery { user_id: users[4] })).await, Reply::Ok);

        let mut number = 0;
        eventually("cursors of fan-out to be stored, with later commits", async || {
            number += 1;
            people[4].send(users[5], &format!("more{number}"), "and so on").await;
            let mut stored = 0;
            for store in 1..=2 {
                let row = cluster.sql(store).await.query_one("SELECT count(*) FROM slot_cursor", &[]).await;
                stored += row.expect("it answers").get::<_, i64>(0);
            }
            (stored > 0).then_some(())
        })
        .await;
        Self { cluster, direct, ana: users[0], bea: users[1], dan: users[3] }
    }

    fn slots(&self) -> SlotCount {
        SLOTS.try_into().expect("a power of two")
    }

    fn slot(&self) -> Slot {
        self.slots().of_conversation(self.direct)
    }

    async fn store_of(&self, slot: Slot) -> u32 {
        let output = ctl(&self.cluster, &["map", "--json"]).await;
        let map: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        map["slots"][slot.index()]["store"].as_u64().expect("a store") as u32
    }

    /// Breaks something of a slot, looks, and mends it: `check` and nothing else must be violated, at this place.
    async fn break_one(&self, broken: Broken) {
        let Broken { check, slot, store, place, damage, repair } = broken;
        let sql = self.cluster.sql(store).await;
        sql.batch_execute(&damage).await.unwrap_or_else(|error| panic!("{damage}: {error:?}"));
        let (code, told) = verify(&self.cluster, &[]).await;
        assert_eq!(code, 1, "{damage}: {told:#}");
        assert_eq!(violated(&told).into_keys().collect::<Vec<_>>(), [check], "{damage}: {told:#}");
        for violation in told["violations"].as_array().expect("violations") {
            assert_eq!((&violation["check"], &violation["slot"]), (&check.into(), &slot.get().into()), "{told:#}");
            assert_eq!(violation["store"], store, "{told:#}");
            match place {
                Place::Conversation(id) => assert_eq!(violation["conversation"], id.to_string(), "{told:#}"),
                Place::Slot => assert!(violation.get("conversation").is_none(), "{told:#}"),
            }
        }
        sql.batch_execute(&repair).await.unwrap_or_else(|error| panic!("{repair}: {error:?}"));
    }
}

struct Broken {
    check: &'static str,
    slot: Slot,
    store: u32,
    place: Place,
    damage: String,
    repair: String,
}

#[derive(Clone, Copy)]
enum Place {
    Slot,
    Conversation(ConversationId),
}

#[tokio::test]
async fn what_a_cluster_has_written_holds_and_each_thing_that_is_broken_is_found() {
    let scene = Scene::play().await;
    let (code, told) = verify(&scene.cluster, &[]).await;
    assert_eq!((code, &told["outcome"]), (0, &"holds".into()), "{told:#}");
    assert_eq!(told["slots_checked"], SLOTS);
    for check in told["checks"].as_array().expect("checks") {
        assert!(check["checked"].as_u64() > Some(0), "nothing of it was there to be checked: {check}");
    }
    let text = ctl(&scene.cluster, &["verify", "--no-rest"]).await;
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.ends_with("everything holds\n"), "{text}");

    let (slot, direct) = (scene.slot(), scene.direct);
    let (store, id) = (scene.store_of(slot).await, hex(direct.to_u128()));
    let of_direct =
        |check, damage, repair| Broken { check, slot, store, place: Place::Conversation(direct), damage, repair };
    let cases = [
        of_direct(
            "seqs",
            format!(
                "CREATE TABLE kept AS SELECT * FROM event_s{slot} WHERE conversation_id = {id} AND seq = 2;
                 DELETE FROM event_s{slot} WHERE conversation_id = {id} AND seq = 2"
            ),
            format!("INSERT INTO event_s{slot} SELECT * FROM kept; DROP TABLE kept"),
        ),
        of_direct(
            "seqs",
            format!("UPDATE event_s{slot} SET message_no = 3 WHERE conversation_id = {id} AND seq = 2"),
            format!("UPDATE event_s{slot} SET message_no = 2 WHERE conversation_id = {id} AND seq = 2"),
        ),
        of_direct(
            "temp_ids",
            format!(
                "DROP INDEX event_s{slot}_temp_id;
                 UPDATE event_s{slot} SET temp_id = 't1' WHERE conversation_id = {id} AND seq = 2"
            ),
            format!(
                "UPDATE event_s{slot} SET temp_id = 't2' WHERE conversation_id = {id} AND seq = 2;
                 CREATE UNIQUE INDEX event_s{slot}_temp_id ON event_s{slot} (conversation_id, sender_id, temp_id)"
            ),
        ),
        of_direct(
            "origins",
            format!(
                "CREATE TABLE kept AS SELECT * FROM conversation_s{slot} WHERE id = {id};
                 DELETE FROM conversation_s{slot} WHERE id = {id}"
            ),
            format!("INSERT INTO conversation_s{slot} SELECT * FROM kept; DROP TABLE kept"),
        ),
        of_direct(
            "contents",
            format!("UPDATE event_s{slot} SET body = 'x' WHERE conversation_id = {id} AND seq = 5"),
            format!("UPDATE event_s{slot} SET body = '' WHERE conversation_id = {id} AND seq = 5"),
        ),
        of_direct(
            "contents",
            format!("INSERT INTO reaction_s{slot} VALUES ({slot}, {id}, 5, {}, '👍')", hex(scene.bea.to_u128())),
            format!("DELETE FROM reaction_s{slot} WHERE conversation_id = {id} AND message_seq = 5"),
        ),
        of_direct(
            "contents",
            format!("INSERT INTO reaction_s{slot} VALUES ({slot}, {id}, 4, {}, '💔')", hex(scene.bea.to_u128())),
            format!("DELETE FROM reaction_s{slot} WHERE conversation_id = {id} AND emoji = '💔'"),
        ),
        of_direct(
            "members",
            format!("UPDATE conversation_s{slot} SET members = 3 WHERE id = {id}"),
            format!("UPDATE conversation_s{slot} SET members = 2 WHERE id = {id}"),
        ),
    ];
    for broken in cases {
        scene.break_one(broken).await;
    }
    broken_places(&scene).await;
    broken_inboxes(&scene).await;
    let (code, told) = verify(&scene.cluster, &[]).await;
    assert_eq!(code, 0, "all is mended: {told:#}");
    scene.cluster.assert_no_errors();
}

/// Fences, cursors, and rows where they do not belong.
async fn broken_places(scene: &Scene) {
    let (slot, direct) = (scene.slot(), scene.direct);
    let store = scene.store_of(slot).await;
    let other = 3 - store;
    let of_slot = |check, store, damage, repair| Broken { check, slot, store, place: Place::Slot, damage, repair };
    scene
        .break_one(of_slot(
            "fences",
            store,
            format!("UPDATE slot_fence SET epoch = epoch + 1 WHERE slot = {slot}"),
            format!("UPDATE slot_fence SET epoch = epoch - 1 WHERE slot = {slot}"),
        ))
        .await;
    scene
        .break_one(of_slot(
            "cursors",
            store,
            format!("INSERT INTO slot_cursor VALUES ({slot}, 'nobody', 'ffffffffffffffffffffffffffffffff')"),
            "DELETE FROM slot_cursor WHERE consumer = 'nobody'".to_owned(),
        ))
        .await;
    scene
        .break_one(of_slot(
            "places",
            other,
            format!(
                "SELECT create_slot({slot});
                 INSERT INTO profile_s{slot} VALUES ({slot}, {}, NULL, false, NULL, true, false)",
                hex(scene.ana.to_u128())
            ),
            // What is empty is as good as not there.
            format!("DELETE FROM profile_s{slot}"),
        ))
        .await;
    // A group that hashes elsewhere.
    let elsewhere = (1..).map(ConversationId::from_u128).find(|id| scene.slots().of_conversation(*id) != slot);
    let elsewhere = elsewhere.expect("most do");
    let damage = format!(
        "INSERT INTO conversation_s{slot} VALUES ({slot}, {}, 2, NULL, NULL, 'lost', 0, false, {}, 0)",
        hex(elsewhere.to_u128()),
        hex(scene.ana.to_u128())
    );
    let repair = format!("DELETE FROM conversation_s{slot} WHERE name = 'lost'");
    let place = Place::Conversation(elsewhere);
    scene.break_one(Broken { check: "places", slot, store, place, damage, repair }).await;
    assert_ne!(elsewhere, direct);
}

/// Rows that are not what the log says, that are missing, and of somebody else.
async fn broken_inboxes(scene: &Scene) {
    let (direct, place) = (hex(scene.direct.to_u128()), Place::Conversation(scene.direct));
    let slot = scene.slots().of_user(scene.bea);
    let (store, bea) = (scene.store_of(slot).await, hex(scene.bea.to_u128()));
    let row = format!("user_id = {bea} AND conversation_id = {direct}");
    let cases = [
        (
            format!("UPDATE inbox_s{slot} SET last_seq = last_seq + 1 WHERE {row}"),
            format!("UPDATE inbox_s{slot} SET last_seq = last_seq - 1 WHERE {row}"),
        ),
        (
            format!("UPDATE inbox_s{slot} SET read_message_no = read_message_no - 1 WHERE {row}"),
            format!("UPDATE inbox_s{slot} SET read_message_no = read_message_no + 1 WHERE {row}"),
        ),
        (
            format!(
                "CREATE TABLE kept AS SELECT * FROM inbox_s{slot} WHERE {row}; DELETE FROM inbox_s{slot} WHERE {row}"
            ),
            format!("INSERT INTO inbox_s{slot} SELECT * FROM kept; DROP TABLE kept"),
        ),
    ];
    for (damage, repair) in cases {
        scene.break_one(Broken { check: "inboxes", slot, store, place, damage, repair }).await;
    }
    let slot = scene.slots().of_user(scene.dan);
    let (store, dan) = (scene.store_of(slot).await, hex(scene.dan.to_u128()));
    let damage = format!(
        "INSERT INTO inbox_s{slot} SELECT slot, user_id, {direct}, NULL, 'strange', large, joined_seq, left_seq, \
             last_event_id, last_seq, last_message_no, last_at_ms, read_seq, read_message_no, others_delivered_seq, \
             others_read_seq, rev + 1000 FROM inbox_s{slot} WHERE user_id = {dan} LIMIT 1"
    );
    let repair = format!("DELETE FROM inbox_s{slot} WHERE name = 'strange'");
    scene.break_one(Broken { check: "strangers", slot, store, place, damage, repair }).await;
}

#[tokio::test]
async fn people_who_chat_and_slots_that_change_hands_are_no_violations() {
    let cluster = Arc::new(Cluster::builder().nodes(3).stores(2).slots(SLOTS).start().await);
    let chatting = Chatting::start(&cluster).await;
    let held = verify(&cluster, &[]).await;
    assert_eq!(held.0, 0, "while people chat: {:#}", held.1);
    assert!(held.1["events"].as_u64() > Some(0), "{:#}", held.1);

    let all = format!("0-{}", SLOTS - 1);
    let moving = ["move", all.as_str(), "--to", "2", "--slots-per-move", "2"];
    let (moved, verified) = tokio::join!(ctl(&cluster, &moving), async {
        let mut verified = Vec::new();
        for _ in 0..3 {
            verified.push(verify(&cluster, &[]).await);
        }
        verified
    });
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    cluster.kill(Member::Node(1));
    let without_a_node = verify(&cluster, &[]).await;
    for (code, told) in verified.into_iter().chain([without_a_node]) {
        assert_eq!(code, 0, "{told:#}");
    }
    chatting.check().await;
}

#[tokio::test]
async fn a_store_that_is_away_is_told_and_is_no_success() {
    let cluster = Arc::new(Cluster::builder().nodes(1).routers(1).stores(2).slots(SLOTS).start().await);
    let mut ana = Actor::connect(&cluster, 1, "ana", Skin::NativeJson).await;
    let to = cluster.login("bea").await.user;
    let sent = ana.send(to, "t", "hello").await;
    let slot = SlotCount::try_from(SLOTS).expect("a power of two").of_conversation(sent.conversation_id);

    assert_eq!(verify(&cluster, &[]).await.0, 0);
    let (code, told) = verify(&cluster, &["--set", "stores.2.dsn=host=127.0.0.1 port=1 user=nobody"]).await;
    assert_eq!((code, &told["outcome"]), (3, &"incomplete".into()), "{told:#}");
    let skipped = told["skipped"].as_array().expect("what was skipped");
    assert!(!skipped.is_empty() && skipped.iter().all(|it| it["store"] == 2 && it["why"] == "unreadable"), "{told:#}");

    let slot = slot.to_string();
    let (code, told) = verify(&cluster, &["--slots", &slot]).await;
    assert_eq!((code, &told["slots_checked"], &told["events"]), (0, &1.into(), &1.into()), "{told:#}");
    for wrong in ["16", "a"] {
        let output = ctl(&cluster, &["verify", "--slots", wrong]).await;
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
    cluster.kill(Member::Node(1));
    let output = ctl(&cluster, &["verify"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}
