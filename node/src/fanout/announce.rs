//! What is told at once and promised to nobody: new events of large groups to the nodes that want to hear of them, and who
//! is typing. Dropped where too much of it is under way; who misses an event notices by its seq.

use std::{
    collections::{BTreeMap, HashMap},
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

/// Calls of a kind under way to one node; beyond, nothing more of it is told there until some are through.
const CALLS_MAX: usize = 64;
/// An announcement grows no further once it has so many bytes.
const ANNOUNCE_BYTES_MAX: usize = 1024 * 1024;
/// What an event and a user add to it beyond the body, in bytes.
const EVENT_BYTES: usize = 256;
const USER_BYTES: usize = 18;
const DEADLINE: Duration = Duration::from_secs(1);

pub struct Announcer {
    node: NodeId,
    mailboxes: MailboxHandle,
    peers: Peers,
    interest: Interest,
    under_way: HashMap<Told, usize>,
}

/// A call that is under way, or over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Told {
    node: NodeId,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Event,
    Typing,
}

impl Announcer {
    pub fn new(node: NodeId, mailboxes: MailboxHandle, peers: Peers) -> Self {
        Self { node, mailboxes, peers, interest: Interest::default(), under_way: HashMap::new() }
    }

    pub fn declare(&mut self, node: NodeId, conversations: &[ConversationId]) {
        self.interest.declare(node, conversations, Instant::now());
    }

    /// The calls to make; each ends with [`told`](Self::told).
    pub fn announce<'a>(&mut self, entries: impl Iterator<Item = &'a LogEntry>) -> Vec<BoxFuture<'static, Told>> {
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
        let mut calls = Vec::new();
        for (node, list) in by_node {
            for part in parts(list) {
                calls.extend(self.call(node, What::Event, Call::Announce(part)));
            }
        }
        calls
    }

    pub fn typing(&mut self, typing: &DeliverTyping, map: &ShardMap) -> Vec<BoxFuture<'static, Told>> {
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
        let calls = by_node
            .into_iter()
            .filter_map(|(node, users)| self.call(node, What::Typing, Call::DeliverTyping(of_node(users))));
        calls.collect()
    }

    pub fn told(&mut self, told: Told) {
        if let Some(under_way) = self.under_way.get_mut(&told) {
            *under_way = under_way.saturating_sub(1);
        }
    }

    /// Only over a connection that is up.
    fn call(&mut self, node: NodeId, what: What, call: Call) -> Option<BoxFuture<'static, Told>> {
        let told = Told { node, what };
        if self.under_way.get(&told).is_some_and(|under_way| *under_way >= CALLS_MAX) {
            return None;
        }
        let client = self.peers.data(node).filter(|client| client.generation().is_some())?;
        *self.under_way.entry(told).or_default() += 1;
        let calling = async move {
            // What becomes of it is nobody's concern.
            drop(client.call(call, CallOptions::within(DEADLINE)).await);
            told
        };
        Some(calling.boxed())
    }
}

/// In parts that fit into a frame many times over.
fn parts(list: Vec<Announcement>) -> Vec<Vec<Announcement>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for announcement in list {
        let users = announcement.joining.len() + announcement.leaving.len();
        bytes += EVENT_BYTES + announcement.event.record.body.len() + USER_BYTES * users;
        if bytes > ANNOUNCE_BYTES_MAX {
            parts.push(Vec::new());
            bytes = 0;
        }
        if let Some(part) = parts.last_mut() {
            part.push(announcement);
        }
    }
    parts
}
