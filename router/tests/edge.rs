//! The client port of a real router: whom it lets in, how it lets go, and what it holds for who does not read.

#![allow(clippy::unwrap_used)]

mod fake;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use tertulia_wire::{
    client::{Command, Format, Outbound, Push, Reply, ResyncReason},
    cluster::Refusal,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use fake::{
    Cluster, WITHIN,
    client::{TestClient, get, message, user},
    node::Act,
};

/// A handshake's answer, with `headers` added to it: the connection is closed by whoever wants to.
async fn handshake(address: SocketAddr, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/ws HTTP/1.1\r\nhost: test\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: tertulia.v1.json\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(WITHIN, stream.read_u8()).await.expect("no answer").unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

fn retry_after(head: &str) -> u64 {
    let value = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
    value.unwrap_or_else(|| panic!("no Retry-After: {head}")).parse().unwrap()
}

#[tokio::test]
async fn handshakes_beyond_the_pace_are_told_when_to_come_again() {
    let cluster = Cluster::start(&["router.handshakes_burst=3", "router.handshakes_per_second=1"]).await;
    let address = cluster.router.address;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (stream, head) = handshake(address, "").await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        kept.push(stream);
    }
    let mut waits = Vec::new();
    for _ in 0..5 {
        let (_, head) = handshake(address, "").await;
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        waits.push(retry_after(&head));
    }
    assert!(waits[4] > waits[0] && waits[4] >= 4, "a storm comes back as a stream: {waits:?}");
    assert!(get(address, "/health/live").await.starts_with("HTTP/1.1 200"), "only handshakes are paced");
    cluster.stop().await;
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_counted_by_their_own_addresses() {
    let settings = ["router.connections_per_address=2", "router.trusted_proxies=127.0.0.0/8"];
    let cluster = Cluster::start(&settings).await;
    let address = cluster.router.address;
    let forwarded = async |client: &str| handshake(address, &format!("x-forwarded-for: 192.0.2.9, {client}\r\n")).await;
    let first = forwarded("198.51.100.1").await;
    let second = forwarded("198.51.100.1").await;
    assert!(first.1.starts_with("HTTP/1.1 101") && second.1.starts_with("HTTP/1.1 101"));
    let (_, head) = forwarded("198.51.100.1").await;
    assert!(head.starts_with("HTTP/1.1 503") && retry_after(&head) >= 5, "{head}");
    assert!(forwarded("198.51.100.2").await.1.starts_with("HTTP/1.1 101"));
    drop(first);
    let admitted = timeout(WITHIN, async { while !forwarded("198.51.100.1").await.1.starts_with("HTTP/1.1 101") {} });
    assert!(admitted.await.is_ok(), "a place is given back when its session has ended");
    cluster.stop().await;
}

#[tokio::test]
async fn connections_beyond_all_are_turned_away_with_an_answer() {
    let cluster = Cluster::start(&["router.sessions_max=1"]).await;
    let address = cluster.router.address;
    let mut kept = Vec::new();
    let refused = timeout(WITHIN, async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut answer = [0; 12];
            // Those that are let in have to ask first.
            match timeout(Duration::from_millis(5), stream.read_exact(&mut answer)).await {
                Ok(read) => break read.map(|_| String::from_utf8_lossy(&answer).into_owned()),
                Err(_) => kept.push(stream),
            }
        }
    });
    assert_eq!(refused.await.unwrap().unwrap(), "HTTP/1.1 503");
    assert_eq!(kept.len(), 257);
    kept.clear();
    timeout(WITHIN, async { while !live(address).await {} }).await.unwrap();
    cluster.stop().await;
}

