//! The soak, in small: what `scripts/soak` does for half an hour, for some seconds.

use std::process::Command;

use serde_json::Value;
use tertulia_test_support::{Cluster, Member, binary};

#[tokio::test]
async fn a_short_soak_finds_every_promise_kept() {
    let cluster = Cluster::builder().start().await;
    cluster.write_pid_files();
    let mut command = Command::new(binary("tertulia-soak"));
    command.arg("--data").arg(cluster.folder());
    for router in 1..=2 {
        command.args(["--router", &cluster.address(Member::Router(router)).to_string()]);
    }
    for store in 1..=2 {
        command.args(["--store", &cluster.dsn(store)]);
    }
    command.args(["--minutes", "0.4", "--rate", "200", "--people", "20", "--groups", "4", "--restless-percent", "50"]);
    // How fast it is says nothing here: other tests run beside it.
    command.args(["--deaf", "2", "--acked-percent-min", "0", "--json", "-"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"));
    assert!(output.status.success(), "{report:#}\n{complaint}");

    assert_eq!(report["faults"], Value::Array(Vec::new()));
    for number in 1..=7 {
        assert_eq!(report["invariants"][format!("I{number}")], 0, "{report:#}");
    }
    for key in ["said", "acked", "pushes", "syncs", "marks", "own_reads"] {
        assert!(report[key].as_u64() > Some(0), "{key}: {report:#}");
    }
    let sessions = &report["sessions"];
    assert!(sessions["joined"].as_u64() > Some(20), "people came and went: {report:#}");
    assert!(sessions["never_reading"].as_u64() >= Some(2), "{report:#}");
    let courses = report["memory"].as_array().expect("a list");
    let names: Vec<_> = courses.iter().filter_map(|course| course["process"].as_str()).collect();
    assert_eq!(names, ["load", "node-1", "node-2", "node-3", "postgres", "redis", "router-1", "router-2"]);
    cluster.assert_no_errors();
}
