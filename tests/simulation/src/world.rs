//! Everything there is, and the loop in which one thing happens after the other.

use std::{collections::BTreeMap, fmt, rc::Rc};

use tertulia_shard_map::{
    Change, ClusterId, Incarnation, MapVersion, NewNode, NewStore, NodeId, ShardMap, SlotCount, StoreId, Weight, apply,
};
use tertulia_test_invariants::{Invariant, Violations};

use crate::{
    agenda::{Agenda, Answer, Ask, Event, IsHeard, Message, Statement, Ticket},
    clients::Clients,
    course::{Course, Keep},
    dice::Dice,
    known_fault::KnownFault,
    network::{Fate, Weather},
    node::{Condition, Node},
    raft::{Learner, Proposal, Proposer, Raft},
    store::Store,
    time::{Span, Time},
};

/// Few slots, so that users' mailboxes and conversations share them, and each is moved often.
const SLOTS: u32 = 8;
const NODES: u32 = 3;
const WEIGHT_THOUSANDTHS: u32 = 40;
/// After the faults are healed everything comes to rest within this time. Much of it is what the planner still moves.
const REST_MAX: Span = Span::millis(30_000);
/// How often it is looked whether Raft has a leader.
pub const WATCH_INTERVAL: Span = Span::millis(100);

/// A node, from one start to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}.{}", self.node, self.incarnation)
    }
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub seed: u64,
    /// So many things happen before the faults are healed.
    pub steps: u32,
    pub known_fault: Option<KnownFault>,
    pub keep: Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Troubled,
    /// Nothing breaks any more.
    Healed(Time),
}

pub struct World {
    pub now: Time,
    pub dice: Dice,
    pub agenda: Agenda,
    pub course: Course,
    pub violations: Violations,
    pub known_fault: Option<KnownFault>,
    pub weather: Weather,
    pub phase: Phase,
    pub raft: Raft,
    pub nodes: BTreeMap<NodeId, Node>,
    pub stores: BTreeMap<StoreId, Store>,
    pub clients: Clients,
    pub steps: u32,
    pub at_rest: bool,
}

impl World {
    pub fn new(options: Options) -> Self {
        let mut dice = Dice::new(options.seed);
        let map = first_map(dice.within(2..4) as u32);
        let stores = map.stores().map(|(id, _)| (id, Store::new(options.known_fault))).collect();
        let nodes = map.nodes().map(|(id, entry)| (id, Node::new(id, entry.incarnation, &mut dice))).collect();
        let clients = Clients::new(map.slot_count());
        let mut world = Self {
            now: Time::ZERO,
            dice,
            agenda: Agenda::default(),
            course: Course::new(options.keep),
            violations: Violations::default(),
            known_fault: options.known_fault,
            weather: Weather::Usual,
            phase: Phase::Troubled,
            raft: Raft::new(map),
            nodes,
            stores,
            clients,
            steps: 0,
            at_rest: false,
        };
        world.everybody_learns();
        let processes: Vec<Process> = world.nodes.values().map(Node::process).collect();
        processes.into_iter().for_each(|process| world.tell(process, Message::Tick));
        for event in [Event::LeaderIsWatched, Event::ClientActs, Event::SomethingBreaks] {
            world.agenda.put(world.now, event);
        }
        world
    }

    /// Until everything is healed and at rest, or something is wrong.
    pub fn run(&mut self, steps: u32) {
        while self.violations.is_empty() && !self.at_rest {
            let Some((at, event)) = self.agenda.next() else { return };
            self.now = at;
            self.steps += 1;
            self.happens(event);
            match self.phase {
                Phase::Troubled if self.steps >= steps => self.heal(),
                Phase::Healed(since) if self.now > since + REST_MAX => {
                    let what = self.unrest().join("; ");
                    self.violate(Invariant::ServesAfterFaults, || format!("it does not come to rest: {what}"));
                }
                Phase::Troubled | Phase::Healed(_) => {}
            }
        }
        if self.at_rest {
            self.check_everything();
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Proposed(proposal) => self.proposed(proposal),
            Event::Committed(proposal) => self.committed(&proposal),
            Event::Learned { by, version } => self.learned(by, version),
            Event::ToNode(to, message) => self.reaches_node(to, message),
            Event::ToStore(store, statement) => self.reaches_store(store, statement),
            Event::BatchEnds(store, transaction) => self.batch_ends(store, transaction),
            Event::Replicates { id, source, target, fill } => self.replicates(id, source, target, fill),
            Event::ClientActs => self.client_acts(),
            Event::ClientRetries { id, attempt } => self.client_retries(id, attempt),
            Event::ClientHears { id, reply } => self.client_hears(id, reply),
            Event::LeaderIsWatched => self.watch_leader(),
            Event::SomethingBreaks => self.something_breaks(),
            Event::Recovers(node) => self.recovers(node),
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.course.note(self.now, line);
    }

    pub fn violate(&mut self, invariant: Invariant, what: impl Fn() -> String) {
        self.course.note(self.now, || format!("BROKEN {invariant}: {}", what()));
        self.violations.add(invariant, what);
    }

    pub fn has(&self, fault: KnownFault) -> bool {
        self.known_fault == Some(fault)
    }

    pub fn is_calm(&self) -> bool {
        self.phase != Phase::Troubled
    }
}

/// What goes from one to the other.
impl World {
    /// `None` where the process has ended.
    pub fn process(&mut self, of: Process) -> Option<&mut Node> {
        let node = self.nodes.get_mut(&of.node)?;
        (node.incarnation == of.incarnation && node.condition != Condition::Down).then_some(node)
    }

