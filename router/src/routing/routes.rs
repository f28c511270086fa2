//! The routing table: what every session reads for every command, and nobody but the follower writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use tertulia_runtime::rpc::{CallOptions, Client};
use tertulia_shard_map::{ConversationId, Epoch, MapVersion, NodeId, ShardMap, Slot, UserId};
use tertulia_wire::{TraceId, cluster::Call};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{HoldReason, Verdict, backoff, judge};
use crate::metrics::{HOLDS, RETRIES};

/// What a command's slot is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    User(UserId),
    Conversation(ConversationId),
    Slot(Slot),
}

impl Key {
    pub fn slot(self, map: &ShardMap) -> Slot {
        match self {
            Self::User(user) => map.slot_of_user(user),
            Self::Conversation(conversation) => map.slot_of_conversation(conversation),
            Self::Slot(slot) => slot,
        }
    }
}

/// Where a mailbox's owner knows a session: on one connection to one owner at one epoch. Any other is a new beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    pub node: NodeId,
    pub epoch: Epoch,
    /// Of the connection to the node.
    pub generation: u64,
}

/// Where to send a command now.
pub struct Target {
    pub client: Client,
    pub slot: Slot,
    pub attachment: Attachment,
}

/// What keeps the router from serving every slot, or any.
#[derive(Debug, Default)]
pub struct Health {
    pub has_map: bool,
    /// Whether at least one node of the map is connected.
    pub reaches_a_node: bool,
    /// Nodes that own slots and are not connected.
    pub owners_away: Vec<NodeId>,
    pub slots_without_owner: usize,
}

pub(super) struct Table {
    map: Option<Arc<ShardMap>>,
    /// Since when it is the map.
    since: Instant,
    pub clients: BTreeMap<NodeId, Client>,
}

impl Default for Table {
    fn default() -> Self {
        Self::new(None, BTreeMap::new())
    }
}

impl Table {
    pub fn new(map: Option<Arc<ShardMap>>, clients: BTreeMap<NodeId, Client>) -> Self {
        Self { map, since: Instant::now(), clients }
    }

    fn owner(&self, key: Key) -> Result<(&Client, Slot, Attachment), HoldReason> {
        let map = self.map.as_ref().ok_or(HoldReason::NoMap)?;
        let slot = key.slot(map);
        let owner = map.owner(slot).ok_or(HoldReason::NoOwner)?;
        let client = self.clients.get(&owner.node).ok_or(HoldReason::Unreachable)?;
        let generation = client.generation().ok_or(HoldReason::Unreachable)?;
        Ok((client, slot, Attachment { node: owner.node, epoch: owner.epoch, generation }))
    }

    fn target(&self, key: Key) -> Result<Target, HoldReason> {
        self.owner(key).map(|(client, slot, attachment)| Target { client: client.clone(), slot, attachment })
    }

    fn attachment(&self, key: Key) -> Option<Attachment> {
        self.owner(key).ok().map(|(_, _, attachment)| attachment)
    }
}

/// Readers' side of the routing table. Shared by all sessions.
pub struct Routes {
    table: ArcSwap<Table>,
    /// Grows whenever something that was held may succeed now: a newer map, or a connection that is up.
    changes: watch::Sender<u64>,
    /// The newest map version that anybody spoke of.
    heard_of: watch::Sender<MapVersion>,
}

