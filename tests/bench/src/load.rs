//! Pairs of users who chat: closed loop, or at a fixed rate.

use std::{
    cell::RefCell,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use tertulia_shard_map::ConversationId;
use tertulia_wire::client::{Command, ErrorReply, Event, Format, Outbound, Push, Reply, SendMessage};
use tokio::sync::mpsc;

use tertulia_bench::{
    body::Bodies,
    connection::{Session, SignIn},
    processes::Processes,
};

use crate::{
    Options,
    ledger::{Arrival, Counts, Ledger, Side},
    report::LoadReport,
};

/// Not counted in rates, latencies and processor time; counted in all checks.
const WARM_UP: Duration = Duration::from_secs(2);
/// A message that is not acked and delivered by then has failed.
const MESSAGE_LIMIT: Duration = Duration::from_secs(10);
/// Sessions that are being opened at once.
const OPENING_AT_ONCE: usize = 32;
/// Due messages that a pair may be behind with before they count as errors.
const BACKLOG_MAX: usize = 4096;
/// Faults that are described on standard error.
const FAULTS_SHOWN: u64 = 10;

/// When the measuring begins and ends.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
}

impl Window {
    fn holds(&self, due: Instant) -> bool {
        (self.start..self.end).contains(&due)
    }
}

/// What all pairs write into; one thread, so no lock.
pub struct Tally {
    window: Window,
    pub counts: Counts,
    /// Of messages due in the window.
    pub acked_in_window: u64,
    pub delivered_in_window: u64,
    pub ack_us: Histogram<u64>,
    pub deliver_us: Histogram<u64>,
    faults_shown: u64,
}

impl Tally {
    fn new(window: Window) -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, 120_000_000, 3);
        Ok(Self {
            window,
            counts: Counts::default(),
            acked_in_window: 0,
            delivered_in_window: 0,
            ack_us: histogram()?,
            deliver_us: histogram()?,
            faults_shown: 0,
        })
    }

    fn error(&mut self, what: impl FnOnce() -> String) {
        self.counts.errors += 1;
        self.show(what);
    }

    fn show(&mut self, what: impl FnOnce() -> String) {
        self.faults_shown += 1;
        if self.faults_shown <= FAULTS_SHOWN {
            eprintln!("fault: {}", what());
        }
    }
}

pub async fn run(options: &Options) -> anyhow::Result<LoadReport> {
    let processes = Processes::find(&options.data)?;
    let run: u32 = rand::random();
    let routers = &options.routers;
    // The users of a pair sit on different routers, where there are any.
    let router_of = |user: u32| routers[user as usize % routers.len()];
    let mut sign_in = SignIn::connect(routers[0]).await?;
    let mut users = Vec::new();
    for user in 0..options.pairs * 2 {
        users.push((router_of(user), sign_in.sign_in(&format!("bench-{run:08x}-{user}")).await?));
    }
    drop(sign_in);
    let format = options.format.format();
    let sessions: Vec<Session> = stream::iter(users.iter().map(|(router, user)| Session::open(*router, format, user)))
        .buffered(OPENING_AT_ONCE)
        .try_collect()
        .await
        .context("opening the sessions")?;

    let start = Instant::now() + WARM_UP;
    let window = Window { start, end: start + options.duration() };
    let tally = Rc::new(RefCell::new(Tally::new(window)?));
    let bodies = Rc::new(Bodies::new(options.bytes.map(|bytes| bytes as usize)));
    let mut sessions = sessions.into_iter();
    let mut pairs = Vec::new();
    while let (Some(a), Some(b)) = (sessions.next(), sessions.next()) {
        let (tally, bodies) = (tally.clone(), bodies.clone());
        pairs.push(Pair {
            index: pairs.len() as u32,
            run,
            sessions: [a, b],
            conversation: None,
            ledger: Ledger::default(),
            tally,
            bodies,
        });
    }
    let mut tasks = Vec::new();
    match options.rate {
        None => tasks.extend(pairs.into_iter().map(|pair| tokio::task::spawn_local(pair.closed_loop(window.end)))),
        Some(rate) => {
            let (senders, receivers): (Vec<_>, Vec<_>) = pairs.iter().map(|_| mpsc::channel(BACKLOG_MAX)).unzip();
            let open = pairs.into_iter().zip(receivers);
            tasks.extend(open.map(|(pair, due)| tokio::task::spawn_local(pair.open_loop(due))));
            let begin = Instant::now();
            thread::spawn(move || keep_time(rate, begin, window.end, &senders));
        }
    }

    tokio::time::sleep_until(window.start.into()).await;
    let cpu_before = processes.cpu()?;
    tokio::time::sleep_until(window.end.into()).await;
    let cpu_after = processes.cpu()?;
    for task in tasks {
        task.await.context("a pair's task")?;
    }
    let format = match format {
        Format::Json => "json",
        Format::MessagePack => "msgpack",
    };
    let tally = tally.borrow();
    Ok(LoadReport::new(&tally, options, format, &cpu_before, &cpu_after))
}

