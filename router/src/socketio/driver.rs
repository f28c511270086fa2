//! Does what a session's core decides, over the library: the counterpart of the native [driver](crate::session).
//!
//! One hand-written future, polled as a whole. Invariants: what waits for a client is bounded in bytes, and where it is
//! full nothing more is taken from the client or for it; the library's queue holds at most [`TRANSIT_PACKETS_MAX`] of this
//! session's packets; a client that reads nothing is closed.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use socketioxide::{
    SendError, SocketError,
    extract::{AckSender, SocketRef},
};
use tertulia_wire::client::{
    CloseCode, Command, CommandId, ErrorReply, Format, Hello, Push, Reply, Resync, encode_push, encode_reply,
};
use tokio::time::Sleep;

use super::{
    envelope::{self, Event},
    link::{Link, News},
    session::{Admitted, HELLO},
};
use crate::{
    commands::Outcome,
    metrics::RESYNCS,
    session::{Core, Effect, End, Job, Mailslot, Now, Shared, Ticket, resync_name},
};

/// Packets handed to the library that are not written yet.
pub(super) const TRANSIT_PACKETS_MAX: usize = 16;
/// The same in bytes; one packet may be larger.
const TRANSIT_BYTES_MAX: usize = 64 * 1024;
/// Commands that one poll takes before other sessions have their turn.
const COMMANDS_PER_POLL: usize = 64;
/// At the end: how long the client gets to take what is queued, and the library to close.
const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// Wait before `hello` is said again; doubles up to the second.
const HELLO_WAIT_MIN: Duration = Duration::from_millis(200);
const HELLO_WAIT_MAX: Duration = Duration::from_secs(2);
/// Deadlines closer than this are met a little late.
const TICK_MIN: Duration = Duration::from_millis(1);
const ENVELOPE_BYTES_USUAL: usize = 512;
const OUT_IDLE_CAPACITY: usize = 4;
/// WebSocket's code for an end that nobody minds.
const NORMAL_CLOSE: u16 = 1000;

/// Boxed, because [`FuturesUnordered`] keeps room for one future even where it has none.
type Running<F> = FuturesUnordered<Pin<Box<F>>>;

pub(super) struct Driver<S, F> {
    socket: SocketRef,
    link: Arc<Link>,
    core: Core,
    mailslot: Arc<Mailslot>,
    shared: Arc<Shared>,
    start: S,
    work: Running<F>,
    effects: Vec<Effect>,
    /// Commands without a reply whose client gave a callback.
    callbacks: Vec<(CommandId, AckSender)>,
    last_id: CommandId,
    /// Encoded envelopes for the client, and their bytes.
    out: VecDeque<Outgoing>,
    out_bytes: usize,
    /// The sizes of what the library has and has not written.
    transit: VecDeque<usize>,
    transit_bytes: usize,
    greeting: Option<Box<Greeting>>,
    news: News,
    timer: Pin<Box<Sleep>>,
    armed: Instant,
    closing: Option<Closing>,
}

/// A reply or a push, in the native protocol's envelope.
struct Outgoing {
    envelope: Bytes,
    /// An answer to this callback; an event otherwise.
    to: Option<AckSender>,
}

/// Until the client is welcome.
struct Greeting {
    hello: Hello,
    wait: Duration,
    again_at: Option<Instant>,
}

/// On the way out: first everything that is queued, then the library is told, then it closes.
struct Closing {
    end: End,
    code: u16,
    until: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Draining,
    /// A client that must not come back by itself is told so, by a packet of its own.
    Disconnecting,
    Closed,
}