impl Routes {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            table: ArcSwap::default(),
            changes: watch::Sender::new(0),
            heard_of: watch::Sender::new(MapVersion::ZERO),
        })
    }

    pub fn map(&self) -> Option<Arc<ShardMap>> {
        self.table.load().map.clone()
    }

    /// The users of each slot; `None` where there is no map yet.
    pub fn by_slot(&self, users: &[UserId]) -> Option<BTreeMap<Slot, Vec<UserId>>> {
        let table = self.table.load();
        let map = table.map.as_ref()?;
        let mut by_slot: BTreeMap<Slot, Vec<UserId>> = BTreeMap::new();
        for user in users {
            by_slot.entry(map.slot_of_user(*user)).or_default().push(*user);
        }
        Some(by_slot)
    }

    pub fn version(&self) -> MapVersion {
        self.table.load().map.as_ref().map_or(MapVersion::ZERO, |map| map.version())
    }

    /// What can be served now, as far as this router can tell.
    pub fn health(&self) -> Health {
        let table = self.table.load();
        let Some(map) = &table.map else { return Health::default() };
        let mut owners = BTreeSet::new();
        let mut slots_without_owner = 0;
        for (_, entry) in map.slots() {
            match entry.owner {
                Some(node) => drop(owners.insert(node)),
                None => slots_without_owner += 1,
            }
        }
        let is_up = |client: &Client| client.generation().is_some();
        let reaches_a_node = table.clients.values().any(is_up);
        let owners_away = owners.into_iter().filter(|node| !table.clients.get(node).is_some_and(is_up)).collect();
        Health { has_map: true, reaches_a_node, owners_away, slots_without_owner }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Has whoever waits for a change look again.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn publish(&self, table: Table) {
        self.table.store(Arc::new(table));
        self.changed();
    }

    pub(super) fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    pub(super) fn heard_of(&self) -> watch::Receiver<MapVersion> {
        self.heard_of.subscribe()
    }

    /// The owner of the key's slot, if it is known and connected. Never waits, so that callers keep their order.
    pub fn target(&self, key: Key) -> Result<Target, HoldReason> {
        self.table.load().target(key)
    }

    /// Waits until the key's target is another than `known`.
    async fn moves(&self, key: Key, known: Option<Attachment>) {
        let mut changes = self.changes();
        // Fails only where the routes are gone, and they are borrowed here.
        while self.table.load().attachment(key) == known && changes.changed().await.is_ok() {}
    }

    /// Waits for the first map, and not past `deadline`.
    pub async fn wait_for_map(&self, deadline: Instant) {
        let mut changes = self.changes();
        let known = async { while self.table.load().map.is_none() && changes.changed().await.is_ok() {} };
        let _late = timeout_at(deadline, known).await;
    }

    /// One attempt at the current owner, until `deadline` or until the key has another: an owner that was deposed may never
    /// answer. The second part is the owner that it went to.
    pub async fn attempt(
        &self,
        key: Key,
        call: impl FnOnce(Slot) -> Call,
        deadline: Instant,
        trace: Option<TraceId>,
    ) -> (Verdict, Option<Attachment>) {
        let target = match self.target(key) {
            Ok(target) => target,
            Err(reason) => return (Verdict::Hold { reason, newer: None }, None),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let options = CallOptions::within(left).traced(trace);
        let verdict = tokio::select! {
            // The call first: callers rely on the order in which it is polled.
            biased;
            outcome = target.client.call(call(target.slot), options) => judge(outcome, target.attachment.epoch),
            () = self.moves(key, Some(target.attachment)) => Verdict::Hold { reason: HoldReason::Moved, newer: None },
        };
        if let Verdict::Hold { newer: Some(version), .. } = verdict {
            self.heard_of.send_if_modified(|newest| {
                let newer = version > *newest;
                *newest = (*newest).max(version);
                newer
            });
        }
        (verdict, Some(target.attachment))
    }

    /// Attempts until one is not to be repeated, or until `deadline`: then the verdict is the last `Hold`.
    pub async fn hold(
        &self,
        key: Key,
        call: impl Fn(Slot) -> Call,
        deadline: Instant,
        trace: Option<TraceId>,
    ) -> (Verdict, Option<Attachment>) {
        let mut failures = 0;
        loop {
            let (verdict, attachment) = self.attempt(key, &call, deadline, trace).await;
            match verdict {
                Verdict::Hold { reason, .. } if Instant::now() < deadline => {
                    if failures == 0 {
                        metrics::counter!(HOLDS, "reason" => reason.as_str()).increment(1);
                    }
                    metrics::counter!(RETRIES, "reason" => reason.as_str()).increment(1);
                    failures += 1;
                    self.wait_to_retry(key, failures, deadline).await;
                }
                verdict => return (verdict, attachment),
            }
        }
    }

    /// Waits for the backoff after `failures` failed attempts, or shorter: until the key has another target, and never past
    /// `deadline`. Under a new map the backoff begins anew: an owner that it names may be serving in a moment, however long
    /// the last one was not.
    pub async fn wait_to_retry(&self, key: Key, failures: u32, deadline: Instant) {
        let (known, since) = {
            let table = self.table.load();
            (table.attachment(key), table.since)
        };
        let wait: Duration = backoff(failures, rand::random()).min(since.elapsed().max(backoff(1, rand::random())));
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            () = sleep(wait.min(left)) => {}
            () = self.moves(key, known) => {}
        }
    }
}
