//! The shard map: which store holds each slot, which node owns it, at which epoch; and what is on its way elsewhere.
//!
//! A map changes only through [`apply`](crate::apply), which gives a new map one version above the old one. What is
//! always true of a map is written once, in [`ShardMap::check`]; decoding checks it too, so a map in hand is a sound one.
//!
//! Deliberately absent: bounds on load (a wish, see [`plan()`](crate::plan()), not an invariant: a map out of balance still
//! routes), and data source names (secrets: each process finds a store's in its configuration, by id).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, ConversationId, Epoch, Incarnation, MapVersion, MoveEntry, MoveId, NodeId, Slot, SlotCount, StoreId,
    UserId, Weight,
    moves::{MAX_MOVES, MAX_SLOTS_PER_MOVE},
};

/// Most stores of a cluster.
pub const MAX_STORES: usize = 256;
/// Most nodes of a cluster.
pub const MAX_NODES: usize = 256;
/// Most ids of removed stores, and of removed nodes, that a map remembers so that they are never used again.
pub const MAX_RETIRED_IDS: usize = 4_096;
/// Longest name of a store.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest address of a node: a DNS name of 253 bytes, a colon and a port.
pub const MAX_ADDRESS_BYTES: usize = 259;
/// Counters are kept in signed 64-bit columns of the stores.
pub(crate) const MAX_COUNTER: u64 = i64::MAX as u64;

/// Whether a member takes part in placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeState {
    /// May own slots.
    Active,
    /// Keeps what it owns until the planner has handed it to others; gets nothing new.
    Draining,
}

/// Whether a store takes part in placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StoreState {
    /// May hold slots.
    Active,
    /// Keeps what it holds until the planner has moved it to others; gets nothing new.
    Draining,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreEntry {
    /// For people: unique, 1 to 64 bytes of `[a-z0-9_-]`.
    pub name: String,
    pub weight: Weight,
    pub state: StoreState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// `host:port` of the node's cluster endpoint (QUIC).
    pub address: String,
    /// The node's newest start; 0 until it has started for the first time.
    pub incarnation: Incarnation,
    pub weight: Weight,
    /// The store whose slots this node is the first choice for.
    pub home_store: StoreId,
    pub state: NodeState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotEntry {
    pub store: StoreId,
    pub owner: Option<NodeId>,
    /// Grows by one at each change of owner, store or seal, and never goes down; 0 only while the slot has never had an
    /// owner.
    pub epoch: Epoch,
    /// The move that has sealed the slot. Until that is flipped or aborted nobody writes the slot's partitions: the owner
    /// takes the slot at this epoch to answer for it, and to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_by: Option<MoveId>,
}

/// Who may write a slot's partitions, and with which fence. A slot that is sealed takes no writes, of its owner neither: see
/// [`SlotEntry::sealed_by`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    pub store: StoreId,
}

/// One version of the shard map. Always sound: see [`ShardMap::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DecodedMap")]
pub struct ShardMap {
    pub(crate) cluster: ClusterId,
    pub(crate) version: MapVersion,
    pub(crate) slot_count: SlotCount,
    pub(crate) stores: BTreeMap<StoreId, StoreEntry>,
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    pub(crate) slots: Vec<SlotEntry>,
    pub(crate) retired_stores: BTreeSet<StoreId>,
    pub(crate) retired_nodes: BTreeSet<NodeId>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) moves: BTreeMap<MoveId, MoveEntry>,
}

/// The encoded form of a [`ShardMap`], before it is checked. Same fields, same order. What came after the first release
/// stands at the end, and is left out while there is nothing of it: then the bytes are the first release's.
#[derive(Deserialize)]
#[serde(rename = "ShardMap")]
struct DecodedMap {
    cluster: ClusterId,
    version: MapVersion,
    slot_count: SlotCount,
    stores: BTreeMap<StoreId, StoreEntry>,
    nodes: BTreeMap<NodeId, NodeEntry>,
    slots: Vec<SlotEntry>,
    retired_stores: BTreeSet<StoreId>,
    retired_nodes: BTreeSet<NodeId>,
    #[serde(default)]
    moves: BTreeMap<MoveId, MoveEntry>,
}

impl TryFrom<DecodedMap> for ShardMap {
    type Error = UnsoundMap;

