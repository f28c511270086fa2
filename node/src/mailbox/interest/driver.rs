//! Tells the owners of large groups that members are attached here, again and again, and asks them where the groups are.

use std::{collections::HashSet, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tertulia_shard_map::ConversationId;
use tertulia_wire::cluster::INTEREST_MS;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::super::news::News;
use crate::peers::Peers;

/// An interest survives two refreshes that fail.
const REFRESH: Duration = Duration::from_millis(INTEREST_MS / 3);
/// What is announced at the time of an answer is given so long to arrive here, before it counts as missed.
const SETTLE: Duration = Duration::from_millis(300);
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Groups in one question.
const GROUPS_AT_ONCE: usize = 1000;
const COMMANDS_AT_ONCE: usize = 1024;
/// Questions under way; a refresh that finds so many waits for its next turn.
const QUESTIONS_MAX: usize = 256;

enum Command {
    Add(ConversationId),
    Remove(ConversationId),
    Fetch(ConversationId),
}

/// Says which large groups matter here. Never waits; what is said is bounded by the attached users' groups.
#[derive(Clone)]
pub struct InterestHandle(mpsc::UnboundedSender<Command>);

pub struct InterestParts {
    commands: mpsc::UnboundedReceiver<Command>,
    pub(in super::super) peers: Peers,
    pub(in super::super) news: mpsc::Sender<News>,
}

impl InterestHandle {
    pub(in super::super) fn new(peers: Peers, news: mpsc::Sender<News>) -> (Self, InterestParts) {
        let (sender, commands) = mpsc::unbounded_channel();
        (Self(sender), InterestParts { commands, peers, news })
    }

    /// That reaches nobody.
    #[cfg(test)]
    pub(in super::super) fn unheard() -> Self {
        Self(mpsc::unbounded_channel().0)
    }

    pub(in super::super) fn add(&self, conversations: impl IntoIterator<Item = ConversationId>) {
        conversations.into_iter().for_each(|conversation| self.send(Command::Add(conversation)));
    }

    pub(in super::super) fn remove(&self, conversations: impl IntoIterator<Item = ConversationId>) {
        conversations.into_iter().for_each(|conversation| self.send(Command::Remove(conversation)));
    }

    pub(in super::super) fn fetch(&self, conversation: ConversationId) {
        self.send(Command::Fetch(conversation));
    }

    fn send(&self, command: Command) {
        // At the stop of the process nobody is left to be told.
        let _ = self.0.send(command);
    }
}

/// Runs until `stop`.
pub async fn run(parts: InterestParts, stop: CancellationToken) -> anyhow::Result<()> {
    let InterestParts { mut commands, peers, news } = parts;
    let mut groups: HashSet<ConversationId> = HashSet::new();
    let mut under_way: FuturesUnordered<BoxFuture<'static, News>> = FuturesUnordered::new();
    let mut received = Vec::new();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut asked: Vec<ConversationId> = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = commands.recv_many(&mut received, COMMANDS_AT_ONCE) => {}
            Some(answer) = under_way.next() => {
                // The sessions never wait for this task.
                let _ = news.send(answer).await;
            }
            _ = refresh.tick() => {
                if under_way.len() < QUESTIONS_MAX {
                    asked.extend(&groups);
                }
            }
        }
        for command in received.drain(..) {
            match command {
                Command::Add(conversation) => {
                    groups.insert(conversation);
                    asked.push(conversation);
                }
                Command::Remove(conversation) => {
                    groups.remove(&conversation);
                }
                Command::Fetch(conversation) => {
                    let peers = peers.clone();
                    let fetching = async move {
                        let newest = timeout(ASK_TIMEOUT, peers.latest_event(conversation)).await.ok().flatten();
                        News::Newest(conversation, newest.map(Box::new))
                    };
                    under_way.push(fetching.boxed());
                }
            }
        }
        for conversations in asked.chunks(GROUPS_AT_ONCE) {
            let (peers, conversations) = (peers.clone(), conversations.to_vec());
            let asking = async move {
                let heads = timeout(ASK_TIMEOUT, peers.interest(conversations)).await.unwrap_or_default();
                sleep(SETTLE).await;
                News::Heads(heads)
            };
            under_way.push(asking.boxed());
        }
    }
}
