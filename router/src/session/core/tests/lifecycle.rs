//! From `hello` to the end: tokens, the attach, pings, the stop of the router.

use super::*;

#[test]
fn the_session_can_be_found_before_its_mailbox_is_read() {
    let mut it = Fixture::new();
    let effects = it.hello(1);
    let [Effect::SignIn(user), Effect::Start { job: Job::Attach { user: attached, name }, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(user, attached);
    assert_eq!(name.as_deref(), Some("alice"));
}

#[test]
fn nothing_but_hello_may_come_first_and_hello_only_once() {
    let mut it = Fixture::new();
    assert_eq!(error(&it.command(4, &Command::Ping)), (Some(4), ErrorCode::NotExpected));
    assert_eq!(error(&it.send(5)), (Some(5), ErrorCode::NotExpected));
    let mut it = Fixture::attached();
    assert_eq!(error(&it.hello(6)), (Some(6), ErrorCode::NotExpected));
}

#[test]
fn a_bad_token_is_told_and_closes() {
    let expired = {
        let mut it = Fixture::new();
        let token = it.token();
        it.pass(Duration::from_secs(24 * 3600));
        it.command(1, &Command::Hello(hello(Some(token))))
    };
    assert_eq!(error(&expired), (Some(1), ErrorCode::TokenExpired));
    for token in [None, Some("x.y.z".to_owned())] {
        let effects = Fixture::new().command(1, &Command::Hello(hello(token)));
        assert_eq!(error(&effects), (Some(1), ErrorCode::Unauthorized));
        assert_eq!(effects.last(), Some(&Effect::Close(CloseCode::Unauthorized)));
    }
}

#[test]
fn the_token_of_the_handshake_counts_where_hello_has_none() {
    let mut it = Fixture::new();
    it.core.bearer = Some(it.token().into());
    ticket(&it.command(1, &Command::Hello(hello(None))));
}

#[test]
fn a_failed_attach_leaves_the_session_open_for_another_hello() {
    let mut it = Fixture::new();
    let first = ticket(&it.hello(1));
    let effects = it.done(first, held());
    assert_eq!(error(&effects), (Some(1), ErrorCode::Unavailable));
    assert_eq!(effects.len(), 1);
    ticket(&it.hello(2));
}

#[test]
fn a_session_belongs_to_the_first_user_who_said_hello() {
    let mut it = Fixture::new();
    let first = ticket(&it.hello(1));
    it.done(first, held());
    let token = Some(it.token_of("bob"));
    let effects = it.command(2, &Command::Hello(hello(token)));
    assert_eq!(error(&effects), (Some(2), ErrorCode::Unauthorized), "pushes for alice may be waiting");
    assert_eq!(effects[1..], [Effect::Close(CloseCode::Unauthorized)]);
}

#[test]
fn a_session_without_hello_is_closed() {
    let mut it = Fixture::new();
    assert_eq!(it.core.next_deadline(it.now), it.start + Duration::from_secs(10));
    it.pass(Duration::from_secs(10));
    assert_eq!(it.tick(), [Effect::Close(CloseCode::HelloTimeout)]);
    assert!(it.send(1).is_empty(), "nothing comes out after a close");
}

#[test]
fn a_session_ends_with_its_token() {
    let mut it = Fixture::attached_with(|policy| policy.ping_interval = Duration::from_secs(10_000_000));
    it.pass(Duration::from_secs(12 * 3600));
    assert!(it.tick().is_empty(), "within the leeway");
    it.pass(Duration::from_secs(6));
    let effects = it.tick();
    assert_eq!(error(&effects), (None, ErrorCode::TokenExpired));
    assert_eq!(effects[1], Effect::Close(CloseCode::Unauthorized));
}

#[test]
fn a_silent_client_is_pinged_and_then_closed() {
    let mut it = Fixture::attached();
    it.pass(Duration::from_secs(25));
    assert_eq!(it.tick(), [Effect::Ping]);
    it.core.heard(it.now);
    it.pass(Duration::from_secs(25));
    assert_eq!(it.tick(), [Effect::Ping]);
    it.pass(Duration::from_secs(25));
    assert_eq!(it.tick(), [Effect::Close(CloseCode::PingTimeout)]);
}

#[test]
fn a_client_that_is_too_old_is_turned_away_whatever_its_token() {
    let oldest = |platform: &str| BTreeMap::from([(platform.to_owned(), "2.10".parse().unwrap())]);
    let version = |it: &mut Fixture, platform: &str, version: &str, token: Option<String>| {
        let client = ClientInfo { platform: platform.into(), version: version.into() };
        it.command(1, &Command::Hello(Hello { client, ..hello(token) }))
    };
    for (platform, of_client) in [("ios", "2.9.4"), ("iOS", "2.9"), ("ios", "nightly")] {
        let mut it = Fixture::with(|policy| policy.min_client_version = oldest("ios"));
        let token = Some(it.token()).filter(|_| of_client != "2.9");
        let effects = version(&mut it, platform, of_client, token);
        assert_eq!(error(&effects), (Some(1), ErrorCode::ClientOutdated));
        assert_eq!(effects[1..], [Effect::Close(CloseCode::ClientOutdated)]);
    }
    for (platform, of_client) in [("ios", "2.10"), ("IOS", "3"), ("android", "1"), ("android", "nightly")] {
        let mut it = Fixture::with(|policy| policy.min_client_version = oldest("ios"));
        let token = Some(it.token());
        ticket(&version(&mut it, platform, of_client, token));
    }
}

#[test]
fn a_disabled_user_is_turned_away() {
    let not_allowed = || Outcome::Failed(Failure::Refused(Refusal::NotAllowed("disabled".into())));
    for outcome in [attached(|profile| profile.disabled = true), not_allowed()] {
        let mut it = Fixture::new();
        let hello = ticket(&it.hello(1));
        assert!(it.send(2).is_empty(), "it waits for the welcome");
        let effects = it.done(hello, outcome);
        assert_eq!(error(&effects), (Some(1), ErrorCode::Forbidden));
        assert_eq!(effects[1..], [Effect::Close(CloseCode::Unauthorized)], "and nothing was sent");
    }
    let effects = Fixture::attached().standing(Standing { shares_presence: true, disabled: true });
    assert_eq!(error(&effects), (None, ErrorCode::Forbidden));
    assert_eq!(effects[1], Effect::Close(CloseCode::Unauthorized));
}

#[test]
fn what_comes_before_the_welcome_is_carried_out_after_it() {
    let mut it = Fixture::new();
    let hello = ticket(&it.hello(1));
    assert!(it.send(2).is_empty());
    let effects = it.done(hello, attached(|_| ()));
    let [Effect::Reply { id: Some(1), reply: Reply::Welcome(welcome) }, Effect::Start { .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((welcome.user.name.as_deref(), welcome.user.shares_presence), (Some("Alice"), Some(true)));
    assert_eq!((welcome.rev, welcome.in_large_group), (Rev::new(3), true));

    let mut it = Fixture::new();
    let hello = ticket(&it.hello(1));
    assert!((2..18).all(|id| it.send(id).is_empty()));
    assert_eq!(error(&it.send(18)), (Some(18), ErrorCode::Overloaded), "a few only");
    let effects = it.done(hello, held());
    assert_eq!(effects.len(), 17, "each is answered as the `hello` was");
    assert!(effects.iter().all(|effect| error(std::slice::from_ref(effect)).1 == ErrorCode::Unavailable));
}

/// Of a drain of 4 seconds.
fn leave(now: Now) -> Box<Leave> {
    Box::new(Drain::new(Duration::from_secs(4), 1000, now.instant).leave(now.instant, 1.0))
}

#[test]
fn a_stopping_router_says_so_and_closes_when_nothing_is_in_flight() {
    let mut it = Fixture::attached();
    let sent = ticket(&it.send(1));
    let mut effects = Vec::new();
    it.core.go_away(leave(it.now), &mut effects);
    assert!(matches!(effects[..], [Effect::Push(Push::GoAway(_))]), "{effects:?}");
    it.pass(Duration::from_secs(2));
    assert!(it.tick().is_empty(), "the send has no answer yet");
    it.done(sent, appended(1));
    assert_eq!(it.tick(), [Effect::Close(CloseCode::GoingAway)]);

    let mut stuck = Fixture::attached();
    stuck.send(1);
    stuck.core.go_away(leave(stuck.now), &mut effects);
    stuck.pass(Duration::from_secs(4));
    assert_eq!(stuck.tick().last(), Some(&Effect::Close(CloseCode::GoingAway)), "at the latest when the time is over");
}

#[test]
fn what_is_said_of_the_user_during_the_attach_is_newer_than_its_answer() {
    let mut it = Fixture::new();
    let hello = ticket(&it.hello(1));
    it.standing(Standing { shares_presence: false, disabled: false });
    it.done(hello, attached(|_| ()));
    assert_eq!(typing(&mut it, 5).len(), 1, "it is not passed on");
}
