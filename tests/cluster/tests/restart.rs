//! Nodes are killed and started again, under load: nothing that was acknowledged is lost, doubled or out of order, and no
//! session closes. (Until it is back, a killed node's slots wait: automatic take-over is another matter.)

use std::{collections::BTreeMap, time::Duration};

use tertulia_shard_map::{ConversationId, Seq, UserId};
use tertulia_test_support::{Client, Cluster, Login, Member, client::message, eventually};
use tertulia_wire::client::ErrorCode;
use tokio::{sync::watch, task::JoinHandle};

/// What a sender knows for sure.
struct Sent {
    conversation: ConversationId,
    /// Acknowledged content by seq.
    acked: BTreeMap<Seq, String>,
    client: Client,
}

/// Sends one message after the other, each until it is acknowledged, for as long as `go` says so.
fn keep_sending(mut client: Client, to: UserId, go: watch::Receiver<bool>) -> JoinHandle<Sent> {
    tokio::spawn(async move {
        let mut acked = BTreeMap::new();
        let mut conversation = None;
        let mut number = 0;
        while *go.borrow() {
            number += 1;
            let content = format!("message {number}");
            loop {
                match client.try_send(message(to, &format!("t{number}"), &content)).await {
                    Ok(ack) => {
                        conversation = Some(ack.message.conversation_id);
                        acked.insert(ack.message.seq, content);
                        break;
                    }
                    Err(error) => assert!(error.retryable && error.code != ErrorCode::Internal, "{error:?}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Sent { conversation: conversation.expect("something was sent"), acked, client }
    })
}

#[tokio::test]
async fn killing_and_restarting_any_node_loses_nothing_that_was_acknowledged() {
    let cluster = Cluster::builder().start().await;
    let (go, going) = watch::channel(true);
    let mut pairs: Vec<(Client, JoinHandle<Sent>)> = Vec::new();
    for pair in 0..8 {
        let Login { user, .. } = cluster.login(&format!("b{pair}")).await;
        let receiver = cluster.connect(2, &format!("b{pair}")).await;
        let sender = cluster.connect(1, &format!("a{pair}")).await;
        pairs.push((receiver, keep_sending(sender, user, going.clone())));
    }
    for node in 1..=3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // By force, and in order: the one must not lose more than the other.
        if node == 2 {
            cluster.terminate(Member::Node(node)).await;
        } else {
            cluster.kill(Member::Node(node));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.start(Member::Node(node));
        cluster.wait_ready(Member::Node(node)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    go.send(false).expect("senders listen");

    for (mut receiver, sending) in pairs {
        let Sent { conversation, acked, mut client } = sending.await.expect("a sender ends well");
        let history = client.history(conversation).await;
        let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
        assert_eq!(seqs, (1..=acked.len() as u64).collect::<Vec<_>>(), "contiguous, and no more than was acknowledged");
        for event in &history {
            assert_eq!(event.content.as_ref(), acked.get(&event.seq));
        }
        assert_eq!(receiver.history(conversation).await, history, "the same for every reader");
        // The receiver's session lived through it all, and its list catches up.
        let last = history.last().expect("something was sent").seq;
        eventually("the receiver's list to have it all", async || {
            let (rows, _) = receiver.sync(None).await;
            (rows.len() == 1 && rows[0].last_seq == last && rows[0].unread == last.get()).then_some(())
        })
        .await;
    }
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_restarted_postgres_costs_time_only() {
    let cluster = Cluster::builder().start().await;
    let (go, going) = watch::channel(true);
    let receiver = cluster.login("bea").await;
    let sending = keep_sending(cluster.connect(1, "ana").await, receiver.user, going);
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill(Member::Postgres);
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.start(Member::Postgres);
    cluster.wait_ready(Member::Postgres).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    go.send(false).expect("the sender listens");
    let Sent { conversation, acked, mut client } = sending.await.expect("the sender ends well");
    let history = client.history(conversation).await;
    assert_eq!(history.len(), acked.len());
    assert!(history.iter().all(|event| event.content.as_ref() == acked.get(&event.seq)));
}

#[tokio::test]
async fn a_whole_cluster_comes_back_as_it_was() {
    let cluster = Cluster::builder().start().await;
    let mut ana = cluster.connect(1, "ana").await;
    let bea = cluster.login("bea").await;
    let sent = ana.send(bea.user, "t1", "before").await;
    for node in 1..=3 {
        cluster.kill(Member::Node(node));
    }
    for node in 1..=3 {
        cluster.start(Member::Node(node));
    }
    for node in 1..=3 {
        cluster.wait_ready(Member::Node(node)).await;
    }
    // The same session: sockets do not close because nodes died.
    let after = ana.send(bea.user, "t2", "after").await;
    assert_eq!(after.seq, Seq::new(2));
    assert_eq!(ana.send(bea.user, "t1", "before").await, sent);
    cluster.assert_no_errors();
}
