//! A node dies or stops while people chat: the others take its slots over by themselves, and nothing is lost.

mod chatting;

use std::time::Duration;

use tertulia_test_support::{Cluster, Member, eventually};

use self::chatting::Chatting;

#[tokio::test]
async fn the_slots_of_a_dead_node_are_taken_over_and_given_back_when_it_returns() {
    let cluster = Cluster::builder().start().await;
    let before = [cluster.slots_serving(1).await, cluster.slots_serving(2).await, cluster.slots_serving(3).await];
    let chatting = Chatting::start(&cluster).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill(Member::Node(2));
    eventually("the others to serve all of it", async || {
        let served = cluster.slots_serving(1).await + cluster.slots_serving(3).await;
        (served == before.iter().sum::<f64>()).then_some(())
    })
    .await;
    cluster.start(Member::Node(2));
    cluster.wait_ready(Member::Node(2)).await;
    eventually("it to have its slots back", async || (cluster.slots_serving(2).await == before[1]).then_some(())).await;
    chatting.check().await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_node_that_stops_hands_its_slots_over_first() {
    let cluster = Cluster::builder().start().await;
    let all = cluster.slots_serving(1).await + cluster.slots_serving(2).await + cluster.slots_serving(3).await;
    let chatting = Chatting::start(&cluster).await;
    for node in 1..=3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(cluster.terminate(Member::Node(node)).await.success());
        assert!(cluster.log(Member::Node(node)).contains("others own the slots of this node"), "node {node}");
        let others: Vec<u32> = (1..=3).filter(|&it| it != node).collect();
        eventually("the others to serve all of it", async || {
            let served = cluster.slots_serving(others[0]).await + cluster.slots_serving(others[1]).await;
            (served == all).then_some(())
        })
        .await;
        cluster.start(Member::Node(node));
        cluster.wait_ready(Member::Node(node)).await;
    }
    chatting.check().await;
    cluster.assert_no_errors();
}
