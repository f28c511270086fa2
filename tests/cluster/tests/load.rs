//! What an operator sees of where the load is: `tertuliactl map`, `plan`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use tertulia_shard_map::{DirectPair, SlotCount};
use tertulia_test_support::{Cluster, eventually};

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
