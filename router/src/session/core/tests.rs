use bytes::Bytes;
use rcgen::KeyPair;
use tertulia_shard_map::{ConversationId, DevName, DirectPair, Epoch, EventId, MessageNo, Rev, Seq};
use tertulia_wire::{
    EventRecord,
    client::{
        ClientInfo, Hello, HistoryQuery, ListBlocks, Mark, PresenceQuery, ProfileChange, SendMessage, SetTyping,
        SyncQuery, encode_commands,
    },
    cluster::{Action, Answer, Append, Appended, Attached, Call, Marked, ProfileRecord, Refusal, SyncRows},
};

use super::{
    carry::{LARGE_QUERIES_AT_ONCE, QUERIES_AT_ONCE},
    *,
};
use crate::{
    auth::dev::DevSigner,
    commands::{Failure, Outcome},
    routing::{HoldReason, Key},
    session::Drain,
};

const ISSUER: &str = "tests";
const SESSION: SessionId = SessionId::from_u128(77);
const HELD_BYTES: usize = 4 * SESSION_HELD_BYTES_MAX;

struct Fixture {
    core: Core,
    signer: DevSigner,
    start: Instant,
    now: Now,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut policy = Policy {
            hello_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            queue_bytes: 100_000,
            commands_in_flight: 8,
            hold: Duration::from_secs(5),
        };
        change(&mut policy);
        let verifier = Verifier::new(key.public_key_pem().as_bytes(), ISSUER).unwrap();
        let shared = Arc::new(Shared { policy, verifier, held: HeldBytes::new(HELD_BYTES), meter: Meter::new() });
        let start = Instant::now();
        let now = Now { instant: start, unix_ms: 1_800_000_000_000 };
        let core = Core::new(shared, SESSION, Format::Json, None, now);
        Self { core, signer: DevSigner::new(key.serialize_pem().as_bytes(), ISSUER).unwrap(), start, now }
    }

    fn attached() -> Self {
        Self::attached_with(|_| ())
    }

    fn attached_with(change: impl FnOnce(&mut Policy)) -> Self {
        let mut it = Self::with(change);
        let ticket = ticket(&it.hello(1));
        let effects = it.done(ticket, attached(|_| ()));
        assert!(matches!(effects[..], [Effect::Reply { id: Some(1), reply: Reply::Welcome(_) }]), "{effects:?}");
        it
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { instant: self.now.instant + time, unix_ms: self.now.unix_ms + time.as_millis() as i64 };
    }

    fn token(&self) -> String {
        self.token_of("alice")
    }

    fn token_of(&self, name: &str) -> String {
        self.signer.sign(&name.parse::<DevName>().unwrap(), self.now.unix_ms).unwrap().token
    }

    fn hello(&mut self, id: u64) -> Vec<Effect> {
        let token = Some(self.token());
        self.command(id, &Command::Hello(hello(token)))
    }

    fn command(&mut self, id: u64, command: &Command) -> Vec<Effect> {
        self.frame(&encode_commands(Format::Json, &[(id, command)]))
    }

    fn frame(&mut self, frame: &[u8]) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.frame(frame, self.now, &mut effects);
        effects
    }

    fn send(&mut self, id: u64) -> Vec<Effect> {
        self.command(id, &Command::Send(send("hi")))
    }

    fn standing(&mut self, standing: Standing) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.standing(standing, &mut effects);
        effects
    }

    fn done(&mut self, ticket: Ticket, outcome: Outcome) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.done(ticket, outcome, self.now, &mut effects);
        effects
    }

    fn tick(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.tick(self.now, &mut effects);
        effects
    }
}

fn hello(token: Option<String>) -> Hello {
    Hello { token, client: ClientInfo { platform: "test".into(), version: "1".into() }, rev: None }
}

fn attached(change: impl FnOnce(&mut ProfileRecord)) -> Outcome {
    let (avatar_url, shares_presence, disabled) = (None, true, false);
    let mut profile =
        ProfileRecord { user: alice(), name: Some("Alice".into()), avatar_url, shares_presence, disabled };
    change(&mut profile);
    let (rev, in_large_group, epoch) = (Rev::new(3), true, Epoch::new(1));
    Outcome::Answered(Answer::Attach(Attached { rev, in_large_group, profile, epoch }))
}

fn alice() -> UserId {
    "alice".parse::<DevName>().unwrap().user_id()
}

fn bob() -> UserId {
    "bob".parse::<DevName>().unwrap().user_id()
}

