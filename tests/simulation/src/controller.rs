//! Raft's leader, and the controller that runs on it: observe, plan by `tertulia_shard_map`, propose.

use std::collections::BTreeSet;

use tertulia_shard_map::{Change, NodeId, plan, take_over};

use crate::{
    agenda::{Event, Message},
    network::Weather,
    node::{Condition, Node},
    raft::Proposer,
    time::Span,
    world::{Phase, Process, WATCH_INTERVAL, World},
};

/// How long a node may be silent before its slots are given to others.
const NODE_TIMEOUT: Span = Span::millis(600);
/// How long a leader may be silent before another is elected.
const ELECTION_TIMEOUT: Span = Span::millis(200);
const TICK: Span = Span::millis(150);
/// Few, so that there are many moves.
const SLOTS_PER_MOVE: usize = 2;
const MOVES_MAX: usize = 3;

/// Elections.
impl World {
    /// Whether the other nodes hear it.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.condition == Condition::Up && !node.is_cut_off)
    }

    pub(crate) fn watch_leader(&mut self) {
        self.note_silence();
        let silence = |node: NodeId| self.nodes[&node].silent_since.map(|since| self.now - since);
        let has_leader = self.raft.leader.is_some_and(|node| silence(node).is_none_or(|it| it < ELECTION_TIMEOUT));
        if !has_leader {
            self.elect();
        }
        if self.is_calm() && self.unrest().is_empty() {
            self.at_rest = true;
        }
        self.agenda.put(self.now + WATCH_INTERVAL, Event::LeaderIsWatched);
    }

    fn note_silence(&mut self) {
        let heard: BTreeSet<NodeId> = self.nodes.keys().copied().filter(|node| self.is_reachable(*node)).collect();
        let now = self.now;
        for (id, node) in &mut self.nodes {
            node.silent_since = if heard.contains(id) { None } else { node.silent_since.or(Some(now)) };
        }
    }

    /// Another leader, where a majority is there. The old one learns of it when it can, and goes on until then.
    pub(crate) fn elect(&mut self) {
        let reachable: Vec<NodeId> = self.nodes.keys().copied().filter(|node| self.is_reachable(*node)).collect();
        let old = self.raft.leader.take();
        if reachable.len() * 2 > self.nodes.len() {
            self.raft.leader = self.dice.pick(&reachable).copied();
        }
        if let Some(old) = old.filter(|old| self.raft.leader != Some(*old)) {
            let process = self.nodes[&old].process();
            let pause = Span::millis(self.dice.within(0..400));
            self.tell_after(pause, process, Message::Deposed);
        }
        if let Some(new) = self.raft.leader.filter(|new| old != Some(*new)) {
            let process = self.nodes[&new].process();
            self.note(|| format!("{process} is elected"));
            self.tell(process, Message::Elected);
        }
    }

    pub(crate) fn elected(&mut self, at: Process) {
        let Some(node) = self.process(at) else { return };
        node.leads = true;
        self.drive_all(at);
    }

    /// News of elections may be late: who was elected again meanwhile goes on.
    pub(crate) fn deposed(&mut self, at: Process) {
        if self.raft.leader == Some(at.node) {
            return;
        }
        let Some(node) = self.process(at) else { return };
        // What its drivers have asked for, they have asked for.
        node.leads = false;
        node.drivers.clear();
        self.note(|| format!("{at} learns that it is deposed"));
    }
}

/// The controller.
impl World {
    /// Every process looks around for as long as it runs, and only who leads does something about it.
    pub(crate) fn tick(&mut self, at: Process) {
        self.tell_after(TICK, at, Message::Tick);
        let Some(node) = self.process(at).filter(|node| node.leads) else { return };
        let Some(map) = node.map.clone() else { return };
        self.drive_all(at);
        let is_absent =
            |(_, node): &(&NodeId, &Node)| node.silent_since.is_some_and(|since| self.now - since > NODE_TIMEOUT);
        let absent: BTreeSet<NodeId> = self.nodes.iter().filter(is_absent).map(|(&id, _)| id).collect();
        let plan = if absent.is_empty() { plan(&map) } else { take_over(&map, &absent) };
        if let Some(change) = plan.reassign() {
            self.propose(change, Proposer::Leader(at));
        }
        let moves = plan.new_moves(SLOTS_PER_MOVE);
        for new in moves.into_iter().take(MOVES_MAX.saturating_sub(map.moves().len())) {
            self.propose(Change::BeginMove(new), Proposer::Leader(at));
        }
    }

    /// What is still to be done before everything is at rest.
    pub(crate) fn unrest(&self) -> Vec<String> {
        let map = self.raft.map();
        let mut unrest: Vec<String> = self.clients.unrest();
        unrest.extend(map.moves().map(|(id, entry)| format!("move {id} is {}", entry.step)));
        if !plan(map).is_empty() {
            unrest.push("something is planned".into());
        }
        for node in self.nodes.values() {
            let newest = node.map.as_ref().is_some_and(|known| known.version() == map.version());
            if !newest || node.condition != Condition::Up {
                unrest.push(format!("node {} does not know the newest map", node.id));
            }
            unrest.extend(node.unrest());
        }
        for (slot, entry) in map.slots() {
            let store = &self.stores[&entry.store];
            let last = store.partition(slot).map(|partition| partition.last_entry());
            if last.is_some_and(|last| store.cursor(slot) < last) {
                unrest.push(format!("fan-out of slot {slot} is not at its end"));
            }
            if store.fence(slot).is_none_or(|fence| fence.epoch != entry.epoch) {
                unrest.push(format!("slot {slot} is not taken over"));
            }
        }
        unrest
    }

    pub(crate) fn heal(&mut self) {
        self.note(|| "everything is healed from here on".into());
        self.phase = Phase::Healed(self.now);
        self.weather = Weather::Calm;
        let now = self.now;
        self.stores.values_mut().for_each(|store| store.down_until = store.down_until.min(now));
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            self.recovers(node);
        }
    }
}
