//! An official Socket.IO client in a process of its own (`tests/skins`), driven by lines of JSON.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    process::Stdio,
};

use serde_json::Value;
use tertulia_wire::client::{Command, CommandId, Format, Outbound, Push, Reply, decode_outbound, encode_commands};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{DEADLINE, within};

#[derive(Debug, Clone, Copy)]
pub enum Language {
    JavaScript,
    Python,
}

#[derive(Debug)]
pub struct Bridge {
    /// Killed when dropped.
    child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    last_id: CommandId,
    replies: HashMap<CommandId, Reply>,
    pushes: VecDeque<Push>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connected,
    Disconnected,
}

/// The reply to the connection itself.
const CONNECTED: CommandId = 0;

impl Bridge {
    /// Connects, and expects to be welcome.
    pub async fn connect(language: Language, url: &str, token: &str) -> Self {
        let (mut bridge, reply) = Self::try_connect(language, url, token).await;
        assert!(matches!(reply, Reply::Welcome(_)), "no welcome, but {reply:?}");
        bridge.last_id = CONNECTED;
        bridge
    }

    async fn try_connect(language: Language, url: &str, token: &str) -> (Self, Reply) {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let clients = root.join("target/socketio-clients");
        let mut command = match language {
            Language::JavaScript => {
                let mut command = tokio::process::Command::new("node");
                command.arg(clients.join("bridge.mjs"));
                command
            }
            Language::Python => {
                let mut command = tokio::process::Command::new(clients.join("venv/bin/python3"));
                command.arg(root.join("tests/skins/bridge.py"));
                command
            }
        };
        command.args([url, token]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.kill_on_drop(true);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
        let commands = child.stdin.take().expect("piped");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (replies, pushes) = (HashMap::new(), VecDeque::new());
        let mut bridge = Self { child, commands, lines, last_id: CONNECTED, replies, pushes };
        let reply = bridge.reply(CONNECTED).await;
        (bridge, reply)
    }

    pub async fn call(&mut self, command: &Command) -> Reply {
        self.last_id += 1;
        let id = self.last_id;
        let mut line = encode_commands(Format::Json, &[(id, command)]);
        line.push(b'\n');
        self.commands.write_all(&line).await.expect("the bridge reads its commands");
        self.commands.flush().await.expect("the bridge reads its commands");
        self.reply(id).await
    }

    async fn reply(&mut self, id: CommandId) -> Reply {
        within("a reply over Socket.IO", DEADLINE, async {
            loop {
                if let Some(reply) = self.replies.remove(&id) {
                    return reply;
                }
                self.receive_connected().await;
            }
        })
        .await
    }

    pub async fn push(&mut self) -> Push {
        within("a push over Socket.IO", DEADLINE, async {
            loop {
                if let Some(push) = self.pushes.pop_front() {
                    return push;
                }
                self.receive_connected().await;
            }
        })
        .await
    }

    pub async fn pushes_so_far(&mut self) -> Vec<Push> {
        assert_eq!(self.call(&Command::Ping).await, Reply::Pong);
        self.pushes.drain(..).collect()
    }

    /// What comes until the server ends the connection.
    pub async fn pushes_until_closed(&mut self) -> Vec<Push> {
        within("the Socket.IO client to be disconnected", DEADLINE, async {
            while self.receive().await == State::Connected {}
        })
        .await;
        self.pushes.drain(..).collect()
    }

    pub async fn close(mut self) {
        drop(self.commands);
        let _ = within("the bridge to end", DEADLINE, self.child.wait()).await;
    }

    async fn receive_connected(&mut self) {
        assert_eq!(self.receive().await, State::Connected, "the Socket.IO client was disconnected");
    }

    async fn receive(&mut self) -> State {
        let line = self.lines.next_line().await.expect("the bridge's output can be read");
        let Some(line) = line else { panic!("the Socket.IO client has ended") };
        let envelope: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if envelope["type"] == "disconnected" {
            println!("{line}");
            return State::Disconnected;
        }
        for item in decode_outbound(Format::Json, line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}")) {
            match item {
                Outbound::Reply { id: Some(id), reply } => drop(self.replies.insert(id, reply)),
                Outbound::Reply { id: None, reply } => panic!("a reply to nothing: {reply:?}"),
                Outbound::Push(push) => self.pushes.push_back(push),
            }
        }
        State::Connected
    }
}

#[cfg(test)]
mod tests {
    use tertulia_wire::client::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn both_clients_are_installed_and_say_so_where_nobody_listens() {
        for language in [Language::JavaScript, Language::Python] {
            let (bridge, reply) = Bridge::try_connect(language, "http://127.0.0.1:1", "no token").await;
            let Reply::Error(error) = reply else { panic!("{language:?}: not refused, but {reply:?}") };
            assert_eq!(error.code, ErrorCode::Internal, "{language:?}: {error:?}");
            bridge.close().await;
        }
    }
}
