//! Does what a session's [core](super::core) decides: reads and writes the socket, takes pushes from the mailslot, runs
//! the calls to nodes, keeps the time.
//!
//! One hand-written future, polled as a whole: a session then costs one small task, and whatever came meanwhile goes out
//! in one write. Invariants: what waits for a client is bounded in bytes, and where it is full nothing more is read from
//! the client or taken for it; a client that reads nothing is closed.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Sink, StreamExt, stream::FuturesUnordered};
use tertulia_wire::client::{CloseCode, Format, FrameBuilder, Outbound, Push, Resync, ResyncReason, encode_outbound};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        error::ProtocolError,
        protocol::{CloseFrame, frame::coding},
    },
};

use super::{
    core::{Core, Effect, Job, Now, Shared},
    fragments::Fragments,
    lanes::Ticket,
    mailslot::Mailslot,
    sessions::End,
};
use crate::{commands::Outcome, metrics::RESYNCS};

/// A message with several envelopes is not made larger than this.
const FRAME_BYTES: usize = 64 * 1024;
/// Commands that one poll reads before other sessions have their turn.
const READS_PER_POLL: usize = 64;
/// After the close frame is queued: how long the client gets to take it and to close its side.
const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// Of a client that was told off for a frame too large: what is read of the rest, so that it can hear so.
const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Boxed, because [`FuturesUnordered`] keeps room for one future even where it has none.
type Running<F> = FuturesUnordered<Pin<Box<F>>>;

pub(super) struct Driver<S, F> {
    socket: WebSocketStream<TcpStream>,
    core: Core,
    mailslot: Arc<Mailslot>,
    shared: Arc<Shared>,
    start: S,
    work: Running<F>,
    effects: Vec<Effect>,
    /// Encoded envelopes for the client, and their bytes.
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// What was taken out of them last.
    fragments: Fragments,
    ping: bool,
    unflushed: bool,
    /// Since when the socket takes nothing.
    blocked: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    armed: Instant,
    closing: Option<Closing>,
}

/// On the way out: first everything that is queued, then the close frame, then the client's side of it.
struct Closing {
    code: CloseCode,
    until: Instant,
    frame_queued: bool,
    /// Whether this side of the connection is shut, which is done early only where no frames can be read.
    shut: bool,
    discarded: usize,
}

