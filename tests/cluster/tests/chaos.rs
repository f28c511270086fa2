//! What `scripts/chaos` does, for three minutes: nearly every kind of fault comes, and no promise is broken.

use std::process::Command;

use serde_json::Value;
use tertulia_test_support::binary;

#[tokio::test]
async fn three_minutes_of_faults_break_no_promise() {
    let mut command = Command::new(binary("tertulia-chaos"));
    command.args(["--minutes", "3", "--seed", "1", "--people", "60", "--rate", "100", "--json", "-"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it starts");
    let course = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {course}"));
    assert!(output.status.success(), "{report:#}\n{course}");

    assert_eq!(report["failures"], Value::Array(Vec::new()));
    for number in [1, 2, 3, 4, 5, 6, 7, 9] {
        assert_eq!(report["invariants"][format!("I{number}")], "ok", "{report:#}");
    }
    let faults = report["faults"].as_object().expect("counts");
    assert!(faults.len() >= 15, "many kinds came: {report:#}");
    assert!(report["acked"].as_u64() > Some(1_000), "{report:#}");
    assert_eq!(report["stale_writes_committed"], 0, "{report:#}");
    println!("{report:#}\n{course}");
}
