//! RPC over real QUIC on the loopback.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tertulia_runtime::{
    rpc::{CallError, CallOptions, Class, Endpoint, EndpointConfig, IDLE_TIMEOUT, LinkState, PeerAddress},
    tasks::Supervisor,
    tls::Identity,
};
use tertulia_shard_map::MapVersion;
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, Refusal},
};
use tokio::time::timeout;

use support::{Authority, NODE, OTHER_NODE, Process, ROUTER, reach};

const SOON: Duration = Duration::from_secs(10);
const PATIENT: CallOptions = CallOptions::within(SOON);

/// A call that the scripted service answers with the same number.
fn echo(number: u64) -> Call {
    Call::WatchMap { have: MapVersion::new(number) }
}

fn echoed(number: u64) -> Answer {
    Answer::Propose { version: MapVersion::new(number) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_with_its_caller_and_trace_known() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    let trace = TraceId::new(0xabc);
    assert_eq!(client.call(echo(5), PATIENT.traced(trace)).await, Ok(echoed(5)));
    let seen = node.service.calls.lock().unwrap().clone();
    assert_eq!(seen, [support::Seen { from: ROUTER, class: Class::Data, trace, call: echo(5) }]);
    assert_eq!(client.call(Call::Initialise, PATIENT).await, Err(CallError::Refused(Refusal::Forbidden)));
    // Dropped by the service without an answer.
    assert_eq!(client.call(Call::Status, PATIENT).await, Err(CallError::Refused(Refusal::Internal)));
    assert_eq!(client.generation(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_at_once_arrive_in_the_order_of_their_start() {
    const CALLS: u64 = 10_000;
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    client.call(Call::Ping, PATIENT).await.unwrap();
    let started = Instant::now();
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let mut call = Box::pin(client.call(echo(number), PATIENT));
        // The first poll starts the call; its answer may already be there.
        let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        calls.push((call, polled));
    }
    for (number, (call, polled)) in calls.into_iter().enumerate() {
        let answer = match polled {
            Poll::Ready(answer) => answer,
            Poll::Pending => call.await,
        };
        assert_eq!(answer, Ok(echoed(number as u64)));
    }
    println!("{CALLS} calls took {:?}", started.elapsed());
    let seen: Vec<Call> = node.service.calls.lock().unwrap().iter().map(|seen| seen.call.clone()).collect();
    assert_eq!(seen, (0..CALLS).map(echo).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline_and_harms_no_other() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    client.call(Call::Ping, PATIENT).await.unwrap();
    let started = Instant::now();
    let late = client.call(support::HELD, CallOptions::within(Duration::from_millis(100))).await;
    assert_eq!(late, Err(CallError::Deadline));
    assert!(started.elapsed() >= Duration::from_millis(100));
    node.service.release_held(Answer::Raft("late".into()));
    assert_eq!(client.call(echo(1), PATIENT).await, Ok(echoed(1)));
    assert_eq!(client.generation(), Some(1));
}

#[tokio::test]
async fn calls_beyond_the_bound_fail_at_once() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    client.call(Call::Ping, PATIENT).await.unwrap();
    let mut held = Vec::new();
    let refused = loop {
        let mut call = Box::pin(client.call(support::HELD, PATIENT));
        match std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            Poll::Pending => held.push(call),
            Poll::Ready(outcome) => break outcome,
        }
    };
    assert_eq!(refused, Err(CallError::TooManyInFlight));
    assert_eq!(held.len(), tertulia_runtime::rpc::CALLS_IN_FLIGHT_MAX);
    drop(held);
    assert_eq!(client.call(echo(1), PATIENT).await, Ok(echoed(1)));
}

#[tokio::test]
async fn a_call_that_fits_into_no_frame_fails_alone() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Raft);
    let large = vec![0; tertulia_wire::limits::CLUSTER_FRAME_BYTES];
    assert_eq!(client.call(Call::Raft(large.into()), PATIENT).await, Err(CallError::TooLarge));
    let fits = bytes::Bytes::from(vec![7; tertulia_wire::limits::CLUSTER_FRAME_BYTES - 100]);
    assert_eq!(client.call(Call::Raft(fits.clone()), PATIENT).await, Ok(Answer::Raft(fits)));
    assert_eq!(client.generation(), Some(1));
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again_and_the_generation_grows() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let address = node.endpoint.local_address();
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    let mut state = client.watch_state();
    reach(&mut state, LinkState::Up { generation: 1 }, SOON).await;
    node.stop().await;
    reach(&mut state, LinkState::Down, SOON).await;
    let node = Process::serving_at(&authority, NODE, address).await;
    reach(&mut state, LinkState::Up { generation: 2 }, SOON).await;
    assert_eq!(client.call(echo(2), PATIENT).await, Ok(echoed(2)));
    drop(node);
}