impl<S, F> Driver<S, F>
where
    S: Fn(Ticket, Job, Instant) -> F,
    F: Future<Output = (Ticket, Outcome)>,
{
    pub(super) fn new(
        socket: WebSocketStream<TcpStream>,
        core: Core,
        mailslot: Arc<Mailslot>,
        shared: Arc<Shared>,
        start: S,
        now: Now,
    ) -> Self {
        let armed = core.next_deadline(now);
        Self {
            socket,
            core,
            mailslot,
            shared,
            start,
            work: FuturesUnordered::new(),
            effects: Vec::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            fragments: Fragments::default(),
            ping: false,
            unflushed: false,
            blocked: None,
            timer: Box::pin(tokio::time::sleep_until(armed.into())),
            armed,
            closing: None,
        }
    }

    fn queue_bytes(&self) -> usize {
        self.shared.policy.queue_bytes
    }

    /// Nothing more is to be produced for a client that has this much to read.
    fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Bytes that may be produced for the client.
    fn room(&self) -> usize {
        self.queue_bytes().saturating_sub(self.out_bytes + self.fragments.bytes_left())
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
        let before = self.out.len();
        let room = if self.core.is_active() { self.room() } else { 0 };
        let taken = self.mailslot.take(room, &mut self.out);
        self.out_bytes += self.out.iter().skip(before).map(Bytes::len).sum::<usize>();
        if let Some(reason) = taken.resync {
            metrics::counter!(RESYNCS, "reason" => resync_name(reason)).increment(1);
            self.encode(&Outbound::Push(Push::Resync(Resync { reason })));
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

    /// What the client sent. `Some` where the session is over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Option<End> {
        for _ in 0..READS_PER_POLL {
            if self.is_full() || self.closing.is_some() {
                return None;
            }
            let Poll::Ready(message) = self.socket.poll_next_unpin(cx) else { return None };
            let now = Now::read();
            self.core.heard(now);
            match (message, self.mailslot.format) {
                (Some(Ok(Message::Text(text))), Format::Json) => {
                    self.core.frame(text.as_bytes(), now, &mut self.effects);
                }
                (Some(Ok(Message::Binary(bytes))), Format::MessagePack) => {
                    self.core.frame(&bytes, now, &mut self.effects);
                }
                (Some(Ok(Message::Text(_) | Message::Binary(_))), _) => {
                    self.core.close(CloseCode::WrongFrameType, &mut self.effects);
                }
                // Tungstenite has queued the pong.
                (Some(Ok(Message::Ping(_))), _) => self.unflushed = true,
                (Some(Ok(Message::Pong(_) | Message::Frame(_))), _) => {}
                // Tungstenite has queued the answer; the stream ends once it is written.
                (Some(Ok(Message::Close(_))), _) => self.unflushed = true,
                (Some(Err(error)), _) => match fault(&error) {
                    Some(code) => self.core.close(code, &mut self.effects),
                    None => return Some(End::Client),
                },
                (None, _) => return Some(End::Client),
            }
            self.apply();
        }
        // The budget is used up, the socket may have more.
        cx.waker().wake_by_ref();
        None
    }

    fn apply(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { id, reply } => self.encode(&Outbound::Reply { id, reply }),
                Effect::Push(push) => self.encode(&Outbound::Push(push)),
                Effect::SignIn(user) => self.mailslot.sign_in(user),
                Effect::Start { ticket, job, deadline } => {
                    self.work.push(Box::pin((self.start)(ticket, job, deadline)));
                }
                Effect::Ping => self.ping = true,
                Effect::Close(code) => {
                    let until = Instant::now() + CLOSE_GRACE;
                    self.closing = Some(Closing { code, until, frame_queued: false, shut: false, discarded: 0 });
                    self.work.clear();
                }
            }
        }
        // Its capacity is kept for the next time.
        self.effects = effects;
    }

    fn encode(&mut self, outbound: &Outbound) {
        let mut buffer = Vec::with_capacity(ENVELOPE_BYTES_USUAL);
        encode_outbound(self.mailslot.format, outbound, &mut buffer);
        self.out_bytes += buffer.len();
        self.out.push_back(buffer.into());
    }

    /// Writes what is queued, as few frames in as few writes as possible.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        loop {
            let message = match self.next_kind() {
                None => break,
                Some(_) if self.poll_ready(cx)?.is_pending() => return Ok(()),
                Some(Next::Ping) => {
                    self.ping = false;
                    Message::Ping(Bytes::new())
                }
                Some(Next::Envelopes) => match self.next_frame() {
                    Some(frame) => frame,
                    None => continue,
                },
                Some(Next::Close(code)) => {
                    if let Some(closing) = &mut self.closing {
                        closing.frame_queued = true;
                    }
                    let code = coding::CloseCode::from(code.code());
                    Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))
                }
            };
            Pin::new(&mut self.socket).start_send(message)?;
            self.unflushed = true;
        }
        if self.unflushed {
            match Pin::new(&mut self.socket).poll_flush(cx)? {
                Poll::Ready(()) => {
                    self.unflushed = false;
                    self.note_progress();
                }
                Poll::Pending => self.note_blocked(),
            }
        }
        Ok(())
    }

    fn next_kind(&self) -> Option<Next> {
        if !self.out.is_empty() || self.fragments.bytes_left() > 0 {
            return Some(Next::Envelopes);
        }
        match &self.closing {
            Some(closing) => (!closing.frame_queued).then_some(Next::Close(closing.code)),
            None => self.ping.then_some(Next::Ping),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, tungstenite::Error> {
        let ready = Pin::new(&mut self.socket).poll_ready(cx)?;
        match ready {
            Poll::Ready(()) => self.note_progress(),
            Poll::Pending => self.note_blocked(),
        }
        Ok(ready)
    }

    /// The socket takes something again: the client reads, which is a word from it while nothing else is looked at.
    fn note_progress(&mut self) {
        if self.blocked.take().is_some() {
            self.core.heard(Now::read());
        }
    }

    fn note_blocked(&mut self) {
        self.blocked.get_or_insert_with(Instant::now);
    }

    /// One at a time: what waits in the socket is bounded, and that it took one shows that the client reads.
    fn next_frame(&mut self) -> Option<Message> {
        if self.fragments.bytes_left() == 0 {
            self.fragments = Fragments::new(self.mailslot.format, self.next_payload());
        }
        self.fragments.next()
    }

    fn next_payload(&mut self) -> Bytes {
        let payload = if self.out.len() == 1 {
            self.out.pop_front().unwrap_or_default()
        } else {
            let mut frame = FrameBuilder::new(self.mailslot.format, FRAME_BYTES);
            while let Some(envelope) = self.out.front()
                && frame.fits(envelope.len())
            {
                frame.push(envelope);
                self.out_bytes -= envelope.len();
                self.out.pop_front();
            }
            frame.finish()
        };
        if self.out.is_empty() {
            self.out_bytes = 0;
            self.out.shrink_to(OUT_IDLE_CAPACITY);
        }
        payload
    }

    /// `Some` where the session is over.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Option<End> {
        loop {
            let now = Now::read();
            if let Some(blocked) = self.blocked
                && blocked + self.stall() <= now.instant
            {
                return Some(End::Closed(CloseCode::TooSlow));
            }
            if let Some(closing) = &self.closing
                && closing.until <= now.instant
            {
                return Some(End::Closed(closing.code));
            }
            let due = self.next_deadline(now);
            if due < self.armed {
                self.arm(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return None;
            }
            self.core.tick(now, &mut self.effects);
            self.apply();
            // Replies are large: what a burst of them took is given back in a while.
            self.effects.shrink_to_fit();
            let due = self.next_deadline(now);
            self.arm(due.max(now.instant + TICK_MIN));
        }
    }

    fn next_deadline(&self, now: Now) -> Instant {
        let mut due = match &self.closing {
            Some(closing) => closing.until,
            None => self.core.next_deadline(now),
        };
        if let Some(blocked) = self.blocked {
            due = due.min(blocked + self.stall());
        }
        due
    }

    fn stall(&self) -> Duration {
        self.shared.policy.ping_interval
    }

    fn arm(&mut self, due: Instant) {
        self.armed = due;
        self.timer.as_mut().reset(due.into());
    }

    /// After the close frame is written: waits for the client's side. `Ready` where that has come, or never will.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Some(closing) = &mut self.closing else { return Poll::Pending };
        if !closing.frame_queued || self.unflushed {
            return Poll::Pending;
        }
        let end = End::Closed(closing.code);
        if !leaves_frames_unread(closing.code) {
            // What it still sends is dropped, up to its close frame.
            for _ in 0..READS_PER_POLL {
                match self.socket.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(end),
                    Poll::Pending => return Poll::Pending,
                }
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // There are no frames any more to find a close frame among. This side ends here, and what still comes is dropped
        // until the client's has: closing on unread bytes would reset the connection under the close frame.
        if !closing.shut {
            match Pin::new(self.socket.get_mut()).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => closing.shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(end),
                Poll::Pending => return Poll::Pending,
            }
        }
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(self.socket.get_mut()).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && closing.discarded < DISCARD_BYTES_MAX => {
                    closing.discarded += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(end),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

enum Next {
    Envelopes,
    Ping,
    Close(CloseCode),
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
        loop {
            this.poll_work(cx);
            this.take_pushes();
            if let Some(end) = this.poll_read(cx) {
                return Poll::Ready(end);
            }
            // Calls that were just started have to be polled once, in their order.
            this.poll_work(cx);
            if let Some(end) = this.poll_timer(cx) {
                return Poll::Ready(end);
            }
            let was_full = this.is_full();
            if this.poll_write(cx).is_err() {
                let end = this.closing.as_ref().map_or(End::Client, |closing| End::Closed(closing.code));
                return Poll::Ready(end);
            }
            if let Poll::Ready(end) = this.poll_closed(cx) {
                return Poll::Ready(end);
            }
            // What was not looked at because of the full queue has not been asked to wake.
            if !was_full || this.is_full() {
                break;
            }
        }
        // Being blocked, or being closed, may have brought a deadline nearer.
        if let Some(end) = this.poll_timer(cx) {
            return Poll::Ready(end);
        }
        if this.blocked.is_none() && this.next_kind().is_some() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

const ENVELOPE_BYTES_USUAL: usize = 512;
const OUT_IDLE_CAPACITY: usize = 8;
/// Deadlines closer than this are met a little late.
const TICK_MIN: Duration = Duration::from_millis(1);

/// What a client has done wrong for reading to fail so. `None` where the connection has ended, in whatever way.
fn fault(error: &tungstenite::Error) -> Option<CloseCode> {
    match error {
        tungstenite::Error::Capacity(_) => Some(CloseCode::TooBig),
        tungstenite::Error::Utf8(_) => Some(CloseCode::NotUtf8),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(CloseCode::ProtocolError),
        _ => None,
    }
}

/// Whether a session that is closed so does not know where the client's next frame begins.
fn leaves_frames_unread(code: CloseCode) -> bool {
    matches!(code, CloseCode::TooBig | CloseCode::NotUtf8 | CloseCode::ProtocolError)
}

pub(crate) fn resync_name(reason: ResyncReason) -> &'static str {
    match reason {
        ResyncReason::Overflow => "overflow",
        ResyncReason::OwnerChanged => "owner_changed",
    }
}
