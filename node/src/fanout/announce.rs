//! What is told at once and promised to nobody: new events of large groups to the nodes that want to hear of them, and who
//! is typing. Dropped where too much of it is under way; who misses an event notices by its seq.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use tertulia_runtime::rpc::CallOptions;
use tertulia_shard_map::{ConversationId, NodeId, ShardMap, UserId};
use tertulia_wire::cluster::{Announcement, Call, DeliverEntry, DeliverTyping, Membership};

use super::interest::Interest;
use crate::{
    entry::{LogEntry, Reach},
    mailbox::MailboxHandle,
    peers::Peers,
};

/// Calls under way; beyond, nothing more is told until some are through.
const CALLS_MAX: usize = 256;
const DEADLINE: Duration = Duration::from_secs(1);

pub struct Announcer {
    node: NodeId,
    mailboxes: MailboxHandle,
    peers: Peers,
    interest: Interest,
    under_way: usize,
}

impl Announcer {
    pub fn new(node: NodeId, mailboxes: MailboxHandle, peers: Peers) -> Self {
        Self { node, mailboxes, peers, interest: Interest::default(), under_way: 0 }
    }

    pub fn declare(&mut self, node: NodeId, conversations: &[ConversationId]) {
        self.interest.declare(node, conversations, Instant::now());
    }

    /// The calls to make; each ends with [`told`](Self::told).
    pub fn announce<'a>(&mut self, entries: impl Iterator<Item = &'a LogEntry>) -> Vec<BoxFuture<'static, ()>> {
        let now = Instant::now();
        let mut by_node: BTreeMap<NodeId, Vec<Announcement>> = BTreeMap::new();
        for entry in entries.filter(|entry| entry.reach == Reach::Interested) {
            let DeliverEntry::Event(event) = &entry.entry else { continue };
            for node in self.interest.of(event.record.conversation, now) {
                by_node.entry(node).or_default().push(Announcement {
                    event: event.clone(),
                    joining: entry.changing(Membership::Joins),
                    leaving: entry.changing(Membership::Leaves),
                });
            }
        }
        if let Some(own) = by_node.remove(&self.node) {
            self.mailboxes.announce(own);
        }
        by_node.into_iter().filter_map(|(node, list)| self.call(node, Call::Announce(list))).collect()
    }

    pub fn typing(&mut self, typing: &DeliverTyping, map: &ShardMap) -> Vec<BoxFuture<'static, ()>> {
        let mut by_node: BTreeMap<NodeId, Vec<UserId>> = BTreeMap::new();
        for user in &typing.recipients {
            if let Some(owner) = map.owner(map.slot_of_user(*user)) {
                by_node.entry(owner.node).or_default().push(*user);
            }
        }
        let of_node = |recipients| DeliverTyping { typing: typing.typing.clone(), recipients };
        if let Some(own) = by_node.remove(&self.node) {
            self.mailboxes.typing(of_node(own));
        }
        let calls =
            by_node.into_iter().filter_map(|(node, users)| self.call(node, Call::DeliverTyping(of_node(users))));
        calls.collect()
    }

    pub fn told(&mut self) {
        self.under_way -= 1;
    }

    /// Only over a connection that is up.
    fn call(&mut self, node: NodeId, call: Call) -> Option<BoxFuture<'static, ()>> {
        if self.under_way >= CALLS_MAX {
            return None;
        }
        let client = self.peers.data(node).filter(|client| client.generation().is_some())?;
        self.under_way += 1;
        Some(async move { drop(client.call(call, CallOptions::within(DEADLINE)).await) }.boxed())
    }
}
