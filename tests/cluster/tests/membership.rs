//! Nodes join, are drained and leave while people chat: nobody notices, and nothing is lost.

mod chatting;

use serde_json::Value;
use tertulia_test_support::{Cluster, Member, eventually};

use self::chatting::Chatting;

fn ctl(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.ctl(arguments);
    let (text, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "tertuliactl {}: {complaint}\n{text}", arguments.join(" "));
    text.into_owned()
}

fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    serde_json::from_str(&ctl(cluster, arguments)).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_another_is_drained_and_removed_under_load() {
    let mut cluster = Cluster::builder().start().await;
    let chatting = Chatting::start(&cluster).await;

    let fourth = cluster.configure_node(1);
    cluster.start(fourth);
    let said = ctl(&cluster, &["join", "node-4"]);
    assert!(said.contains("node-4 owns"), "{said}");
    let owned = cluster.slots_serving(4).await;
    assert!(owned >= 10.0, "a third of the slots of its home store, but {owned}");
    cluster.wait_ready(fourth).await;
    let members = json(&cluster, &["raft", "members", "--json"]);
    assert!(
        members.as_array().is_some_and(|list| list.len() == 4 && list.iter().all(|it| it["votes"] == true)),
        "{members}"
    );

    let refused = cluster.ctl(&["remove", "node-1", "--yes"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("first tertuliactl drain node-1"));
    ctl(&cluster, &["drain", "node-1"]);
    assert_eq!(cluster.slots_serving(1).await, 0.0);
    assert_eq!(cluster.ctl(&["plan"]).status.code(), Some(0), "nothing is left to do");
    ctl(&cluster, &["drain", "node-1", "--undo"]);
    assert!(cluster.slots_serving(1).await > 0.0, "it has its share again");
    ctl(&cluster, &["weight", "node-3", "0.25"]);
    let nodes = json(&cluster, &["nodes", "--json"]);
    let owned = |id: usize| nodes[id - 1]["slots_owned"].as_u64().expect("a number");
    assert!(owned(3) < owned(1) && owned(3) > 0, "{nodes}");

    ctl(&cluster, &["drain", "2"]);
    ctl(&cluster, &["remove", "2", "--yes"]);
    assert!(cluster.terminate(Member::Node(2)).await.success());
    let nodes = json(&cluster, &["nodes", "--json"]);
    assert_eq!(nodes.as_array().map(Vec::len), Some(3), "{nodes}");
    let stores = json(&cluster, &["stores", "--json"]);
    assert!(stores.as_array().is_some_and(|list| list.iter().all(|it| it["slots"].as_u64() > Some(0))), "{stores}");

    // And what has left is not missed: three of three votes are there, of which one may go.
    cluster.kill(Member::Node(3));
    eventually("the others to serve all of it", async || {
        (cluster.slots_serving(1).await + cluster.slots_serving(4).await == 64.0).then_some(())
    })
    .await;
    chatting.check().await;
    cluster.assert_no_errors();
}
