//! A client of the native protocol.

use std::{collections::VecDeque, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use tertulia_shard_map::{DevName, UserId};
use tertulia_wire::client::{
    ClientInfo, Command, ErrorReply, Format, Hello, Outbound, Push, Reply, SendMessage, Welcome, decode_outbound,
    encode_commands,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, protocol::CloseFrame},
};

use super::WITHIN;

const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

pub struct TestClient {
    pub socket: WebSocketStream<TcpStream>,
    format: Format,
    received: VecDeque<Outbound>,
    next_id: u64,
}

impl TestClient {
    pub async fn connect(address: SocketAddr, format: Format) -> Self {
        let mut request = format!("ws://{address}/v1/ws").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", format.subprotocol().parse().unwrap());
        let stream = TcpSocket::new_v4().unwrap();
        // So that a client that does not read is felt soon.
        stream.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let stream = stream.connect(address).await.unwrap();
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], format.subprotocol());
        Self { socket, format, received: VecDeque::new(), next_id: 0 }
    }

    /// Connects and says hello.
    pub async fn sign_in(address: SocketAddr, name: &str, format: Format) -> (Self, Welcome) {
        let mut client = Self::connect(address, format).await;
        let id = client.send(&hello(Some(token(address, name).await))).await;
        match client.reply(id).await {
            Reply::Welcome(welcome) => (client, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub async fn send(&mut self, command: &Command) -> u64 {
        self.next_id += 1;
        let frame = encode_commands(self.format, &[(self.next_id, command)]);
        let message = match self.format {
            Format::Json => Message::text(String::from_utf8(frame).unwrap()),
            Format::MessagePack => Message::binary(frame),
        };
        self.socket.send(message).await.unwrap();
        self.next_id
    }

    pub async fn next(&mut self) -> Outbound {
        timeout(WITHIN, async {
            loop {
                if let Some(outbound) = self.received.pop_front() {
                    return outbound;
                }
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        self.received.extend(decode_outbound(self.format, text.as_bytes()).unwrap());
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        self.received.extend(decode_outbound(self.format, &bytes).unwrap());
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("the session ended: {other:?}"),
                }
            }
        })
        .await
        .expect("nothing came")
    }

    /// The reply to a command; pushes before it are dropped.
    pub async fn reply(&mut self, to: u64) -> Reply {
        loop {
            match self.next().await {
                Outbound::Reply { id, reply } if id == Some(to) => return reply,
                Outbound::Reply { id, reply } => panic!("a reply to {id:?}: {reply:?}"),
                Outbound::Push(_) => {}
            }
        }
    }

    pub async fn push(&mut self) -> Push {
        match self.next().await {
            Outbound::Push(push) => push,
            Outbound::Reply { id, reply } => panic!("a reply to {id:?}: {reply:?}"),
        }
    }

    /// The next envelope, an error without an id.
    pub async fn error(&mut self) -> ErrorReply {
        match self.next().await {
            Outbound::Reply { reply: Reply::Error(error), .. } => error,
            other => panic!("no error: {other:?}"),
        }
    }

    pub async fn closed(&mut self) -> CloseFrame {
        timeout(WITHIN, async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame,
                    Some(Ok(Message::Close(None)) | Err(_)) | None => panic!("closed without a reason"),
                    Some(Ok(_)) => {}
                }
            }
        })
        .await
        .expect("it is not closed")
    }
}

pub fn hello(token: Option<String>) -> Command {
    Command::Hello(Hello { token, client: ClientInfo { platform: "test".into(), version: "1".into() }, rev: None })
}

pub fn message(to: UserId, temp_id: &str, text: &str) -> Command {
    let (temp_id, content) = (temp_id.to_owned(), Some(text.to_owned()));
    Command::Send(SendMessage { to: Some(to), temp_id, content, ..SendMessage::default() })
}

pub fn user(name: &str) -> UserId {
    name.parse::<DevName>().unwrap().user_id()
}

pub async fn token(address: SocketAddr, name: &str) -> String {
    let body = format!("{{\"name\":\"{name}\"}}");
    let head =
        format!("POST /v1/dev/login HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    let answer = http(address, &head, &body).await;
    let token = answer.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next());
    token.unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

/// One request on a connection of its own; the whole answer as text.
pub async fn http(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{head}\r\nhost: test\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(WITHIN, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    answer
}

pub async fn get(address: SocketAddr, path: &str) -> String {
    http(address, &format!("GET {path} HTTP/1.1"), "").await
}
