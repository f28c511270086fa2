//! A device that speaks REST: each command is a request, and what others did is found out by asking.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tertulia_shard_map::{ConversationId, Rev, Seq};
use tertulia_wire::client::{
    ClientEventKind, Command, ErrorReply, Event, EventPush, HistoryPage, NewMessage, Push, Reply, SyncPage,
};

use crate::{DEADLINE, HttpResponse, Login, http, within};

/// Between two looks at what is new.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Rest {
    router: SocketAddr,
    login: Login,
    /// Everything up to here was looked at.
    rev: Rev,
    /// By conversation, the newest event that was.
    seen: HashMap<ConversationId, Seq>,
    heard: VecDeque<Push>,
}

/// A command as a request, and the reply that its answer is.
struct Request {
    method: &'static str,
    path: String,
    body: Option<Value>,
    reply: fn(Value) -> Reply,
}

impl Rest {
    /// Hears of what others do from now on.
    pub async fn new(router: SocketAddr, login: Login) -> Self {
        let (seen, heard) = (HashMap::new(), VecDeque::new());
        let mut rest = Self { router, login, rev: Rev::ZERO, seen, heard };
        rest.look().await;
        rest.heard.clear();
        rest
    }

    pub async fn call(&mut self, command: Command) -> Reply {
        if command == Command::Ping {
            return Reply::Pong;
        }
        let Request { method, path, body, reply } = request(command);
        let answer = self.ask(method, &path, body).await;
        match answer.status {
            200..300 if answer.body.is_empty() => reply(Value::Null),
            200..300 => reply(answer.json()),
            _ => Reply::Error(problem(&answer)),
        }
    }

    pub async fn push(&mut self) -> Push {
        within("something new by REST", DEADLINE, async {
            loop {
                if let Some(push) = self.heard.pop_front() {
                    return push;
                }
                tokio::time::sleep(LOOK_EVERY).await;
                self.look().await;
            }
        })
        .await
    }

    pub async fn pushes_so_far(&mut self) -> Vec<Push> {
        self.look().await;
        self.heard.drain(..).collect()
    }

    /// What others did in the conversations that changed. Of one that the user has left nothing more can be read.
    async fn look(&mut self) {
        loop {
            let page: SyncPage = self.get(&format!("/v1/sync?rev={}", self.rev)).await;
            for row in page.conversations {
                if row.left_seq.is_none() {
                    self.read_on(row.conversation_id, row.last_seq).await;
                }
                self.seen.insert(row.conversation_id, row.last_seq);
            }
            self.rev = page.rev;
            if !page.has_more {
                return;
            }
        }
    }

