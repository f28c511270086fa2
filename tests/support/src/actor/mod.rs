//! One user's device on any of the skins: commands, replies and pushes are the same everywhere, only the way differs.

mod bridge;
mod rest;

use std::fmt;

use tertulia_shard_map::{ConversationId, EventId, Rev, Seq, UserId};
use tertulia_wire::client::{
    Command, ConversationRow, CreateConversation, ErrorReply, Event, EventPush, Format, HistoryQuery, Mark, Marked,
    Push, Reply, SendMessage, SyncPage, SyncQuery,
};

use crate::{Client, Cluster, Login, client};
use bridge::{Bridge, Language};
use rest::Rest;

/// A way into the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skin {
    NativeJson,
    NativeMessagePack,
    /// The official client of npm.
    SocketIoJavaScript,
    /// The official client of PyPI.
    SocketIoPython,
    /// Sees what others did by asking, so nothing that is not stored.
    Rest,
}

impl Skin {
    pub const ALL: [Self; 5] =
        [Self::NativeJson, Self::NativeMessagePack, Self::SocketIoJavaScript, Self::SocketIoPython, Self::Rest];

    /// Whether it is told of things as they happen.
    pub fn is_live(self) -> bool {
        self != Self::Rest
    }
}

impl fmt::Display for Skin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NativeJson => "native, JSON",
            Self::NativeMessagePack => "native, MessagePack",
            Self::SocketIoJavaScript => "Socket.IO, JavaScript",
            Self::SocketIoPython => "Socket.IO, Python",
            Self::Rest => "REST",
        })
    }
}

/// A signed-in device.
#[derive(Debug)]
pub struct Actor {
    login: Login,
    skin: Skin,
    device: Device,
}

#[derive(Debug)]
enum Device {
    Native(Box<Client>),
    SocketIo(Box<Bridge>),
    Rest(Box<Rest>),
}

impl Actor {
    /// Signs the development user in and connects to this router.
    pub async fn connect(cluster: &Cluster, router: u32, name: &str, skin: Skin) -> Self {
        let login = cluster.login(name).await;
        let native = async |format| {
            let mut client = Client::connect(&cluster.ws_url(router), format).await;
            client.hello(client::hello(&login.token)).await;
            Device::Native(Box::new(client))
        };
        let bridge = async |language| {
            Device::SocketIo(Box::new(Bridge::connect(language, &cluster.router_url(router), &login.token).await))
        };
        let device = match skin {
            Skin::NativeJson => native(Format::Json).await,
            Skin::NativeMessagePack => native(Format::MessagePack).await,
            Skin::SocketIoJavaScript => bridge(Language::JavaScript).await,
            Skin::SocketIoPython => bridge(Language::Python).await,
            Skin::Rest => {
                let address = cluster.address(crate::Member::Router(router));
                Device::Rest(Box::new(Rest::new(address, login.clone()).await))
            }
        };
        Self { login, skin, device }
    }

    pub fn user(&self) -> UserId {
        self.login.user
    }

    pub fn name(&self) -> &str {
        &self.login.name
    }

    pub fn skin(&self) -> Skin {
        self.skin
    }

    // --- commands ---

    pub async fn call(&mut self, command: Command) -> Reply {
        match &mut self.device {
            Device::Native(client) => client.call(command).await,
            Device::SocketIo(bridge) => bridge.call(&command).await,
            Device::Rest(rest) => rest.call(command).await,
        }
    }

    /// A command that makes an event.
    pub async fn try_make(&mut self, command: Command) -> Result<Event, ErrorReply> {
        match self.call(command).await {
            Reply::Ack(ack) => Ok(ack.message),
            Reply::Error(error) => Err(error),
            other => panic!("neither ack nor error, but {other:?}"),
        }
    }

    pub async fn make(&mut self, command: Command) -> Event {
        let what = command.type_name();
        let name = self.login.name.clone();
        self.try_make(command).await.unwrap_or_else(|error| panic!("{name}: {what} was refused: {error:?}"))
    }

    /// A command that is to be refused.
    pub async fn refused(&mut self, command: Command) -> ErrorReply {
        match self.call(command).await {
            Reply::Error(error) => error,
            other => panic!("not refused, but {other:?}"),
        }
    }

    pub async fn send(&mut self, to: UserId, temp_id: &str, content: &str) -> Event {
        self.make(Command::Send(client::message(to, temp_id, content))).await
    }

    pub async fn send_in(&mut self, conversation: ConversationId, temp_id: &str, content: &str) -> Event {
        self.make(Command::Send(message_in(conversation, temp_id, content))).await
    }

