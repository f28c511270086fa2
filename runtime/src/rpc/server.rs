//! The answering side: accepts connections, reads calls in order, and carries answers and notices back.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{Incoming, RecvStream, SendStream, VarInt};
use rustls_pki_types::CertificateDer;
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, Frame, Notice, Refusal},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    CLOSE_DRAIN, CONNECT_TIMEOUT, CONNECTIONS_MAX, CallKind, Class, QUEUE_BYTES_MAX, SERVED_IN_FLIGHT_MAX, close,
    counters::{Counters, Outcome, Side},
    outbox::{Bound, Outbox, PushError},
    stream::{FrameReader, ReadFrameError, write_batches},
};
use crate::{
    PeerName,
    tasks::{Supervisor, TaskSpec},
    tls::{PeerNameError, peer_name},
};

/// How long the last bytes of a connection may take to arrive at the peer.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// What a process does with the calls of its peers.
pub trait Service: Send + Sync + 'static {
    /// Takes one call. Runs inline in the connection's reader, in the order of the calls: it must not block, and what takes
    /// time it hands on together with `reply`. A ping never gets here.
    fn call(&self, from: &Connection, trace: Option<TraceId>, call: Call, reply: Responder);

    /// The connection is gone; after its last call, once.
    fn closed(&self, from: &Connection);
}

/// Names a connection for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// A peer that connected to this process. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    id: ConnectionId,
    peer: PeerName,
    class: Class,
    outbox: Outbox,
    in_flight: AtomicUsize,
    /// Told when a call is answered that the reader or the shutdown may wait for.
    answered: Notify,
    counters: Arc<Counters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    #[error("too many bytes wait for the connection")]
    Full,
    #[error("the connection is closed")]
    Closed,
    #[error("the notice does not fit into a frame")]
    TooLarge,
}

impl Connection {
    pub fn id(&self) -> ConnectionId {
        self.inner.id
    }

    pub fn peer(&self) -> PeerName {
        self.inner.peer
    }

    pub fn class(&self) -> Class {
        self.inner.class
    }

    /// Queues a notice for the peer, behind what is queued.
    pub fn notify(&self, notice: Notice) -> Result<(), NotifyError> {
        self.push(notice, Bound::Limited)
    }

    /// The same for what nobody misses: refused as `Full` where the connection is merely busy.
    pub fn notify_ephemeral(&self, notice: Notice) -> Result<(), NotifyError> {
        self.push(notice, Bound::Spare)
    }

    fn push(&self, notice: Notice, bound: Bound) -> Result<(), NotifyError> {
        self.inner.outbox.push(&Frame::Notice(notice), bound).map_err(|error| match error {
            PushError::Full => NotifyError::Full,
            PushError::Closed => NotifyError::Closed,
            PushError::Codec(_) => NotifyError::TooLarge,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.inner.outbox.is_closed()
    }

    /// Hangs up once what is queued is sent: on a peer that missed something, and learns so by having to start anew.
    pub fn close(&self, reason: &'static str) {
        tracing::info!(peer = %self.peer(), reason, "hanging up");
        self.inner.outbox.close();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} {} #{})", self.peer(), self.class().as_str(), self.id().0)
    }
}

/// Answers one call, from any task. Dropped unanswered it answers [`Refusal::Internal`].
pub struct Responder {
    connection: Arc<Inner>,
    id: u64,
    kind: CallKind,
    started: Instant,
    answered: bool,
}

impl Responder {
    pub fn send(mut self, answer: Answer) {
        self.answer(answer);
    }

    pub fn refuse(self, refusal: Refusal) {
        self.send(Answer::Refused(refusal));
    }