fn send(temp_id: &str) -> SendMessage {
    let content = Some("hello".to_owned());
    SendMessage { to: Some(bob()), temp_id: temp_id.into(), content, ..SendMessage::default() }
}

fn appended(seq: u64) -> Outcome {
    let (id, seq, message_no) = (EventId::from_u128(5), Seq::new(seq), MessageNo::new(seq));
    Outcome::Answered(Answer::Append(Appended { id, seq, message_no, created_at_ms: 1, record: None }))
}

fn held() -> Outcome {
    Outcome::Failed(Failure::Hold(HoldReason::NotOwner))
}

/// Of the only piece of work that was started.
fn ticket(effects: &[Effect]) -> Ticket {
    let mut started = effects.iter().filter_map(|effect| match effect {
        Effect::Start { ticket, .. } => Some(*ticket),
        _ => None,
    });
    let ticket = started.next().expect("work was started");
    assert!(started.next().is_none(), "{effects:?}");
    ticket
}

/// The only append that was started.
fn append(effects: &[Effect]) -> (Ticket, &Append, u32) {
    match effects {
        [
            Effect::Start {
                ticket,
                job: Job::Attempt { routed: Routed { key, call: Call::Append(append) }, attempt },
                ..
            },
        ] => {
            assert_eq!(*key, Key::Conversation(append.conversation));
            (*ticket, append, *attempt)
        }
        _ => panic!("{effects:?}"),
    }
}

/// The only call that was started.
fn call(effects: &[Effect]) -> &Call {
    let mut calls = effects.iter().filter_map(|effect| match effect {
        Effect::Start { job: Job::Attempt { routed, .. } | Job::Hold(Work::Call(routed)), .. } => Some(&routed.call),
        _ => None,
    });
    let call = calls.next().expect("a call was started");
    assert!(calls.next().is_none(), "{effects:?}");
    call
}

