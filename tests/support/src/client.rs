//! A client of the native protocol, for tests: sends what it is told, waits with a deadline, keeps what came early.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tertulia_shard_map::{ConversationId, Rev, Seq, UserId};
use tertulia_wire::client::{
    Ack, ClientInfo, Command, CommandId, ConversationRow, ErrorReply, Event, Format, Hello, HistoryPage, HistoryQuery,
    Outbound, Push, Reply, SendMessage, SyncPage, SyncQuery, Welcome, decode_outbound, encode_commands,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::{DEADLINE, within};

/// A session on one router. Replies and pushes that nobody waits for yet are kept in order.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    format: Format,
    last_id: CommandId,
    welcome: Option<Welcome>,
    replies: HashMap<CommandId, Reply>,
    pushes: VecDeque<Push>,
    /// Replies without an id: to frames that could not be read.
    strays: VecDeque<Reply>,
    closed: Option<Closed>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// By a close frame with this code.
    Code(u16),
    /// Without one.
    Dropped,
}

/// What a session hears, whatever it is.
#[derive(Debug)]
pub enum Heard {
    Reply(CommandId, Reply),
    Push(Push),
}

/// `hello` with this token, as a first start.
pub fn hello(token: &str) -> Hello {
    let client = ClientInfo { platform: "test".into(), version: "1".into() };
    Hello { token: Some(token.into()), client, rev: None }
}

/// A plain message to a user's direct conversation.
pub fn message(to: UserId, temp_id: &str, content: &str) -> SendMessage {
    SendMessage { to: Some(to), temp_id: temp_id.into(), content: Some(content.into()), ..SendMessage::default() }
}

impl Client {
    /// Opens the socket only: `hello` is the caller's.
    pub async fn connect(ws_url: &str, format: Format) -> Self {
        Self::try_connect(ws_url, format).await.unwrap_or_else(|error| panic!("{ws_url}: {error}"))
    }

