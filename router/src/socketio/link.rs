//! What passes between a connection's stream, the library's handlers and the session's driver.
//!
//! Writers never wait; the driver is woken. Bounded: once the inbox holds [`INBOX_BYTES`] nothing more is read from the
//! client, so that beyond it lies only what the library had already read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Instant,
};

use futures_util::task::AtomicWaker;
use tertulia_wire::{TraceId, limits};

use super::{
    frames::{CLOSE_FRAME_BYTES, FrameCounter, client_close_frame},
    incoming::Incoming,
    session::Admitted,
};

/// Events that wait for the session, of one client.
const INBOX_BYTES: usize = limits::CLIENT_FRAME_BYTES;

/// One connection.
pub(super) struct Link {
    /// Of the handshake's `Authorization` header.
    pub(super) bearer: Option<Box<str>>,
    pub(super) trace: Option<TraceId>,
    state: Mutex<State>,
    driver: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// Between the admission and the start of the session.
    admitted: Option<Box<Admitted>>,
    /// A connection has one session.
    had_session: bool,
    inbox: VecDeque<Incoming>,
    inbox_bytes: usize,
    written: FrameCounter,
    news: News,
    ending: Ending,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What the driver has to know of the connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct News {
    /// Packets that were written since it last asked.
    pub(super) packets_written: usize,
    /// When the client last sent anything.
    pub(super) heard: Option<Instant>,
    /// Since when the socket takes nothing.
    pub(super) blocked: Option<Instant>,
    /// The client has left the namespace, or the library has given the connection up.
    pub(super) has_left: bool,
    /// The stream is no more.
    pub(super) is_gone: bool,
}

/// How far the session's end of the connection is.
#[derive(Clone, Copy, Default)]
enum Ending {
    #[default]
    Open,
    /// The library is to read this close frame, and to answer it.
    Close([u8; CLOSE_FRAME_BYTES]),
    Closed,
    Aborted,
}

/// What the stream does when the library wants to read.
pub(super) enum Reading {
    FromClient,
    Pause,
    CloseFrame([u8; CLOSE_FRAME_BYTES]),
    End,
}

impl Link {
    pub(super) fn new(bearer: Option<Box<str>>, trace: Option<TraceId>) -> Self {
        Self { bearer, trace, state: Mutex::default(), driver: AtomicWaker::new() }
    }

    // --- for the library's handlers ---

    /// Whether the connection may have a session; once.
    pub(super) fn claim(&self) -> bool {
        !std::mem::replace(&mut self.state().had_session, true)
    }

    /// Undoes [`Link::claim`] where the client was refused: it may try again.
    pub(super) fn release(&self) {
        self.state().had_session = false;
    }

    pub(super) fn admit(&self, admitted: Admitted) {
        self.state().admitted = Some(Box::new(admitted));
    }

    pub(super) fn take_admitted(&self) -> Option<Box<Admitted>> {
        self.state().admitted.take()
    }

    pub(super) fn receive(&self, event: Incoming) {
        {
            let mut state = self.state();
            if state.news.has_left || state.news.is_gone || !matches!(state.ending, Ending::Open) {
                return;
            }
            state.inbox_bytes += event.cost_bytes();
            state.inbox.push_back(event);
        }
        self.driver.wake();
    }

    pub(super) fn left(&self) {
        self.state().news.has_left = true;
        self.driver.wake();
    }

    // --- for the stream ---

    pub(super) fn reading(&self, cx: &Context<'_>) -> Reading {
        let mut state = self.state();
        remember(&mut state.reader, cx);
        match state.ending {
            Ending::Open if state.inbox_bytes >= INBOX_BYTES => Reading::Pause,
            Ending::Open => Reading::FromClient,
            Ending::Close(frame) => {
                state.ending = Ending::Closed;
                Reading::CloseFrame(frame)
            }
            Ending::Closed | Ending::Aborted => Reading::End,
        }
    }

    pub(super) fn heard(&self) {
        self.state().news.heard = Some(Instant::now());
    }

    pub(super) fn is_aborted(&self) -> bool {
        matches!(self.state().ending, Ending::Aborted)
    }

    pub(super) fn wrote(&self, bytes: &[u8]) {
        let wake = {
            let mut state = self.state();
            let packets = state.written.written(bytes);
            state.news.packets_written += packets;
            let was_blocked = state.news.blocked.take().is_some();
            packets > 0 || was_blocked
        };
        if wake {
            self.driver.wake();
        }
    }

    pub(super) fn blocked(&self, cx: &Context<'_>) {
        let wake = {
            let mut state = self.state();
            remember(&mut state.writer, cx);
            let was_blocked = state.news.blocked.is_some();
            state.news.blocked.get_or_insert_with(Instant::now);
            !was_blocked
        };
        if wake {
            self.driver.wake();
        }
    }

