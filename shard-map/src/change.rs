//! Changes of the shard map: the commands that Raft replicates, and the one function that carries them out.
//!
//! [`apply`] checks every rule before it touches anything, on a copy: a change is carried out whole, or refused with a
//! reason and the map is as it was. It is a function of its arguments alone, so all replicas reach the same map, or
//! the same refusal. A change that would change nothing is refused as well ([`ChangeRefused::Unchanged`]): each
//! version of the map differs from the one before it.
//!
//! Not here: the rules of moves between stores, which have a file of their own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    AbortReason, ClusterId, Epoch, Incarnation, MapVersion, MoveId, MoveStep, NewMove, NodeEntry, NodeId, NodeState,
    ShardMap, Slot, SlotCount, SlotEntry, StoreEntry, StoreId, StoreState, Weight,
    map::{self, MAX_COUNTER, MAX_NODES, MAX_RETIRED_IDS, MAX_STORES},
    moves::{MAX_MOVES, MAX_SLOTS_PER_MOVE},
    plan,
};

/// A store as it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewStore {
    pub id: StoreId,
    pub name: String,
    pub weight: Weight,
}

/// A node as it joins. It counts as never started until its [`Change::NodeStarted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    pub id: NodeId,
    /// `host:port`
    pub address: String,
    pub home_store: StoreId,
    pub weight: Weight,
}

/// A slot's new owner, inside the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerChange {
    pub slot: Slot,
    /// The slot's epoch that the proposer saw. Where it is another by now, the proposer decided on an old map.
    pub expected_epoch: Epoch,
    pub to: NodeId,
}

/// One change of the shard map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The first change of a cluster, and only that: places every slot. Each slot has an owner, at epoch 1.
    Genesis {
        cluster: ClusterId,
        slots: SlotCount,
        stores: Vec<NewStore>,
        nodes: Vec<NewNode>,
    },
    /// A node has started (again). Its incarnation is above all that it ever had. A restart is a change of owner:
    /// the epoch of each slot it owns grows by one.
    NodeStarted {
        node: NodeId,
        incarnation: Incarnation,
        address: String,
    },
    /// Joins with no slots: the planner gives it its share. An id that was removed never comes back.
    AddNode(NewNode),
    /// Only a node that owns nothing.
    RemoveNode {
        node: NodeId,
    },
    /// Joins with no slots.
    AddStore(NewStore),
    /// Only a store that holds nothing, is no node's home, and has no part in a move.
    RemoveStore {
        store: StoreId,
    },
    SetNodeWeight {
        node: NodeId,
        weight: Weight,
    },
    SetNodeHome {
        node: NodeId,
        store: StoreId,
    },
    SetNodeState {
        node: NodeId,
        state: NodeState,
    },
    SetStoreWeight {
        store: StoreId,
        weight: Weight,
    },
    SetStoreState {
        store: StoreId,
        state: StoreState,
    },
    /// Hands slots over, or takes them over from a node that died. All of them or none.
    Reassign {
        slots: Vec<OwnerChange>,
    },
    /// Begins to move slots to another store. The move's id is the version of the map that this leads to.
    BeginMove(NewMove),
    /// From [`MoveStep::Copying`]: the slots take no more writes.
    SealMove {
        id: MoveId,
    },
    /// From [`MoveStep::Sealed`]: the slots are in the target from now on, with the owners that they have.
    FlipMove {
        id: MoveId,
    },
    /// From [`MoveStep::Copying`] or [`MoveStep::Sealed`]: the slots stay in the source.
    AbortMove {
        id: MoveId,
        reason: AbortReason,
    },
    /// From [`MoveStep::Flipped`] or [`MoveStep::Aborted`], once the stores are cleaned up: forgets the move.
    EndMove {
        id: MoveId,
    },
}