async fn live(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let request = b"GET /health/live HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// When a client was told to go, and when it was closed.
struct Left {
    told: Duration,
    closed: Duration,
}

#[tokio::test]
async fn a_stopping_router_lets_its_sessions_go_a_few_at_a_time() {
    const SESSIONS: usize = 60;
    const DRAIN: Duration = Duration::from_secs(4);
    // Ten sessions in a tenth of a second: all within 0.6 s of the 2 that there are for it.
    let cluster = Cluster::start(&["router.drain_ms=4000", "router.handshakes_per_second=200"]).await;
    let _node = cluster.node(1).await;
    let address = cluster.router.address;
    let mut clients = Vec::new();
    for n in 0..SESSIONS {
        clients.push(TestClient::sign_in(address, &format!("user-{n}"), Format::Json).await.0);
    }
    let began = Instant::now();
    cluster.supervisor.shut_down();
    let stopped = tokio::spawn(async move {
        cluster.supervisor.drain(WITHIN).await;
        began.elapsed()
    });
    let unready = get(address, "/health/ready").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("the router is stopping"), "{unready}");
    let (_, refused) = handshake(address, "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && retry_after(&refused) >= 1, "{refused}");

    let left: Vec<Left> = stream::iter(clients)
        .map(async |mut client| {
            let Push::GoAway(goaway) = client.push().await else { panic!("no goaway") };
            assert_eq!(goaway.retry_after_ms, 1000);
            let told = began.elapsed();
            let id = client.send(&Command::Ping).await;
            assert_eq!(client.reply(id).await, Reply::Pong, "it still serves");
            assert_eq!(u16::from(client.closed().await.code), 1001);
            Left { told, closed: began.elapsed() }
        })
        .buffer_unordered(SESSIONS)
        .collect()
        .await;
    let told_by = |at_ms: u64| left.iter().filter(|left| left.told < Duration::from_millis(at_ms)).count();
    assert!(told_by(250) <= 30, "{} were told at once", told_by(250));
    assert!(left.iter().all(|left| left.told < DRAIN / 2), "all are told in the first half");
    for left in &left {
        let stayed = left.closed - left.told;
        assert!(stayed >= Duration::from_millis(500), "closed after {stayed:?}, with a second to go by itself");
    }
    let took = timeout(WITHIN, stopped).await.unwrap().unwrap();
    assert!(took < DRAIN, "{took:?}");
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_stopping_router_finishes_what_is_in_flight_and_ends_in_time() {
    let cluster = Cluster::start(&["router.drain_ms=2000"]).await;
    let node = cluster.node(1).await;
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let (mut stuck, _) = TestClient::sign_in(cluster.router.address, "stuck", Format::Json).await;
    node.script([Act::Hang]);
    stuck.send(&message(user("bob"), "never", "hello")).await;
    node.until("the append arrived", |memory| memory.appends.len() == 1).await;
    node.script((0..1000).map(|_| Act::Refuse(Refusal::NotServing)));
    let id = alice.send(&message(user("bob"), "late", "hello")).await;
    node.until("the append arrived", |memory| memory.appends.len() == 2).await;

    let began = Instant::now();
    let supervisor = cluster.supervisor.clone();
    let stopped = tokio::spawn(async move { supervisor.drain(WITHIN).await });
    assert!(matches!(alice.push().await, Push::GoAway(_)));
    // Later than the half second after which an idle session is closed.
    tokio::time::sleep_until((began + Duration::from_millis(1200)).into()).await;
    node.memory().script.clear();
    assert!(matches!(alice.reply(id).await, Reply::Ack(_)));
    assert_eq!(u16::from(alice.closed().await.code), 1001);
    assert!(began.elapsed() < Duration::from_secs(2));
    // A command that nobody answers does not keep the router.
    assert_eq!(u16::from(stuck.closed().await.code), 1001);
    drop((alice, stuck));
    timeout(WITHIN, stopped).await.unwrap().unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
    cluster.router.endpoint.close().await;
}

#[tokio::test]
async fn what_is_held_for_a_client_that_never_reads_is_bounded_and_others_are_not_delayed() {
    const QUEUE_BYTES: usize = 64 * 1024;
    // The router's part of the connection: what the kernel takes is twice what was asked for, payload being less than half
    // of it at worst and all of it at best. The client's part is its own, small, buffer.
    const KERNEL_BYTES: usize = 2 * 128 * 1024;
    const CLIENT_BYTES: usize = 4 * 16 * 1024;
    const TEXT_BYTES: usize = 8_000;
    let cluster = Cluster::start(&["router.session_queue_bytes=65536"]).await;
    let node = cluster.node(1).await;
    let address = cluster.router.address;
    let (mut deaf, deaf_welcome) = TestClient::sign_in(address, "deaf", Format::Json).await;
    let (mut alice, alice_welcome) = TestClient::sign_in(address, "alice", Format::Json).await;
    let text = "x".repeat(TEXT_BYTES);
    let mut slowest = Duration::ZERO;
    for seq in 1..=300 {
        node.push(deaf_welcome.session_id, seq, &text);
        let pushed = Instant::now();
        node.push(alice_welcome.session_id, seq, "hi");
        let Push::New(new) = alice.push().await else { panic!("no message") };
        assert_eq!(new.message.seq.get(), seq, "nothing of it is lost");
        slowest = slowest.max(pushed.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "the slowest took {slowest:?}");
    // What it finds now is what was held: up to the word that the rest was dropped.
    let mut held = 0;
    loop {
        match deaf.next().await {
            Outbound::Push(Push::New(new)) => held += new.message.content.unwrap().len(),
            Outbound::Push(Push::Resync(resync)) => break assert_eq!(resync.reason, ResyncReason::Overflow),
            other => panic!("unexpected: {other:?}"),
        }
    }
    // Twice the queue: in the mailslot, and encoded for the socket.
    let most = 2 * QUEUE_BYTES + KERNEL_BYTES + CLIENT_BYTES;
    assert!(held < most, "{held} bytes were held, at most {most} may be");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_as_too_slow() {
    let cluster = Cluster::start(&["router.session_queue_bytes=65536", "router.ping_interval_ms=1500"]).await;
    let node = cluster.node(1).await;
    let (deaf, welcome) = TestClient::sign_in(cluster.router.address, "deaf", Format::Json).await;
    let text = "x".repeat(16_000);
    let began = Instant::now();
    for seq in 1..=100 {
        node.push(welcome.session_id, seq, &text);
    }
    node.until("the session is closed", |memory| memory.detached.contains(&welcome.session_id)).await;
    let took = began.elapsed();
    // One ping interval without a byte taken; a client that is silent, which it is too, has two.
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_millis(2900), "{took:?}");
    drop(deaf);
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_cut_off() {
    let cluster = Cluster::start(&["router.ping_interval_ms=500"]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut deaf = socket.connect(cluster.router.address).await.unwrap();
    // It asks on and on, until the router no longer reads what it asks; and is told so, some time, by its kernel.
    let request = b"GET /v1/openapi.json HTTP/1.1\r\nhost: test\r\n\r\n";
    let asking = async { while deaf.write_all(request).await.is_ok() {} };
    timeout(WITHIN, asking).await.expect("it is still connected");
    cluster.stop().await;
}
