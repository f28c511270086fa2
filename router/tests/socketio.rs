//! The Socket.IO skin of a real router, frame by frame, against nodes that do what the test says.

#![allow(clippy::unwrap_used)]

mod fake;

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use serde_json::{Value, json};
use tertulia_shard_map::SessionId;
use tertulia_wire::{
    cluster::{ProfileRecord, PushItem},
    limits,
};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use fake::{
    Cluster, WITHIN,
    client::{get, user},
    node::{FakeNode, profile},
    socketio::{Packet, SocketIoClient},
};

fn send(temp_id: &str) -> Value {
    json!({"to": user("bob"), "temp_id": temp_id, "content": "hello"})
}

const PUSHES: u64 = 400;

/// Pushes more to a session that does not read than all queues on the way to it have room for.
async fn fill(cluster: &Cluster, node: &FakeNode, session: SessionId) {
    let text = "x".repeat(16_000);
    for seq in 1..=PUSHES {
        node.push(session, seq, &text);
        if seq % 50 == 0 {
            // Every notice before it has been handled when this is answered, for both are on the same stream.
            drop(SocketIoClient::sign_in(cluster.router.address, "bob").await);
        }
    }
}

fn session(welcome: &Value) -> SessionId {
    welcome["session_id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_connects_is_welcome_and_its_callbacks_get_the_replies() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    assert_eq!(alice.open["maxPayload"], json!(limits::CLIENT_FRAME_BYTES));
    assert_eq!(alice.open["upgrades"], json!([]));
    assert_eq!(welcome["user"]["user_id"], json!(user("alice")));
    assert_eq!(welcome["rev"], json!(3));
    let answer = alice.call(0, "dm:send", send("t1")).await;
    assert_eq!(answer["type"], "dm:ack");
    assert_eq!((&answer["data"]["temp_id"], &answer["data"]["message"]["seq"]), (&json!("t1"), &json!(1)));
    alice.say(r#"421["ping"]"#).await;
    assert_eq!(alice.next().await, Packet::Ack(1, json!({"type": "pong"})));
    node.push(session(&welcome), 5, "hi");
    let (kind, data) = alice.event().await;
    assert_eq!((kind.as_str(), &data["message"]["content"]), ("dm:new", &json!("hi")));
    drop(alice);
    node.until("the session is detached", |memory| memory.detached.contains(&session(&welcome))).await;
    assert!(!node.memory().traces.is_empty(), "calls carry a trace");
    cluster.stop().await;
}

#[tokio::test]
async fn without_a_callback_the_reply_is_an_event_of_its_type() {
    let cluster = Cluster::start(&[]).await;
    let _node = cluster.node(1).await;
    let (mut alice, _) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    alice.emit("dm:send", send("t1")).await;
    let (kind, data) = alice.event().await;
    assert_eq!((kind.as_str(), &data["temp_id"]), ("dm:ack", &json!("t1")));
    alice.emit("history", json!({"conversation_id": "nonsense"})).await;
    let (kind, data) = alice.event().await;
    assert_eq!((kind.as_str(), &data["code"], &data["retryable"]), ("error", &json!("bad_request"), &json!(false)));
    alice.say(r#"42["ping"]"#).await;
    assert_eq!(alice.event().await, ("pong".to_owned(), Value::Null));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_keep_their_order() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, _) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    for n in 0..50 {
        alice.say(&format!("42{n}{}", json!(["dm:send", send(&format!("t{n}"))]))).await;
    }
    for n in 0..50 {
        let Packet::Ack(id, answer) = alice.next().await else { panic!("no answer") };
        assert_eq!((id, &answer["data"]["message"]["seq"]), (n, &json!(n + 1)), "{answer}");
    }
    let committed: Vec<String> = node.memory().committed.iter().map(|(append, _)| append.temp_id.clone()).collect();
    assert_eq!(committed, (0..50).map(|n| format!("t{n}")).collect::<Vec<_>>());
    cluster.stop().await;
}

#[tokio::test]
async fn who_has_no_good_token_is_refused_and_may_try_again() {
    let cluster = Cluster::start(&["router.hello_timeout_ms=500", "router.min_client_version.ios=2"]).await;
    let _node = cluster.node(1).await;
    let address = cluster.router.address;
    for (auth, code) in [
        (json!({"token": "a.b.c"}), "unauthorized: "),
        (json!({}), "unauthorized: "),
        (json!({"token": 7}), "bad_request: "),
        (json!({"token": "x", "client": {"platform": "", "version": "1"}}), "bad_request: "),
    ] {
        let (_, answer) = SocketIoClient::connect(address, auth.clone()).await;
        let Packet::Refused(error) = answer else { panic!("{auth} was not refused: {answer:?}") };
        assert!(error["message"].as_str().unwrap().starts_with(code), "{auth}: {error}");
    }
    let old =
        json!({"token": fake::client::token(address, "alice").await, "client": {"platform": "ios", "version": "1.9"}});
    let (_, answer) = SocketIoClient::connect(address, old).await;
    let Packet::Refused(error) = answer else { panic!("it was not refused: {answer:?}") };
    assert!(error["message"].as_str().unwrap().starts_with("client_outdated: "), "{error}");
    let mut stranger = SocketIoClient::open(address).await;
    stranger.say("40").await;
    assert!(matches!(stranger.next().await, Packet::Refused(_)));
    let token = fake::client::token(address, "alice").await;
    stranger.say(&format!("40{}", json!({"token": token}))).await;
    assert!(matches!(stranger.next().await, Packet::Connected(_)));
    assert_eq!(stranger.event().await.0, "welcome");

    let mut silent = SocketIoClient::open(address).await;
    silent.closed().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_token_may_come_with_the_handshake() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let cluster = Cluster::start(&[]).await;
    let _node = cluster.node(1).await;
    let address = cluster.router.address;
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {}", fake::client::token(address, "alice").await);
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut client = SocketIoClient { socket, open: Value::Null };
    client.say("40").await;
    assert!(matches!(timeout(WITHIN, client.skip_open()).await.unwrap(), Packet::Connected(_)));
    assert_eq!(client.event().await.0, "welcome");
    cluster.stop().await;
}

#[tokio::test]
async fn other_namespaces_transports_and_versions_are_refused() {
    let cluster = Cluster::start(&[]).await;
    let _node = cluster.node(1).await;
    let (mut alice, _) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    alice.say("40/admin,{}").await;
    assert_eq!(alice.next().await, Packet::Refused(json!({"message": "Invalid namespace"})));
    assert_eq!(alice.call(7, "dm:send", send("t")).await["type"], "dm:ack", "the session goes on");
    for (query, words) in [
        ("EIO=4&transport=polling", "Transport unknown"),
        ("EIO=3&transport=websocket", "Unsupported protocol version"),
        ("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAHs", "Session ID unknown"),
    ] {
        let answer = get(cluster.router.address, &format!("/socket.io/?{query}")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(words), "{answer}");
    }
    let answer = get(cluster.router.address, "/socket.io/?EIO=4&transport=websocket").await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_no_command_is_told_to_its_callback_and_the_session_goes_on() {
    let cluster = Cluster::start(&[]).await;
    let _node = cluster.node(1).await;
    let (mut alice, _) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    for (frame, code) in [
        (r#"421["dm:nothing",{}]"#, "unknown_type"),
        (r#"421["hello",{"client":{"platform":"x","version":"1"}}]"#, "not_expected"),
        (r#"421["dm:send",{"temp_id":7}]"#, "bad_request"),
        (r#"421["dm:send"]"#, "bad_request"),
        (r#"421["sync",{"rev":0},{"rev":1}]"#, "bad_request"),
    ] {
        alice.say(frame).await;
        let Packet::Ack(1, answer) = alice.next().await else { panic!("{frame}: no answer") };
        assert_eq!((&answer["type"], &answer["error"]["code"]), (&json!("error"), &json!(code)), "{frame}: {answer}");
    }
    alice.say(r#"451-2["dm:send",{"_placeholder":true,"num":0}]"#).await;
    alice.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    let Packet::Ack(2, answer) = alice.next().await else { panic!("no answer") };
    assert_eq!(answer["error"]["code"], "bad_request", "{answer}");
    assert_eq!(alice.call(3, "dm:send", send("t")).await["type"], "dm:ack");
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_no_packet_or_too_large_ends_the_connection() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let large = format!("42{}", json!(["ping", "x".repeat(limits::CLIENT_FRAME_BYTES)]));
    for frame in ["42nonsense", "9", "4", &large] {
        let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
        // The connection may end before all of it is sent.
        let _ = alice.socket.send(Message::text(frame)).await;
        alice.closed().await;
        node.until("the session is detached", |memory| memory.detached.contains(&session(&welcome))).await;
    }
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    alice.socket.send(Message::binary(Bytes::from_static(b"x"))).await.unwrap();
    alice.closed().await;
    node.until("the session is detached", |memory| memory.detached.contains(&session(&welcome))).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_session() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    alice.say("41").await;
    node.until("the session is detached", |memory| memory.detached.contains(&session(&welcome))).await;
    assert_eq!(alice.closed().await, Some(1000));
    cluster.stop().await;
}

#[tokio::test]
async fn a_user_who_becomes_disabled_is_told_to_stay_away() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    node.push_item(session(&welcome), PushItem::Profile(ProfileRecord { disabled: true, ..profile(user("alice")) }));
    let (kind, data) = alice.event().await;
    assert_eq!((kind.as_str(), &data["code"]), ("error", &json!("forbidden")));
    assert_eq!(alice.next().await, Packet::Disconnected);
    assert_eq!(alice.closed().await, Some(4401));
    node.until("the session is detached", |memory| memory.detached.contains(&session(&welcome))).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_pushes_and_is_told() {
    let cluster = Cluster::start(&["router.session_queue_bytes=65536"]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    fill(&cluster, &node, session(&welcome)).await;
    let mut last = 0;
    loop {
        match alice.event().await {
            (kind, data) if kind == "dm:new" => {
                assert_eq!(data["message"]["seq"], json!(last + 1), "a hole without a word");
                last += 1;
            }
            (kind, data) => {
                assert_eq!((kind.as_str(), data), ("resync", json!({"reason": "overflow"})));
                break;
            }
        }
    }
    assert!(last < PUSHES);
    // What was pushed while the client read may have overflowed again: each time it is told, and then live again.
    node.push(session(&welcome), PUSHES + 1, "live again");
    loop {
        match alice.event().await {
            (_, data) if data["message"]["content"] == "live again" => break,
            (kind, _) if kind == "resync" => node.push(session(&welcome), PUSHES + 1, "live again"),
            _ => {}
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let cluster = Cluster::start(&["router.ping_interval_ms=500"]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    let text = "x".repeat(16_000);
    for seq in 1..=400 {
        node.push(session(&welcome), seq, &text);
    }
    node.until("the session is closed", |memory| memory.detached.contains(&session(&welcome))).await;
    // The connection too, although the library is still writing to it.
    alice.closed().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_floods_and_never_reads_is_closed() {
    let cluster = Cluster::start(&["router.ping_interval_ms=500"]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    let flood = tokio::spawn(async move {
        let frame = format!("42{}", json!(["profile:get", {"user_ids": vec![user("a"); 100]}]));
        while alice.socket.feed(Message::text(frame.clone())).await.is_ok() {}
    });
    node.until("the session is closed", |memory| memory.detached.contains(&session(&welcome))).await;
    timeout(WITHIN, flood).await.unwrap().unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_has_nothing_to_read_is_pinged_all_the_same() {
    const INTERVAL: Duration = Duration::from_millis(500);
    let cluster = Cluster::start(&["router.ping_interval_ms=500"]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    let text = "x".repeat(2_000);
    let (mut pushed, mut last) = (0, 0);
    let until = Instant::now() + 5 * INTERVAL;
    while Instant::now() < until {
        // More than the library's queue takes, less than the session's.
        while pushed < last + 60 {
            pushed += 1;
            node.push(session(&welcome), pushed, &text);
        }
        let (kind, data) = alice.event().await;
        last += 1;
        assert_eq!((kind.as_str(), &data["message"]["seq"]), ("dm:new", &json!(last)));
    }
    assert_eq!(alice.call(1, "ping", json!({})).await, json!({"type": "pong"}));
    cluster.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_closed_and_one_that_answers_pings_is_not() {
    let cluster = Cluster::start(&["router.ping_interval_ms=500"]).await;
    let node = cluster.node(1).await;
    let (alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    let (mut bob, _) = SocketIoClient::sign_in(cluster.router.address, "bob").await;
    let alive = tokio::spawn(async move {
        let _ = timeout(Duration::from_secs(3), bob.event()).await;
        bob.call(1, "ping", json!({})).await
    });
    node.until("the session ended", |memory| memory.detached.contains(&session(&welcome))).await;
    assert_eq!(alive.await.unwrap(), json!({"type": "pong"}));
    drop(alice);
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_waits_connected_for_a_node_that_is_not_there_yet() {
    let cluster = Cluster::start(&["router.hold_ms=300"]).await;
    let address = cluster.router.address;
    let auth = json!({"token": fake::client::token(address, "alice").await});
    let (mut client, answer) = SocketIoClient::connect(address, auth).await;
    assert!(matches!(answer, Packet::Connected(_)), "{answer:?}");
    for id in 0..5 {
        let answer = client.call(id, "sync", json!({"rev": 0})).await;
        assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
    }
    let _node = cluster.node(1).await;
    assert_eq!(client.event().await.0, "welcome");
    assert_eq!(client.call(9, "sync", json!({"rev": 0})).await["type"], "sync:page");
    cluster.stop().await;
}

#[tokio::test]
async fn a_stopping_router_says_goodbye() {
    let cluster = Cluster::start(&["router.drain_ms=1000"]).await;
    let _node = cluster.node(1).await;
    let (mut alice, _) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    let stopped = tokio::spawn(async move { cluster.supervisor.drain(WITHIN).await });
    let (kind, data) = alice.event().await;
    assert_eq!(kind, "goaway");
    assert!(data["retry_after_ms"].is_u64(), "{data}");
    assert_eq!(alice.closed().await, Some(1001));
    timeout(WITHIN, stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stopping_router_says_goodbye_to_a_client_that_starts_to_read_only_then() {
    let cluster = Cluster::start(&["router.session_queue_bytes=65536", "router.drain_ms=1000"]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    fill(&cluster, &node, session(&welcome)).await;
    let stopped = tokio::spawn(async move { cluster.supervisor.drain(WITHIN).await });
    let mut goodbyes = 0;
    let code = loop {
        match timeout(WITHIN, alice.packet()).await.unwrap() {
            Ok(Packet::Event(kind, _)) if kind == "goaway" => goodbyes += 1,
            Ok(Packet::Event(..)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(code) => break code,
        }
    };
    assert_eq!((goodbyes, code), (1, Some(1001)));
    timeout(WITHIN, stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stopping_router_does_not_wait_for_a_client_that_never_reads() {
    let cluster = Cluster::start(&["router.session_queue_bytes=65536", "router.drain_ms=1000"]).await;
    let node = cluster.node(1).await;
    let (alice, welcome) = SocketIoClient::sign_in(cluster.router.address, "alice").await;
    fill(&cluster, &node, session(&welcome)).await;
    let stopped = tokio::spawn(async move { cluster.supervisor.drain(Duration::from_secs(60)).await });
    node.until("the session ended", |memory| memory.detached.contains(&session(&welcome))).await;
    timeout(WITHIN, stopped).await.unwrap().unwrap();
    drop(alice);
}