    async fn read_on(&mut self, conversation: ConversationId, to: Seq) {
        let mut after = self.seen.get(&conversation).copied().unwrap_or_default();
        while after < to {
            let path = format!("/v1/conversations/{conversation}/messages?after_seq={after}");
            let answer = self.ask("GET", &path, None).await;
            // Removed since the row was read.
            if answer.status == 404 {
                return;
            }
            let page: HistoryPage = read(answer.json());
            let Some(last) = page.events.last() else { return };
            after = last.seq;
            // Later ones come with a later row.
            let events = page.events.into_iter().filter(|event| event.seq <= to && event.sender_id != self.login.user);
            self.heard.extend(events.map(push_of));
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.ask("GET", path, None).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        read(answer.json())
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> HttpResponse {
        let body = body.map(|body| body.to_string());
        let answer = http::authorized(self.router, &self.login.token, method, path, body.as_deref()).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

fn request(command: Command) -> Request {
    let empty = |_| Reply::Ok;
    match command {
        Command::Send(it) => {
            let path = match (it.conversation_id, it.to) {
                (_, Some(user)) => format!("/v1/users/{user}/messages"),
                (Some(conversation), None) => format!("/v1/conversations/{conversation}/messages"),
                (None, None) => panic!("REST always names whom it sends to"),
            };
            with_body("POST", path, body(&it), |it| Reply::Ack(read(it)))
        }
        Command::Edit(it) => {
            let path = format!("/v1/conversations/{}/messages/{}", it.conversation_id, it.message_id);
            with_body("PUT", path, body(&it), |it| Reply::Ack(read(it)))
        }
        Command::Delete(it) => {
            let (conversation, message) = (it.conversation_id, it.message_id);
            let query = encoded(&it.temp_id);
            let path = format!("/v1/conversations/{conversation}/messages/{message}?temp_id={query}");
            bare("DELETE", path, |it| Reply::Ack(read(it)))
        }
        Command::React(it) => {
            let path = format!("/v1/conversations/{}/messages/{}/reactions", it.conversation_id, it.message_id);
            with_body("POST", path, body(&it), |it| Reply::Ack(read(it)))
        }
        Command::Create(it) => {
            // The one id that is the body's and not the path's.
            let mut body = body(&it);
            body["conversation_id"] = json!(it.conversation_id);
            with_body("POST", "/v1/conversations".into(), body, |it| Reply::Ack(read(it)))
        }
        Command::Rename(it) => {
            let path = format!("/v1/conversations/{}", it.conversation_id);
            with_body("PATCH", path, body(&it), |it| Reply::Ack(read(it)))
        }
        Command::AddMembers(it) => {
            let path = format!("/v1/conversations/{}/members", it.conversation_id);
            with_body("POST", path, body(&it), |it| Reply::Ack(read(it)))
        }
        Command::RemoveMembers(it) => {
            let path = format!("/v1/conversations/{}/members", it.conversation_id);
            match it.user_ids[..] {
                [user] => {
                    let path = format!("{path}/{user}?temp_id={}", encoded(&it.temp_id));
                    bare("DELETE", path, |it| Reply::Ack(read(it)))
                }
                _ => with_body("POST", format!("{path}/remove"), body(&it), |it| Reply::Ack(read(it))),
            }
        }
        Command::SetRole(it) => {
            let path = format!("/v1/conversations/{}/members/{}", it.conversation_id, it.user_id);
            with_body("PATCH", path, body(&it), |it| Reply::Ack(read(it)))
        }
        Command::Leave(it) => {
            let path = format!("/v1/conversations/{}/leave", it.conversation_id);
            with_body("POST", path, body(&it), |it| Reply::Ack(read(it)))
        }
        Command::Delivered(it) => {
            let path = format!("/v1/conversations/{}/delivered", it.conversation_id);
            with_body("PUT", path, body(&it), |it| Reply::Marked(read(it)))
        }
        Command::Read(it) => {
            let path = format!("/v1/conversations/{}/read", it.conversation_id);
            with_body("PUT", path, body(&it), |it| Reply::Marked(read(it)))
        }
        Command::Conversation(it) => {
            bare("GET", format!("/v1/conversations/{}", it.conversation_id), |it| Reply::Conversation(read(it)))
        }
        Command::Members(it) => {
            let path = format!("/v1/conversations/{}/members", it.conversation_id);
            let path = with_query(path, &[("after", it.after.map(|id| id.to_string())), ("limit", number(it.limit))]);
            bare("GET", path, |it| Reply::MemberPage(read(it)))
        }
        Command::History(it) => {
            let path = format!("/v1/conversations/{}/messages", it.conversation_id);
            let query = [
                ("after_seq", it.after_seq.map(|seq| seq.to_string())),
                ("before_seq", it.before_seq.map(|seq| seq.to_string())),
                ("limit", number(it.limit)),
            ];
            bare("GET", with_query(path, &query), |it| Reply::HistoryPage(read(it)))
        }
        Command::Sync(it) => {
            let query = [("rev", Some(it.rev.to_string())), ("limit", number(it.limit))];
            bare("GET", with_query("/v1/sync".into(), &query), |it| Reply::SyncPage(read(it)))
        }
        Command::Profiles(it) => {
            let ids: Vec<String> = it.user_ids.iter().map(ToString::to_string).collect();
            bare("GET", format!("/v1/users?user_ids={}", ids.join(",")), |it| Reply::Profiles(read(it)))
        }
        Command::SetProfile(it) => with_body("PATCH", "/v1/profile".into(), body(&it), |it| Reply::Profile(read(it))),
        Command::Block(it) => bare("PUT", format!("/v1/blocks/{}", it.user_id), empty),
        Command::Unblock(it) => bare("DELETE", format!("/v1/blocks/{}", it.user_id), empty),
        Command::Blocks(it) => {
            let query = [("after", it.after.map(|id| id.to_string())), ("limit", number(it.limit))];
            bare("GET", with_query("/v1/blocks".into(), &query), |it| Reply::Blocks(read(it)))
        }
        other => panic!("REST has no {}: it needs a session", other.type_name()),
    }
}

fn bare(method: &'static str, path: String, reply: fn(Value) -> Reply) -> Request {
    Request { method, path, body: None, reply }
}

fn with_body(method: &'static str, path: String, body: Value, reply: fn(Value) -> Reply) -> Request {
    Request { method, path, body: Some(body), reply }
}

/// The command without what its path says.
fn body(command: &impl serde::Serialize) -> Value {
    let mut body = serde_json::to_value(command).expect("a command is plain data");
    let fields = body.as_object_mut().expect("a command is a map");
    for named in ["conversation_id", "to", "message_id", "user_id"] {
        fields.remove(named);
    }
    body
}

fn with_query(path: String, fields: &[(&str, Option<String>)]) -> String {
    let present: Vec<String> =
        fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?)))).collect();
    if present.is_empty() { path } else { format!("{path}?{}", present.join("&")) }
}

fn number(number: Option<u32>) -> Option<String> {
    number.map(|number| number.to_string())
}

/// For a query.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    let text = value.to_string();
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An error, as the other skins have it.
fn problem(answer: &HttpResponse) -> ErrorReply {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.body);
    let problem = answer.json();
    let mut error = json!({
        "code": problem["code"], "message": problem["detail"], "retryable": problem["retryable"]
    });
    if let Some(retry_after_ms) = problem.get("retry_after_ms") {
        error["retry_after_ms"] = retry_after_ms.clone();
    }
    read(error)
}

/// As a session would have been told of it.
fn push_of(event: Event) -> Push {
    match event.kind {
        ClientEventKind::Message => Push::New(NewMessage { message: event }),
        ClientEventKind::Edit => Push::Edited(EventPush { event }),
        ClientEventKind::Delete => Push::Deleted(EventPush { event }),
        ClientEventKind::Reaction => Push::Reacted(EventPush { event }),
        ClientEventKind::Created
        | ClientEventKind::Renamed
        | ClientEventKind::Joined
        | ClientEventKind::Left
        | ClientEventKind::RoleChanged => Push::ConversationChanged(EventPush { event }),
    }
}
