//! The accept loop and the HTTP/1 connections, with deadlines on everything a peer can delay, and [admission](super::admission)
//! before anything is done for it.
//!
//! `axum::serve` has neither a header timeout nor a bound on connections, and spins where files run out; hence this.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::admission::{Admission, Moment, Permit, Refused};
use crate::metrics::{ACCEPT_ERRORS, CONNECTIONS_REFUSED, HANDSHAKES};

/// A peer must have sent its request's head by then; a kept-alive connection its next one.
const HEADER_READ: Duration = Duration::from_secs(10);
/// A request's body, its answer and everything between must be done by then. Upgraded connections are not counted.
const REQUEST: Duration = Duration::from_secs(15);
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Wait after an error of `accept` that will not go away by itself (no more files, no memory).
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// At most one log line about it in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What admission counts for a request's connection. Found in its extensions; whoever upgrades the connection keeps it.
#[derive(Clone)]
pub struct ConnectionPermit {
    _connection: Arc<Permit>,
    _client: Option<Arc<Permit>>,
}

/// The two steps in which a port is closed.
#[derive(Clone, Default)]
pub struct Closing {
    /// No new sessions: handshakes are refused by whoever answers them.
    pub draining: CancellationToken,
    /// No new connections, and of those that are open each ends with the request that it is in.
    pub closed: CancellationToken,
}

/// Accepts until it is closed.
pub async fn serve(listener: TcpListener, app: Router, admission: Admission, closing: Closing, tasks: TaskTracker) {
    let mut backoff = BACKOFF_MIN;
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.closed.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = BACKOFF_MIN;
                let peer = peer.ip();
                match admission.connection(peer, Moment::read()) {
                    Ok(permit) => {
                        let edge = Edge { app: app.clone(), admission: admission.clone(), closing: closing.clone() };
                        tasks.spawn(connection(stream, peer, edge, permit));
                    }
                    Err(refused) => {
                        metrics::counter!(CONNECTIONS_REFUSED, "reason" => refused.reason.as_str()).increment(1);
                        turn_away(stream, &refused);
                    }
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                metrics::counter!(ACCEPT_ERRORS).increment(1);
                if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::select! {
                    () = sleep(backoff) => {}
                    () = closing.closed.cancelled() => return,
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Answers a request that was not read yet, if at all, and closes: no task, and nothing is waited for. Closing at once
/// tells the client, and the balancer, more than a full backlog does.
fn turn_away(stream: TcpStream, refused: &Refused) {
    let text = refused.reason.text();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\n\r\n{text}",
        refused.retry_after_seconds(),
        text.len(),
    );
    // A new socket takes this much at once; where it does not, the peer sees the end alone.
    let Ok(mut stream) = stream.into_std() else { return };
    if stream.write(answer.as_bytes()).is_ok() {
        // Bytes left unread would make the kernel reset the connection, which may overtake the answer.
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// What connections share.
struct Edge {
    app: Router,
    admission: Admission,
    closing: Closing,
}

impl Edge {
    /// Asks for admission where a WebSocket is asked for, whichever path it is on.
    fn admit(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Permit>, Refused> {
        let is_handshake =
            headers.get(header::UPGRADE).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !is_handshake || self.closing.draining.is_cancelled() {
            return Ok(None);
        }
        self.admission.handshake(peer, headers, Moment::read())
    }

    async fn answer(
        &self,
        peer: IpAddr,
        connection: Arc<Permit>,
        request: hyper::Request<Incoming>,
    ) -> Result<Response, std::convert::Infallible> {
        let client = match self.admit(peer, request.headers()) {
            Ok(client) => client.map(Arc::new),
            Err(refused) => {
                metrics::counter!(HANDSHAKES, "outcome" => refused.reason.as_str()).increment(1);
                return Ok(refusal(&refused));
            }
        };
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectionPermit { _connection: connection, _client: client });
        match timeout(REQUEST, self.app.clone().oneshot(request)).await {
            Ok(response) => response,
            Err(_) => Ok(StatusCode::REQUEST_TIMEOUT.into_response()),
        }
    }
}

fn refusal(refused: &Refused) -> Response {
    let headers =
        [(header::RETRY_AFTER, refused.retry_after_seconds().to_string()), (header::CONNECTION, "close".to_owned())];
    (StatusCode::SERVICE_UNAVAILABLE, headers, refused.reason.text()).into_response()
}

async fn connection(stream: TcpStream, peer: IpAddr, edge: Edge, permit: Permit) {
    // A small frame must not wait for the ack of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let closed = edge.closing.closed.clone();
    let (edge, permit) = (Arc::new(edge), Arc::new(permit));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (edge, permit) = (edge.clone(), permit.clone());
        async move { edge.answer(peer, permit, request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .max_header_size(HEADER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // What fails here is the peer's doing: a disconnect, a timeout, bytes that are not HTTP.
        _ = connection.as_mut() => return,
        () = closed.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