    fn answer(&mut self, answer: Answer) {
        self.answered = true;
        let outcome = if matches!(answer, Answer::Refused(_)) { Outcome::Refused } else { Outcome::Answered };
        let outcome = match self.connection.outbox.push(&Frame::Answer { id: self.id, answer }, Bound::Unlimited) {
            Ok(()) => outcome,
            Err(PushError::Closed | PushError::Full) => Outcome::Closed,
            Err(PushError::Codec(error)) => {
                tracing::error!(call = self.kind.as_str(), %error, "cannot encode an answer");
                let refusal = Frame::Answer { id: self.id, answer: Answer::Refused(Refusal::Internal) };
                match self.connection.outbox.push(&refusal, Bound::Unlimited) {
                    Ok(()) => Outcome::TooLarge,
                    Err(_) => Outcome::Closed,
                }
            }
        };
        self.connection.counters.call_ended(self.kind, outcome, self.started);
        self.connection.in_flight.fetch_sub(1, Ordering::Release);
        self.connection.answered.notify_one();
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            tracing::warn!(call = self.kind.as_str(), peer = %self.connection.peer, "a call was dropped without an answer");
            self.answer(Answer::Refused(Refusal::Internal));
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responder({} of {})", self.kind.as_str(), self.connection.peer)
    }
}

/// Accepts connections for ever. At shutdown it turns new ones away.
pub(super) async fn accept(endpoint: quinn::Endpoint, service: Arc<dyn Service>, supervisor: Supervisor) {
    let acceptor = Arc::new(Acceptor {
        service,
        counters: Arc::new(Counters::new(Side::Server)),
        last_id: AtomicU64::new(0),
        stop: supervisor.token(),
    });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let permit = match room.clone().try_acquire_owned() {
            Ok(permit) if !acceptor.stop.is_cancelled() => permit,
            _ => {
                incoming.refuse();
                continue;
            }
        };
        let acceptor = acceptor.clone();
        supervisor.spawn(TaskSpec::log_and_end("rpc connection"), async move {
            let _permit = permit;
            acceptor.serve(incoming).await;
            Ok(())
        });
    }
}