#[tokio::test]
async fn a_peer_that_lost_its_memory_tells_so_long_before_the_idle_timeout() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let relay = support::Relay::to(node.endpoint.local_address()).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_at(NODE, relay.address(), Class::Data);
    let mut state = client.watch_state();
    reach(&mut state, LinkState::Up { generation: 1 }, SOON).await;
    // The peer behind the relay is now another process with the same identity, as after kill -9 and a restart.
    let successor = Process::serving(&authority, NODE).await;
    let started = Instant::now();
    relay.switch_to(successor.endpoint.local_address());
    assert_eq!(client.call(support::HELD, PATIENT).await, Err(CallError::Closed));
    assert!(started.elapsed() < IDLE_TIMEOUT / 2, "took {:?}", started.elapsed());
    assert_eq!(client.call(echo(1), PATIENT).await, Ok(echoed(1)));
}

#[tokio::test]
async fn calls_in_flight_fail_promptly_when_the_peer_ends() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    client.call(Call::Ping, PATIENT).await.unwrap();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call(support::HELD, PATIENT).await })
        })
        .collect();
    node.service.wait_held(100).await;
    let started = Instant::now();
    node.endpoint.close().await;
    for call in calls {
        assert_eq!(call.await.unwrap(), Err(CallError::Closed));
    }
    assert!(started.elapsed() < IDLE_TIMEOUT / 2, "took {:?}", started.elapsed());
    assert_eq!(node.service.wait_closed().await, ROUTER);
}

#[tokio::test]
async fn a_stopping_peer_answers_what_it_has_accepted() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    client.call(Call::Ping, PATIENT).await.unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call(support::HELD, PATIENT).await }
    });
    node.service.wait_held(1).await;
    let draining = tokio::spawn({
        let supervisor = node.supervisor.clone();
        async move { supervisor.drain(SOON).await }
    });
    node.supervisor.token().cancelled().await;
    node.service.release_held(Answer::Raft("kept".into()));
    assert_eq!(call.await.unwrap(), Ok(Answer::Raft("kept".into())));
    timeout(SOON, draining).await.unwrap().unwrap();
    assert_eq!(
        client.call(echo(1), CallOptions::within(Duration::from_millis(300))).await,
        Err(CallError::Unreachable)
    );
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_reported_as_unreachable_at_once_after_the_first_attempt() {
    let authority = Authority::new();
    let router = Process::calling(&authority, ROUTER);
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = router.client_at(NODE, nowhere, Class::Data);
    assert_eq!(client.call(echo(1), PATIENT).await, Err(CallError::Unreachable));
    let started = Instant::now();
    assert_eq!(client.call(echo(1), PATIENT).await, Err(CallError::Unreachable));
    assert!(started.elapsed() < Duration::from_millis(100), "took {:?}", started.elapsed());
    // A new address is tried at once.
    let node = Process::serving(&authority, NODE).await;
    let mut state = client.watch_state();
    client.set_address(node.endpoint.local_address().to_string());
    reach(&mut state, LinkState::Up { generation: 1 }, SOON).await;
}

