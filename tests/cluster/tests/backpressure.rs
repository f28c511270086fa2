//! What waits for a client is bounded, and so is what a client may ask for at once: the one that does not read, or asks
//! too much, is told so, and nobody else notices.

use std::time::{Duration, Instant};

use tertulia_shard_map::UserId;
use tertulia_test_support::{
    Client, Cluster, Member,
    client::{Closed, Heard, message},
    eventually,
};
use tertulia_wire::client::{CloseCode, Command, ErrorCode, Format, HistoryQuery, Push, Reply};

/// Sessions of one user that never read.
const DEAF: usize = 4;
const FLOODERS: u32 = 4;
/// What each flooder sends, in one message after the other.
const FLOOD_MESSAGES: usize = 600;
const FLOOD_MESSAGE_BYTES: usize = 16_000;
/// Sends that a flooder has on the way at once.
const FLOOD_IN_FLIGHT: usize = 8;
/// A message between two others, while the flood lasts, in a debug build on two loaded cores.
const DELAY_MAX: Duration = Duration::from_secs(2);
/// What a router may grow by: half of what the flood would take for one session, if it were kept.
const GROWTH_KIB_MAX: u64 = (FLOODERS as usize * FLOOD_MESSAGES * FLOOD_MESSAGE_BYTES / 2 / 1024) as u64;

/// Sends it all, each message until it is acked.
async fn flood(mut client: Client, to: UserId) {
    let content = "x".repeat(FLOOD_MESSAGE_BYTES);
    for round in 0..FLOOD_MESSAGES / FLOOD_IN_FLIGHT {
        let mut open: Vec<usize> = (0..FLOOD_IN_FLIGHT).map(|place| round * FLOOD_IN_FLIGHT + place).collect();
        while !open.is_empty() {
            let mut begun = Vec::new();
            for number in open.drain(..) {
                begun.push((number, client.begin(&Command::Send(message(to, &format!("t{number}"), &content))).await));
            }
            for (number, id) in begun {
                match client.reply(id).await {
                    Reply::Ack(_) => {}
                    Reply::Error(error) if error.retryable => open.push(number),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// Starts to read at last. It was either closed or is told to sync, and goes on then; what it was.
async fn told_or_closed(mut deaf: Client) -> &'static str {
    loop {
        match deaf.hear().await {
            Ok(Heard::Push(Push::Resync(_))) => break,
            Ok(_) => {}
            Err(Closed::Code(code)) => {
                assert_eq!(code, CloseCode::TooSlow.code());
                return "closed with a code";
            }
            Err(Closed::Dropped) => return "closed without a code",
        }
    }
    // Told: then it goes on as any other session.
    let ping = deaf.begin(&Command::Ping).await;
    loop {
        match deaf.hear().await {
            Ok(Heard::Reply(id, Reply::Pong)) if id == ping => return "told to sync",
            Ok(_) => {}
            Err(closed) => panic!("told to sync, and then {closed:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_told_or_closed_and_delays_nobody() {
    let cluster = Cluster::builder().start().await;
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        deaf.push(cluster.connect_as(1, "deaf", Format::Json).await);
    }
    // The others are on the same router.
    let mut ana = cluster.connect(1, "ana").await;
    let mut bea = cluster.connect(1, "bea").await;
    ana.send(bea.user(), "first", "before").await;
    bea.new_message().await;
    let before_kib = cluster.resident_kib(Member::Router(1));

    let floods: Vec<_> = {
        let mut floods = Vec::new();
        for number in 0..FLOODERS {
            let flooder = cluster.connect(2, &format!("flooder{number}")).await;
            floods.push(tokio::spawn(flood(flooder, deaf[0].user())));
        }
        floods
    };
    let (mut worst, mut most_kib, mut number) = (Duration::ZERO, before_kib, 0);
    while floods.iter().any(|flood| !flood.is_finished()) {
        number += 1;
        let start = Instant::now();
        let sent = ana.send(bea.user(), &format!("t{number}"), "do you hear me?").await;
        assert_eq!(bea.new_message().await, sent);
        worst = worst.max(start.elapsed());
        most_kib = most_kib.max(cluster.resident_kib(Member::Router(1)));
    }
    for flood in floods {
        flood.await.expect("a flood ends well");
    }
    assert!(number > 5, "the flood was over before anything was measured");
    assert!(worst < DELAY_MAX, "a message took {worst:?}");
    assert!(most_kib < before_kib + GROWTH_KIB_MAX, "from {before_kib} to {most_kib} KiB");

    for session in deaf {
        println!("{}", told_or_closed(session).await);
    }
    // What was dropped is not lost: the row knows of it, and the history has it.
    let mut again = cluster.connect(2, "deaf").await;
    eventually("the list to have it all", async || {
        let (rows, _) = again.sync(None).await;
        let whole = rows.iter().filter(|row| row.last_seq.get() == FLOOD_MESSAGES as u64);
        (whole.count() == FLOODERS as usize).then_some(())
    })
    .await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn who_asks_for_too_much_at_once_is_told_when_to_come_back() {
    const IN_FLIGHT: usize = 8;
    let cluster = Cluster::builder().set("router.commands_in_flight", IN_FLIGHT).start().await;
    let mut ana = cluster.connect(1, "ana").await;
    let bea = cluster.login("bea").await.user;
    assert_eq!(ana.welcome().limits.commands_in_flight, IN_FLIGHT as u64);
    let conversation_id = ana.send(bea, "first", "before").await.conversation_id;

    // Frozen owners: what is sent stays on the way.
    (1..=3).for_each(|node| cluster.pause(Member::Node(node)));
    let mut begun = Vec::new();
    for number in 0..IN_FLIGHT {
        begun.push(ana.begin(&Command::Send(message(bea, &format!("t{number}"), "in time"))).await);
    }
    let query = HistoryQuery { conversation_id, after_seq: None, before_seq: None, limit: None };
    for (what, command) in
        [("a send", Command::Send(message(bea, "late", "one too many"))), ("a read", Command::History(query))]
    {
        let start = Instant::now();
        let Reply::Error(error) = ana.call(command).await else { panic!("{what} was not refused") };
        assert_eq!((error.code, error.retryable), (ErrorCode::Overloaded, true), "{what}");
        assert!(error.retry_after_ms.is_some_and(|after| after > 0), "{what}: {error:?}");
        assert!(start.elapsed() < Duration::from_secs(1), "{what} is refused at once, not after {:?}", start.elapsed());
    }
    (1..=3).for_each(|node| cluster.resume(Member::Node(node)));

    // What was accepted is carried out; what was refused, when it is tried again.
    for id in begun {
        let reply = ana.reply(id).await;
        assert!(matches!(reply, Reply::Ack(_)), "{reply:?}");
    }
    let late = ana.send(bea, "late", "one too many").await;
    assert_eq!(late.seq.get(), IN_FLIGHT as u64 + 2);
    cluster.assert_no_errors();
}
