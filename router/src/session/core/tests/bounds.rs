//! What a session may have under way, and for how long.

use super::*;

#[test]
fn a_hold_ends_with_a_retryable_error() {
    let mut it = Fixture::attached();
    let mut running = ticket(&it.send(1));
    running = ticket(&it.done(running, held()));
    assert!(it.send(2).is_empty());
    it.pass(Duration::from_secs(5));
    let waiting = it.tick();
    assert_eq!(error(&waiting), (Some(2), ErrorCode::Unavailable), "the waiting one, at its deadline");
    let effects = it.done(running, held());
    assert_eq!(error(&effects), (Some(1), ErrorCode::Unavailable));
    assert_eq!(it.core.shared.held.held(), 0);
}

#[test]
fn commands_in_flight_are_bounded() {
    let mut it = Fixture::attached();
    for id in 0..8 {
        it.send(id);
    }
    let effects = it.send(8);
    assert_eq!(error(&effects), (Some(8), ErrorCode::Overloaded));
    let [Effect::Reply { reply: Reply::Error(error), .. }] = &effects[..] else { panic!() };
    assert!(error.retry_after_ms.is_some());
}

#[test]
fn the_bytes_held_for_all_sessions_are_bounded() {
    let mut it = Fixture::attached();
    it.core.shared.held.try_hold(HELD_BYTES - 1000).map(std::mem::forget).unwrap();
    assert_eq!(
        error(&{
            it.send(1);
            it.send(2)
        }),
        (Some(2), ErrorCode::Overloaded)
    );
}

#[test]
fn the_bytes_held_for_one_session_are_bounded() {
    let mut it = Fixture::attached_with(|policy| policy.commands_in_flight = 1000);
    let large = Command::Send(SendMessage { content: Some("x".repeat(16_000)), ..send("large") });
    let refused = (0..1000).find(|id| !matches!(it.command(*id, &large)[..], [Effect::Start { .. }])).unwrap();
    assert!((25..33).contains(&refused), "{refused} of twice 16 KB");
    assert_eq!(error(&it.command(1000, &large)), (Some(1000), ErrorCode::Overloaded));
    assert!(it.core.shared.held.held() <= SESSION_HELD_BYTES_MAX);
}

#[test]
fn what_waits_for_the_welcome_counts_as_held() {
    let mut it = Fixture::new();
    let hello = ticket(&it.hello(1));
    let large = Command::Send(SendMessage { content: Some("x".repeat(16_000)), ..send("large") });
    assert!(it.command(2, &large).is_empty());
    assert!(it.core.shared.held.held() > 16_000);
    let sent = ticket(&it.done(hello, attached(|_| ())));
    it.done(sent, appended(1));
    assert_eq!(it.core.shared.held.held(), 0);

    let mut it = Fixture::new();
    it.hello(1);
    it.core.shared.held.try_hold(HELD_BYTES - 1000).map(std::mem::forget).unwrap();
    assert_eq!(error(&it.command(2, &large)), (Some(2), ErrorCode::Overloaded));
}

#[test]
fn only_few_pages_are_read_at_once_and_other_queries_pass() {
    let mut it = Fixture::attached();
    let sync = Command::Sync(SyncQuery { rev: Rev::ZERO, limit: None });
    let started: Vec<_> = (0..4).map(|id| it.command(id, &sync)).filter(|effects| !effects.is_empty()).collect();
    assert_eq!(started.len(), LARGE_QUERIES_AT_ONCE);
    let blocks = it.command(4, &Command::Blocks(ListBlocks { after: None, limit: None }));
    assert!(matches!(call(&blocks), Call::Blocks(_)));
    let effects = it.done(ticket(&blocks), held());
    assert_eq!(effects.len(), 1, "a page does not take its place");
    ticket(&it.done(ticket(&started[0]), held()));
}

#[test]
fn only_a_few_queries_run_at_once_and_the_rest_follow() {
    let mut it = Fixture::attached();
    let blocks = Command::Blocks(ListBlocks { after: None, limit: None });
    let started: Vec<_> = (0..6).map(|id| it.command(id, &blocks)).filter(|effects| !effects.is_empty()).collect();
    assert_eq!(started.len(), QUERIES_AT_ONCE);
    ticket(&it.done(ticket(&started[0]), held()));
}

#[test]
fn a_session_at_rest_keeps_no_memory_of_bursts() {
    let mut it = Fixture::attached();
    let sent = ticket(&it.send(1));
    typing(&mut it, 5);
    it.done(sent, appended(1));
    it.pass(Duration::from_secs(25));
    assert_eq!(it.tick(), [Effect::Ping]);
    assert!(it.core.typing.is_none() && it.core.queries.capacity() == 0);
}

#[test]
fn a_session_is_small() {
    let bytes = size_of::<Core>() + size_of::<crate::session::Mailslot>();
    assert!(bytes <= 512, "{bytes}: what few sessions need is boxed");
}

#[test]
fn a_query_that_waits_keeps_its_deadline() {
    let mut it = Fixture::attached();
    let sync = Command::Sync(SyncQuery { rev: Rev::ZERO, limit: None });
    let first = it.command(1, &sync);
    (2..6).for_each(|id| drop(it.command(id, &sync)));
    it.pass(Duration::from_secs(4));
    let effects = it.done(ticket(&first), held());
    let [Effect::Reply { id: Some(1), .. }, Effect::Start { deadline, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(*deadline, it.start + Duration::from_secs(5));
}
