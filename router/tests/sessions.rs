//! Sessions of a real router, over real sockets, against nodes that do what the test says.

#![allow(clippy::unwrap_used)]

mod fake;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::SinkExt;
use tertulia_shard_map::{ConversationId, MapVersion, ShardMap, Slot};
use tertulia_wire::{
    EventKind, MessageBody,
    client::{Command, ErrorCode, Format, HistoryQuery, ProfileQuery, Push, Reply, Resync, ResyncReason, SetTyping},
    cluster::{ProfileRecord, PushItem, Refusal},
    encode_message, limits,
};
use tokio::{io::AsyncReadExt, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use fake::{
    Cluster, WITHIN,
    client::{TestClient, get, hello, message, token, user},
    node::{Act, FakeNode, Memory, event, profile},
};

fn ack(reply: Reply) -> u64 {
    match reply {
        Reply::Ack(ack) => ack.message.seq.get(),
        other => panic!("no ack: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_acked_and_a_push_arrives_in_both_formats() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    for format in Format::ALL {
        let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", format).await;
        assert_eq!((welcome.user.user_id, welcome.rev.get()), (user("alice"), 3));
        let id = alice.send(&message(user("bob"), &format!("{format:?}"), "hello")).await;
        ack(alice.reply(id).await);
        node.push(welcome.session_id, 5, "hi");
        let Push::New(new) = alice.push().await else { panic!("no message") };
        assert_eq!(new.message.content.as_deref(), Some("hi"));
        let id = alice.send(&Command::Profiles(ProfileQuery { user_ids: vec![user("a"), user("b"), user("c")] })).await;
        let Reply::Profiles(list) = alice.reply(id).await else { panic!("no profiles") };
        assert_eq!(list.users.len(), 3);
        drop(alice);
        node.until("the session is detached", |memory| memory.detached.contains(&welcome.session_id)).await;
    }
    assert!(!node.memory().traces.is_empty(), "calls carry a trace");
    cluster.stop().await;
}

#[tokio::test]
async fn a_command_waits_for_a_node_that_is_not_there_yet() {
    let cluster = Cluster::start(&[]).await;
    let address = cluster.router.address;
    let mut client = TestClient::connect(address, Format::Json).await;
    let id = client.send(&hello(Some(token(address, "alice").await))).await;
    assert!(get(address, "/health/ready").await.starts_with("HTTP/1.1 503"));
    let _node = cluster.node(1).await;
    assert!(matches!(client.reply(id).await, Reply::Welcome(_)));
    cluster.stop().await;
}

#[tokio::test]
async fn refused_sends_are_retried_in_their_order_with_the_same_temp_id() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let not_owner = Refusal::NotOwner { version: MapVersion::new(1) };
    let refusals = [not_owner, Refusal::NotServing, Refusal::StoreUnavailable];
    node.script(refusals.into_iter().cycle().take(1000).map(Act::Refuse));
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(alice.send(&message(user("bob"), &format!("t{n}"), "hello")).await);
    }
    // All that were on their way when the first was refused have come back.
    let settled = |memory: &Memory| memory.appends.iter().rev().take(4).filter(|it| it.temp_id == "t0").count() == 4;
    node.until("only the first is tried again", settled).await;
    node.memory().script.clear();
    for (id, seq) in ids.into_iter().zip(1..) {
        assert_eq!(ack(alice.reply(id).await), seq);
    }
    let committed: Vec<String> = node.memory().committed.iter().map(|(append, _)| append.temp_id.clone()).collect();
    assert_eq!(committed, (0..20).map(|n| format!("t{n}")).collect::<Vec<_>>());
    cluster.stop().await;
}

