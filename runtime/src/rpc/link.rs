//! Keeps one connection to one peer: connects, proves it with a ping, runs it, and starts over.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use quinn::{RecvStream, SendStream};
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, CodecError, Frame},
};
use tokio::{
    net::lookup_host,
    sync::{Notify, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    CALLS_IN_FLIGHT_MAX, CONNECT_TIMEOUT, CallError, Class, Inbox, LinkState, PeerAddress, QUEUE_BYTES_MAX, close,
    counters::Counters,
    outbox::{Bound, Outbox, PushError},
    stream::{FrameReader, ReadFrameError, write_batches},
};
use crate::PeerName;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived this long was a good one: after it, attempts start anew at [`BACKOFF_MIN`].
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// What the users of a peer and the task that keeps its connection share.
pub(super) struct Shared {
    name: PeerName,
    class: Class,
    address: watch::Sender<String>,
    inbox: Arc<dyn Inbox>,
    counters: Arc<Counters>,
    wanted: Notify,
    phase: watch::Sender<Phase>,
    state: watch::Sender<LinkState>,
}

#[derive(Clone)]
pub(super) enum Phase {
    /// Nobody has asked for the connection yet.
    Idle,
    /// The first attempt, after nothing or after a loss, is under way.
    Connecting,
    /// The last attempt failed; others go on.
    Unreachable,
    Up(Arc<Link>),
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("cannot resolve the address")]
    Resolve(#[source] io::Error),
    #[error("the address resolves to nothing")]
    NoAddress,
    #[error("cannot start to connect")]
    Start(#[from] quinn::ConnectError),
    #[error("cannot connect")]
    Connect(#[from] quinn::ConnectionError),
    #[error("cannot open the stream")]
    Open(#[from] quinn::WriteError),
    #[error("no connection within {} ms", CONNECT_TIMEOUT.as_millis())]
    Timeout,
    #[error("the ping was not answered: {0}")]
    Ping(CallError),
}

impl Shared {
    pub fn new(peer: PeerAddress, class: Class, inbox: Arc<dyn Inbox>, counters: Arc<Counters>) -> Self {
        Self {
            name: peer.name,
            class,
            address: watch::Sender::new(peer.address),
            inbox,
            counters,
            wanted: Notify::new(),
            phase: watch::Sender::new(Phase::Idle),
            state: watch::Sender::new(LinkState::Down),
        }
    }

    pub fn peer(&self) -> PeerName {
        self.name
    }

    pub fn class(&self) -> Class {
        self.class
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn link(&self) -> Option<Arc<Link>> {
        match &*self.phase.borrow() {
            Phase::Up(link) => Some(link.clone()),
            _ => None,
        }
    }

    pub fn want(&self) {
        self.wanted.notify_one();
    }

    pub fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn watch_state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    pub fn set_address(&self, address: String) {
        self.address.send_if_modified(|current| {
            let changed = *current != address;
            *current = address;
            changed
        });
    }

    fn enter(&self, phase: Phase) {
        let state = match &phase {
            Phase::Up(link) => LinkState::Up { generation: link.generation },
            _ => LinkState::Down,
        };
        self.phase.send_replace(phase);
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }
}

/// Keeps the connection until `stop`.
pub(super) async fn keep(shared: Arc<Shared>, endpoint: quinn::Endpoint, stop: CancellationToken) {
    stop.run_until_cancelled(keep_for_ever(&shared, &endpoint)).await;
    shared.enter(Phase::Unreachable);
}

async fn keep_for_ever(shared: &Arc<Shared>, endpoint: &quinn::Endpoint) {
    shared.wanted.notified().await;
    let mut address = shared.address.subscribe();
    let mut backoff = BACKOFF_MIN;
    let mut generation = 0;
    shared.enter(Phase::Connecting);
    loop {
        let target = address.borrow_and_update().clone();
        let attempt = connect(shared, endpoint, &target, generation + 1);
        match timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or(Err(ConnectError::Timeout)) {
            Ok(session) => {
                generation += 1;
                let up_since = Instant::now();
                let gauge = shared.counters.connected(shared.class);
                tracing::info!(peer = %shared.name, class = shared.class.as_str(), generation, "connected");
                shared.enter(Phase::Up(session.link.clone()));
                let reason = session.run().await;
                shared.enter(Phase::Connecting);
                drop(gauge);
                tracing::info!(peer = %shared.name, class = shared.class.as_str(), generation, %reason, "connection lost");
                if up_since.elapsed() >= STABLE_AFTER {
                    backoff = BACKOFF_MIN;
                }
            }
            Err(error) => {
                shared.counters.attempted(shared.class, "failed");
                let error = anyhow::Error::from(error);
                let known = matches!(&*shared.phase.borrow(), Phase::Unreachable);
                if known {
                    tracing::debug!(peer = %shared.name, class = shared.class.as_str(), error = format!("{error:#}"), "still cannot connect");
                } else {
                    tracing::info!(peer = %shared.name, class = shared.class.as_str(), error = format!("{error:#}"), "cannot connect");
                }
                shared.enter(Phase::Unreachable);
            }
        }
        // Full jitter, so that those who lost the same peer do not all return at once.
        let wait = backoff.mul_f64(rand::random::<f64>());
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::select! {
            () = sleep(wait) => {}
            // A new address is worth an attempt at once. The sender lives in `shared`: it is never gone.
            _ = address.changed() => backoff = BACKOFF_MIN,
        }
    }
}

async fn connect(
    shared: &Arc<Shared>,
    endpoint: &quinn::Endpoint,
    address: &str,
    generation: u64,
) -> Result<Session, ConnectError> {
    let address = lookup_host(address).await.map_err(ConnectError::Resolve)?.next().ok_or(ConnectError::NoAddress)?;
    let connection = endpoint.connect(address, &shared.name.dns_name())?.await?;
    let (mut send, recv) = connection.open_bi().await?;
    send.write_all(&[shared.class as u8]).await?;
    let session = Session::start(shared, connection, send, recv, generation);
    let pong = async { session.link.send(Call::Ping, None)?.await };
    match pong.await {
        Ok(Answer::Ping) => Ok(session),
        Ok(_) => Err(ConnectError::Ping(CallError::Closed)),
        Err(error) => Err(session.connection.close_reason().map_or(ConnectError::Ping(error), ConnectError::Connect)),
    }
}

/// One connection and its two tasks. Dropping it ends them and fails what is in flight.
struct Session {
    connection: quinn::Connection,
    link: Arc<Link>,
    tasks: JoinSet<Result<(), ReadFrameError>>,
}

impl Session {
    fn start(
        shared: &Arc<Shared>,
        connection: quinn::Connection,
        mut send: SendStream,
        recv: RecvStream,
        generation: u64,
    ) -> Self {
        let link = Arc::new(Link {
            generation,
            outbox: Outbox::new(QUEUE_BYTES_MAX),
            pending: Mutex::new(Pending { calls: HashMap::new(), next_id: 0, closed: false }),
        });
        let mut tasks = JoinSet::new();
        let writing = link.clone();
        tasks.spawn(async move { Ok(write_batches(&writing.outbox, &mut send).await?) });
        tasks.spawn(read_answers(shared.clone(), link.clone(), recv));
        Self { connection, link, tasks }
    }

    /// Until the connection is lost; says why.
    async fn run(mut self) -> anyhow::Error {
        let ended = self.tasks.join_next().await;
        let reason = match ended {
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("the peer ended the stream"),
            Some(Ok(Err(ReadFrameError::Codec(error)))) => {
                let text = format!("bad frame: {error}");
                self.connection.close(close::PROTOCOL_ERROR, text.as_bytes());
                anyhow::Error::from(error)
            }
            Some(Ok(Err(error))) => anyhow::Error::from(error),
            Some(Err(join)) if join.is_panic() => {
                tracing::error!(panic = crate::tasks::panic_text(join), "the inbox of a connection panicked");
                anyhow::anyhow!("a panic")
            }
            Some(Err(join)) => anyhow::Error::from(join),
        };
        match self.connection.close_reason() {
            Some(closed) => anyhow::Error::from(closed),
            None => reason,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close(close::ENDED, b"ended");
        self.tasks.abort_all();
        self.link.fail_all();
    }
}

async fn read_answers(shared: Arc<Shared>, link: Arc<Link>, recv: RecvStream) -> Result<(), ReadFrameError> {
    let mut reader = FrameReader::new(recv);
    while reader.fill().await? {
        while let Some(frame) = reader.next_frame()? {
            match frame {
                Frame::Answer { id, answer } => link.answered(id, answer),
                Frame::Notice(notice) => shared.inbox.notice(&shared.name, link.generation, notice),
                Frame::Call { .. } => return Err(ReadFrameError::Unexpected),
            }
        }
    }
    Ok(())
}

/// The calls on one connection.
pub(super) struct Link {
    generation: u64,
    outbox: Outbox,
    pending: Mutex<Pending>,
}

struct Pending {
    calls: HashMap<u64, oneshot::Sender<Answer>>,
    next_id: u64,
    closed: bool,
}

impl Link {
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // No code that can panic runs under this lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the call at once; the future waits for the answer.
    pub fn send(self: &Arc<Self>, call: Call, trace: Option<TraceId>) -> Result<Sent, CallError> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut pending = self.pending();
            if pending.closed {
                return Err(CallError::Unreachable);
            }
            if pending.calls.len() >= CALLS_IN_FLIGHT_MAX {
                return Err(CallError::TooManyInFlight);
            }
            let id = pending.next_id;
            pending.next_id += 1;
            pending.calls.insert(id, sender);
            id
        };
        let sent = Sent { link: self.clone(), id, answer };
        match self.outbox.push(&Frame::Call { id, trace, call }, Bound::Limited) {
            Ok(()) => Ok(sent),
            Err(PushError::Full) => Err(CallError::TooManyInFlight),
            Err(PushError::Closed) => Err(CallError::Unreachable),
            Err(PushError::Codec(CodecError::TooLarge { .. })) => Err(CallError::TooLarge),
            Err(PushError::Codec(error)) => {
                tracing::error!(%error, "cannot encode a call");
                Err(CallError::TooLarge)
            }
        }
    }

    fn answered(&self, id: u64, answer: Answer) {
        // A call that gave up waiting is not there any more.
        let waiting = self.pending().calls.remove(&id);
        if let Some(waiting) = waiting {
            let _gave_up = waiting.send(answer);
        }
    }

    fn fail_all(&self) {
        let calls = {
            let mut pending = self.pending();
            pending.closed = true;
            std::mem::take(&mut pending.calls)
        };
        self.outbox.close();
        // Dropping the senders is what tells the callers.
        drop(calls);
    }
}

/// A call that was sent. Dropping it forgets the call.
pub(super) struct Sent {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Future for Sent {
    type Output = Result<Answer, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.map_err(|_| CallError::Closed))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // After an answer this finds nothing; a `HashMap` look-up is cheaper than to remember.
        let _forgotten = self.link.pending().calls.remove(&self.id);
    }
}
