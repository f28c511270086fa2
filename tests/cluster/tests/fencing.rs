//! A frozen owner loses its slots to others while it is frozen: what it writes when it wakes must not be committed.

use std::{collections::BTreeSet, time::Duration};

use tertulia_shard_map::{ConversationId, DirectPair, EventId, UserId};
use tertulia_test_support::{Client, Cluster, Member, client::message, eventually};
use tertulia_wire::client::{Command, Reply};
use tokio::{sync::watch, task::JoinHandle};

/// What a sender knows for sure: every event that was acknowledged to it.
struct Sent {
    client: Client,
    conversation: ConversationId,
    acked: BTreeSet<EventId>,
}

/// Keeps the owner's queue full: many messages at a time, each tried again until it is acknowledged.
fn flood(mut client: Client, to: UserId, go: watch::Receiver<bool>) -> JoinHandle<Sent> {
    tokio::spawn(async move {
        let mut acked = BTreeSet::new();
        let mut number = 0;
        while *go.borrow() {
            let mut open: Vec<_> = (0..30)
                .map(|_| {
                    number += 1;
                    message(to, &number.to_string(), "flood")
                })
                .collect();
            while !open.is_empty() {
                let mut begun = Vec::new();
                for send in open.drain(..) {
                    begun.push((client.begin(&Command::Send(send.clone())).await, send));
                }
                for (id, send) in begun {
                    match client.reply(id).await {
                        Reply::Ack(ack) => drop(acked.insert(ack.message.id)),
                        Reply::Error(error) if error.retryable => open.push(send),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        let conversation = DirectPair::new(client.user(), to).conversation_id();
        Sent { client, conversation, acked }
    })
}

#[tokio::test]
async fn an_owner_that_was_frozen_and_deposed_under_load_commits_nothing_when_it_wakes() {
    let cluster = Cluster::builder().start().await;
    let (go, going) = watch::channel(true);
    let mut floods = Vec::new();
    for number in 0..8 {
        let to = cluster.login(&format!("b{number}")).await.user;
        floods.push(flood(cluster.connect(1 + number % 2, &format!("a{number}")).await, to, going.clone()));
    }

    let slots = async |node| cluster.metric(Member::Node(node), "tertulia_node_slots_serving").await;
    let owned = slots(1).await;
    let all = owned + slots(2).await + slots(3).await;
    let mut stopped = 0.0;
    // It may happen to freeze with nothing under way: then once more, when it has its slots back.
    for _ in 0..5 {
        eventually("node 1 to serve its slots", async || (slots(1).await == owned).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.pause(Member::Node(1));
        eventually("the others to serve all", async || (slots(2).await + slots(3).await == all).then_some(())).await;
        cluster.resume(Member::Node(1));
        tokio::time::sleep(Duration::from_millis(500)).await;
        stopped = cluster.metric(Member::Node(1), "tertulia_node_fenced_batches_total").await;
        if stopped > 0.0 {
            break;
        }
    }
    assert!(stopped > 0.0, "no stale write was attempted: the test has shown nothing");
    go.send(false).expect("senders listen");

    for flood in floods {
        let Sent { mut client, conversation, acked } = flood.await.expect("a sender ends well");
        let history = client.history(conversation).await;
        let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
        assert_eq!(seqs, (1..=acked.len() as u64).collect::<Vec<_>>(), "contiguous, and no more than was acknowledged");
        assert_eq!(history.iter().map(|event| event.id).collect::<BTreeSet<_>>(), acked);
    }
    cluster.assert_no_errors();
}
