//! A client as `docs/PROTOCOL.md` describes it in "A client in an evening": rows, windows of events, an outbox; it
//! reconnects by itself, to another router each time, and repairs what it has missed.
//!
//! Tests take its connection away and look at what it ends with. Unlike a real client it opens every conversation that
//! it hears of, and says nothing of what it has received or read unless told to.

mod log;
mod outbox;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tertulia_shard_map::{ConversationId, Rev, Seq, UserId};
use tertulia_wire::client::{
    Command, CommandId, ConversationRow, ErrorCode, ErrorReply, Event, Format, Hello, HistoryQuery, Mark, Push,
    Receipt, Reply, SyncQuery,
};
use tokio::time::{Instant, sleep};

pub use log::Log;
use outbox::Outbox;

use crate::{
    Client, Cluster, DEADLINE, Login, Member,
    actor::event_of,
    client::{self, Closed, Heard},
    within,
};

/// Before something is asked again that could not be answered.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Full jitter, as the protocol has it, but shorter: tests are not phones.
const RECONNECT_MAX: Duration = Duration::from_millis(800);
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
/// How often whatever waits for a time is looked at.
const TICK: Duration = Duration::from_millis(10);

/// What a command on the way is about; those that are not here write events.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Sync,
    History(ConversationId),
    Mark,
}

/// How a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// With a close frame.
    Close,
    /// Without a word, as a phone that loses its network.
    Drop,
}

#[derive(Debug)]
pub struct Device {
    routers: Vec<String>,
    login: Login,
    dice: StdRng,
    // What a client stores.
    rev: Rev,
    rows: BTreeMap<ConversationId, ConversationRow>,
    logs: BTreeMap<ConversationId, Log>,
    outbox: Outbox,
    // The connection.
    client: Option<Client>,
    router: usize,
    attempt: u32,
    connect_at: Instant,
    /// After a `goaway`: until then the router still serves.
    leave_at: Option<Instant>,
    asked: HashMap<CommandId, Asked>,
    sync_due: Option<Instant>,
    repair_not_before: Instant,
    // What a test looks at.
    acked: Vec<Event>,
    refused: Vec<ErrorReply>,
    goaways: u32,
    resyncs: u32,
    welcomes: u32,
    closes: Vec<Closed>,
}

impl Device {
    /// Signed in, and not connected yet. The first connection is to this router.
    pub async fn new(cluster: &Cluster, router: u32, name: &str, seed: u64) -> Self {
        let routers = cluster.members().into_iter().filter_map(|member| match member {
            Member::Router(id) => Some(cluster.ws_url(id)),
            _ => None,
        });
        let now = Instant::now();
        Self {
            routers: routers.collect(),
            login: cluster.login(name).await,
            dice: StdRng::seed_from_u64(seed),
            rev: Rev::ZERO,
            rows: BTreeMap::new(),
            logs: BTreeMap::new(),
            outbox: Outbox::default(),
            client: None,
            router: router as usize - 1,
            attempt: 0,
            connect_at: now,
            leave_at: None,
            asked: HashMap::new(),
            sync_due: None,
            repair_not_before: now,
            acked: Vec::new(),
            refused: Vec::new(),
            goaways: 0,
            resyncs: 0,
            welcomes: 0,
            closes: Vec::new(),
        }
    }

    // --- what it has ---

    pub fn user(&self) -> UserId {
        self.login.user
    }

    pub fn rev(&self) -> Rev {
        self.rev
    }

    pub fn rows(&self) -> &BTreeMap<ConversationId, ConversationRow> {
        &self.rows
    }

    /// The events of a conversation, each as it is now.
    pub fn events(&self, conversation: ConversationId) -> Vec<Event> {
        self.logs.get(&conversation).map(|log| log.events().cloned().collect()).unwrap_or_default()
    }

    /// Everything that was acked to this device, in that order.
    pub fn acked(&self) -> &[Event] {
        &self.acked
    }

    /// Refused for good.
    pub fn refused(&self) -> &[ErrorReply] {
        &self.refused
    }

    pub fn goaways(&self) -> u32 {
        self.goaways
    }

    pub fn resyncs(&self) -> u32 {
        self.resyncs
    }

    pub fn welcomes(&self) -> u32 {
        self.welcomes
    }

    pub fn closes(&self) -> &[Closed] {
        &self.closes
    }

    /// The router that it is, or was last, connected to.
    pub fn router(&self) -> u32 {
        self.router as u32 + 1
    }

    pub fn is_online(&self) -> bool {
        self.client.is_some()
    }

    /// Nothing is waiting: everything said is acked or refused, and no hole is known.
    pub fn is_settled(&self) -> bool {
        self.outbox.is_empty() && self.asked.is_empty() && self.sync_due.is_none() && self.holes().next().is_none()
    }

    // --- what it does ---

    /// Says something that makes an event: now, or as soon as it is connected.
    pub fn say(&mut self, command: Command) {
        self.outbox.add(command, Instant::now());
    }

