//! Disks that are full or do not keep what they are given: what was acknowledged stays, and the rest of the cluster goes on.

use tertulia_shard_map::{SlotCount, UserId};
use tertulia_test_support::{Client, Cluster, Disks, Member, Strace, Sync, client::message, eventually};
use tertulia_wire::client::{Command, ErrorCode, Reply};

const SLOTS: u32 = 64;
/// Messages until the pages have no room left that they have already.
const MESSAGES_MAX: u32 = 1000;

/// One who talks with another, in a conversation whose store is this one.
async fn pair_in(cluster: &Cluster, store: u32) -> (Client, UserId) {
    let slots = SlotCount::try_from(SLOTS).expect("a power of two");
    let rows = cluster.sql(store).await.query("SELECT slot FROM slot_fence", &[]).await.expect("the store answers");
    let owned: Vec<u16> = rows.iter().map(|row| row.get::<_, i32>(0) as u16).collect();
    for number in 0.. {
        let to = cluster.login(&format!("b{number}")).await.user;
        let mut client = cluster.connect(1, &format!("a{number}")).await;
        let event = client.send(to, "t0", "is it here?").await;
        if owned.contains(&slots.of_conversation(event.conversation_id).get()) {
            return (client, to);
        }
    }
    unreachable!("one of so many is in this store")
}

fn say(to: UserId, number: u32) -> Command {
    Command::Send(message(to, &format!("t{number}"), &number.to_string().repeat(100)))
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_sent_until_it_has_room_and_other_stores_go_on() {
    if let Some(why) = Disks::unavailable() {
        return eprintln!("not tried: {why}");
    }
    let cluster = Cluster::builder().slots(SLOTS).on_disks().start().await;
    let ((mut one, to_one), (mut other, to_other)) = (pair_in(&cluster, 1).await, pair_in(&cluster, 2).await);
    let disks = cluster.disks().expect("they were asked for");
    disks.fill(1);
    let mut number = 0;
    let refused = loop {
        number += 1;
        assert!(number < MESSAGES_MAX, "a full disk takes all of these");
        match one.call(say(to_one, number)).await {
            Reply::Ack(_) => {}
            other => break other,
        }
    };
    assert!(
        matches!(&refused, Reply::Error(error) if error.code == ErrorCode::Unavailable && error.retryable),
        "{refused:?}"
    );
    let acked = other.call(say(to_other, 1)).await;
    assert!(matches!(acked, Reply::Ack(_)), "{acked:?}");

    disks.free(1);
    let Reply::Ack(ack) = one.call(say(to_one, number)).await else { panic!("it has room again") };
    let history = one.history(ack.message.conversation_id).await;
    let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
    assert_eq!(seqs, (1..=u64::from(number) + 1).collect::<Vec<_>>(), "what was acked, and no more");
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_node_whose_log_does_not_get_on_its_disk_ends() {
    if let Some(why) = Strace::unavailable() {
        return eprintln!("not tried: {why}");
    }
    let cluster = Cluster::builder().slots(SLOTS).start().await;
    let victim = Member::Node(1);
    let strace = cluster.spoil_syncs(victim, Sync::Failing);
    // No change, but an entry in everybody's log.
    cluster.ctl(&["weight", "node-2", "1", "--no-wait"]);
    eventually("the node to end", async || (!cluster.is_running(victim)).then_some(())).await;
    drop(strace);
    let slots = async || cluster.slots_serving(2).await + cluster.slots_serving(3).await;
    eventually("others to serve its slots", async || (slots().await == f64::from(SLOTS)).then_some(())).await;

    cluster.start(victim);
    cluster.wait_ready(victim).await;
    cluster.assert_no_errors_but(&[r#""task":"raft""#]);
}