    pub async fn try_connect(ws_url: &str, format: Format) -> Result<Self, tungstenite::Error> {
        let mut request = ws_url.into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(format.subprotocol()));
        let (socket, _) = within("a WebSocket to open", DEADLINE, tokio_tungstenite::connect_async(request)).await?;
        Ok(Self {
            socket,
            format,
            last_id: 0,
            welcome: None,
            replies: HashMap::new(),
            pushes: VecDeque::new(),
            strays: VecDeque::new(),
            closed: None,
        })
    }

    /// Says `hello`, and expects to be welcome.
    pub async fn hello(&mut self, hello: Hello) -> Welcome {
        match self.call(Command::Hello(hello)).await {
            Reply::Welcome(welcome) => {
                self.welcome = Some(welcome.clone());
                welcome
            }
            other => panic!("no welcome, but {other:?}"),
        }
    }

    /// Who this session is; after `hello`.
    pub fn user(&self) -> UserId {
        self.welcome.as_ref().expect("hello was said").user.user_id
    }

    pub fn welcome(&self) -> &Welcome {
        self.welcome.as_ref().expect("hello was said")
    }

    // --- commands ---

    /// Sends a command without waiting for its reply.
    pub async fn begin(&mut self, command: &Command) -> CommandId {
        self.last_id += 1;
        let frame = encode_commands(self.format, &[(self.last_id, command)]);
        self.send_frame(frame).await;
        self.last_id
    }

    pub async fn reply(&mut self, id: CommandId) -> Reply {
        within("a reply", DEADLINE, async {
            loop {
                if let Some(reply) = self.replies.remove(&id) {
                    return reply;
                }
                self.receive().await;
            }
        })
        .await
    }

    pub async fn call(&mut self, command: Command) -> Reply {
        let id = self.begin(&command).await;
        self.reply(id).await
    }

    pub async fn try_send(&mut self, message: SendMessage) -> Result<Ack, ErrorReply> {
        match self.call(Command::Send(message)).await {
            Reply::Ack(ack) => Ok(ack),
            Reply::Error(error) => Err(error),
            other => panic!("neither ack nor error, but {other:?}"),
        }
    }

    /// Sends a plain message and expects its ack.
    pub async fn send(&mut self, to: UserId, temp_id: &str, content: &str) -> Event {
        let ack = self.try_send(message(to, temp_id, content)).await;
        let ack = ack.unwrap_or_else(|error| panic!("{temp_id} was refused: {error:?}"));
        assert_eq!(ack.temp_id, temp_id);
        ack.message
    }

    pub async fn sync_page(&mut self, rev: Option<Rev>, limit: Option<u32>) -> SyncPage {
        let rev = rev.unwrap_or_default();
        match self.call(Command::Sync(SyncQuery { rev, limit })).await {
            Reply::SyncPage(page) => page,
            other => panic!("no page, but {other:?}"),
        }
    }

    /// All rows that changed after `rev`, over as many pages as it takes, and the rev to go on from.
    pub async fn sync(&mut self, rev: Option<Rev>) -> (Vec<ConversationRow>, Rev) {
        let (mut rows, mut rev) = (Vec::new(), rev.unwrap_or_default());
        loop {
            let page = self.sync_page(Some(rev), None).await;
            rows.extend(page.conversations);
            rev = page.rev;
            if !page.has_more {
                return (rows, rev);
            }
        }
    }

    pub async fn history_page(&mut self, query: HistoryQuery) -> Result<HistoryPage, ErrorReply> {
        match self.call(Command::History(query)).await {
            Reply::HistoryPage(page) => Ok(page),
            Reply::Error(error) => Err(error),
            other => panic!("no page, but {other:?}"),
        }
    }

    /// A conversation from its first event to its last.
    pub async fn history(&mut self, conversation_id: ConversationId) -> Vec<Event> {
        let (mut events, mut after) = (Vec::<Event>::new(), Seq::ZERO);
        loop {
            let query = HistoryQuery { conversation_id, after_seq: Some(after), before_seq: None, limit: None };
            let page = self.history_page(query).await.unwrap_or_else(|error| panic!("no history: {error:?}"));
            events.extend(page.events);
            match events.last() {
                Some(last) if page.has_more => after = last.seq,
                _ => return events,
            }
        }
    }

    // --- pushes ---

    pub async fn push(&mut self) -> Push {
        within("a push", DEADLINE, async {
            loop {
                if let Some(push) = self.pushes.pop_front() {
                    return push;
                }
                self.receive().await;
            }
        })
        .await
    }

    /// The next message pushed; a push of another kind fails the test.
    pub async fn new_message(&mut self) -> Event {
        match self.push().await {
            Push::New(new) => new.message,
            other => panic!("no message, but {other:?}"),
        }
    }

    /// The next reply or push, or how the session ended: for tests in which it may. Safe to cancel.
    pub async fn hear(&mut self) -> Result<Heard, Closed> {
        loop {
            if let Some(push) = self.pushes.pop_front() {
                return Ok(Heard::Push(push));
            }
            if let Some(id) = self.replies.keys().next().copied()
                && let Some(reply) = self.replies.remove(&id)
            {
                return Ok(Heard::Reply(id, reply));
            }
            if let Some(closed) = &self.closed {
                return Err(closed.clone());
            }
            self.read_frame().await;
        }
    }

    /// What has been pushed until a `ping` sent now is answered: proves an absence without waiting for a time.
    pub async fn pushes_so_far(&mut self) -> Vec<Push> {
        assert_eq!(self.call(Command::Ping).await, Reply::Pong);
        self.pushes.drain(..).collect()
    }

    // --- below the protocol ---

    /// Sends these bytes as the format's kind of frame.
    pub async fn send_frame(&mut self, frame: Vec<u8>) {
        let message = match self.format {
            Format::Json => Message::text(String::from_utf8(frame).expect("a JSON frame is text")),
            Format::MessagePack => Message::binary(frame),
        };
        self.send_raw(message).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        // A socket that the router has closed is noticed by whoever waits for something.
        let _ = within("a frame to be sent", DEADLINE, self.socket.send(message)).await;
    }

    /// A reply without an id: to a frame that could not be read.
    pub async fn stray_reply(&mut self) -> Reply {
        within("a reply without an id", DEADLINE, async {
            loop {
                if let Some(reply) = self.strays.pop_front() {
                    return reply;
                }
                self.receive().await;
            }
        })
        .await
    }

    /// Reads on until the router closes the session.
    pub async fn closed(&mut self) -> Closed {
        within("the session to be closed", DEADLINE, async {
            while self.closed.is_none() {
                self.read_frame().await;
            }
        })
        .await;
        self.closed.clone().expect("just seen")
    }

    /// What is pushed until the router closes the session.
    pub async fn pushes_until_closed(&mut self) -> Vec<Push> {
        self.closed().await;
        self.pushes.drain(..).collect()
    }

    /// Closes properly.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        let drain = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), drain).await;
    }

    async fn receive(&mut self) {
        if let Some(closed) = &self.closed {
            panic!("the session is closed ({closed:?})");
        }
        self.read_frame().await;
    }

    async fn read_frame(&mut self) {
        let frame = match self.socket.next().await {
            Some(Ok(Message::Text(text))) if self.format == Format::Json => text.as_bytes().to_vec(),
            Some(Ok(Message::Binary(bytes))) if self.format == Format::MessagePack => bytes.to_vec(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return,
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map(|frame| Closed::Code(frame.code.into()));
                self.closed.get_or_insert(code.unwrap_or(Closed::Dropped));
                return;
            }
            Some(Ok(other)) => panic!("a frame of the wrong kind: {other:?}"),
            Some(Err(_)) | None => {
                self.closed.get_or_insert(Closed::Dropped);
                return;
            }
        };
        let outbound = decode_outbound(self.format, &frame).unwrap_or_else(|error| {
            panic!("an unreadable frame ({error}): {}", String::from_utf8_lossy(&frame));
        });
        for item in outbound {
            match item {
                Outbound::Reply { id: Some(id), reply } => drop(self.replies.insert(id, reply)),
                Outbound::Reply { id: None, reply } => self.strays.push_back(reply),
                Outbound::Push(push) => self.pushes.push_back(push),
            }
        }
    }
}
