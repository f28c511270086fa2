//! Signing in and opening a session, as any client would.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tertulia_shard_map::UserId;
use tertulia_wire::client::{
    ClientInfo, Command, CommandId, Format, Hello, Outbound, Reply, decode_outbound, encode_commands,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig},
};

const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// Frames are small; many sockets are open.
const SOCKET_BUFFER_BYTES: usize = 2048;
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Signs development users in over one kept connection.
pub struct SignIn {
    stream: BufReader<TcpStream>,
    router: SocketAddr,
}

#[derive(Debug, Deserialize)]
pub struct SignedIn {
    pub token: String,
    pub user: SignedInUser,
}

#[derive(Debug, Deserialize)]
pub struct SignedInUser {
    pub user_id: UserId,
}

impl SignIn {
    pub async fn connect(router: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(router).await.with_context(|| format!("no router answers at {router}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), router })
    }

    pub async fn sign_in(&mut self, name: &str) -> anyhow::Result<SignedIn> {
        let body = format!("{{\"name\":\"{name}\"}}");
        let request = format!(
            "POST /v1/dev/login HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.router,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        ensure!(line.contains(" 200 "), "the development sign-in answers: {}", line.trim());
        let mut length = None;
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line).await? > 0, "the sign-in's answer breaks off");
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok().filter(|length| *length <= ANSWER_BYTES_MAX);
            }
        }
        let mut answer = vec![0; length.context("the sign-in's answer has no usable length")?];
        self.stream.read_exact(&mut answer).await?;
        serde_json::from_slice(&answer).context("the sign-in's answer")
    }
}

/// A session after `welcome`.
pub struct Session {
    socket: WebSocketStream<TcpStream>,
    format: Format,
    last_id: CommandId,
    pub user: UserId,
}

/// How much the kernel takes for a session that reads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// As the system has it.
    Usual,
    /// As little as it can: then the router's own bounds are met soon.
    Little,
}

/// Of the kernel's buffer with [`Receive::Little`].
const LITTLE_BYTES: u32 = 4096;

impl Session {
    pub async fn open(router: SocketAddr, format: Format, signed_in: &SignedIn) -> anyhow::Result<Self> {
        Self::open_with(router, format, signed_in, Receive::Usual).await
    }

    pub async fn open_with(
        router: SocketAddr,
        format: Format,
        signed_in: &SignedIn,
        receive: Receive,
    ) -> anyhow::Result<Self> {
        tokio::time::timeout(OPEN_LIMIT, Self::open_unbounded(router, format, signed_in, receive))
            .await
            .with_context(|| format!("a session did not open within {OPEN_LIMIT:?}"))?
    }

    async fn open_unbounded(
        router: SocketAddr,
        format: Format,
        signed_in: &SignedIn,
        receive: Receive,
    ) -> anyhow::Result<Self> {
        let socket = if router.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if receive == Receive::Little {
            socket.set_recv_buffer_size(LITTLE_BYTES)?;
        }
        let stream = socket.connect(router).await.with_context(|| format!("no router answers at {router}"))?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{router}/v1/ws").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(format.subprotocol()));
        let config = WebSocketConfig::default().read_buffer_size(SOCKET_BUFFER_BYTES).write_buffer_size(0);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        let mut this = Self { socket, format, last_id: 0, user: signed_in.user.user_id };
        let client = ClientInfo { platform: "bench".into(), version: env!("CARGO_PKG_VERSION").into() };
        this.send(&Command::Hello(Hello { token: Some(signed_in.token.clone()), client, rev: None })).await?;
        loop {
            match this.receive().await?.into_iter().next() {
                None => {}
                Some(Outbound::Reply { reply: Reply::Welcome(_), .. }) => return Ok(this),
                Some(other) => bail!("no welcome, but {other:?}"),
            }
        }
    }

    pub async fn send(&mut self, command: &Command) -> anyhow::Result<()> {
        self.send_as(self.last_id + 1, command).await
    }

    /// Under this id.
    pub async fn send_as(&mut self, id: CommandId, command: &Command) -> anyhow::Result<()> {
        self.last_id = id;
        let frame = encode_commands(self.format, &[(id, command)]);
        let message = match self.format {
            Format::Json => Message::text(String::from_utf8(frame)?),
            Format::MessagePack => Message::binary(frame),
        };
        Ok(self.socket.send(message).await?)
    }

    /// Closes with a close frame; does not wait for the other side's.
    pub async fn close(mut self) -> anyhow::Result<()> {
        Ok(self.socket.close(None).await?)
    }

    /// The next frame's envelopes; none for a ping, which is answered on the way. Safe to cancel.
    pub async fn receive(&mut self) -> anyhow::Result<Vec<Outbound>> {
        match self.socket.next().await.context("the router has dropped the connection")?? {
            Message::Text(text) => Ok(decode_outbound(self.format, text.as_bytes())?),
            Message::Binary(bytes) => Ok(decode_outbound(self.format, &bytes)?),
            Message::Close(frame) => bail!("the router has closed the session: {frame:?}"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(Vec::new()),
        }
    }
}
