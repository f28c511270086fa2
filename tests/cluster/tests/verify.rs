//! `tertuliactl verify` finds nothing in what people said, and each thing that is broken in it.

mod chatting;

use chatting::Chatting;
use serde_json::Value;
use tertulia_test_support::{Cluster, Member};

fn verify(cluster: &Cluster) -> (Option<i32>, Value) {
    let output = cluster.ctl(&["verify", "--json"]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {complaints}"));
    (output.status.code(), told)
}

/// In whichever store it changes something.
async fn change(cluster: &Cluster, sql: &str) {
    let mut changed = 0;
    for store in [1, 2] {
        if changed == 0 {
            changed = cluster.sql(store).await.execute(sql, &[]).await.expect("the store takes it");
        }
    }
    assert!(changed > 0, "{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_found_and_named() {
    let cluster = Cluster::builder().start().await;
    let chatting = Chatting::start(&cluster).await;
    let (code, told) = verify(&cluster);
    assert_eq!(code, Some(0), "under way: {told}");
    chatting.check().await;
    let (code, told) = verify(&cluster);
    assert_eq!((code, told["violations"].as_object().map(|it| it.len())), (Some(0), Some(0)), "{told}");
    assert!(told["events"].as_u64() > Some(0) && told["slots"].as_u64() == Some(64), "{told}");

    // What is broken stays so: one after the other adds up.
    let mut known = 0;
    for (sql, rule) in [
        (
            "UPDATE event SET message_no = message_no + 1 WHERE seq = 1 AND conversation_id = \
          (SELECT conversation_id FROM event ORDER BY 1 LIMIT 1)",
            "I3 message_no counts the messages",
        ),
        (
            "DELETE FROM event WHERE seq = 2 AND conversation_id = \
          (SELECT conversation_id FROM event WHERE seq = 3 ORDER BY 1 DESC LIMIT 1)",
            "I3 seq is contiguous from 1",
        ),
        (
            "UPDATE event SET deleted_at_ms = 1 WHERE seq = 1 AND conversation_id = \
          (SELECT conversation_id FROM event ORDER BY 1 DESC LIMIT 1)",
            "I3 nothing is left of deleted messages",
        ),
        (
            "UPDATE slot_cursor SET event_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' WHERE slot = \
          (SELECT slot FROM event LIMIT 1)",
            "I7 fan-out is not ahead of the log",
        ),
        (
            "DELETE FROM conversation WHERE id = (SELECT conversation_id FROM event ORDER BY 1 LIMIT 1)",
            "I4 every event and member is of a conversation",
        ),
        (
            "INSERT INTO profile (slot, user_id, own_name, shares_presence, disabled) \
          SELECT f.slot, k.id::uuid, true, true, false FROM slot_fence f, \
          (VALUES ('00000000-0000-0000-0000-000000000001'), ('00000000-0000-0000-0000-000000000002')) k (id) \
          WHERE f.slot = (SELECT min(slot) FROM slot_fence WHERE node > 0)",
            "I5 keys are in their slots",
        ),
    ] {
        change(&cluster, sql).await;
        let (code, told) = verify(&cluster);
        let violations = told["violations"].as_object().expect("an object");
        assert!(code == Some(1) && violations.contains_key(rule), "{rule}: {told}");
        assert!(violations.len() > known, "{rule}: {told}");
        known = violations.len();
    }
    assert!(cluster.is_running(Member::Node(1)));
}