impl<S, F> Driver<S, F>
where
    S: Fn(Ticket, Job, Instant) -> F,
    F: Future<Output = (Ticket, Outcome)>,
{
    pub(super) fn new(
        admitted: Admitted,
        socket: SocketRef,
        link: Arc<Link>,
        mailslot: Arc<Mailslot>,
        shared: Arc<Shared>,
        start: S,
    ) -> Self {
        let Admitted { core, effects, hello, now } = admitted;
        let armed = core.next_deadline(now);
        let mut driver = Self {
            socket,
            link,
            core,
            mailslot,
            shared,
            start,
            work: FuturesUnordered::new(),
            effects,
            callbacks: Vec::new(),
            last_id: HELLO,
            out: VecDeque::new(),
            out_bytes: 0,
            transit: VecDeque::new(),
            transit_bytes: 0,
            greeting: Some(Box::new(Greeting { hello, wait: HELLO_WAIT_MIN, again_at: None })),
            news: News::default(),
            timer: Box::pin(tokio::time::sleep_until(armed.into())),
            armed,
            closing: None,
        };
        driver.apply();
        driver
    }

    fn queue_bytes(&self) -> usize {
        self.shared.policy.queue_bytes
    }

    fn waiting_bytes(&self) -> usize {
        self.out_bytes + self.transit_bytes
    }

    /// Nothing more is to be produced for a client that has this much to read.
    fn is_full(&self) -> bool {
        self.waiting_bytes() >= self.queue_bytes()
    }

    /// Everything that can be done now. `Some` where the session is over.
    fn step(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if let Some(end) = self.take_news().or_else(|| self.keep_time()) {
            return Some(end);
        }
        self.poll_work(cx);
        self.take_pushes();
        self.take_commands(cx);
        // Calls that were just started have to be polled once, in their order.
        self.poll_work(cx);
        // What is left after these waits for the library to have written something, which wakes.
        self.hand_over();
        self.go_on_closing();
        self.poll_timer(cx);
        None
    }

    /// What became of the connection. `Some` where the session is over.
    fn take_news(&mut self) -> Option<End> {
        self.news = self.link.news();
        for _ in 0..self.news.packets_written {
            self.transit_bytes -= self.transit.pop_front().unwrap_or(0);
        }
        if let Some(instant) = self.news.heard {
            self.core.heard(Now { instant, ..Now::read() });
        }
        if self.news.is_gone {
            return Some(self.closing.as_ref().map_or(End::Client, |closing| closing.end));
        }
        if self.news.has_left && self.closing.is_none() {
            (self.out, self.out_bytes) = (VecDeque::new(), 0);
            self.begin_close(End::Client, NORMAL_CLOSE);
        }
        None
    }

    /// What nodes answered.
    fn poll_work(&mut self, cx: &mut Context<'_>) {
        while !self.work.is_empty() && !self.is_full() && self.closing.is_none() {
            let Poll::Ready(Some((ticket, outcome))) = self.work.poll_next_unpin(cx) else { return };
            self.core.done(ticket, outcome, Now::read(), &mut self.effects);
            self.apply();
        }
    }

    fn take_pushes(&mut self) {
        if self.closing.is_some() {
            return;
        }
        let mut pushes = VecDeque::new();
        // Where the queue is full no pushes are taken, but that the session is to leave is heard.
        let room = if self.core.is_active() { self.queue_bytes().saturating_sub(self.waiting_bytes()) } else { 0 };
        let taken = self.mailslot.take(room, &mut pushes);
        for envelope in pushes {
            self.queue(envelope, None);
        }
        if let Some(reason) = taken.resync {
            metrics::counter!(RESYNCS, "reason" => resync_name(reason)).increment(1);
            self.push(&Push::Resync(Resync { reason }));
        }
        if let Some(standing) = taken.standing {
            self.core.standing(standing, &mut self.effects);
            self.apply();
        }
        if let Some(leave) = taken.leave {
            self.core.go_away(leave, &mut self.effects);
            self.apply();
        }
    }

    /// What the client sent. Between two attempts to greet it waits: the core would take no command.
    fn take_commands(&mut self, cx: &mut Context<'_>) {
        if self.greeting.as_ref().is_some_and(|greeting| greeting.again_at.is_some()) {
            return;
        }
        for _ in 0..COMMANDS_PER_POLL {
            if self.is_full() || self.closing.is_some() {
                return;
            }
            let Some(event) = self.link.next() else { return };
            match envelope::command(&event.arguments) {
                Ok(command) => {
                    self.last_id += 1;
                    let id = self.last_id;
                    self.callbacks.extend(event.ack.map(|ack| (id, ack)));
                    self.core.command(Some(id), command, Now::read(), &mut self.effects);
                    self.apply();
                }
                Err(error) => {
                    self.shared.meter.complained(&error);
                    self.reply(&Reply::Error(error), event.ack);
                }
            }
        }
        // The budget is used up, there may be more.
        cx.waker().wake_by_ref();
    }

    fn apply(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { id: Some(HELLO), reply } => self.greeted(reply),
                Effect::Reply { id, reply } => {
                    let at = self.callbacks.iter().position(|(command, _)| Some(*command) == id);
                    let ack = at.map(|at| self.callbacks.swap_remove(at).1);
                    self.reply(&reply, ack);
                }
                Effect::Push(push) => self.push(&push),
                Effect::SignIn(user) => self.mailslot.sign_in(user),
                Effect::Start { ticket, job, deadline } => {
                    self.work.push(Box::pin((self.start)(ticket, job, deadline)));
                }
                // The library's heartbeat pings.
                Effect::Ping => {}
                Effect::Close(code) => {
                    self.work.clear();
                    self.begin_close(End::Closed(code), code.code());
                }
            }
        }
        // Its capacity is kept for the next time.
        self.effects = effects;
    }

    fn greeted(&mut self, reply: Reply) {
        match (&reply, &mut self.greeting) {
            (Reply::Error(error), Some(greeting)) if error.retryable => greeting.wait_for(error),
            _ => {
                self.greeting = None;
                self.reply(&reply, None);
            }
        }
    }

    fn greet_again(&mut self, now: Now) {
        let Some(greeting) = &mut self.greeting else { return };
        if greeting.again_at.is_some_and(|at| at <= now.instant) {
            greeting.again_at = None;
            let hello = Command::Hello(greeting.hello.clone());
            self.core.command(Some(HELLO), hello, now, &mut self.effects);
            self.apply();
        }
    }

    fn reply(&mut self, reply: &Reply, to: Option<AckSender>) {
        let mut buffer = Vec::with_capacity(ENVELOPE_BYTES_USUAL);
        encode_reply(Format::Json, None, reply, &mut buffer);
        self.queue(buffer.into(), to);
    }

    fn push(&mut self, push: &Push) {
        let mut buffer = Vec::with_capacity(ENVELOPE_BYTES_USUAL);
        encode_push(Format::Json, push, &mut buffer);
        self.queue(buffer.into(), None);
    }

    fn queue(&mut self, envelope: Bytes, to: Option<AckSender>) {
        self.out_bytes += envelope.len();
        self.out.push_back(Outgoing { envelope, to });
    }

    /// Hands to the library what it has room for.
    fn hand_over(&mut self) {
        while let Some(next) = self.out.front() {
            let bytes = next.envelope.len();
            let fits = self.transit.len() < TRANSIT_PACKETS_MAX && self.transit_bytes + bytes <= TRANSIT_BYTES_MAX;
            if !fits && !self.transit.is_empty() {
                return;
            }
            let Some(Outgoing { envelope, to }) = self.out.pop_front() else { return };
            self.out_bytes -= bytes;
            match emit(&self.socket, &envelope, to) {
                Ok(()) => {
                    self.transit.push_back(bytes);
                    self.transit_bytes += bytes;
                }
                // The queue is full of the library's own answers to a client that does not read them.
                Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                    self.begin_close(End::Closed(CloseCode::TooSlow), CloseCode::TooSlow.code());
                }
                // The connection has ended, the news are on their way.
                Err(_) => {}
            }
        }
        self.out_bytes = 0;
        self.out.shrink_to(OUT_IDLE_CAPACITY);
        self.transit.shrink_to(OUT_IDLE_CAPACITY);
    }

    fn begin_close(&mut self, end: End, code: u16) {
        if self.closing.is_none() {
            let until = Instant::now() + CLOSE_GRACE;
            self.closing = Some(Closing { end, code, until, stage: Stage::Draining });
        }
    }

    /// The next step of the end, once everything before it is written.
    fn go_on_closing(&mut self) {
        let Some(closing) = &mut self.closing else { return };
        if !self.out.is_empty() || !self.transit.is_empty() {
            return;
        }
        let stays_away = closing.end == End::Closed(CloseCode::Unauthorized);
        closing.stage = match closing.stage {
            Stage::Draining if stays_away && self.socket.clone().disconnect().is_ok() => {
                self.transit.push_back(0);
                Stage::Disconnecting
            }
            Stage::Draining | Stage::Disconnecting => {
                self.link.close(closing.code);
                Stage::Closed
            }
            Stage::Closed => Stage::Closed,
        };
    }

    /// `Some` where the session is over.
    fn keep_time(&mut self) -> Option<End> {
        let now = Now::read();
        if self.news.blocked.is_some_and(|since| since + self.stall() <= now.instant) {
            return Some(End::Closed(CloseCode::TooSlow));
        }
        match &self.closing {
            Some(closing) => (closing.until <= now.instant).then_some(closing.end),
            None => {
                if self.next_deadline(now) <= now.instant {
                    self.greet_again(now);
                    self.core.tick(now, &mut self.effects);
                    self.apply();
                    // What a burst took is given back in a while.
                    self.effects.shrink_to_fit();
                }
                None
            }
        }
    }

    /// Has this future woken at the next deadline. A timer that is early is as good, and cheaper than one that is moved.
    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let now = Now::read();
        let due = self.next_deadline(now).max(now.instant + TICK_MIN);
        if due < self.armed || self.armed <= now.instant {
            self.armed = due;
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn next_deadline(&self, now: Now) -> Instant {
        let again_at = self.greeting.as_ref().and_then(|greeting| greeting.again_at);
        let due = match &self.closing {
            Some(closing) => closing.until,
            None => self.core.next_deadline(now),
        };
        let blocked = self.news.blocked.map(|since| since + self.stall());
        [again_at, blocked].into_iter().flatten().fold(due, Instant::min)
    }

    fn stall(&self) -> Duration {
        self.shared.policy.ping_interval
    }
}

