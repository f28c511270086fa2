//! The accept loop and the HTTP/1 connections, with deadlines on everything a peer can delay.
//!
//! `axum::serve` has neither a header timeout nor a bound on connections, and spins where files run out; hence this.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, http::StatusCode, response::IntoResponse};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::metrics::{ACCEPT_ERRORS, CONNECTIONS_REFUSED};

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

/// One of the bounded number of connections. Found in a request's extensions; whoever upgrades the connection keeps it.
#[derive(Clone)]
pub struct ConnectionPermit {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Accepts until `shutdown`, then lets each connection finish the request that it is in.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    connections_max: usize,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    let room = Arc::new(Semaphore::new(connections_max));
    let mut backoff = BACKOFF_MIN;
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                backoff = BACKOFF_MIN;
                match room.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let permit = ConnectionPermit { _permit: Arc::new(permit) };
                        tasks.spawn(connection(stream, app.clone(), permit, shutdown.clone()));
                    }
                    // Closing at once tells the client, and the balancer, more than a full backlog does.
                    Err(_) => metrics::counter!(CONNECTIONS_REFUSED).increment(1),
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
                    () = shutdown.cancelled() => return,
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

async fn connection(stream: TcpStream, app: Router, permit: ConnectionPermit, shutdown: CancellationToken) {
    // A small frame must not wait for the ack of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let app = app.clone();
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(permit.clone());
        async move {
            match timeout(REQUEST, app.oneshot(request)).await {
                Ok(response) => response,
                Err(_) => Ok(StatusCode::REQUEST_TIMEOUT.into_response()),
            }
        }
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
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