    /// A group with these members.
    pub async fn create(&mut self, temp_id: &str, name: &str, users: &[UserId]) -> Event {
        let create = CreateConversation {
            conversation_id: None,
            temp_id: temp_id.into(),
            name: name.into(),
            user_ids: users.to_vec(),
        };
        self.make(Command::Create(create)).await
    }

    pub async fn read(&mut self, conversation_id: ConversationId, seq: Seq) -> Marked {
        match self.call(Command::Read(Mark { conversation_id, seq })).await {
            Reply::Marked(marked) => marked,
            other => panic!("not marked, but {other:?}"),
        }
    }

    pub async fn sync_page(&mut self, rev: Rev, limit: Option<u32>) -> SyncPage {
        match self.call(Command::Sync(SyncQuery { rev, limit })).await {
            Reply::SyncPage(page) => page,
            other => panic!("no page, but {other:?}"),
        }
    }

    /// All rows that changed after `rev`, and the rev to go on from.
    pub async fn sync(&mut self, rev: Rev) -> (Vec<ConversationRow>, Rev) {
        let (mut rows, mut rev) = (Vec::new(), rev);
        loop {
            let page = self.sync_page(rev, None).await;
            rows.extend(page.conversations);
            rev = page.rev;
            if !page.has_more {
                return (rows, rev);
            }
        }
    }

    /// The row of a conversation, where there is one.
    pub async fn row(&mut self, conversation: ConversationId) -> Option<ConversationRow> {
        let (rows, _) = self.sync(Rev::ZERO).await;
        rows.into_iter().find(|row| row.conversation_id == conversation)
    }

    /// A conversation from its first event that this user may read to its last.
    pub async fn history(&mut self, conversation_id: ConversationId) -> Vec<Event> {
        let (mut events, mut after) = (Vec::<Event>::new(), Seq::ZERO);
        loop {
            let query = HistoryQuery { conversation_id, after_seq: Some(after), before_seq: None, limit: None };
            let page = match self.call(Command::History(query)).await {
                Reply::HistoryPage(page) => page,
                other => panic!("no history, but {other:?}"),
            };
            events.extend(page.events);
            match events.last() {
                Some(last) if page.has_more => after = last.seq,
                _ => return events,
            }
        }
    }

    // --- pushes ---

    pub async fn push(&mut self) -> Push {
        match &mut self.device {
            Device::Native(client) => client.push().await,
            Device::SocketIo(bridge) => bridge.push().await,
            Device::Rest(rest) => rest.push().await,
        }
    }

    /// What has been pushed until now: proves an absence without waiting for a time.
    pub async fn pushes_so_far(&mut self) -> Vec<Push> {
        match &mut self.device {
            Device::Native(client) => client.pushes_so_far().await,
            Device::SocketIo(bridge) => bridge.pushes_so_far().await,
            Device::Rest(rest) => rest.pushes_so_far().await,
        }
    }

    /// What a live device is told until the router ends its session.
    pub async fn pushes_until_closed(&mut self) -> Vec<Push> {
        match &mut self.device {
            Device::Native(client) => client.pushes_until_closed().await,
            Device::SocketIo(bridge) => bridge.pushes_until_closed().await,
            Device::Rest(_) => panic!("REST has no session"),
        }
    }

    /// The first push that `wanted` takes; those before it are dropped.
    pub async fn hear<T>(&mut self, mut wanted: impl FnMut(&Push) -> Option<T>) -> T {
        loop {
            let push = self.push().await;
            if let Some(found) = wanted(&push) {
                return found;
            }
        }
    }

    /// The next event of this id, of whatever kind. Pushes are at least once, so others may come before it.
    pub async fn hear_event(&mut self, id: EventId) -> Event {
        self.hear(|push| event_of(push).filter(|event| event.id == id).cloned()).await
    }

    pub async fn close(self) {
        match self.device {
            Device::Native(client) => client.close().await,
            Device::SocketIo(bridge) => bridge.close().await,
            Device::Rest(_) => {}
        }
    }
}

/// A plain message to a conversation.
pub fn message_in(conversation: ConversationId, temp_id: &str, content: &str) -> SendMessage {
    SendMessage {
        conversation_id: Some(conversation),
        temp_id: temp_id.into(),
        content: Some(content.into()),
        ..SendMessage::default()
    }
}

/// The event that a push tells of, if it tells of one.
pub fn event_of(push: &Push) -> Option<&Event> {
    match push {
        Push::New(new) => Some(&new.message),
        Push::Edited(EventPush { event })
        | Push::Deleted(EventPush { event })
        | Push::Reacted(EventPush { event })
        | Push::ConversationChanged(EventPush { event }) => Some(event),
        _ => None,
    }
}