/// Why a change was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeRefused {
    #[error("the cluster is not initialised")]
    NotInitialised,
    #[error("the cluster is already initialised, as {0}")]
    AlreadyInitialised(ClusterId),
    #[error("a cluster wants at least one store")]
    NoStores,
    #[error("a cluster wants at least one node")]
    NoNodes,
    #[error("a cluster has at most {MAX_STORES} stores")]
    TooManyStores,
    #[error("a cluster has at most {MAX_NODES} nodes")]
    TooManyNodes,
    #[error("a cluster has at most {MAX_RETIRED_IDS} removed stores, and as many removed nodes")]
    TooManyRetired,
    #[error("store {0} exists")]
    StoreExists(StoreId),
    #[error("store {0} does not exist")]
    UnknownStore(StoreId),
    #[error("store {0} was removed, and ids are never used again")]
    StoreRetired(StoreId),
    #[error("store {0} wants a name of 1 to {max} bytes of a-z, 0-9, _ and -", max = map::MAX_NAME_BYTES)]
    BadStoreName(StoreId),
    #[error("store {0} has that name")]
    StoreNameTaken(StoreId),
    #[error("store {store} holds {slots} slots")]
    StoreHoldsSlots { store: StoreId, slots: u32 },
    #[error("store {store} is the home of node {node}")]
    StoreIsHome { store: StoreId, node: NodeId },
    #[error("node {0} exists")]
    NodeExists(NodeId),
    #[error("node {0} does not exist")]
    UnknownNode(NodeId),
    #[error("node {0} was removed, and ids are never used again")]
    NodeRetired(NodeId),
    #[error("node {0} wants an address of the form host:port")]
    BadAddress(NodeId),
    #[error("node {0} has that address")]
    AddressTaken(NodeId),
    #[error("node {node} owns {slots} slots")]
    NodeOwnsSlots { node: NodeId, slots: u32 },
    #[error("node {0} is the last one")]
    LastNode(NodeId),
    #[error("node {node} is known to have started as incarnation {known}: want one above it")]
    StaleIncarnation { node: NodeId, known: Incarnation },
    #[error("incarnation {0} is out of range")]
    IncarnationOutOfRange(Incarnation),
    #[error("slot {0} is not one of this cluster's")]
    UnknownSlot(Slot),
    #[error("slot {0} is listed twice")]
    SlotTwice(Slot),
    #[error("slot {slot} is at epoch {current}")]
    EpochMismatch { slot: Slot, current: Epoch },
    #[error("slot {slot} is owned by node {node} already")]
    AlreadyOwner { slot: Slot, node: NodeId },
    #[error("node {0} is draining")]
    NodeDraining(NodeId),
    #[error("store {0} is draining")]
    StoreDraining(StoreId),
    #[error("store {store} has a part in move {id}")]
    StoreInMove { store: StoreId, id: MoveId },
    #[error("slots of store {0} cannot move to that store")]
    MoveToItself(StoreId),
    #[error("a move has at most {MAX_SLOTS_PER_MOVE} slots")]
    TooManySlots,
    #[error("a cluster has at most {MAX_MOVES} moves that are not ended")]
    TooManyMoves,
    #[error("slot {slot} is in store {store}")]
    SlotElsewhere { slot: Slot, store: StoreId },
    #[error("slot {slot} is in move {id}")]
    SlotInMove { slot: Slot, id: MoveId },
    #[error("move {0} is ended, or never began")]
    UnknownMove(MoveId),
    #[error("move {id} is {step}")]
    MoveIsAt { id: MoveId, step: MoveStep },
    #[error("the map is like that already")]
    Unchanged,
}

