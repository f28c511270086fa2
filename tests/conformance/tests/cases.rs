//! Every case, against both servers.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use futures_util::{StreamExt, stream};
use tertulia_test_conformance::{Server, case::Verdict, cases, echo, router, run};

const AT_ONCE: usize = 16;
/// Larger than a session's limit, for case 7.1.6.
const ECHO_BYTES_MAX: usize = 1024 * 1024;
/// Text that is wrong is found out when its frame has come as a whole, not before.
const NOT_STRICT: [&str; 2] = ["6.4.3", "6.4.4"];

async fn all(server: Server, address: SocketAddr) {
    let verdicts: Vec<(String, Verdict)> = stream::iter(cases::all(server))
        .map(async |case| (case.id.clone(), run::run(server, address, &case).await))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut wrong = Vec::new();
    for (id, verdict) in &verdicts {
        let expected = if NOT_STRICT.contains(&id.as_str()) { Verdict::NotStrict } else { Verdict::Passed };
        if *verdict != expected {
            wrong.push(format!("{id}: {verdict:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases against {server:?}:\n{}", wrong.len(), verdicts.len(), wrong.join("\n"));
}

#[tokio::test]
async fn sessions_of_a_router_pass_every_case() {
    let router = router::start().await.unwrap();
    all(Server::Session, router.address).await;
}

#[tokio::test]
async fn what_a_client_sends_is_received_as_it_was_sent() {
    let (address, served) = echo::start("127.0.0.1:0".parse().unwrap(), ECHO_BYTES_MAX).await.unwrap();
    all(Server::Echo, address).await;
    served.abort();
}

#[test]
fn no_case_of_the_suite_is_missing() {
    let count = |section: &str| {
        let ids: std::collections::BTreeSet<String> =
            cases::all(Server::Echo).into_iter().map(|case| case.id).filter(|id| id.starts_with(section)).collect();
        ids.len()
    };
    let counts = ["1.", "2.", "3.", "4.", "5.", "6.", "7.", "10."].map(count);
    assert_eq!(counts, [16, 11, 7, 10, 20, 145, 37, 1]);
}
