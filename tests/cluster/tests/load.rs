//! What an operator sees of where the load is: `tertuliactl map`, `plan` and `top`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use serde_json::Value;
use tertulia_shard_map::{DirectPair, SlotCount};
use tertulia_test_support::{Cluster, Member, eventually};

fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let output = cluster.ctl(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_which_slot_is_hot() {
    let cluster = Cluster::builder().start().await;
    let idle = json(&cluster, &["map", "--json"]);
    assert!(idle["slots"].as_array().unwrap().iter().all(|slot| slot["events_per_s"] == 0.0), "{idle}");

    let (mut ana, bea) = (cluster.connect(1, "ana").await, cluster.login("bea").await.user);
    let slots = SlotCount::try_from(64).unwrap();
    let slot = slots.of_conversation(DirectPair::new(ana.user(), bea).conversation_id());
    let talking = tokio::spawn(async move {
        for number in 0.. {
            ana.send(bea, &format!("t{number}"), "listen!").await;
        }
    });
    let hot = eventually("the slot to be hot", async || {
        let plan = json(&cluster, &["plan", "--json"]);
        plan["hot_slots"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!((&hot["slot"], &hot["hot"]), (&slot.get().into(), &true.into()), "{hot}");
    let map = json(&cluster, &["map", "--json"]);
    let told = &map["slots"][slot.index()];
    assert!(told["events_per_s"].as_f64() >= Some(10.0), "{told}");
    assert_eq!((&told["owner"], &told["store"]), (&hot["owner"], &hot["store"]));
    let text = String::from_utf8(cluster.ctl(&["plan"]).stdout).unwrap();
    assert!(text.contains(&format!("hot: slot {slot}, ")), "{text}");
    talking.abort();
    cluster.assert_no_errors();
}

#[tokio::test]
async fn top_shows_the_cluster_once_or_each_second_and_who_is_away() {
    let cluster = Cluster::builder().start().await;
    let _ana = cluster.connect(1, "ana").await;
    let view = json(&cluster, &["top", "--once", "--json"]);
    assert_eq!((&view["nodes_up"], &view["sessions"]), (&3.into(), &1.into()), "{view}");
    let nodes = view["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().map(|node| node["slots_serving"].as_u64().unwrap()).sum::<u64>(), 64, "{view}");
    assert_eq!(view["stores"].as_array().map(Vec::len), Some(2), "{view}");

    cluster.kill(Member::Node(3));
    let text = eventually("a node to be absent", async || {
        let output = cluster.ctl(&["top"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        text.contains("node-3    absent").then_some(text)
    })
    .await;
    assert!(text.contains("2 of 3 nodes up") && !text.contains('\x1b'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let mut top = cluster.binary("tertuliactl").args(["top", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(top.stdout.take().unwrap()).lines().take(2);
    let views: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(views.iter().all(|view| view["nodes"][2]["state"] == "absent"), "{views:?}");
    // The pipe is closed by now: there is nobody left to tell.
    assert_eq!(top.wait().unwrap().code(), Some(0));
}