    pub(super) fn gone(&self) {
        let mut state = self.state();
        state.news.is_gone = true;
        // What they hold leads back here.
        let events = std::mem::take(&mut state.inbox);
        let admitted = state.admitted.take();
        drop(state);
        drop((events, admitted));
        self.driver.wake();
    }

    // --- for the driver ---

    /// Wakes `waker` at the next change.
    pub(super) fn register(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    pub(super) fn news(&self) -> News {
        let mut state = self.state();
        let news = state.news;
        state.news.packets_written = 0;
        news
    }

    pub(super) fn next(&self) -> Option<Incoming> {
        let mut state = self.state();
        let event = state.inbox.pop_front()?;
        let was_full = state.inbox_bytes >= INBOX_BYTES;
        state.inbox_bytes -= event.cost_bytes();
        if state.inbox.is_empty() {
            state.inbox.shrink_to(IDLE_CAPACITY);
        }
        let resumed = if was_full && state.inbox_bytes < INBOX_BYTES { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = resumed {
            reader.wake();
        }
        Some(event)
    }

    /// Has the library close the connection with this code. It writes nothing after that.
    pub(super) fn close(&self, code: u16) {
        self.end(Ending::Close(client_close_frame(code)));
    }

    /// Has the library give the connection up, whatever it is doing.
    pub(super) fn abort(&self) {
        self.end(Ending::Aborted);
    }

    fn end(&self, ending: Ending) {
        let mut state = self.state();
        state.ending = ending;
        let events = std::mem::take(&mut state.inbox);
        state.inbox_bytes = 0;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        drop(events);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and every field is valid at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for events that an idle connection keeps.
const IDLE_CAPACITY: usize = 4;

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
        task::Wake,
    };

    use socketioxide::handler::Value;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Wakes {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn link() -> Link {
        Link::new(None, None)
    }

    fn event(bytes: usize) -> Incoming {
        Incoming { arguments: Value::Str("x".repeat(bytes).into(), None), ack: None }
    }

    #[test]
    fn a_full_inbox_holds_reads_back_until_there_is_room() {
        let (link, wakes) = (link(), Arc::new(Wakes::default()));
        let waker = wakes.clone().into();
        let cx = Context::from_waker(&waker);
        link.receive(event(10));
        assert!(matches!(link.reading(&cx), Reading::FromClient));
        link.receive(event(INBOX_BYTES));
        assert!(matches!(link.reading(&cx), Reading::Pause));
        assert!(link.next().is_some());
        assert_eq!(wakes.count(), 0, "still full");
        assert!(link.next().is_some());
        assert_eq!(wakes.count(), 1);
        assert!(matches!(link.reading(&cx), Reading::FromClient));
        assert!(link.next().is_none());
    }

    #[test]
    fn a_close_is_read_once_and_nothing_is_received_after_it() {
        let (link, wakes) = (link(), Arc::new(Wakes::default()));
        let waker = wakes.clone().into();
        let cx = Context::from_waker(&waker);
        assert!(matches!(link.reading(&cx), Reading::FromClient));
        link.receive(event(10));
        link.close(1001);
        assert_eq!(wakes.count(), 1, "the library is to read");
        assert!(matches!(link.reading(&cx), Reading::CloseFrame([0x88, 0x82, 0, 0, 0, 0, 3, 0xe9])));
        assert!(matches!(link.reading(&cx), Reading::End));
        link.receive(event(10));
        assert!(link.next().is_none());
        assert!(!link.is_aborted());
        link.abort();
        assert!(link.is_aborted());
    }

    #[test]
    fn the_driver_hears_of_what_was_written_once_and_is_woken() {
        let (link, wakes) = (link(), Arc::new(Wakes::default()));
        let waker = wakes.clone().into();
        let cx = Context::from_waker(&waker);
        link.register(&waker);
        link.wrote(b"\x81\x012");
        assert_eq!(wakes.count(), 0, "a ping is no news");
        link.wrote(b"\x81\x0442[]");
        assert_eq!(wakes.count(), 1);
        assert_eq!((link.news().packets_written, link.news().packets_written), (1, 0));
        link.register(&waker);
        link.blocked(&cx);
        let since = link.news().blocked;
        assert!(since.is_some() && wakes.count() == 2);
        link.blocked(&cx);
        assert_eq!(link.news().blocked, since, "since the first time");
        link.wrote(b"\x81");
        assert!(link.news().blocked.is_none());
    }

    #[test]
    fn a_connection_has_one_session_and_a_refused_client_may_try_again() {
        let link = link();
        assert!(link.claim());
        link.release();
        assert!(link.claim());
        assert!(!link.claim());
    }
}
