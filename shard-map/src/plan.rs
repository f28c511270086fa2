//! The planner: which slots should move, and why. Pure, and printable, so that an operator can see a plan before it
//! runs; whoever carries it out (the controller, in `node`) proposes changes, and plans again on the map that results.
//!
//! Slots are balanced over the active stores within a tenth of their weighted shares ([`STORE_SLACK_PERCENT`]), then over
//! nodes. A store's slots go to the nodes that have it as their home, by weight, as evenly as whole slots allow (a hand-over
//! takes milliseconds, a move between stores copies data: hence the different slacks); those of a store that is nobody's
//! home go to all nodes. Draining members get nothing and lose all. See the balancing rules for which slots move.
//!
//! - A plan moves the fewest slots that bring every member within its bounds, so a member that joins takes no more than
//!   its share, and one that leaves moves its own slots (and what the others then lack).
//! - A plan carried out leaves nothing to plan: the planner never goes back and forth.
//! - A slot that is in a move counts as being where that takes it, and is not planned for again until the move is ended.
//! - A slot that moves between stores keeps its owner until it is there, unless that has to go before. Then it is handed
//!   over.
//!
//! Deliberately absent: which nodes are alive. The controller says who is not, and [`take_over`] plans for their slots alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    Change, Epoch, MapVersion, MovingSlot, NewMove, NodeEntry, NodeId, NodeState, OwnerChange, ShardMap, Slot,
    SlotCount, SlotEntry, StoreEntry, StoreId, StoreState,
    balance::{Balance, Cause, Seat, Seated},
    moves::MAX_SLOTS_PER_MOVE,
    ring::{Member, MemberKind},
};

/// How far, in percent of its weighted share, a store's number of slots may be from that share.
pub const STORE_SLACK_PERCENT: u32 = 10;
/// Nodes of one home store are balanced to the slot.
const OWNER_SLACK_PERCENT: u32 = 0;

/// What should change in one version of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The version of the map that was planned on.
    pub version: MapVersion,
    /// In order of slot.
    pub store_moves: Vec<StoreMove>,
    /// In order of slot.
    pub owner_changes: Vec<PlannedOwnerChange>,
}

/// A slot's partitions should move to another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreMove {
    pub slot: Slot,
    pub expected_epoch: Epoch,
    pub from: StoreId,
    pub to: StoreId,
    /// Who should own the slot once it is there, by a hand-over of its own; `None` where no node can.
    pub then_owner: Option<NodeId>,
    pub reason: MoveReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveReason {
    StoreDraining,
    StoreAboveBound,
    TargetBelowBound,
}

/// A slot should get another owner where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedOwnerChange {
    pub change: OwnerChange,
    pub from: Option<NodeId>,
    pub reason: OwnerReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerReason {
    NoOwner,
    NodeAbsent,
    NodeDraining,
    /// The slot's store has nodes at home there, and the owner is not one of them.
    NodeNotAtHome,
    NodeAboveShare,
    TargetBelowShare,
}

/// What should change in this map.
pub fn plan(map: &ShardMap) -> Plan {
    let moving = map.destinations();
    let mut goal: Vec<StoreId> =
        map.slots().map(|(slot, entry)| moving.get(&slot).copied().unwrap_or(entry.store)).collect();
    let seats = map.slots().zip(&goal).map(|((slot, _), &store)| (slot, Some(store)));
    let mut seated = seat_in_stores(&map.stores, seats);
    seated.retain(|to| !moving.contains_key(&to.slot));
    seated.iter().for_each(|to| goal[to.slot.index()] = to.store);
    let nodes = candidates(map);
    let owners =
        seat_with_nodes(&nodes, map.slots().zip(&goal).map(|((slot, entry), &store)| (slot, store, entry.owner)));

    let mut plan = Plan { version: map.version, store_moves: Vec::new(), owner_changes: Vec::new() };
    for to in seated {
        let entry = map.slot(to.slot);
        let reason = match to.cause {
            Cause::Stays => continue,
            Cause::Homeless => MoveReason::StoreDraining,
            Cause::AboveBound => MoveReason::StoreAboveBound,
            Cause::BelowBound => MoveReason::TargetBelowBound,
        };
        let then_owner = owners.get(&to.slot).map(|seated| seated.node);
        plan.store_moves.push(StoreMove {
            slot: to.slot,
            expected_epoch: entry.epoch,
            from: entry.store,
            to: to.store,
            then_owner,
            reason,
        });
    }
    for (&slot, to) in &owners {
        let entry = map.slot(slot);
        let leaves_store = goal[slot.index()] != entry.store;
        let owner_may_stay = entry.owner.is_some_and(|owner| nodes.contains_key(&owner));
        if entry.owner != Some(to.node) && !(leaves_store && owner_may_stay) {
            plan.owner_changes.push(planned_owner_change(map, slot, entry, to));
        }
    }
    plan
}

