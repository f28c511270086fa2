//! What breaks, and how it recovers.

use tertulia_shard_map::{AbortReason, Change, MovingSlot, NewMove, NodeId, NodeState, StoreId, StoreState};

use crate::{
    agenda::{Event, Message},
    network::Weather,
    node::{Condition, Node},
    raft::{Learner, Proposer},
    time::{Span, Time},
    world::{Process, World, address},
};

#[derive(Debug, Clone, Copy)]
enum Trouble {
    KillNode,
    FreezeNode,
    CutNodeOff,
    DeposeLeader,
    CrashStore,
    Weather,
    BeginMove,
    AbortMove,
    DrainStore,
    DrainNode,
}

/// As frequent as they stand here.
const TROUBLES: [Trouble; 14] = [
    Trouble::KillNode,
    Trouble::FreezeNode,
    Trouble::FreezeNode,
    Trouble::CutNodeOff,
    Trouble::CutNodeOff,
    Trouble::DeposeLeader,
    Trouble::DeposeLeader,
    Trouble::CrashStore,
    Trouble::Weather,
    Trouble::BeginMove,
    Trouble::BeginMove,
    Trouble::AbortMove,
    Trouble::DrainStore,
    Trouble::DrainNode,
];

impl World {
    pub(crate) fn something_breaks(&mut self) {
        if self.is_calm() {
            return;
        }
        let pause = Span::millis(self.dice.within(20..400));
        self.agenda.put(self.now + pause, Event::SomethingBreaks);
        let Some(&trouble) = self.dice.pick(&TROUBLES) else { return };
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        let stores: Vec<StoreId> = self.stores.keys().copied().collect();
        let (Some(&node), Some(&store)) = (self.dice.pick(&nodes), self.dice.pick(&stores)) else { return };
        match trouble {
            Trouble::KillNode => self.kill(node),
            Trouble::FreezeNode => self.freeze(node),
            Trouble::CutNodeOff => self.cut_off(node),
            Trouble::DeposeLeader => self.elect(),
            Trouble::CrashStore => self.crash(store),
            Trouble::Weather => {
                self.weather = if self.weather == Weather::Bad { Weather::Usual } else { Weather::Bad };
            }
            Trouble::BeginMove => self.want_move(store),
            Trouble::AbortMove => {
                let id = self.raft.map().moves().next().map(|(id, _)| id);
                if let Some(id) = id {
                    self.want(Change::AbortMove { id, reason: AbortReason::Operator });
                }
            }
            Trouble::DrainStore => {
                let is_active = self.raft.map().store(store).is_some_and(|entry| entry.state == StoreState::Active);
                let state = if is_active { StoreState::Draining } else { StoreState::Active };
                self.want(Change::SetStoreState { store, state });
            }
            Trouble::DrainNode => {
                let is_active = self.raft.map().node(node).is_some_and(|entry| entry.state == NodeState::Active);
                let state = if is_active { NodeState::Draining } else { NodeState::Active };
                self.want(Change::SetNodeState { node, state });
            }
        }
    }

    /// An operator wants it.
    fn want(&mut self, change: Change) {
        self.propose(change, Proposer::Anybody);
    }

    fn want_move(&mut self, target: StoreId) {
        let map = self.raft.map().clone();
        let of_others: Vec<_> = map.slots().filter(|(_, entry)| entry.store != target).collect();
        if let Some(&(slot, entry)) = self.dice.pick(&of_others) {
            let slots = vec![MovingSlot { slot, expected_epoch: entry.epoch }];
            self.want(Change::BeginMove(NewMove { source: entry.store, target, slots }));
        }
    }

    fn kill(&mut self, id: NodeId) {
        let until = self.now + Span::millis(self.dice.within(30..1_500));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let process = node.process();
        node.condition = Condition::Down;
        self.raft.leader.take_if(|leader| *leader == id);
        self.note(|| format!("{process} is killed"));
        self.agenda.put(until, Event::Recovers(id));
    }

    fn freeze(&mut self, id: NodeId) {
        let until = self.now + Span::millis(self.dice.within(30..2_500));
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.condition == Condition::Up) else { return };
        let process = node.process();
        node.condition = Condition::Frozen(until);
        self.note(|| format!("{process} is frozen"));
        // Before what has waited for it.
        self.agenda.put(until, Event::Recovers(id));
    }

    fn cut_off(&mut self, id: NodeId) {
        let until = self.now + Span::millis(self.dice.within(100..2_000));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let process = node.process();
        node.is_cut_off = true;
        self.note(|| format!("{process} is cut off"));
        self.agenda.put(until, Event::Recovers(id));
    }

    /// What was in flight is gone, or was committed and nobody was told.
    fn crash(&mut self, id: StoreId) {
        let until = self.now + Span::millis(self.dice.within(10..300));
        self.note(|| format!("store {id} crashes"));
        let Some(store) = self.stores.get_mut(&id) else { return };
        store.down_until = until.max(store.down_until);
        for transaction in store.transactions() {
            self.lose(id, transaction);
        }
    }

    /// From whatever it was.
    pub(crate) fn recovers(&mut self, id: NodeId) {
        let (now, is_calm) = (self.now, self.is_calm());
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.is_cut_off = false;
        match node.condition {
            Condition::Frozen(until) if until > now && !is_calm => return,
            Condition::Down => return self.start(id),
            Condition::Frozen(_) => node.condition = Condition::Up,
            Condition::Up => {}
        }
        let process = self.nodes[&id].process();
        self.note(|| format!("{process} is back"));
        self.learns(Learner::Node(process));
    }

    fn start(&mut self, id: NodeId) {
        let incarnation = self.nodes[&id].incarnation.next();
        let node = Node::new(id, incarnation, &mut self.dice);
        let process = node.process();
        self.nodes.insert(id, node);
        self.note(|| format!("{process} starts"));
        self.learns(Learner::Node(process));
        self.tell(process, Message::Tick);
        self.report_start(process);
    }

    /// Until the map says so.
    pub(crate) fn report_start(&mut self, at: Process) {
        const AGAIN: Span = Span::millis(300);
        let known = self.process(at).and_then(|node| Some(node.map.as_ref()?.node(at.node)?.incarnation));
        if self.process(at).is_some() && known != Some(at.incarnation) {
            let change = Change::NodeStarted { node: at.node, incarnation: at.incarnation, address: address(at.node) };
            self.propose(change, Proposer::Anybody);
            self.tell_after(AGAIN, at, Message::ReportStart);
        }
    }

    pub(crate) fn is_down(&self, store: StoreId) -> Option<Time> {
        let until = self.stores[&store].down_until;
        (until > self.now).then_some(until)
    }
}