#[tokio::test]
async fn a_send_survives_the_death_of_its_node_and_the_session_is_told_to_sync() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    node.script([Act::Hang]);
    let id = alice.send(&message(user("bob"), "once", "hello")).await;
    node.until("the append arrived", |memory| memory.appends.len() == 1).await;
    node.die().await;
    let node = cluster.node(1).await;
    // Its two consequences may come in either order.
    let (mut acked, mut resynced) = (false, false);
    while !(acked && resynced) {
        match alice.next().await {
            tertulia_wire::client::Outbound::Reply { id: Some(it), reply } if it == id => {
                ack(reply);
                acked = true;
            }
            tertulia_wire::client::Outbound::Push(Push::Resync(resync)) => {
                assert_eq!(resync, Resync { reason: ResyncReason::OwnerChanged });
                resynced = true;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(node.memory().appends.last().unwrap().temp_id, "once");
    assert!(node.memory().attached.contains_key(&welcome.session_id));
    cluster.stop().await;
}

#[tokio::test]
async fn sends_and_sessions_follow_the_map_to_a_new_owner() {
    let mut cluster = Cluster::start(&[]).await;
    let (one, two) = (cluster.node(1).await, cluster.node(2).await);
    let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let map = cluster.give_all_to(2);
    // Only one of the two is watched; which, is the router's choice.
    one.publish(map.clone());
    two.publish(map);
    two.until("the session is attached there", |memory| memory.attached.contains_key(&welcome.session_id)).await;
    assert_eq!(alice.push().await, Push::Resync(Resync { reason: ResyncReason::OwnerChanged }));
    let id = alice.send(&message(user("bob"), "t", "hello")).await;
    ack(alice.reply(id).await);
    assert_eq!((one.memory().appends.len(), two.memory().appends.len()), (0, 1));
    cluster.stop().await;
}

/// Hands everything to node 2, and has both say so.
fn hand_over(cluster: &mut Cluster, one: &FakeNode, two: &FakeNode) {
    let map = cluster.give_all_to(2);
    one.publish(map.clone());
    two.publish(map);
}

#[tokio::test]
async fn a_send_that_its_deposed_owner_never_answers_goes_to_the_new_one_at_once() {
    let mut cluster = Cluster::start(&[]).await;
    let (one, two) = (cluster.node(1).await, cluster.node(2).await);
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    one.script([Act::Hang]);
    let id = alice.send(&message(user("bob"), "t", "hello")).await;
    one.until("the append arrived", |memory| memory.appends.len() == 1).await;
    hand_over(&mut cluster, &one, &two);
    ack(alice.reply(id).await);
    assert_eq!(two.memory().appends[0].temp_id, "t");
    cluster.stop().await;
}

#[tokio::test]
async fn a_user_who_was_disabled_out_of_sight_is_disconnected_when_the_owner_changes() {
    let mut cluster = Cluster::start(&[]).await;
    let (one, two) = (cluster.node(1).await, cluster.node(2).await);
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    two.memory().disabled.push(user("alice"));
    hand_over(&mut cluster, &one, &two);
    assert_eq!(alice.error().await.code, ErrorCode::Forbidden);
    assert_eq!(u16::from(alice.closed().await.code), 4401);
    cluster.stop().await;
}

#[tokio::test]
async fn what_the_new_owner_says_of_the_user_counts() {
    let mut cluster = Cluster::start(&[]).await;
    let (one, two) = (cluster.node(1).await, cluster.node(2).await);
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    two.memory().discreet.push(user("alice"));
    hand_over(&mut cluster, &one, &two);
    assert_eq!(alice.push().await, Push::Resync(Resync { reason: ResyncReason::OwnerChanged }));
    let typing = SetTyping { conversation_id: ConversationId::from_u128(1), typing: true };
    let id = alice.send(&Command::Typing(typing)).await;
    assert_eq!(alice.reply(id).await, Reply::Ok);
    // It would have come before this, on the same stream.
    let id = alice.send(&message(user("bob"), "t", "hello")).await;
    ack(alice.reply(id).await);
    assert!(two.memory().typing.is_empty(), "the user shares no presence any more");
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_that_hangs_delays_nobody_at_another() {
    let mut cluster = Cluster::start(&[]).await;
    let (one, two) = (cluster.node(1).await, cluster.node(2).await);
    let address = cluster.router.address;
    let is_odd = |slot: Slot| slot.get() % 2 == 1;
    let (mut clients, mut even) = (Vec::new(), 0);
    for n in 0..8 {
        let name = format!("user{n}");
        even += usize::from(!is_odd(cluster.map.slot_of_user(user(&name))));
        clients.push(TestClient::sign_in(address, &name, Format::Json).await);
    }
    assert!(even > 0 && even < 8);
    let publish = |map: ShardMap| {
        one.publish(map.clone());
        two.publish(map);
    };
    publish(cluster.give(2, is_odd));
    two.until("the odd ones are there", |memory| memory.attaches == 8 - even).await;
    one.memory().hangs = true;
    let before = one.memory().attaches;
    publish(cluster.give(1, is_odd));
    one.until("it is asked for the odd ones", |memory| memory.attaches > before).await;
    let started = Instant::now();
    publish(cluster.give(2, |slot| !is_odd(slot)));
    two.until("the even ones are there", |memory| memory.attaches >= 8).await;
    assert!(started.elapsed() < Duration::from_secs(1), "while the other has not answered yet");
    cluster.stop().await;
}

#[tokio::test]
async fn a_mailbox_that_cannot_hear_of_an_end_yet_is_told_again() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    node.memory().refused_detaches = 2;
    drop(alice);
    node.until("the session is detached", |memory| memory.detached.contains(&welcome.session_id)).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_slow_client_gets_a_large_page_as_long_as_it_reads() {
    let cluster = Cluster::start(&["router.ping_interval_ms=1100"]).await;
    let node = cluster.node(1).await;
    let text = "x".repeat(16_000);
    let body = encode_message(&MessageBody { content: Some(text), ..MessageBody::default() });
    node.memory().history = (1..=200).map(|seq| event(seq, EventKind::Message, body.clone())).collect();
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let conversation_id = ConversationId::from_u128(1);
    let history = HistoryQuery { conversation_id, after_seq: None, before_seq: None, limit: Some(200) };
    // The kernel's buffers take most of the first.
    const PAGES: usize = 2;
    for _ in 0..PAGES {
        alice.send(&Command::History(history.clone())).await;
    }
    // 1.6 MB in a second: two ping intervals for a page, of which each part comes in time. The kernel says that it has room
    // again when a third of its buffer is free, which takes half an interval.
    let (mut received, mut part) = (0, vec![0; 16 * 1024]);
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    while received < PAGES * 200 * 16_000 {
        pace.tick().await;
        let read = timeout(WITHIN, alice.socket.get_mut().read(&mut part)).await.expect("nothing came").unwrap();
        assert!(read > 0, "closed after {received} bytes");
        received += read;
        alice.socket.send(Message::Pong(bytes::Bytes::new())).await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_where_its_user_is_disabled() {
    let cluster = Cluster::start(&["router.session_queue_bytes=65536", "router.ping_interval_ms=60000"]).await;
    let node = cluster.node(1).await;
    let (alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let (mut bob, _) = TestClient::sign_in(cluster.router.address, "bob", Format::Json).await;
    let text = "x".repeat(16_000);
    for seq in (1..=400).step_by(2) {
        (seq..seq + 2).for_each(|seq| node.push(welcome.session_id, seq, &text));
        // Both have been handled when this is answered, for it is on the same stream.
        let id = bob.send(&Command::Profiles(ProfileQuery { user_ids: vec![user("bob")] })).await;
        bob.reply(id).await;
    }
    let record = ProfileRecord { disabled: true, ..profile(user("alice")) };
    node.push_item(welcome.session_id, PushItem::Profile(record));
    node.until("the session is closed", |memory| memory.detached.contains(&welcome.session_id)).await;
    drop(alice);
    cluster.stop().await;
}

#[tokio::test]
async fn a_hold_that_is_over_is_told_as_unavailable() {
    let cluster = Cluster::start(&["router.hold_ms=300"]).await;
    let node = cluster.node(1).await;
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    node.script((0..1000).map(|_| Act::Refuse(Refusal::NotServing)));
    let id = alice.send(&message(user("bob"), "t", "hello")).await;
    let Reply::Error(error) = alice.reply(id).await else { panic!("no error") };
    assert_eq!((error.code, error.retryable), (ErrorCode::Unavailable, true));
    node.memory().script.clear();
    let id = alice.send(&message(user("bob"), "t", "hello")).await;
    ack(alice.reply(id).await);
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_pushes_and_is_told() {
    let cluster = Cluster::start(&["router.session_queue_bytes=65536"]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    // More than the client's and the kernel's buffers take, in portions that the connection to the router takes.
    let text = "x".repeat(16_000);
    const PUSHES: u64 = 400;
    for seq in 1..=PUSHES {
        node.push(welcome.session_id, seq, &text);
        if seq % 50 == 0 {
            // Every notice before it has been handled when this is answered, for both are on the same stream.
            let (other, _) = TestClient::sign_in(cluster.router.address, "bob", Format::Json).await;
            drop(other);
        }
    }
    let mut last = 0;
    loop {
        match alice.push().await {
            Push::New(new) => {
                assert_eq!(new.message.seq.get(), last + 1, "a hole without a word");
                last += 1;
            }
            Push::Resync(resync) => {
                assert_eq!(resync.reason, ResyncReason::Overflow);
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(last < PUSHES);
    // What was pushed while the client read may have overflowed again: each time it is told, and then live again.
    node.push(welcome.session_id, PUSHES + 1, "live again");
    loop {
        match alice.push().await {
            Push::New(new) if new.message.content.as_deref() == Some("live again") => break,
            Push::New(_) => {}
            Push::Resync(_) => node.push(welcome.session_id, PUSHES + 1, "live again"),
            other => panic!("unexpected: {other:?}"),
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let cluster = Cluster::start(&["router.ping_interval_ms=500"]).await;
    let node = cluster.node(1).await;
    let (alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let text = "x".repeat(16_000);
    for seq in 1..=400 {
        node.push(welcome.session_id, seq, &text);
    }
    node.until("the session is closed", |memory| memory.detached.contains(&welcome.session_id)).await;
    drop(alice);
    cluster.stop().await;
}

#[tokio::test]
async fn wrong_frames_have_their_close_codes() {
    let cluster = Cluster::start(&["router.hello_timeout_ms=300"]).await;
    let _node = cluster.node(1).await;
    let address = cluster.router.address;

    let (mut binary, _) = TestClient::sign_in(address, "alice", Format::Json).await;
    binary.socket.send(Message::binary(vec![0x80])).await.unwrap();
    assert_eq!(u16::from(binary.closed().await.code), 1003);

    let (mut big, _) = TestClient::sign_in(address, "alice", Format::Json).await;
    big.socket.send(Message::text("x".repeat(limits::CLIENT_FRAME_BYTES * 20))).await.unwrap();
    assert_eq!(u16::from(big.closed().await.code), 1009);

    let mut silent = TestClient::connect(address, Format::Json).await;
    assert_eq!(u16::from(silent.closed().await.code), 4408);

    let mut stranger = TestClient::connect(address, Format::MessagePack).await;
    let id = stranger.send(&hello(Some("a.b.c".into()))).await;
    let Reply::Error(error) = stranger.reply(id).await else { panic!("no error") };
    assert_eq!(error.code, ErrorCode::Unauthorized);
    assert_eq!(u16::from(stranger.closed().await.code), 4401);
    cluster.stop().await;
}

#[tokio::test]
async fn a_malformed_frame_is_told_and_the_session_goes_on() {
    let cluster = Cluster::start(&[]).await;
    let _node = cluster.node(1).await;
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    alice.socket.send(Message::text("{\"type\":")).await.unwrap();
    assert_eq!(alice.error().await.code, ErrorCode::BadFrame);
    let id = alice.send(&Command::Ping).await;
    assert_eq!(alice.reply(id).await, Reply::Pong);
    cluster.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let cluster = Cluster::start(&["router.ping_interval_ms=200"]).await;
    let node = cluster.node(1).await;
    // Pongs are sent only by a client that polls its socket.
    let (alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    node.until("the session ended", |memory| memory.detached.contains(&welcome.session_id)).await;
    drop(alice);
    cluster.stop().await;
}

#[tokio::test]
async fn a_stopping_router_says_goodbye() {
    let cluster = Cluster::start(&["router.drain_ms=1000"]).await;
    let _node = cluster.node(1).await;
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let address = cluster.router.address;
    let stopped = tokio::spawn(async move { cluster.supervisor.drain(WITHIN).await });
    assert!(matches!(alice.push().await, Push::GoAway(_)));
    assert_eq!(u16::from(alice.closed().await.code), 1001);
    timeout(WITHIN, stopped).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// The answer about readiness that has `text` in it.
async fn health(address: SocketAddr, text: &str) -> String {
    let mut answer = String::new();
    let found = timeout(WITHIN, async {
        while !answer.contains(text) {
            answer = get(address, "/health/ready").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(found.await.is_ok(), "no {text:?} in {answer}");
    answer
}

#[tokio::test]
async fn a_router_stays_ready_while_it_reaches_any_node_and_warns_of_those_that_are_away() {
    let cluster = Cluster::start(&[]).await;
    let owner = cluster.node(1).await;
    let _other = cluster.node(2).await;
    let address = cluster.router.address;
    let well = health(address, r#""reasons":[],"warnings":[]"#).await;
    assert!(well.starts_with("HTTP/1.1 200"), "{well}");
    owner.die().await;
    let away = health(address, r#""warnings":["node 1 is not connected"]"#).await;
    assert!(away.starts_with("HTTP/1.1 200") && away.contains(r#""reasons":[]"#), "{away}");
    cluster.stop().await;
}

#[tokio::test]
async fn the_client_port_serves_the_page_health_and_the_sign_in() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let address = cluster.router.address;
    let page = get(address, "/").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'self'"), "{page}");
    assert!(get(address, "/health/live").await.starts_with("HTTP/1.1 200"));
    health(address, r#""ready":true"#).await;
    node.die().await;
    let away = health(address, "node 1 is not connected").await;
    assert!(away.starts_with("HTTP/1.1 503") && away.contains(r#""reasons":["no node is connected"]"#), "{away}");
    assert!(get(address, "/v1/dev/users/Bob").await.contains(&user("bob").to_string()));
    assert!(get(address, "/v1/dev/users/b!b").await.starts_with("HTTP/1.1 400"));
    assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));
    assert!(get(address, "/v1/ws").await.starts_with("HTTP/1.1 426"));
    let no_subprotocol = "GET /v1/ws HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                          sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let refused = fake::client::http(address, no_subprotocol, "").await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("tertulia.v1.json"), "{refused}");
    cluster.stop().await;
}
