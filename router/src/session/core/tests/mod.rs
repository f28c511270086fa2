//! A session's core, driven by hand.

mod bounds;
mod commands;
mod lifecycle;

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
    limits::Limits,
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
            min_client_version: BTreeMap::new(),
        };
        change(&mut policy);
        let verifier = Verifier::new(key.public_key_pem().as_bytes(), ISSUER).unwrap();
        let limits = Limits::none();
        let shared =
            Arc::new(Shared { policy, verifier, limits, held: HeldBytes::new(HELD_BYTES), meter: Meter::new() });
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

fn typing(it: &mut Fixture, conversation: u128) -> Vec<Effect> {
    let conversation_id = ConversationId::from_u128(conversation);
    it.command(1, &Command::Typing(SetTyping { conversation_id, typing: true }))
}
