//! A node dies or stops while people chat: the others take its slots over by themselves, and nothing is lost.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tertulia_shard_map::{ConversationId, Seq, UserId};
use tertulia_test_support::{Client, Cluster, Member, client::message, eventually};
use tertulia_wire::client::{Command, Reply};
use tokio::{sync::watch, task::JoinHandle};

const PAIRS: u32 = 12;
/// From the fault until the last message is acked that was under way, on a loaded machine: without a take-over nothing
/// would end it.
const OUTAGE_MAX: Duration = Duration::from_secs(8);

struct Sent {
    client: Client,
    conversation: ConversationId,
    acked: BTreeMap<Seq, String>,
    /// The longest time that one message took.
    worst: Duration,
}

/// Sends one message after the other for as long as `go` says so, each until it is acked.
fn keep_sending(mut client: Client, to: UserId, go: watch::Receiver<bool>) -> JoinHandle<Sent> {
    tokio::spawn(async move {
        let (mut acked, mut conversation, mut worst, mut number) = (BTreeMap::new(), None, Duration::ZERO, 0);
        while *go.borrow() {
            number += 1;
            let content = format!("message {number}");
            let since = Instant::now();
            loop {
                match client.call(Command::Send(message(to, &format!("t{number}"), &content))).await {
                    Reply::Ack(ack) => {
                        conversation = Some(ack.message.conversation_id);
                        acked.insert(ack.message.seq, content);
                        break;
                    }
                    Reply::Error(error) if error.retryable => {}
                    other => panic!("{other:?}"),
                }
            }
            worst = worst.max(since.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Sent { client, conversation: conversation.expect("something was sent"), acked, worst }
    })
}

async fn slots_serving(cluster: &Cluster, node: u32) -> f64 {
    cluster.metric(Member::Node(node), "tertulia_node_slots_serving").await
}

async fn check(sending: Vec<JoinHandle<Sent>>) {
    for sending in sending {
        let Sent { mut client, conversation, acked, worst } = sending.await.expect("a sender ends well");
        println!("{} messages, the slowest took {} ms", acked.len(), worst.as_millis());
        assert!(worst < OUTAGE_MAX, "a message took {worst:?}");
        let history = client.history(conversation).await;
        let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
        assert_eq!(seqs, (1..=acked.len() as u64).collect::<Vec<_>>(), "contiguous, and no more than was acknowledged");
        for event in &history {
            assert_eq!(event.content.as_ref(), acked.get(&event.seq));
        }
    }
}

async fn chat(cluster: &Cluster) -> (watch::Sender<bool>, Vec<JoinHandle<Sent>>) {
    let (go, going) = watch::channel(true);
    let mut sending = Vec::new();
    for pair in 0..PAIRS {
        let to = cluster.login(&format!("b{pair}")).await.user;
        let sender = cluster.connect(1 + pair % 2, &format!("a{pair}")).await;
        sending.push(keep_sending(sender, to, going.clone()));
    }
    (go, sending)
}

#[tokio::test]
async fn the_slots_of_a_dead_node_are_taken_over_and_given_back_when_it_returns() {
    let cluster = Cluster::builder().start().await;
    let before = [slots_serving(&cluster, 1).await, slots_serving(&cluster, 2).await, slots_serving(&cluster, 3).await];
    let (go, sending) = chat(&cluster).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill(Member::Node(2));
    eventually("the others to serve all of it", async || {
        let served = slots_serving(&cluster, 1).await + slots_serving(&cluster, 3).await;
        (served == before.iter().sum::<f64>()).then_some(())
    })
    .await;
    cluster.start(Member::Node(2));
    cluster.wait_ready(Member::Node(2)).await;
    eventually("it to have its slots back", async || (slots_serving(&cluster, 2).await == before[1]).then_some(()))
        .await;
    go.send(false).expect("senders listen");
    check(sending).await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_node_that_stops_hands_its_slots_over_first() {
    let cluster = Cluster::builder().start().await;
    let all = slots_serving(&cluster, 1).await + slots_serving(&cluster, 2).await + slots_serving(&cluster, 3).await;
    let (go, sending) = chat(&cluster).await;
    for node in 1..=3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(cluster.terminate(Member::Node(node)).await.success());
        assert!(cluster.log(Member::Node(node)).contains("others own the slots of this node"), "node {node}");
        let others: Vec<u32> = (1..=3).filter(|&it| it != node).collect();
        eventually("the others to serve all of it", async || {
            let served = slots_serving(&cluster, others[0]).await + slots_serving(&cluster, others[1]).await;
            (served == all).then_some(())
        })
        .await;
        cluster.start(Member::Node(node));
        cluster.wait_ready(Member::Node(node)).await;
    }
    go.send(false).expect("senders listen");
    check(sending).await;
    cluster.assert_no_errors();
}