#[tokio::test]
async fn the_certificate_of_another_process_or_role_is_refused() {
    let authority = Authority::new();
    for imposter in [OTHER_NODE, ROUTER] {
        let node = Process::serving(&authority, imposter).await;
        let router = Process::calling(&authority, ROUTER);
        let client = router.client_at(NODE, node.endpoint.local_address(), Class::Data);
        assert_eq!(client.call(echo(1), PATIENT).await, Err(CallError::Unreachable));
        assert!(node.service.calls.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_certificate_of_another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let node = Process::serving(&ours, NODE).await;
    // The caller does not trust the node.
    let stranger = Process::calling(&theirs, ROUTER);
    let client = stranger.client_of(&node, Class::Data);
    assert_eq!(client.call(echo(1), PATIENT).await, Err(CallError::Unreachable));
    // The caller trusts the node, but shows a certificate that the node does not trust: the handshake of TLS succeeds for
    // the caller, the ping does not.
    let forged = tempfile::tempdir().unwrap();
    for file in ["router-1.pem", "router-1.key"] {
        std::fs::copy(theirs.dir().join(file), forged.path().join(file)).unwrap();
    }
    let identity = Identity::load(ROUTER, forged.path(), &ours.dir().join("ca.pem")).unwrap();
    let supervisor = Supervisor::new();
    let endpoint = Endpoint::bind(EndpointConfig::client(Arc::new(identity)), &supervisor).unwrap();
    let peer = PeerAddress { name: NODE, address: node.endpoint.local_address().to_string() };
    let client = endpoint.peer(peer, Class::Data, Arc::new(support::Notices::default()));
    let state = client.watch_state();
    assert_eq!(client.call(echo(1), PATIENT).await, Err(CallError::Unreachable));
    assert_eq!(*state.borrow(), LinkState::Down);
    assert!(node.service.calls.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_arrive_in_order_and_are_bounded() {
    const NOTICES: u64 = 5_000;
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    client.call(echo(1), PATIENT).await.unwrap();
    let connection = node.service.connections.lock().unwrap()[0].clone();
    for number in 0..NOTICES {
        connection.notify(support::numbered(number)).unwrap();
    }
    let received = router.notices.wait(NOTICES as usize).await;
    let expected: Vec<_> = (0..NOTICES).map(|number| (NODE, 1, support::numbered(number))).collect();
    assert!(received == expected, "notices are missing or out of order");
    router.stop().await;
    assert_eq!(node.service.wait_closed().await, ROUTER);
    assert!(connection.is_closed());
    assert!(connection.notify(support::numbered(0)).is_err());
}

#[tokio::test]
async fn a_frame_above_the_limit_closes_the_connection_with_a_clear_reason() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let cases: [(&[u8], &str); 4] = [
        (&[2, 0xff, 0xff, 0xff, 0xff], "bad frame: a frame of 4294967295 bytes: at most 8388608 are allowed"),
        (&[2, 0, 0, 0, 1, 0xc1], "bad frame: a malformed frame"),
        (&[2, 0, 0, 0, 7, 0x81, 0xa6, b'N', b'o', b't', b'i', b'c'], "bad frame: a malformed frame"),
        (&[9], "unknown traffic class"),
    ];
    for (bytes, reason) in cases {
        let closed = support::send_raw(&authority, node.endpoint.local_address(), bytes).await;
        assert!(closed.contains(reason), "{closed:?} does not say {reason:?}");
    }
}

#[tokio::test]
async fn dropping_the_last_client_closes_the_connection() {
    let authority = Authority::new();
    let node = Process::serving(&authority, NODE).await;
    let router = Process::calling(&authority, ROUTER);
    let client = router.client_of(&node, Class::Data);
    client.call(echo(1), PATIENT).await.unwrap();
    drop(client);
    assert_eq!(node.service.wait_closed().await, ROUTER);
}