/// Tells each pair when a message of it is due. A thread of its own, for the runtime's timers are only good to 1 ms.
fn keep_time(rate: f64, begin: Instant, end: Instant, pairs: &[mpsc::Sender<Instant>]) {
    for number in 0_u64.. {
        let due = begin + Duration::from_secs_f64(number as f64 / rate);
        if due >= end {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A full backlog, or a pair that has failed: the message is missed, and the pair's task has counted an error.
        let _ = pairs[(number % pairs.len() as u64) as usize].try_send(due);
    }
}

struct Pair {
    index: u32,
    run: u32,
    sessions: [Session; 2],
    conversation: Option<ConversationId>,
    ledger: Ledger,
    tally: Rc<RefCell<Tally>>,
    bodies: Rc<Bodies>,
}

impl Pair {
    /// The next message goes out when the last one is acked and delivered.
    async fn closed_loop(mut self, end: Instant) {
        let mut outcome = Ok(());
        while outcome.is_ok() && Instant::now() < end {
            outcome = async {
                self.send(Instant::now()).await?;
                self.settle(Instant::now() + MESSAGE_LIMIT).await
            }
            .await;
        }
        self.finish(outcome);
    }

    /// Messages go out when they are due.
    async fn open_loop(mut self, mut due: mpsc::Receiver<Instant>) {
        let mut last = Instant::now();
        let outcome = loop {
            let [a, b] = &mut self.sessions;
            let step = tokio::select! {
                biased;
                next = due.recv() => match next {
                    Some(due) => {
                        last = due;
                        self.send(due).await
                    }
                    None => break self.settle(last + MESSAGE_LIMIT).await,
                },
                frame = a.receive() => frame.and_then(|frame| self.arrived(Side::A, frame)),
                frame = b.receive() => frame.and_then(|frame| self.arrived(Side::B, frame)),
            };
            if step.is_err() {
                break step;
            }
        };
        self.finish(outcome);
    }

    async fn send(&mut self, due: Instant) -> anyhow::Result<()> {
        let number = self.ledger.next_number();
        let sender = Side::sender_of(number);
        // As a client does: by user until the conversation's id is known.
        let to = match self.conversation {
            Some(_) => None,
            None => Some(self.sessions[1 - sender.index()].user),
        };
        let message = SendMessage {
            conversation_id: self.conversation,
            to,
            temp_id: format!("{:08x}-{}-{number}", self.run, self.index),
            content: Some(self.bodies.text(self.index, number)),
            ..SendMessage::default()
        };
        self.ledger.sent(due, &mut self.tally.borrow_mut().counts);
        self.sessions[sender.index()].send(&Command::Send(message)).await
    }

    /// Until nothing is open any more.
    async fn settle(&mut self, deadline: Instant) -> anyhow::Result<()> {
        while self.ledger.open() > 0 {
            let [a, b] = &mut self.sessions;
            tokio::select! {
                frame = a.receive() => { let frame = frame?; self.arrived(Side::A, frame)? }
                frame = b.receive() => { let frame = frame?; self.arrived(Side::B, frame)? }
                () = tokio::time::sleep_until(deadline.into()) => {
                    anyhow::bail!("{} messages were not acked and delivered within {MESSAGE_LIMIT:?}", self.ledger.open());
                }
            }
        }
        Ok(())
    }

    fn arrived(&mut self, side: Side, frame: Vec<Outbound>) -> anyhow::Result<()> {
        let now = Instant::now();
        for outbound in frame {
            match outbound {
                Outbound::Reply { reply: Reply::Ack(ack), .. } => self.ack(&ack.message, now),
                Outbound::Push(Push::New(new)) => self.delivery(side, &new.message, now),
                Outbound::Reply { reply: Reply::Error(error), .. } => return Err(refused(&error)),
                Outbound::Push(Push::Resync(_)) => self.tally.borrow_mut().counts.resyncs += 1,
                other => self.tally.borrow_mut().error(|| format!("unexpected: {other:?}")),
            }
        }
        Ok(())
    }

    fn ack(&mut self, event: &Event, now: Instant) {
        let Some(number) = self.number_of(event) else { return };
        self.conversation.get_or_insert(event.conversation_id);
        let tally = &mut *self.tally.borrow_mut();
        if let Arrival::Good(after) = self.ledger.acked(number, event.seq.get(), now, &mut tally.counts)
            && tally.window.holds(now - after)
        {
            tally.acked_in_window += 1;
            tally.ack_us.saturating_record(after.as_micros() as u64);
        }
    }

    fn delivery(&mut self, side: Side, event: &Event, now: Instant) {
        let Some(number) = self.number_of(event) else { return };
        let tally = &mut *self.tally.borrow_mut();
        let before = (tally.counts.duplicated, tally.counts.out_of_order);
        let arrival = self.ledger.delivered(side, number, event.seq.get(), now, &mut tally.counts);
        if before != (tally.counts.duplicated, tally.counts.out_of_order) {
            tally.show(|| {
                format!("pair {}: message {number} (seq {}) came twice or out of order", self.index, event.seq)
            });
        }
        if let Arrival::Good(after) = arrival
            && tally.window.holds(now - after)
        {
            tally.delivered_in_window += 1;
            tally.deliver_us.saturating_record(after.as_micros() as u64);
        }
    }

    /// Which message of this pair it is, if it is one and reads as it was written.
    fn number_of(&self, event: &Event) -> Option<u32> {
        let number = self.parse_temp_id(&event.temp_id);
        let intact = number.is_some_and(|number| {
            event.content.as_deref() == Some(self.bodies.text(self.index, number).as_str())
                && event.sender_id == self.sessions[Side::sender_of(number).index()].user
                && self.conversation.is_none_or(|conversation| conversation == event.conversation_id)
        });
        if !intact {
            self.tally
                .borrow_mut()
                .error(|| format!("pair {}: {} was altered or is not its own", self.index, event.temp_id));
            return None;
        }
        number
    }

    fn parse_temp_id(&self, temp_id: &str) -> Option<u32> {
        let mut parts = temp_id.split('-');
        let run = u32::from_str_radix(parts.next()?, 16).ok()?;
        let index: u32 = parts.next()?.parse().ok()?;
        (run == self.run && index == self.index).then(|| parts.next()?.parse().ok())?
    }

    fn finish(self, outcome: anyhow::Result<()>) {
        let tally = &mut *self.tally.borrow_mut();
        if let Err(error) = outcome {
            tally.error(|| format!("pair {} has ended early: {error:#}", self.index));
        }
        self.ledger.close(&mut tally.counts);
    }
}

fn refused(error: &ErrorReply) -> anyhow::Error {
    anyhow::anyhow!("refused: {:?}: {}", error.code, error.message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser as _;

    use super::*;
    use crate::Verdict;

    #[test]
    fn a_resync_is_reported_and_fails_a_run_only_where_something_is_lost() {
        let options = Options::parse_from(["bench", "--data", "nowhere", "--router", "127.0.0.1:1"]);
        let now = Instant::now();
        let mut tally = Tally::new(Window { start: now, end: now }).unwrap();
        tally.counts = Counts { sent: 3, acked: 3, delivered: 3, resyncs: 1, ..Counts::default() };
        let report = |tally: &Tally| LoadReport::new(tally, &options, "json", &BTreeMap::new(), &BTreeMap::new());
        assert_eq!(report(&tally).verdict(), Verdict::Kept);
        assert_eq!(serde_json::to_value(report(&tally)).unwrap()["resyncs"], 1);
        tally.counts.lost = 1;
        assert_eq!(report(&tally).verdict(), Verdict::Broken);
    }
}