struct Acceptor {
    service: Arc<dyn Service>,
    counters: Arc<Counters>,
    last_id: AtomicU64,
    stop: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error("the handshake failed")]
    Handshake(#[from] quinn::ConnectionError),
    #[error("no handshake within {} ms", CONNECT_TIMEOUT.as_millis())]
    Timeout,
    #[error("the peer has no name")]
    Nameless(#[from] PeerNameError),
    #[error("the stream's first byte did not arrive")]
    FirstByte(#[from] quinn::ReadExactError),
    #[error("traffic class {0} is unknown")]
    UnknownClass(u8),
}

impl Acceptor {
    async fn serve(&self, incoming: Incoming) {
        let address = incoming.remote_address();
        match timeout(CONNECT_TIMEOUT, self.welcome(incoming)).await.unwrap_or(Err(AcceptError::Timeout)) {
            Ok((quic, connection, send, recv)) => self.run(quic, connection, send, recv).await,
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::info!(%address, error = format!("{error:#}"), "a peer failed to connect");
            }
        }
    }

    async fn welcome(
        &self,
        incoming: Incoming,
    ) -> Result<(quinn::Connection, Connection, SendStream, RecvStream), AcceptError> {
        let quic = incoming.await?;
        let peer = match authenticated(&quic) {
            Ok(peer) => peer,
            Err(error) => {
                quic.close(close::UNWELCOME, error.to_string().as_bytes());
                return Err(error.into());
            }
        };
        let (send, mut recv) = quic.accept_bi().await?;
        let mut class = [0];
        recv.read_exact(&mut class).await?;
        let Some(class) = Class::from_byte(class[0]) else {
            quic.close(close::PROTOCOL_ERROR, b"unknown traffic class");
            return Err(AcceptError::UnknownClass(class[0]));
        };
        let connection = Connection {
            inner: Arc::new(Inner {
                id: ConnectionId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1),
                peer,
                class,
                outbox: Outbox::new(QUEUE_BYTES_MAX),
                in_flight: AtomicUsize::new(0),
                answered: Notify::new(),
                counters: self.counters.clone(),
            }),
        };
        Ok((quic, connection, send, recv))
    }

    async fn run(&self, quic: quinn::Connection, connection: Connection, mut send: SendStream, recv: RecvStream) {
        let gauge = self.counters.connected(connection.class());
        tracing::debug!(peer = %connection.peer(), class = connection.class().as_str(), "accepted a connection");
        // Whatever happens, a panic of the service included, it is told of the end.
        let end = End { service: &*self.service, connection: &connection };
        let mut reader = FrameReader::new(recv);
        let (code, reason): (VarInt, String) = {
            let reading = self.stop.run_until_cancelled(read_calls(&*self.service, &connection, &mut reader));
            let writing = write_batches(&connection.inner.outbox, &mut send);
            tokio::pin!(reading, writing);
            tokio::select! {
                read = &mut reading => match read {
                    None => {
                        let drained = async {
                            tokio::select! {
                                () = connection.drained() => {}
                                _ = &mut writing => return,
                            }
                            connection.inner.outbox.close();
                            let _broken = (&mut writing).await;
                        };
                        let _late = timeout(CLOSE_DRAIN, drained).await;
                        (close::ENDED, "shutting down".to_owned())
                    }
                    Some(Ok(())) => (close::ENDED, "ended".to_owned()),
                    Some(Err(error @ (ReadFrameError::Codec(_) | ReadFrameError::Unexpected | ReadFrameError::Truncated))) => {
                        tracing::warn!(peer = %connection.peer(), %error, "closing a connection that breaks the protocol");
                        (close::PROTOCOL_ERROR, format!("bad frame: {error}"))
                    }
                    Some(Err(_)) => (close::ENDED, "broken".to_owned()),
                },
                _ = &mut writing => (close::ENDED, "broken".to_owned()),
            }
        };
        drop(end);
        if self.stop.is_cancelled() && quic.close_reason().is_none() && send.finish().is_ok() {
            let _unacknowledged = timeout(FLUSH_TIMEOUT, send.stopped()).await;
        }
        let lost = quic.close_reason();
        quic.close(code, reason.as_bytes());
        drop(gauge);
        match lost {
            Some(lost) => {
                tracing::debug!(peer = %connection.peer(), class = connection.class().as_str(), reason = %lost, "connection lost")
            }
            None => {
                tracing::debug!(peer = %connection.peer(), class = connection.class().as_str(), reason, "closed a connection")
            }
        }
    }
}

struct End<'a> {
    service: &'a dyn Service,
    connection: &'a Connection,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.connection.inner.outbox.close();
        self.service.closed(self.connection);
    }
}

impl Connection {
    /// Waits until every call is answered.
    async fn drained(&self) {
        while self.inner.in_flight.load(Ordering::Acquire) > 0 {
            self.inner.answered.notified().await;
        }
    }

    /// Waits until one more call may be taken.
    async fn has_room(&self) {
        while self.inner.in_flight.load(Ordering::Acquire) >= SERVED_IN_FLIGHT_MAX {
            self.inner.answered.notified().await;
        }
        self.inner.outbox.below_limit().await;
    }
}

async fn read_calls(
    service: &dyn Service,
    connection: &Connection,
    reader: &mut FrameReader,
) -> Result<(), ReadFrameError> {
    let inner = &connection.inner;
    while reader.fill().await? {
        while let Some(frame) = reader.next_frame()? {
            let Frame::Call { id, trace, call } = frame else { return Err(ReadFrameError::Unexpected) };
            connection.has_room().await;
            inner.in_flight.fetch_add(1, Ordering::Relaxed);
            let kind = CallKind::of(&call);
            let reply = Responder { connection: inner.clone(), id, kind, started: Instant::now(), answered: false };
            match call {
                Call::Ping => reply.send(Answer::Ping),
                call => service.call(connection, trace, call, reply),
            }
        }
    }
    Ok(())
}

fn authenticated(quic: &quinn::Connection) -> Result<PeerName, PeerNameError> {
    let identity = quic.peer_identity().ok_or(PeerNameError::NoCertificate)?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| PeerNameError::NoCertificate)?;
    peer_name(&chain)
}