impl Greeting {
    fn wait_for(&mut self, error: &ErrorReply) {
        let wait = self.wait.max(Duration::from_millis(error.retry_after_ms.unwrap_or(0)));
        self.again_at = Some(Instant::now() + wait.min(HELLO_WAIT_MAX));
        self.wait = (self.wait * 2).min(HELLO_WAIT_MAX);
    }
}

/// Gives one envelope to the library: as the answer to a callback, or as the event that it is.
fn emit(socket: &SocketRef, envelope: &[u8], to: Option<AckSender>) -> Result<(), SendError> {
    // Our own encoder wrote it, so both can be read.
    match to {
        Some(ack) => envelope::answer(envelope).map_or(Ok(()), |answer| ack.send(answer)),
        None => Event::of(envelope).map_or(Ok(()), |event| match event.argument() {
            Some(argument) => socket.emit(event.kind, argument),
            None => socket.emit(event.kind, &[(); 0]),
        }),
    }
}

impl<S, F> Future for Driver<S, F>
where
    S: Fn(Ticket, Job, Instant) -> F + Unpin,
    F: Future<Output = (Ticket, Outcome)>,
{
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        // Before anything is looked at: what comes later wakes.
        this.mailslot.register(cx.waker());
        this.link.register(cx.waker());
        let Some(end) = this.step(cx) else { return Poll::Pending };
        // Whatever the library is at.
        this.link.abort();
        Poll::Ready(end)
    }
}