/// Who should own the slots of nodes that are absent. Whoever is there keeps what it has, however uneven that becomes: the
/// balance is restored when everybody is back. Empty where nobody is left.
pub fn take_over(map: &ShardMap, absent: &BTreeSet<NodeId>) -> Plan {
    let mut plan = Plan { version: map.version, store_moves: Vec::new(), owner_changes: Vec::new() };
    let is_absent = |entry: &SlotEntry| entry.owner.is_some_and(|owner| absent.contains(&owner));
    if !map.slots.iter().any(is_absent) {
        return plan;
    }
    let mut nodes = candidates(map);
    nodes.retain(|id, _| !absent.contains(id));
    let owners = seat_with_nodes(&nodes, map.slots().map(|(slot, entry)| (slot, entry.store, entry.owner)));
    for (&slot, to) in &owners {
        let entry = map.slot(slot);
        if is_absent(entry) {
            let change = OwnerChange { slot, expected_epoch: entry.epoch, to: to.node };
            let reason = OwnerReason::NodeAbsent;
            plan.owner_changes.push(PlannedOwnerChange { change, from: entry.owner, reason });
        }
    }
    plan
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.store_moves.is_empty() && self.owner_changes.is_empty()
    }

    /// The plan's owner changes as one change of the map.
    pub fn reassign(&self) -> Option<Change> {
        let slots: Vec<_> = self.owner_changes.iter().map(|planned| planned.change).collect();
        (!slots.is_empty()).then_some(Change::Reassign { slots })
    }

    /// The plan's moves between stores, each of at most so many slots (and of 1 to [`MAX_SLOTS_PER_MOVE`] in any case), in
    /// order of source and target. How many of them are begun at once is for whoever drives them to say.
    pub fn new_moves(&self, slots_max: usize) -> Vec<NewMove> {
        let mut by_stores: BTreeMap<(StoreId, StoreId), Vec<MovingSlot>> = BTreeMap::new();
        for &StoreMove { slot, expected_epoch, from, to, .. } in &self.store_moves {
            by_stores.entry((from, to)).or_default().push(MovingSlot { slot, expected_epoch });
        }
        let slots_max = slots_max.clamp(1, MAX_SLOTS_PER_MOVE);
        let of_stores = |((source, target), slots): ((StoreId, StoreId), Vec<MovingSlot>)| {
            let of_slots = move |slots: &[MovingSlot]| NewMove { source, target, slots: slots.to_vec() };
            slots.chunks(slots_max).map(of_slots).collect::<Vec<_>>()
        };
        by_stores.into_iter().flat_map(of_stores).collect()
    }
}

/// Where a slot is placed at genesis.
pub(crate) struct Placed {
    pub(crate) store: StoreId,
    pub(crate) owner: NodeId,
}

/// Places all slots of a new cluster, in their order. Wants at least one store and one node, all active.
pub(crate) fn place_all(
    slots: SlotCount,
    stores: &BTreeMap<StoreId, StoreEntry>,
    nodes: &BTreeMap<NodeId, NodeEntry>,
) -> Vec<Placed> {
    let seated = seat_in_stores(stores, slots.slots().map(|slot| (slot, None)));
    let nodes = nodes.iter().map(|(&id, entry)| (id, entry)).collect();
    let owners = seat_with_nodes(&nodes, seated.iter().map(|to| (to.slot, to.store, None)));
    seated.iter().zip(owners.values()).map(|(to, owner)| Placed { store: to.store, owner: owner.node }).collect()
}

struct InStore {
    slot: Slot,
    store: StoreId,
    cause: Cause,
}

/// Empty where no store is active.
fn seat_in_stores(
    stores: &BTreeMap<StoreId, StoreEntry>,
    slots: impl Iterator<Item = (Slot, Option<StoreId>)>,
) -> Vec<InStore> {
    let active: Vec<_> = stores.iter().filter(|(_, entry)| entry.state == StoreState::Active).collect();
    if active.is_empty() {
        return Vec::new();
    }
    let members: Vec<_> = active.iter().map(|(id, entry)| Member { id: id.get(), weight: entry.weight }).collect();
    let index_of = |store| active.binary_search_by_key(&store, |&(id, _)| *id).ok();
    let seats: Vec<_> = slots.map(|(slot, store)| Seat { slot, member: store.and_then(index_of) }).collect();
    let balance = Balance { kind: MemberKind::Store, members: &members, slack_percent: STORE_SLACK_PERCENT };
    let in_store = |to: Seated| InStore { slot: to.slot, store: *active[to.member].0, cause: to.cause };
    balance.seat(&seats).into_iter().map(in_store).collect()
}

struct WithNode {
    node: NodeId,
    cause: Cause,
}

