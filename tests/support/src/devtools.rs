//! The DevTools protocol over one WebSocket: commands with ids, answers, and of the events those that are errors.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, anyhow};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// A page that does not answer in this time hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const COMMANDS_WAITING: usize = 64;
const ERRORS_KEPT_PER_PAGE: usize = 200;

/// One attached page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(pub String);

type Answer = anyhow::Result<Value>;

/// The connection to a browser; its task ends with the last handle.
#[derive(Debug, Clone)]
pub struct DevTools {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Call { session: Option<SessionId>, method: String, parameters: Value, answer: oneshot::Sender<Answer> },
    Errors { session: SessionId, answer: oneshot::Sender<Vec<String>> },
}

impl DevTools {
    pub async fn connect(endpoint: &str) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(endpoint)
            .await
            .unwrap_or_else(|error| panic!("no DevTools at {endpoint}: {error}"));
        let (requests, queue) = mpsc::channel(COMMANDS_WAITING);
        tokio::spawn(Link { socket, queue, next_id: 1, waiting: HashMap::new(), errors: HashMap::new() }.run());
        Self { requests }
    }

    pub async fn call(&self, session: Option<&SessionId>, method: &str, parameters: Value) -> Answer {
        let (answer, answered) = oneshot::channel();
        let request = Request::Call { session: session.cloned(), method: method.to_owned(), parameters, answer };
        self.requests.send(request).await.context("the browser is gone")?;
        let answered = tokio::time::timeout(ANSWER_LIMIT, answered).await;
        answered.context("the browser does not answer")?.context("the browser is gone")?
    }

    /// Errors of a page so far; empty where the browser is gone.
    pub async fn errors(&self, session: &SessionId) -> Vec<String> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Errors { session: session.clone(), answer };
        if self.requests.send(request).await.is_err() {
            return Vec::new();
        }
        answered.await.unwrap_or_default()
    }
}

struct Link {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    queue: mpsc::Receiver<Request>,
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    errors: HashMap<SessionId, Vec<String>>,
}

impl Link {
    async fn run(mut self) {
        loop {
            tokio::select! {
                request = self.queue.recv() => match request {
                    Some(Request::Call { session, method, parameters, answer }) => {
                        let id = self.next_id;
                        self.next_id += 1;
                        let mut command = json!({ "id": id, "method": method, "params": parameters });
                        if let Some(session) = session {
                            command["sessionId"] = session.0.into();
                        }
                        if self.socket.send(Message::text(command.to_string())).await.is_err() {
                            return;
                        }
                        self.waiting.insert(id, answer);
                    }
                    Some(Request::Errors { session, answer }) => {
                        let _ = answer.send(self.errors.get(&session).cloned().unwrap_or_default());
                    }
                    None => return,
                },
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.heard(&text),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
            }
        }
    }

    fn heard(&mut self, text: &str) {
        let mut message: Value = serde_json::from_str(text).expect("DevTools speaks JSON");
        if let Some(id) = message["id"].as_u64() {
            let Some(answer) = self.waiting.remove(&id) else { return };
            let _ = answer.send(match message.get("error") {
                Some(error) => Err(anyhow!("refused: {error}")),
                None => Ok(message["result"].take()),
            });
            return;
        }
        let Some(session) = message["sessionId"].as_str() else { return };
        let Some(error) = error_of(&message) else { return };
        let errors = self.errors.entry(SessionId(session.to_owned())).or_default();
        if errors.len() < ERRORS_KEPT_PER_PAGE {
            errors.push(error);
        }
    }
}

/// What an event says went wrong, if it does.
fn error_of(event: &Value) -> Option<String> {
    let parameters = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => {
            let details = &parameters["exceptionDetails"];
            let text = details["exception"]["description"].as_str().or(details["text"].as_str());
            Some(format!("exception: {}", text.unwrap_or("of no text")))
        }
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
            let texts = parameters["args"].as_array()?.iter().map(|value| match value["value"].as_str() {
                Some(text) => text.to_owned(),
                None => value["description"].as_str().map_or_else(|| value["value"].to_string(), str::to_owned),
            });
            Some(texts.collect::<Vec<_>>().join(" "))
        }
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            let entry = &parameters["entry"];
            Some(format!("{} ({})", entry["text"].as_str()?, entry["url"].as_str().unwrap_or("no address")))
        }
        _ => None,
    }
}
