//! What a user may do in a while, as clients see it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use tertulia_test_support::{Client, Cluster, Member, client};
use tertulia_wire::client::{ErrorCode, ErrorReply, Event};

const SENDS: usize = 5;

async fn say(client: &mut Client, to: &Client, temp_id: &str) -> Result<Event, ErrorReply> {
    client.try_send(client::message(to.user(), temp_id, "hello")).await.map(|ack| ack.message)
}

#[tokio::test]
async fn a_user_has_one_limit_at_all_routers_and_others_have_theirs() {
    let cluster = Cluster::builder().set("limits.enabled", true).set("limits.sends", SENDS).start().await;
    let (mut phone, mut tablet) = (cluster.connect(1, "ana").await, cluster.connect(2, "ana").await);
    let mut bea = cluster.connect(2, "bea").await;
    let mut seqs = Vec::new();
    for number in 0..SENDS {
        let device = if number % 2 == 0 { &mut phone } else { &mut tablet };
        seqs.push(say(device, &bea, &format!("t{number}")).await.unwrap().seq.get());
    }
    assert_eq!(seqs, (1..=SENDS as u64).collect::<Vec<_>>());
    for device in [&mut phone, &mut tablet] {
        let refused = say(device, &bea, "one more").await.unwrap_err();
        assert_eq!((refused.code, refused.retryable), (ErrorCode::RateLimited, true));
        assert!(refused.retry_after_ms.is_some_and(|wait| (1..=60_000).contains(&wait)), "{refused:?}");
    }
    say(&mut bea, &phone, "others may").await.unwrap();

    // Each router by itself now: what it has counted, it has not forgotten.
    cluster.kill(Member::Redis);
    for number in 0..SENDS - 1 {
        say(&mut bea, &phone, &format!("b{number}")).await.unwrap();
    }
    let refused = say(&mut bea, &phone, "one more").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    cluster.assert_no_errors();
}