    fn try_from(decoded: DecodedMap) -> Result<Self, UnsoundMap> {
        let DecodedMap { cluster, version, slot_count, stores, nodes, slots, retired_stores, retired_nodes, moves } =
            decoded;
        let map = Self { cluster, version, slot_count, stores, nodes, slots, retired_stores, retired_nodes, moves };
        map.check()?;
        Ok(map)
    }
}

/// An invariant of the map that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsoundMap {
    #[error("the map's version is {0}: want 1 or more")]
    Version(MapVersion),
    #[error("{len} slots are listed, and slots = {count}", count = .slot_count.get())]
    SlotsListed { len: usize, slot_count: SlotCount },
    #[error("{0} stores: want 1 to {MAX_STORES}")]
    Stores(usize),
    #[error("{0} nodes: want 1 to {MAX_NODES}")]
    Nodes(usize),
    #[error("more than {MAX_RETIRED_IDS} retired ids")]
    Retired,
    #[error("the name of store {0} is not allowed")]
    StoreName(StoreId),
    #[error("stores {0} and {1} have the same name")]
    StoreNameTwice(StoreId, StoreId),
    #[error("store {0} is both present and retired")]
    StoreRetired(StoreId),
    #[error("the address of node {0} is not host:port")]
    NodeAddress(NodeId),
    #[error("node {0} is both present and retired")]
    NodeRetired(NodeId),
    #[error("the incarnation of node {0} is out of range")]
    NodeIncarnation(NodeId),
    #[error("node {node} has home store {store}, which does not exist")]
    HomeStore { node: NodeId, store: StoreId },
    #[error("slot {slot} is in store {store}, which does not exist")]
    SlotStore { slot: Slot, store: StoreId },
    #[error("slot {slot} is owned by node {node}, which does not exist")]
    SlotOwner { slot: Slot, node: NodeId },
    #[error("slot {slot} has epoch {epoch}: want 1 or more where there is an owner")]
    SlotEpoch { slot: Slot, epoch: Epoch },
    #[error("slot {0} has another seal than its move wants")]
    SlotSeal(Slot),
    #[error("slot {slot} is in moves {first} and {second}")]
    SlotInMoves { slot: Slot, first: MoveId, second: MoveId },
    #[error("{0} moves: want at most {MAX_MOVES}")]
    Moves(usize),
    #[error("move {0} has an id that is no version up to the map's")]
    MoveId(MoveId),
    #[error("move {0} has its source as its target")]
    MoveToItself(MoveId),
    #[error("move {id} wants store {store}, which does not exist")]
    MoveStore { id: MoveId, store: StoreId },
    #[error("move {id} has {slots} slots: want 1 to {MAX_SLOTS_PER_MOVE}")]
    MoveSlots { id: MoveId, slots: usize },
    #[error("move {id} has slot {slot}, which is not in the store where it has to be")]
    MoveSlot { id: MoveId, slot: Slot },
}

impl ShardMap {
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub fn version(&self) -> MapVersion {
        self.version
    }

    pub fn slot_count(&self) -> SlotCount {
        self.slot_count
    }

    /// # Panics
    /// Where the slot is not one of this cluster's: a slot that came over the wire goes through [`Self::get`].
    pub fn slot(&self, slot: Slot) -> &SlotEntry {
        &self.slots[slot.index()]
    }

    /// `None` where the slot is not one of this cluster's.
    pub fn get(&self, slot: Slot) -> Option<&SlotEntry> {
        self.slots.get(slot.index())
    }

    pub fn slots(&self) -> impl ExactSizeIterator<Item = (Slot, &SlotEntry)> + DoubleEndedIterator {
        self.slot_count.slots().zip(&self.slots)
    }

    /// `None` where the slot has no owner, or is not one of this cluster's.
    pub fn owner(&self, slot: Slot) -> Option<Owner> {
        let entry = self.get(slot)?;
        let node = entry.owner?;
        let incarnation = self.node(node)?.incarnation;
        Some(Owner { node, incarnation, epoch: entry.epoch, store: entry.store })
    }

    pub fn owned_by(&self, node: NodeId) -> impl Iterator<Item = (Slot, &SlotEntry)> {
        self.slots().filter(move |(_, entry)| entry.owner == Some(node))
    }

    pub fn held_by(&self, store: StoreId) -> impl Iterator<Item = (Slot, &SlotEntry)> {
        self.slots().filter(move |(_, entry)| entry.store == store)
    }

    pub fn node(&self, node: NodeId) -> Option<&NodeEntry> {
        self.nodes.get(&node)
    }