/// The nodes that may own slots. One that never started and owns nothing has joined ahead of its first start: until then
/// nothing is put where nobody would serve it.
fn candidates(map: &ShardMap) -> BTreeMap<NodeId, &NodeEntry> {
    let mut owns: Vec<NodeId> = map.slots.iter().filter_map(|slot| slot.owner).collect();
    owns.sort_unstable();
    owns.dedup();
    let may_own = |&(id, entry): &(NodeId, &NodeEntry)| {
        entry.state == NodeState::Active && (entry.incarnation.get() > 0 || owns.binary_search(&id).is_ok())
    };
    map.nodes().filter(may_own).collect()
}

/// Empty where there are no nodes. Otherwise each slot, its store and its owner become the slot's new seat.
fn seat_with_nodes(
    nodes: &BTreeMap<NodeId, &NodeEntry>,
    slots: impl Iterator<Item = (Slot, StoreId, Option<NodeId>)>,
) -> BTreeMap<Slot, WithNode> {
    // Slots by home store; `None` for those of all stores that are nobody's home.
    let mut groups: BTreeMap<Option<StoreId>, Vec<(Slot, Option<NodeId>)>> = BTreeMap::new();
    for (slot, store, owner) in slots {
        let home = nodes.values().any(|entry| entry.home_store == store).then_some(store);
        groups.entry(home).or_default().push((slot, owner));
    }
    let mut seated = BTreeMap::new();
    for (home, slots) in groups {
        let group: Vec<_> =
            nodes.iter().filter(|(_, entry)| home.is_none_or(|home| entry.home_store == home)).collect();
        if group.is_empty() {
            continue;
        }
        let members: Vec<_> = group.iter().map(|(id, entry)| Member { id: id.get(), weight: entry.weight }).collect();
        let index_of = |node| group.binary_search_by_key(&node, |&(id, _)| *id).ok();
        let seats: Vec<_> =
            slots.iter().map(|&(slot, owner)| Seat { slot, member: owner.and_then(index_of) }).collect();
        let balance = Balance { kind: MemberKind::Node, members: &members, slack_percent: OWNER_SLACK_PERCENT };
        let with_node = |to: Seated| (to.slot, WithNode { node: *group[to.member].0, cause: to.cause });
        seated.extend(balance.seat(&seats).into_iter().map(with_node));
    }
    seated
}

fn planned_owner_change(map: &ShardMap, slot: Slot, entry: &SlotEntry, to: &WithNode) -> PlannedOwnerChange {
    let owner = entry.owner.and_then(|node| map.node(node));
    let reason = match (to.cause, owner) {
        (_, None) => OwnerReason::NoOwner,
        (_, Some(owner)) if owner.state == NodeState::Draining => OwnerReason::NodeDraining,
        (Cause::Stays | Cause::Homeless, Some(_)) => OwnerReason::NodeNotAtHome,
        (Cause::AboveBound, Some(_)) => OwnerReason::NodeAboveShare,
        (Cause::BelowBound, Some(_)) => OwnerReason::TargetBelowShare,
    };
    let expected_epoch: Epoch = entry.epoch;
    PlannedOwnerChange { change: OwnerChange { slot, expected_epoch, to: to.node }, from: entry.owner, reason }
}

impl fmt::Display for Plan {
    /// One line of summary, then a line per slot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "map version {}: every slot is where it should be", self.version);
        }
        let (moves, changes) = (self.store_moves.len(), self.owner_changes.len());
        write!(f, "map version {}: {moves} to move between stores, {changes} to change owner", self.version)?;
        self.store_moves.iter().try_for_each(|store_move| write!(f, "\n  {store_move}"))?;
        self.owner_changes.iter().try_for_each(|change| write!(f, "\n  {change}"))
    }
}

impl fmt::Display for StoreMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, from, to, then_owner, reason, .. } = self;
        write!(f, "slot {slot}: store {from} → {to}")?;
        if let Some(owner) = then_owner {
            write!(f, ", owner node {owner}")?;
        }
        match reason {
            MoveReason::StoreDraining => write!(f, " (store {from} is draining)"),
            MoveReason::StoreAboveBound => write!(f, " (store {from} is above its bound)"),
            MoveReason::TargetBelowBound => write!(f, " (store {to} is below its bound)"),
        }
    }
}

impl fmt::Display for PlannedOwnerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OwnerChange { slot, to, .. } = self.change;
        let Some(from) = self.from else { return write!(f, "slot {slot}: owner node {to} (it has none)") };
        write!(f, "slot {slot}: owner node {from} → {to}")?;
        match self.reason {
            OwnerReason::NoOwner => Ok(()),
            OwnerReason::NodeAbsent => write!(f, " (node {from} is not heard of)"),
            OwnerReason::NodeDraining => write!(f, " (node {from} is draining)"),
            OwnerReason::NodeNotAtHome => write!(f, " (node {from} is not at home in the slot's store)"),
            OwnerReason::NodeAboveShare => write!(f, " (node {from} is above its share)"),
            OwnerReason::TargetBelowShare => write!(f, " (node {to} is below its share)"),
        }
    }
}

#[cfg(test)]
mod tests;