/// The map after the change. `None` is the map of a cluster that is not initialised yet.
pub fn apply(map: Option<&ShardMap>, change: &Change) -> Result<ShardMap, ChangeRefused> {
    let Some(map) = map else {
        return match change {
            Change::Genesis { cluster, slots, stores, nodes } => genesis(*cluster, *slots, stores, nodes),
            _ => Err(ChangeRefused::NotInitialised),
        };
    };
    let mut next = map.clone();
    next.version = map.version.next();
    match change {
        Change::Genesis { .. } => return Err(ChangeRefused::AlreadyInitialised(map.cluster)),
        Change::NodeStarted { node, incarnation, address } => next.node_started(*node, *incarnation, address)?,
        Change::AddNode(node) => next.add_node(node)?,
        Change::RemoveNode { node } => next.remove_node(*node)?,
        Change::AddStore(store) => next.add_store(store)?,
        Change::RemoveStore { store } => next.remove_store(*store)?,
        Change::SetNodeWeight { node, weight } => set(&mut next.known_node(*node)?.weight, *weight)?,
        Change::SetNodeHome { node, store } => {
            next.known_store(*store)?;
            set(&mut next.known_node(*node)?.home_store, *store)?;
        }
        Change::SetNodeState { node, state } => set(&mut next.known_node(*node)?.state, *state)?,
        Change::SetStoreWeight { store, weight } => set(&mut next.known_store(*store)?.weight, *weight)?,
        Change::SetStoreState { store, state } => set(&mut next.known_store(*store)?.state, *state)?,
        Change::Reassign { slots } => next.reassign(slots)?,
        Change::BeginMove(new) => next.begin_move(new)?,
        Change::SealMove { id } => next.take_move_to(*id, MoveStep::Sealed)?,
        Change::FlipMove { id } => next.take_move_to(*id, MoveStep::Flipped)?,
        Change::AbortMove { id, reason } => next.take_move_to(*id, MoveStep::Aborted(*reason))?,
        Change::EndMove { id } => next.end_move(*id)?,
    }
    Ok(next)
}

fn genesis(
    cluster: ClusterId,
    slot_count: SlotCount,
    stores: &[NewStore],
    nodes: &[NewNode],
) -> Result<ShardMap, ChangeRefused> {
    let mut map = ShardMap {
        cluster,
        version: MapVersion::ZERO.next(),
        slot_count,
        stores: BTreeMap::new(),
        nodes: BTreeMap::new(),
        slots: Vec::new(),
        retired_stores: BTreeSet::new(),
        retired_nodes: BTreeSet::new(),
        moves: BTreeMap::new(),
    };
    stores.iter().try_for_each(|store| map.add_store(store))?;
    nodes.iter().try_for_each(|node| map.add_node(node))?;
    if map.stores.is_empty() {
        return Err(ChangeRefused::NoStores);
    }
    if map.nodes.is_empty() {
        return Err(ChangeRefused::NoNodes);
    }
    let first = Epoch::ZERO.next();
    let placed = plan::place_all(slot_count, &map.stores, &map.nodes);
    let entry = |at: plan::Placed| SlotEntry { store: at.store, owner: Some(at.owner), epoch: first, sealed_by: None };
    map.slots = placed.into_iter().map(entry).collect();
    Ok(map)
}

/// The rules, one function per change. Each works on the copy that `apply` throws away on an error.
impl ShardMap {
    fn known_node(&mut self, node: NodeId) -> Result<&mut NodeEntry, ChangeRefused> {
        self.nodes.get_mut(&node).ok_or(ChangeRefused::UnknownNode(node))
    }

    pub(crate) fn known_store(&mut self, store: StoreId) -> Result<&mut StoreEntry, ChangeRefused> {
        self.stores.get_mut(&store).ok_or(ChangeRefused::UnknownStore(store))
    }

    fn node_started(&mut self, node: NodeId, incarnation: Incarnation, address: &str) -> Result<(), ChangeRefused> {
        let entry = self.known_node(node)?;
        if incarnation <= entry.incarnation {
            return Err(ChangeRefused::StaleIncarnation { node, known: entry.incarnation });
        }
        if incarnation.get() > MAX_COUNTER {
            return Err(ChangeRefused::IncarnationOutOfRange(incarnation));
        }
        // An address that another node has is not refused: a dead node's may have been given to this one, and which
        // node answers there is proven by its certificate.
        if !map::is_address(address) {
            return Err(ChangeRefused::BadAddress(node));
        }
        entry.incarnation = incarnation;
        address.clone_into(&mut entry.address);
        for slot in self.slots.iter_mut().filter(|slot| slot.owner == Some(node)) {
            slot.epoch = slot.epoch.next();
        }
        Ok(())
    }

