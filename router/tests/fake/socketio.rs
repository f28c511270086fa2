//! A Socket.IO client that speaks in frames, so that a test sees each of them.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{WITHIN, client::token};

const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

pub struct SocketIoClient {
    pub socket: WebSocketStream<TcpStream>,
    /// What the server said first.
    pub open: Value,
}

/// What a server can say to a Socket.IO client.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    Connected(Value),
    Refused(Value),
    Disconnected,
    Event(String, Value),
    Ack(u64, Value),
}

impl SocketIoClient {
    /// Opens the connection, without joining a namespace.
    pub async fn open(address: SocketAddr) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let stream = TcpSocket::new_v4().unwrap();
        // So that a client that does not read is felt soon.
        stream.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let stream = stream.connect(address).await.unwrap();
        let (mut socket, _) =
            tokio_tungstenite::client_async(url.into_client_request().unwrap(), stream).await.unwrap();
        let first = timeout(WITHIN, socket.next()).await.unwrap().unwrap().unwrap();
        let open = serde_json::from_str(first.to_text().unwrap().strip_prefix('0').unwrap()).unwrap();
        Self { socket, open }
    }

    /// Opens and connects with this `auth`.
    pub async fn connect(address: SocketAddr, auth: Value) -> (Self, Packet) {
        let mut client = Self::open(address).await;
        client.say(&format!("40{auth}")).await;
        let answer = client.next().await;
        (client, answer)
    }

    /// Connects with a good token, and is welcome: the payload.
    pub async fn sign_in(address: SocketAddr, name: &str) -> (Self, Value) {
        let auth = json!({"token": token(address, name).await});
        let (mut client, answer) = Self::connect(address, auth).await;
        assert!(matches!(answer, Packet::Connected(_)), "{answer:?}");
        match client.next().await {
            Packet::Event(kind, welcome) if kind == "welcome" => (client, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// One text frame.
    pub async fn say(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    pub async fn emit(&mut self, kind: &str, data: Value) {
        self.say(&format!("42{}", json!([kind, data]))).await;
    }

    /// Emits with a callback, and waits for what it gets; events before it are dropped.
    pub async fn call(&mut self, ack: u64, kind: &str, data: Value) -> Value {
        self.say(&format!("42{ack}{}", json!([kind, data]))).await;
        loop {
            match self.next().await {
                Packet::Ack(id, answer) if id == ack => return answer,
                Packet::Event(..) => {}
                other => panic!("no answer: {other:?}"),
            }
        }
    }

    pub async fn next(&mut self) -> Packet {
        match timeout(WITHIN, self.packet()).await.expect("nothing came") {
            Ok(packet) => packet,
            Err(end) => panic!("the connection ended: {end:?}"),
        }
    }

    /// The next packet, where the server's first words were not read yet.
    pub async fn skip_open(&mut self) -> Packet {
        assert!(self.socket.next().await.unwrap().unwrap().to_text().unwrap().starts_with('0'));
        self.next().await
    }

    pub async fn event(&mut self) -> (String, Value) {
        match self.next().await {
            Packet::Event(kind, data) => (kind, data),
            other => panic!("no event: {other:?}"),
        }
    }

    /// How the connection ends: the close code, if there is one. What comes before is dropped.
    pub async fn closed(&mut self) -> Option<u16> {
        timeout(WITHIN, async {
            loop {
                if let Err(code) = self.packet().await {
                    return code;
                }
            }
        })
        .await
        .expect("it is not closed")
    }

    /// The next packet, pings answered. `Err` with the close code where the connection ends.
    pub async fn packet(&mut self) -> Result<Packet, Option<u16>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) if text == "2" => self.say("3").await,
                // The library takes its leave; the close frame follows.
                Some(Ok(Message::Text(text))) if text == "1" => {}
                Some(Ok(Message::Text(text))) => return Ok(packet(text.strip_prefix('4').unwrap())),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("no server sends {other:?}"),
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}

fn packet(text: &str) -> Packet {
    let rest = &text[1..];
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    match &text[..1] {
        "0" => Packet::Connected(json(rest)),
        "1" => Packet::Disconnected,
        "2" => {
            let mut arguments = json(rest).as_array().unwrap().clone();
            assert!(arguments.len() <= 2, "{arguments:?}");
            let data = if arguments.len() == 2 { arguments.remove(1) } else { Value::Null };
            Packet::Event(arguments[0].as_str().unwrap().to_owned(), data)
        }
        "3" => {
            let digits = rest.find('[').unwrap();
            let arguments = json(&rest[digits..]);
            assert_eq!(arguments.as_array().unwrap().len(), 1);
            Packet::Ack(rest[..digits].parse().unwrap(), arguments[0].clone())
        }
        // A refusal names its namespace unless it is the root.
        "4" => Packet::Refused(json(rest.find('{').map_or(rest, |at| &rest[at..]))),
        _ => panic!("no server sends {text}"),
    }
}