    /// Marks everything held of a conversation as read; forgotten where the connection goes first.
    pub async fn read(&mut self, conversation_id: ConversationId) {
        let seq = self.logs.get(&conversation_id).map_or(Seq::ZERO, Log::last);
        if seq > Seq::ZERO {
            self.ask(Command::Read(Mark { conversation_id, seq }), Asked::Mark).await;
        }
    }

    /// Loses or closes its connection. It comes back, at another router, with the next [`run`](Self::run).
    pub async fn leave(&mut self, leaving: Leaving) {
        let Some(client) = self.client.take() else { return };
        match leaving {
            Leaving::Close => client.close().await,
            Leaving::Drop => drop(client),
        }
        self.offline(Duration::ZERO);
    }

    /// Lives for so long.
    pub async fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step().await;
        }
    }

    /// Lives until this is so; panics with `what` where it does not come.
    pub async fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let name = self.login.name.clone();
        let living = async {
            while !done(self) {
                self.step().await;
            }
        };
        within(&format!("{name}: {what}"), DEADLINE, living).await;
    }

    /// Asks for what has changed, once more, and lives until nothing is waiting.
    pub async fn catch_up(&mut self) {
        self.sync_due = Some(Instant::now());
        self.run_until("to have caught up", |device| device.is_online() && device.is_settled()).await;
    }

    // --- one step ---

    async fn step(&mut self) {
        if self.client.is_none() {
            if Instant::now() < self.connect_at {
                return sleep(TICK).await;
            }
            return self.connect().await;
        }
        if self.leave_at.is_some_and(|at| at <= Instant::now()) {
            return self.leave(Leaving::Close).await;
        }
        self.say_what_is_due().await;
        self.ask_what_is_due().await;
        let Some(client) = &mut self.client else { return };
        let heard = tokio::select! {
            heard = client.hear() => heard,
            () = sleep(TICK) => return,
        };
        match heard {
            Ok(Heard::Push(push)) => self.pushed(&push),
            Ok(Heard::Reply(id, reply)) => self.answered(id, reply),
            Err(closed) => {
                self.closes.push(closed);
                self.offline(Duration::ZERO);
            }
        }
    }

    async fn connect(&mut self) {
        let Ok(mut client) = Client::try_connect(&self.routers[self.router], Format::Json).await else {
            return self.back_off();
        };
        let rev = (self.rev > Rev::ZERO).then_some(self.rev);
        let hello = Command::Hello(Hello { rev, ..client::hello(&self.login.token) });
        let id = client.begin(&hello).await;
        loop {
            match client.hear().await {
                // Before the welcome is seen: as good as after.
                Ok(Heard::Push(push)) => self.pushed(&push),
                Ok(Heard::Reply(answered, Reply::Welcome(welcome))) if answered == id => {
                    (self.attempt, self.welcomes) = (0, self.welcomes + 1);
                    if welcome.rev != self.rev || welcome.in_large_group {
                        self.sync_due = Some(Instant::now());
                    }
                    self.client = Some(client);
                    return;
                }
                Ok(Heard::Reply(_, Reply::Error(error))) => {
                    assert!(error.retryable, "{}: hello was refused: {error:?}", self.login.name);
                    return self.back_off();
                }
                Ok(Heard::Reply(_, other)) => panic!("no welcome, but {other:?}"),
                Err(_) => return self.back_off(),
            }
        }
    }

    fn back_off(&mut self) {
        let most = RECONNECT_MAX.min(RECONNECT_FIRST * 2_u32.pow(self.attempt.min(8)));
        self.attempt += 1;
        let wait = most.mul_f64(self.dice.random());
        self.offline(wait);
    }

    /// Forgets what was on the way, and turns to another router.
    fn offline(&mut self, wait: Duration) {
        (self.client, self.leave_at) = (None, None);
        self.asked.clear();
        self.outbox.landed();
        self.router = (self.router + 1) % self.routers.len();
        self.connect_at = Instant::now() + wait;
    }

    async fn say_what_is_due(&mut self) {
        let Some(client) = &mut self.client else { return };
        for command in self.outbox.due(Instant::now()) {
            let id = client.begin(&command).await;
            self.outbox.sent(&command, id);
        }
    }

    async fn ask_what_is_due(&mut self) {
        let now = Instant::now();
        let syncing = self.asked.values().any(|asked| matches!(asked, Asked::Sync));
        if !syncing && self.sync_due.is_some_and(|due| due <= now) {
            self.sync_due = None;
            self.ask(Command::Sync(SyncQuery { rev: self.rev, limit: None }), Asked::Sync).await;
        }
        if now < self.repair_not_before {
            return;
        }
        let asked = |id| self.asked.values().any(|asked| matches!(asked, Asked::History(of) if *of == id));
        let holes: Vec<_> = self.holes().filter(|(id, _)| !asked(*id)).collect();
        for (conversation_id, after) in holes {
            let query = HistoryQuery { conversation_id, after_seq: Some(after), before_seq: None, limit: None };
            self.ask(Command::History(query), Asked::History(conversation_id)).await;
        }
    }

    /// Conversations with events that are known of and not held, and the end of what is held.
    fn holes(&self) -> impl Iterator<Item = (ConversationId, Seq)> {
        let held = |id: &ConversationId| self.logs.get(id).map_or(Seq::ZERO, Log::last);
        let of_rows =
            self.rows.values().filter(|row| row.left_seq.is_none()).map(|row| (row.conversation_id, row.last_seq));
        let of_logs = self.logs.iter().map(|(id, log)| (*id, log.newest()));
        let known = of_rows.chain(of_logs).collect::<Vec<_>>();
        let mut holes: BTreeMap<ConversationId, Seq> = BTreeMap::new();
        for (id, newest) in known {
            let is_gone = self.rows.get(&id).is_some_and(|row| row.left_seq.is_some());
            if newest > held(&id) && !is_gone {
                holes.insert(id, held(&id));
            }
        }
        holes.into_iter()
    }

    async fn ask(&mut self, command: Command, what: Asked) {
        if let Some(client) = &mut self.client {
            let id = client.begin(&command).await;
            self.asked.insert(id, what);
        }
    }

    // --- what it hears ---

    fn pushed(&mut self, push: &Push) {
        if let Some(event) = event_of(push) {
            return self.take(event);
        }
        match push {
            Push::Receipt(receipt) => self.merge(receipt),
            Push::Resync(_) => {
                self.resyncs += 1;
                self.sync_due = Some(Instant::now());
            }
            Push::GoAway(goaway) => {
                self.goaways += 1;
                let wait = Duration::from_millis(goaway.retry_after_ms).mul_f64(self.dice.random());
                self.leave_at.get_or_insert(Instant::now() + wait);
            }
            _ => {}
        }
    }

    fn take(&mut self, event: &Event) {
        let me = self.login.user;
        self.logs.entry(event.conversation_id).or_insert_with(|| Log::new(me)).take(event);
        // An event of one's own that is still in the outbox is as good as its ack.
        if event.sender_id == me {
            self.outbox.seen(event.conversation_id, &event.temp_id);
        }
        // A conversation that is new to this user, or that is no more, or that is again: its row tells.
        let about_me = event.members.iter().any(|member| member.user_id == me);
        if about_me || !self.rows.contains_key(&event.conversation_id) {
            self.sync_due.get_or_insert(Instant::now() + RETRY_AFTER);
        }
    }

    fn merge(&mut self, receipt: &Receipt) {
        let me = self.login.user;
        let Some(row) = self.rows.get_mut(&receipt.conversation_id) else { return };
        if receipt.user_id == me {
            row.read_seq = row.read_seq.max(receipt.read_seq);
        } else {
            row.others_delivered_seq = row.others_delivered_seq.max(receipt.delivered_seq);
            row.others_read_seq = row.others_read_seq.max(receipt.read_seq);
        }
    }

    fn answered(&mut self, id: CommandId, reply: Reply) {
        let Some(asked) = self.asked.remove(&id) else { return self.said(id, reply) };
        match (asked, reply) {
            (Asked::Sync, Reply::SyncPage(page)) => {
                if page.reset {
                    self.rows.clear();
                    self.rev = Rev::ZERO;
                } else {
                    self.rows.extend(page.conversations.into_iter().map(|row| (row.conversation_id, row)));
                    self.rev = page.rev;
                }
                if page.reset || page.has_more {
                    self.sync_due = Some(Instant::now());
                }
            }
            (Asked::History(conversation), Reply::HistoryPage(page)) => {
                let me = self.login.user;
                self.logs.entry(conversation).or_insert_with(|| Log::new(me)).take_page(&page);
            }
            // No member any more: the row will say so.
            (Asked::History(_), Reply::Error(error)) if error.code == ErrorCode::NotFound => {
                self.repair_not_before = Instant::now() + RETRY_AFTER;
                self.sync_due.get_or_insert(Instant::now() + RETRY_AFTER);
            }
            (Asked::Mark, _) => {}
            (asked, Reply::Error(error)) => {
                assert!(error.retryable, "{}: {asked:?} was refused: {error:?}", self.login.name);
                self.repair_not_before = Instant::now() + RETRY_AFTER;
                if matches!(asked, Asked::Sync) {
                    self.sync_due = Some(Instant::now() + RETRY_AFTER);
                }
            }
            (asked, other) => panic!("{asked:?} was answered with {other:?}"),
        }
    }

    /// The answer to something in the outbox.
    fn said(&mut self, id: CommandId, reply: Reply) {
        match reply {
            Reply::Ack(ack) => {
                if self.outbox.finish(id) {
                    self.take(&ack.message);
                    self.acked.push(ack.message);
                }
            }
            Reply::Error(error) if error.retryable => self.outbox.retry(id, &error, Instant::now()),
            Reply::Error(error) => {
                if self.outbox.finish(id) {
                    self.refused.push(error);
                }
            }
            other => panic!("neither ack nor error, but {other:?}"),
        }
    }
}