    fn add_node(&mut self, new: &NewNode) -> Result<(), ChangeRefused> {
        let id = new.id;
        if self.nodes.contains_key(&id) {
            return Err(ChangeRefused::NodeExists(id));
        }
        if self.retired_nodes.contains(&id) {
            return Err(ChangeRefused::NodeRetired(id));
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(ChangeRefused::TooManyNodes);
        }
        if !map::is_address(&new.address) {
            return Err(ChangeRefused::BadAddress(id));
        }
        if let Some((other, _)) = self.nodes().find(|(_, entry)| entry.address == new.address) {
            return Err(ChangeRefused::AddressTaken(other));
        }
        self.known_store(new.home_store)?;
        let entry = NodeEntry {
            address: new.address.clone(),
            incarnation: Incarnation::ZERO,
            weight: new.weight,
            home_store: new.home_store,
            state: NodeState::Active,
        };
        self.nodes.insert(id, entry);
        Ok(())
    }

    fn remove_node(&mut self, node: NodeId) -> Result<(), ChangeRefused> {
        self.known_node(node)?;
        let slots = self.owned_by(node).count() as u32;
        if slots > 0 {
            return Err(ChangeRefused::NodeOwnsSlots { node, slots });
        }
        if self.nodes.len() == 1 {
            return Err(ChangeRefused::LastNode(node));
        }
        if self.retired_nodes.len() >= MAX_RETIRED_IDS {
            return Err(ChangeRefused::TooManyRetired);
        }
        self.nodes.remove(&node);
        self.retired_nodes.insert(node);
        Ok(())
    }

    fn add_store(&mut self, new: &NewStore) -> Result<(), ChangeRefused> {
        let id = new.id;
        if self.stores.contains_key(&id) {
            return Err(ChangeRefused::StoreExists(id));
        }
        if self.retired_stores.contains(&id) {
            return Err(ChangeRefused::StoreRetired(id));
        }
        if self.stores.len() >= MAX_STORES {
            return Err(ChangeRefused::TooManyStores);
        }
        if !map::is_store_name(&new.name) {
            return Err(ChangeRefused::BadStoreName(id));
        }
        if let Some((other, _)) = self.stores().find(|(_, entry)| entry.name == new.name) {
            return Err(ChangeRefused::StoreNameTaken(other));
        }
        let entry = StoreEntry { name: new.name.clone(), weight: new.weight, state: StoreState::Active };
        self.stores.insert(id, entry);
        Ok(())
    }

    fn remove_store(&mut self, store: StoreId) -> Result<(), ChangeRefused> {
        self.known_store(store)?;
        let slots = self.held_by(store).count() as u32;
        if slots > 0 {
            return Err(ChangeRefused::StoreHoldsSlots { store, slots });
        }
        if let Some((node, _)) = self.nodes().find(|(_, entry)| entry.home_store == store) {
            return Err(ChangeRefused::StoreIsHome { store, node });
        }
        self.no_move_involves(store)?;
        if self.retired_stores.len() >= MAX_RETIRED_IDS {
            return Err(ChangeRefused::TooManyRetired);
        }
        self.stores.remove(&store);
        self.retired_stores.insert(store);
        Ok(())
    }

    fn reassign(&mut self, changes: &[OwnerChange]) -> Result<(), ChangeRefused> {
        if changes.is_empty() {
            return Err(ChangeRefused::Unchanged);
        }
        let mut seen = BTreeSet::new();
        for &OwnerChange { slot, expected_epoch, to } in changes {
            if self.known_node(to)?.state == NodeState::Draining {
                return Err(ChangeRefused::NodeDraining(to));
            }
            let entry = self.slots.get_mut(slot.index()).ok_or(ChangeRefused::UnknownSlot(slot))?;
            if !seen.insert(slot) {
                return Err(ChangeRefused::SlotTwice(slot));
            }
            if entry.epoch != expected_epoch {
                return Err(ChangeRefused::EpochMismatch { slot, current: entry.epoch });
            }
            if entry.owner == Some(to) {
                return Err(ChangeRefused::AlreadyOwner { slot, node: to });
            }
            entry.owner = Some(to);
            entry.epoch = entry.epoch.next();
        }
        Ok(())
    }
}

fn set<T: PartialEq>(field: &mut T, value: T) -> Result<(), ChangeRefused> {
    if *field == value {
        return Err(ChangeRefused::Unchanged);
    }
    *field = value;
    Ok(())
}

#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod tests;