    pub fn soon(&mut self) -> Time {
        self.now + self.weather.delay(&mut self.dice)
    }

    pub fn tell(&mut self, to: Process, message: Message) {
        let at = self.soon();
        self.agenda.put(at, Event::ToNode(to, message));
    }

    pub fn tell_after(&mut self, pause: Span, to: Process, message: Message) {
        self.agenda.put(self.now + pause, Event::ToNode(to, message));
    }

    fn reaches_node(&mut self, to: Process, message: Message) {
        let Some(node) = self.process(to) else { return };
        if let Condition::Frozen(until) = node.condition {
            return self.agenda.put(until, Event::ToNode(to, message));
        }
        self.hears(to, message);
    }

    /// Each statement has one answer; where the real one is lost, that is [`Answer::Unknown`].
    pub fn ask(&mut self, by: Process, store: StoreId, ticket: Ticket, ask: Ask) {
        let fate = self.weather.fate(&mut self.dice);
        if fate != Fate::Arrives {
            let at = self.now + Weather::patience(&mut self.dice);
            self.agenda.put(at, Event::ToNode(by, Message::Answer(ticket, Answer::Unknown)));
        }
        if fate != Fate::Lost {
            let is_heard = if fate == Fate::Arrives { IsHeard::Yes } else { IsHeard::No };
            let (since, at) = (self.now, self.soon());
            self.agenda.put(at, Event::ToStore(store, Statement { by, ticket, ask, since, is_heard }));
        }
    }

    pub fn answer(&mut self, statement: &Statement, answer: Answer) {
        if statement.is_heard == IsHeard::Yes {
            self.tell(statement.by, Message::Answer(statement.ticket, answer));
        }
    }
}

/// The map.
impl World {
    pub fn propose(&mut self, change: Change, by: Proposer) {
        if self.weather.fate(&mut self.dice) == Fate::Lost {
            return;
        }
        let at = self.soon();
        self.agenda.put(at, Event::Proposed(Proposal { change, by }));
    }

    /// Only who leads gets anything into the log. What it has sent to others may be committed after it was deposed; and who
    /// did not hear of it may have proposed it twice.
    fn proposed(&mut self, proposal: Proposal) {
        let Some(leader) = self.raft.leader.filter(|leader| self.is_reachable(*leader)) else { return };
        if let Proposer::Leader(by) = proposal.by
            && (by.node != leader || self.process(by).is_none())
        {
            return;
        }
        let at = self.soon();
        if !self.is_calm() && self.dice.happens(50) {
            let again = at + self.weather.delay(&mut self.dice);
            self.agenda.put(again, Event::Committed(proposal.clone()));
        }
        self.agenda.put(at, Event::Committed(proposal));
    }

    fn committed(&mut self, proposal: &Proposal) {
        let before = self.raft.map().clone();
        match self.raft.commit(&proposal.change).map(Rc::clone) {
            Ok(map) => {
                self.note(|| format!("map {}: {:?}", map.version(), proposal.change));
                self.check_map(&before, &map);
                self.everybody_learns();
            }
            Err(refused) => self.note(|| format!("refused, {refused}: {:?}", proposal.change)),
        }
    }

    fn everybody_learns(&mut self) {
        let nodes = self.nodes.values().map(|node| Learner::Node(node.process()));
        let learners: Vec<Learner> = nodes.chain([Learner::Router]).collect();
        for by in learners {
            self.learns(by);
        }
    }

    /// The newest map is on its way.
    pub fn learns(&mut self, by: Learner) {
        let (at, version) = (self.soon(), self.raft.map().version());
        self.agenda.put(at, Event::Learned { by, version });
    }

    fn learned(&mut self, by: Learner, version: MapVersion) {
        let map = self.raft.version(version).clone();
        match by {
            Learner::Router => self.clients.learn(map),
            Learner::Node(process) => {
                let Some(node) = self.process(process) else { return };
                if let Condition::Frozen(until) = node.condition {
                    return self.agenda.put(until, Event::Learned { by, version });
                }
                // Who is cut off learns it when that is over.
                if !node.is_cut_off && node.map.as_ref().is_none_or(|known| known.version() < version) {
                    node.map = Some(map);
                    self.follow(process);
                    self.drive_all(process);
                }
            }
        }
    }
}

/// All slots are placed, and every node has started once.
fn first_map(stores: u32) -> ShardMap {
    // Light, so that the planner's ring has few points.
    let weight = Weight::try_from(WEIGHT_THOUSANDTHS).expect("a weight");
    let store = |id: u32| NewStore { id: StoreId::new(id), name: format!("store-{id}"), weight };
    let node = |id: u32| NewNode {
        id: NodeId::new(id),
        address: address(NodeId::new(id)),
        home_store: StoreId::new((id - 1) % stores + 1),
        weight,
    };
    let genesis = Change::Genesis {
        cluster: ClusterId::from_u128(1),
        slots: SlotCount::try_from(SLOTS).expect("a power of two"),
        stores: (1..=stores).map(store).collect(),
        nodes: (1..=NODES).map(node).collect(),
    };
    let map = apply(None, &genesis).expect("a cluster of stores and nodes");
    (1..=NODES).map(NodeId::new).fold(map, |map, node| {
        let started = Change::NodeStarted { node, incarnation: Incarnation::new(1), address: address(node) };
        apply(Some(&map), &started).expect("the first start of a node")
    })
}

pub fn address(node: NodeId) -> String {
    format!("node-{node}:7400")
}