/// Of the only reply, which is an error.
fn error(effects: &[Effect]) -> (Option<u64>, ErrorCode) {
    let [Effect::Reply { id, reply: Reply::Error(error) }, ..] = effects else { panic!("no error: {effects:?}") };
    assert_eq!(error.retryable, error.code.retryable());
    (*id, error.code)
}

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
fn a_send_goes_to_the_direct_conversation_and_is_acked() {
    let mut it = Fixture::attached();
    let effects = it.send(9);
    let (ticket, append, attempt) = append(&effects);
    assert_eq!((append.conversation, attempt), (DirectPair::new(alice(), bob()).conversation_id(), 0));
    assert_eq!((append.direct_peer, append.sender, append.origin), (Some(bob()), alice(), Some(SESSION)));
    assert_eq!(append.authority, Authority::Member);
    let effects = it.done(ticket, appended(4));
    let [Effect::Reply { id: Some(9), reply: Reply::Ack(ack) }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(ack.temp_id, "hi");
    assert_eq!((ack.message.seq.get(), ack.message.content.as_deref()), (4, Some("hello")));
    assert_eq!(it.core.shared.held.held(), 0);
}

#[test]
fn a_held_send_is_tried_again_with_the_same_temp_id_and_later_ones_wait() {
    let mut it = Fixture::attached();
    let first = it.send(1);
    let effects = it.done(ticket(&first), held());
    let (again, append, attempt) = append(&effects);
    assert_eq!((append.temp_id.as_str(), attempt), ("hi", 1));
    assert!(it.send(2).is_empty());
    let effects = it.done(again, appended(1));
    assert!(matches!(&effects[..], [Effect::Reply { id: Some(1), .. }, Effect::Start { .. }]), "{effects:?}");
}

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
fn commands_about_presence_are_carried_out_one_after_another() {
    let mut it = Fixture::attached();
    let users = PresenceQuery { user_ids: vec![bob()] };
    let first = ticket(&it.command(1, &Command::SubscribePresence(users.clone())));
    assert!(it.command(2, &Command::SubscribePresence(users.clone())).is_empty());
    assert!(it.command(3, &Command::UnsubscribePresence(users)).is_empty());
    let effects = it.done(first, held());
    let [Effect::Reply { id: Some(1), .. }, Effect::Start { ticket, job: Job::Watch(_), .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let effects = it.done(ticket, Outcome::Answered(Answer::WatchPresence(vec![])));
    assert!(
        matches!(effects[..], [Effect::Reply { id: Some(2), .. }, Effect::Start { job: Job::Unwatch(_), .. }]),
        "{effects:?}"
    );
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
fn a_page_is_answered_and_the_next_one_read() {
    let mut it = Fixture::attached();
    let sync = Command::Sync(SyncQuery { rev: Rev::ZERO, limit: None });
    let started: Vec<_> = (0..6).map(|id| it.command(id, &sync)).filter(|effects| !effects.is_empty()).collect();
    let rows = SyncRows { rows: vec![], rev: Rev::new(1), has_more: false, reset: false, unread_total: 0 };
    let effects = it.done(ticket(&started[0]), Outcome::Answered(Answer::Sync(rows)));
    let [Effect::Reply { id: Some(0), reply: Reply::SyncPage(_) }, Effect::Start { .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
}

#[test]
fn commands_of_every_way_are_started_as_planned() {
    let mut it = Fixture::attached();
    let conversation_id = ConversationId::from_u128(8);
    let query = HistoryQuery { conversation_id, after_seq: Some(Seq::new(4)), before_seq: None, limit: Some(10) };
    assert!(matches!(call(&it.command(1, &Command::History(query))), Call::History(_)));
    let mark = Mark { conversation_id, seq: Seq::new(4) };
    assert!(matches!(call(&it.command(2, &Command::Read(mark))), Call::Mark(_)));
    let users = PresenceQuery { user_ids: vec![bob()] };
    let effects = it.command(3, &Command::SubscribePresence(users.clone()));
    assert!(matches!(&effects[..], [Effect::Start { job: Job::Watch(_), .. }]), "{effects:?}");
    it.done(ticket(&effects), held());
    let effects = it.command(4, &Command::UnsubscribePresence(users));
    assert!(matches!(&effects[..], [Effect::Start { job: Job::Unwatch(_), .. }]), "{effects:?}");
}

#[test]
fn marks_of_a_conversation_are_merged_and_each_is_answered() {
    let mut it = Fixture::attached();
    let conversation_id = ConversationId::from_u128(8);
    let mark = |seq| Mark { conversation_id, seq: Seq::new(seq) };
    let first = it.command(1, &Command::Delivered(mark(3)));
    assert!(it.command(2, &Command::Delivered(mark(4))).is_empty());
    assert!(it.command(3, &Command::Read(mark(2))).is_empty());
    let marked = |delivered, read| {
        Outcome::Answered(Answer::Mark(Marked { delivered: Seq::new(delivered), read: Seq::new(read) }))
    };
    let effects = it.done(ticket(&first), marked(3, 0));
    assert!(matches!(effects[0], Effect::Reply { id: Some(1), reply: Reply::Marked(_) }), "{effects:?}");
    let Call::Mark(merged) = call(&effects) else { panic!("{effects:?}") };
    assert_eq!((merged.delivered, merged.read), (Seq::new(4), Seq::new(2)));
    let effects = it.done(ticket(&effects), marked(4, 2));
    let [Effect::Reply { id: Some(2), reply }, Effect::Reply { id: Some(3), reply: other }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(reply, other);
    assert_eq!(it.core.in_flight(), 0);
}

#[test]
fn a_merged_mark_is_given_up_when_its_own_time_is_over() {
    let mut it = Fixture::attached();
    let conversation_id = ConversationId::from_u128(8);
    let mark = |seq| Command::Delivered(Mark { conversation_id, seq: Seq::new(seq) });
    let first = it.command(1, &mark(1));
    it.command(2, &mark(2));
    it.pass(Duration::from_secs(4));
    it.command(3, &mark(3));
    let marked = Marked { delivered: Seq::new(1), read: Seq::ZERO };
    let merged = it.done(ticket(&first), Outcome::Answered(Answer::Mark(marked)));
    let Some(Effect::Start { ticket, .. }) = merged.last() else { panic!("{merged:?}") };
    it.pass(Duration::from_secs(1));
    let effects = it.done(*ticket, held());
    assert_eq!(error(&effects), (Some(2), ErrorCode::Unavailable));
    let Effect::Start { deadline, .. } = effects[1] else { panic!("{effects:?}") };
    assert_eq!(deadline, it.start + Duration::from_secs(9), "the other has four more seconds");
}

fn typing(it: &mut Fixture, conversation: u128) -> Vec<Effect> {
    let conversation_id = ConversationId::from_u128(conversation);
    it.command(1, &Command::Typing(SetTyping { conversation_id, typing: true }))
}

#[test]
fn typing_is_answered_at_once_and_passed_on_once_a_second() {
    let mut it = Fixture::attached();
    let ok = Effect::Reply { id: Some(1), reply: Reply::Ok };
    let effects = typing(&mut it, 5);
    assert!(matches!(call(&effects), Call::Typing(typing) if typing.typing && typing.origin == Some(SESSION)));
    assert_eq!(effects.last(), Some(&ok));
    assert_eq!(typing(&mut it, 5), [ok]);
    assert_eq!(typing(&mut it, 6).len(), 2, "another conversation");
    it.pass(Duration::from_secs(1));
    let effects = typing(&mut it, 5);
    assert_eq!(effects.len(), 2);
    assert!(it.done(ticket(&effects), held()).is_empty(), "nobody waits for its end");
    assert_eq!(it.core.in_flight(), 0);
}

#[test]
fn typing_of_a_user_who_does_not_share_presence_stays_here() {
    let mut it = Fixture::attached();
    let standing = Standing { shares_presence: false, disabled: false };
    assert!(it.standing(standing).is_empty());
    assert_eq!(typing(&mut it, 5).len(), 1);
    // The user's own change counts too.
    let change = ProfileChange { shares_presence: Some(true), ..ProfileChange::default() };
    let set = it.command(2, &Command::SetProfile(change));
    let Outcome::Answered(Answer::Attach(attached)) = attached(|_| ()) else { panic!() };
    let effects = it.done(ticket(&set), Outcome::Answered(Answer::SetProfile(attached.profile)));
    assert!(matches!(&effects[..], [Effect::Reply { id: Some(2), reply: Reply::Profile(_) }]), "{effects:?}");
    assert_eq!(typing(&mut it, 5).len(), 2);
}

#[test]
fn typing_is_dropped_while_the_session_is_busy() {
    let mut it = Fixture::attached();
    (0..5).for_each(|id| drop(it.send(id)));
    assert_eq!(typing(&mut it, 5), [Effect::Reply { id: Some(1), reply: Reply::Ok }]);
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
fn wrong_frames_are_told_and_the_session_goes_on() {
    let mut it = Fixture::attached();
    assert_eq!(error(&it.frame(b"{")), (None, ErrorCode::BadFrame));
    assert_eq!(error(&it.frame(br#"{"id":3,"type":"dance","data":{}}"#)), (Some(3), ErrorCode::UnknownType));
    assert_eq!(error(&it.frame(br#"{"id":4,"type":"sync","data":{"rev":"x"}}"#)), (Some(4), ErrorCode::BadRequest));
    assert_eq!(error(&it.command(5, &Command::Send(send("")))), (Some(5), ErrorCode::BadRequest));
    let effects = it.frame(br#"[{"id":6,"type":"nope"},{"id":7,"type":"ping"}]"#);
    assert_eq!(error(&effects), (Some(6), ErrorCode::UnknownType));
    assert_eq!(effects[1], Effect::Reply { id: Some(7), reply: Reply::Pong }, "its neighbour is carried out");
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
fn the_ack_shows_what_the_stored_event_will() {
    let mut it = Fixture::attached();
    let effects = it.send(1);
    let (ticket, append, _) = append(&effects);
    let Action::Message { body } = &append.action else { panic!("{append:?}") };
    let record = EventRecord {
        id: EventId::from_u128(5),
        conversation: append.conversation,
        seq: Seq::new(4),
        message_no: MessageNo::new(4),
        kind: append.action.kind(),
        sender: append.sender,
        created_at_ms: 1,
        temp_id: append.temp_id.clone(),
        body: Bytes::clone(body),
        target: None,
        since: None,
    };
    let effects = it.done(ticket, appended(4));
    let [Effect::Reply { reply: Reply::Ack(ack), .. }] = &effects[..] else { panic!() };
    assert_eq!(ack.message, client::Event::from_record(&record).unwrap());
}

#[test]
fn a_session_is_small() {
    let bytes = size_of::<Core>() + size_of::<crate::session::Mailslot>();
    assert!(bytes <= 512, "{bytes}: what few sessions need is boxed");
}

#[test]
fn what_is_said_of_the_user_during_the_attach_is_newer_than_its_answer() {
    let mut it = Fixture::new();
    let hello = ticket(&it.hello(1));
    it.standing(Standing { shares_presence: false, disabled: false });
    it.done(hello, attached(|_| ()));
    assert_eq!(typing(&mut it, 5).len(), 1, "it is not passed on");
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
