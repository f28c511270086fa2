//! The router's client port with an echo in place of sessions.

use std::{io, net::SocketAddr, time::Instant};

use axum::{Router, extract::Request, response::IntoResponse, routing::any};
use futures_util::{SinkExt, StreamExt};
use tertulia_router::edge::{Admission, AdmissionLimits, Closing, Handshake, handshake, serve};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::task::TaskTracker;

const NO_LIMIT: u32 = 1_000_000;

/// Serves echoes of messages of up to `message_bytes_max`, until the task is aborted.
pub async fn start(address: SocketAddr, message_bytes_max: usize) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let limits = AdmissionLimits {
        connections: NO_LIMIT as usize,
        connections_per_address: NO_LIMIT as usize,
        handshakes_per_second: NO_LIMIT,
        handshakes_burst: NO_LIMIT,
        trusted_proxies: Vec::new(),
    };
    let tasks = TaskTracker::new();
    let sessions = tasks.clone();
    let app = Router::new().route(
        "/v1/ws",
        any(async move |request: Request| match handshake(request) {
            Ok(Handshake { response, upgrading, .. }) => {
                sessions.spawn(upgrading.run(message_bytes_max, echo));
                response
            }
            Err(refused) => refused.into_response(),
        }),
    );
    let admission = Admission::new(limits, Instant::now());
    Ok((address, tokio::spawn(serve(listener, app, admission, Closing::default(), tasks))))
}

async fn echo(mut socket: WebSocketStream<TcpStream>) {
    while let Some(message) = socket.next().await {
        let answered = match message {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await,
            Ok(_) => socket.flush().await,
            Err(error) => {
                let code = match error {
                    Error::Protocol(_) => CloseCode::Protocol,
                    Error::Utf8(_) => CloseCode::Invalid,
                    Error::Capacity(_) => CloseCode::Size,
                    _ => return,
                };
                let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await;
                return linger(socket.get_mut()).await;
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Closing on unread bytes would reset the connection under the close frame.
async fn linger(stream: &mut TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    if stream.shutdown().await.is_ok() {
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    }
}
