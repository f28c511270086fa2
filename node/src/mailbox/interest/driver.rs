//! Tells the owners of large groups that members are attached here, again and again, and asks them where the groups are.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tertulia_shard_map::{ConversationId, Owner, ShardMap};
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
/// Fetches of newest events under way; the others wait. At most one is asked for per group.
const FETCHES_MAX: usize = 32;

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

/// The groups of interest, each with the owner that it was last declared to.
#[derive(Default)]
struct Declared {
    owners: HashMap<ConversationId, Option<Owner>>,
}

impl Declared {
    /// The groups that another owner has now, or the same one anew.
    fn moved(&mut self, owner: impl Fn(ConversationId) -> Option<Owner>) -> Vec<ConversationId> {
        let mut moved = Vec::new();
        for (&conversation, declared) in &mut self.owners {
            let now = owner(conversation);
            if *declared != now {
                *declared = now;
                moved.push(conversation);
            }
        }
        moved
    }
}

fn owner(map: &ShardMap, conversation: ConversationId) -> Option<Owner> {
    map.owner(map.slot_of_conversation(conversation))
}

#[derive(Default)]
struct Fetches {
    waiting: VecDeque<ConversationId>,
    under_way: usize,
}

impl Fetches {
    fn start(&mut self) -> Option<ConversationId> {
        if self.under_way >= FETCHES_MAX {
            return None;
        }
        let conversation = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(conversation)
    }
}

/// Runs until `stop`.
pub async fn run(parts: InterestParts, stop: CancellationToken) -> anyhow::Result<()> {
    let InterestParts { mut commands, peers, news } = parts;
    let mut groups = Declared::default();
    let mut fetches = Fetches::default();
    let mut map = peers.map();
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
                if let News::Newest(..) = answer {
                    fetches.under_way -= 1;
                }
                // The sessions never wait for this task.
                let _ = news.send(answer).await;
            }
            _ = refresh.tick() => {
                if under_way.len() < QUESTIONS_MAX {
                    asked.extend(groups.owners.keys());
                }
            }
            // Who owns a group now has not heard of the interest, and announces nothing here.
            Ok(()) = map.changed() => {
                if let Some(map) = &*map.borrow_and_update() {
                    asked = groups.moved(|conversation| owner(map, conversation));
                }
            }
        }
        for command in received.drain(..) {
            match command {
                Command::Add(conversation) => {
                    let owner = map.borrow().as_ref().and_then(|map| owner(map, conversation));
                    groups.owners.insert(conversation, owner);
                    asked.push(conversation);
                }
                Command::Remove(conversation) => {
                    groups.owners.remove(&conversation);
                }
                Command::Fetch(conversation) => fetches.waiting.push_back(conversation),
            }
        }
        while let Some(conversation) = fetches.start() {
            let peers = peers.clone();
            let fetching = async move {
                let newest = timeout(ASK_TIMEOUT, peers.latest_event(conversation)).await.ok().flatten();
                News::Newest(conversation, newest.map(Box::new))
            };
            under_way.push(fetching.boxed());
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

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{Epoch, Incarnation, NodeId, StoreId};

    use super::*;

    fn group(number: u128) -> ConversationId {
        ConversationId::from_u128(number)
    }

    #[test]
    fn few_fetches_are_under_way_and_none_is_lost() {
        let groups: Vec<ConversationId> = (0..100).map(group).collect();
        let mut fetches = Fetches { waiting: groups.clone().into(), under_way: 0 };
        let mut started = Vec::new();
        while started.len() < groups.len() {
            started.extend(std::iter::from_fn(|| fetches.start()));
            assert!(fetches.under_way <= FETCHES_MAX);
            fetches.under_way -= 1;
        }
        assert_eq!(started, groups);
    }

    #[test]
    fn a_group_that_moved_is_declared_once_to_its_new_owner() {
        let owned = |epoch| {
            let (node, incarnation, store) = (NodeId::new(1), Incarnation::new(1), StoreId::new(1));
            Some(Owner { node, incarnation, epoch: Epoch::new(epoch), store })
        };
        let mut declared = Declared { owners: [(group(1), owned(1)), (group(2), owned(1))].into() };
        let now = |conversation| if conversation == group(2) { owned(2) } else { owned(1) };
        assert_eq!(declared.moved(now), [group(2)]);
        assert_eq!(declared.moved(now), []);
    }
}