    /// In order of id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &NodeEntry)> + DoubleEndedIterator {
        self.nodes.iter().map(|(&id, entry)| (id, entry))
    }

    pub fn store(&self, store: StoreId) -> Option<&StoreEntry> {
        self.stores.get(&store)
    }

    /// In order of id.
    pub fn stores(&self) -> impl ExactSizeIterator<Item = (StoreId, &StoreEntry)> + DoubleEndedIterator {
        self.stores.iter().map(|(&id, entry)| (id, entry))
    }

    pub fn slot_of_user(&self, user: UserId) -> Slot {
        self.slot_count.of_user(user)
    }

    pub fn slot_of_conversation(&self, conversation: ConversationId) -> Slot {
        self.slot_count.of_conversation(conversation)
    }

    /// Every invariant of a map.
    pub fn check(&self) -> Result<(), UnsoundMap> {
        if !in_counter_range(self.version.get(), 1) {
            return Err(UnsoundMap::Version(self.version));
        }
        if self.slots.len() != usize::from(self.slot_count.get()) {
            return Err(UnsoundMap::SlotsListed { len: self.slots.len(), slot_count: self.slot_count });
        }
        self.check_stores()?;
        self.check_nodes()?;
        self.slots().try_for_each(|(slot, entry)| self.check_slot(slot, entry))?;
        self.check_moves()
    }

    fn check_stores(&self) -> Result<(), UnsoundMap> {
        const COUNT: RangeInclusive<usize> = 1..=MAX_STORES;
        if !COUNT.contains(&self.stores.len()) {
            return Err(UnsoundMap::Stores(self.stores.len()));
        }
        if self.retired_stores.len() > MAX_RETIRED_IDS {
            return Err(UnsoundMap::Retired);
        }
        let mut by_name = BTreeMap::new();
        for (id, entry) in self.stores() {
            if !is_store_name(&entry.name) {
                return Err(UnsoundMap::StoreName(id));
            }
            if let Some(other) = by_name.insert(&entry.name, id) {
                return Err(UnsoundMap::StoreNameTwice(other, id));
            }
            if self.retired_stores.contains(&id) {
                return Err(UnsoundMap::StoreRetired(id));
            }
        }
        Ok(())
    }

    fn check_nodes(&self) -> Result<(), UnsoundMap> {
        const COUNT: RangeInclusive<usize> = 1..=MAX_NODES;
        if !COUNT.contains(&self.nodes.len()) {
            return Err(UnsoundMap::Nodes(self.nodes.len()));
        }
        if self.retired_nodes.len() > MAX_RETIRED_IDS {
            return Err(UnsoundMap::Retired);
        }
        for (id, entry) in self.nodes() {
            if !is_address(&entry.address) {
                return Err(UnsoundMap::NodeAddress(id));
            }
            if self.retired_nodes.contains(&id) {
                return Err(UnsoundMap::NodeRetired(id));
            }
            if !in_counter_range(entry.incarnation.get(), 0) {
                return Err(UnsoundMap::NodeIncarnation(id));
            }
            if !self.stores.contains_key(&entry.home_store) {
                return Err(UnsoundMap::HomeStore { node: id, store: entry.home_store });
            }
        }
        Ok(())
    }

    fn check_slot(&self, slot: Slot, entry: &SlotEntry) -> Result<(), UnsoundMap> {
        if !self.stores.contains_key(&entry.store) {
            return Err(UnsoundMap::SlotStore { slot, store: entry.store });
        }
        if let Some(node) = entry.owner.filter(|node| !self.nodes.contains_key(node)) {
            return Err(UnsoundMap::SlotOwner { slot, node });
        }
        let least = u64::from(entry.owner.is_some());
        if !in_counter_range(entry.epoch.get(), least) {
            return Err(UnsoundMap::SlotEpoch { slot, epoch: entry.epoch });
        }
        Ok(())
    }
}

fn in_counter_range(value: u64, least: u64) -> bool {
    (least..=MAX_COUNTER).contains(&value)
}

pub(crate) fn is_store_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

/// `host:port`, where an IPv6 host stands in brackets and the port is not 0. Whether it resolves is not known here.
pub(crate) fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host_is_sound = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(allowed)
        }
    };
    let port_is_sound =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    address.len() <= MAX_ADDRESS_BYTES && host_is_sound && port_is_sound
}

#[cfg(test)]
mod tests;
