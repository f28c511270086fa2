//! Calls from routers, nodes and operators: who may make them, who carries them out.

mod calls;
mod conversations;
mod mailboxes;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tertulia_runtime::{
    PeerName,
    config::Config,
    rpc::{Connection, ConnectionId, Responder, Service},
};
use tertulia_shard_map::{Change, ClusterId, NewNode, NewStore, NodeId, ShardMap, Slot, StoreId};
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, NodeLoad, NodeStatus, Notice, Refusal, SlotLoad},
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use self::calls::Part;
use crate::{
    append::LaneHandle,
    clock,
    controller::Pulses,
    fanout::FanoutHandle,
    load::Meter,
    mailbox::MailboxHandle,
    moves::Progresses,
    peers::Peers,
    raft::{Leadership, Raft},
    slots::{Lanes, Serving, SlotTable},
    store::{Store, StoreError},
};

/// Reads under way; the next is refused as `Overloaded`.
const READS_MAX: usize = 1024;
/// The same for reads of other nodes, some of which are parts of those: they never ask further, and so never wait in a circle.
const NODE_READS_MAX: usize = 1024;
const RETRY_AFTER_MS: u64 = 250;
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(250);

/// The node's side of the cluster protocol.
pub struct NodeService {
    shared: Arc<Shared>,
    watchers: Arc<Mutex<HashMap<ConnectionId, Connection>>>,
    tasks: TaskTracker,
}

struct Shared {
    node: NodeId,
    config: Arc<Config>,
    raft: Raft,
    table: SlotTable,
    lanes: Lanes,
    mailboxes: MailboxHandle,
    fanout: FanoutHandle,
    peers: Peers,
    stores: Arc<BTreeMap<StoreId, Store>>,
    pulses: Pulses,
    load: Load,
    moves: Progresses,
    map: watch::Receiver<Option<Arc<ShardMap>>>,
    reads: Arc<Semaphore>,
    node_reads: Arc<Semaphore>,
}

/// What the service works with.
pub struct Parts {
    pub node: NodeId,
    pub config: Arc<Config>,
    pub raft: Raft,
    pub table: SlotTable,
    pub lanes: Lanes,
    pub mailboxes: MailboxHandle,
    pub fanout: FanoutHandle,
    pub peers: Peers,
    pub stores: Arc<BTreeMap<StoreId, Store>>,
    pub pulses: Pulses,
    pub load: Load,
    pub moves: Progresses,
}

/// What there is to tell of how busy the node is.
pub struct Load {
    pub meter: Meter,
    pub lanes: BTreeMap<StoreId, Vec<LaneHandle>>,
}

impl NodeService {
    pub fn new(parts: Parts) -> Self {
        let Parts { node, config, raft, table, lanes, mailboxes, fanout, peers, stores, pulses, load, moves } = parts;
        let map = raft.map();
        let shared = Shared {
            node,
            config,
            raft,
            table,
            lanes,
            mailboxes,
            fanout,
            peers,
            stores,
            pulses,
            load,
            moves,
            map,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            node_reads: Arc::new(Semaphore::new(NODE_READS_MAX)),
        };
        let shared = Arc::new(shared);
        Self { shared, watchers: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Tells watchers of each new map, until the Raft module ends.
    pub fn push_maps(&self) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
        let (mut map, watchers) = (self.shared.map.clone(), self.watchers.clone());
        async move {
            while map.changed().await.is_ok() {
                let Some(current) = map.borrow_and_update().clone() else { continue };
                let watchers: Vec<Connection> =
                    watchers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
                for watcher in watchers {
                    // A watcher that cannot take a map is cut off: it connects again and gets the newest.
                    if watcher.notify(Notice::Map(Box::new((*current).clone()))).is_err() {
                        watcher.close("a map was dropped");
                    }
                }
            }
            Ok(())
        }
    }

    fn slot(&self, of: impl FnOnce(&ShardMap) -> Slot) -> Result<(Slot, Serving), Refusal> {
        let map = self.shared.map.borrow();
        let map = map.as_ref().ok_or(Refusal::NotInitialised)?;
        let slot = of(map);
        match self.shared.table.get(slot) {
            // At the map's epoch: what was opened before it is about to be closed.
            Some(serving) if map.slot(slot).epoch == serving.epoch => Ok((slot, serving)),
            _ if map.owner(slot).is_some_and(|owner| owner.node == self.shared.node) => Err(Refusal::NotServing),
            _ => Err(Refusal::NotOwner { version: map.version() }),
        }
    }

    fn spawn(&self, trace: Option<TraceId>, task: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::info_span!("call", trace_id = trace.map(tracing::field::display));
        self.tasks.spawn(task.instrument(span));
    }

    /// A read of a router's under way, or a refusal at once.
    fn read<F>(&self, trace: Option<TraceId>, reply: Responder, read: impl FnOnce(Arc<Shared>) -> F)
    where
        F: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        self.read_within(&self.shared.reads, trace, reply, read);
    }

    /// The same for whoever may be another node.
    fn read_for<F>(&self, peer: PeerName, trace: Option<TraceId>, reply: Responder, read: impl FnOnce(Arc<Shared>) -> F)
    where
        F: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        let room = if matches!(peer, PeerName::Node(_)) { &self.shared.node_reads } else { &self.shared.reads };
        self.read_within(room, trace, reply, read);
    }

    fn read_within<F>(
        &self,
        room: &Arc<Semaphore>,
        trace: Option<TraceId>,
        reply: Responder,
        read: impl FnOnce(Arc<Shared>) -> F,
    ) where
        F: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        let Ok(permit) = room.clone().try_acquire_owned() else {
            return reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        };
        let reading = read(self.shared.clone());
        self.spawn(trace, async move {
            reply.send(reading.await.unwrap_or_else(Answer::Refused));
            drop(permit);
        });
    }
}

impl Service for NodeService {
    fn call(&self, from: &Connection, trace: Option<TraceId>, call: Call, reply: Responder) {
        let (callers, part) = calls::place(&call);
        if !callers.include(from.peer()) {
            tracing::warn!(peer = %from.peer(), "a call that this peer may not make");
            return reply.refuse(Refusal::Forbidden);
        }
        match part {
            Part::Conversations => self.conversation_call(from, trace, call, reply),
            Part::Mailboxes => self.mailbox_call(from, trace, call, reply),
            Part::Cluster => self.cluster_call(from, trace, call, reply),
        }
    }

    fn closed(&self, from: &Connection) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(&from.id());
        if let PeerName::Router(_) = from.peer() {
            let (mailboxes, id) = (self.shared.mailboxes.clone(), from.id());
            self.tasks.spawn(async move { mailboxes.connection_closed(id).await });
        }
    }
}

impl NodeService {
    /// Calls about the map, Raft and the node itself.
    fn cluster_call(&self, from: &Connection, trace: Option<TraceId>, call: Call, reply: Responder) {
        match call {
            Call::Ping => reply.send(Answer::Ping),
            Call::WatchMap { have } => {
                self.watchers.lock().unwrap_or_else(PoisonError::into_inner).insert(from.id(), from.clone());
                let current = self.shared.map.borrow().clone();
                let newer = current.filter(|map| map.version() > have);
                reply.send(Answer::WatchMap(newer.map(|map| Box::new((*map).clone()))));
            }
            Call::Raft(request) => {
                let PeerName::Node(node) = from.peer() else { return reply.refuse(Refusal::Forbidden) };
                self.shared.raft.handle(node, &request, |response| reply.send(Answer::Raft(response)));
            }
            Call::Heartbeat { is_stopping } => {
                let PeerName::Node(node) = from.peer() else { return reply.refuse(Refusal::Forbidden) };
                self.shared.pulses.heard(node, is_stopping, Instant::now());
                reply.send(Answer::Heartbeat);
            }
            Call::Propose(change) => {
                let raft = self.shared.raft.clone();
                self.spawn(trace, async move {
                    reply.send(match raft.propose(*change).await {
                        Ok(version) => Answer::Propose { version },
                        Err(error) => Answer::Refused(error.into()),
                    });
                });
            }
            Call::ChangeMembership(change) => {
                let raft = self.shared.raft.clone();
                self.spawn(trace, async move {
                    reply.send(match raft.change_membership(change).await {
                        Ok(()) => Answer::ChangeMembership,
                        Err(error) => Answer::Refused(error.into()),
                    });
                });
            }
            Call::Initialise => {
                let shared = self.shared.clone();
                self.spawn(trace, async move { reply.send(initialise(&shared).await.unwrap_or_else(Answer::Refused)) });
            }
            Call::Status => reply.send(Answer::Status(Box::new(self.shared.status()))),
            Call::Moves => reply.send(self.shared.moves().unwrap_or_else(Answer::Refused)),
            Call::Load => reply.send(Answer::Load(Box::new(self.shared.load()))),
            _ => reply.refuse(Refusal::Internal),
        }
    }
}

async fn initialise(shared: &Shared) -> Result<Answer, Refusal> {
    let cluster =
        ClusterId::from_u128((u128::from(clock::unix_ms().unsigned_abs()) << 80) | (rand::random::<u128>() >> 48));
    let config = &shared.config;
    let mut stores = Vec::new();
    for (&id, store) in &config.stores {
        stores.push(NewStore { id, name: store.name.clone(), weight: store.weight });
    }
    let mut nodes = Vec::new();
    for (&id, node) in &config.nodes {
        let address = node.cluster_address.to_string();
        nodes.push(NewNode { id, address, home_store: node.home_store, weight: node.weight });
    }
    let members = nodes.iter().map(|node| (node.id, node.address.clone())).collect();
    let genesis = Change::Genesis { cluster, slots: config.cluster.slots, stores, nodes };
    let cluster = shared.raft.initialise(members, genesis).await?;
    Ok(Answer::Initialise { cluster })
}

impl Shared {
    fn refusal(&self, error: &StoreError) -> Refusal {
        match error {
            StoreError::NotOwner => {
                Refusal::NotOwner { version: self.map.borrow().as_ref().map(|map| map.version()).unwrap_or_default() }
            }
            StoreError::Unreadable(_) => {
                tracing::error!(error = %clock::chain(error), "a read failed");
                Refusal::Internal
            }
            other => {
                tracing::warn!(error = %clock::chain(other), "a read failed");
                Refusal::StoreUnavailable
            }
        }
    }

    fn status(&self) -> NodeStatus {
        let raft = self.raft.status();
        let map = self.map.borrow();
        NodeStatus {
            node: self.node,
            cluster: map.as_ref().map(|map| map.cluster()),
            raft_leader: raft.leader,
            raft_term: raft.term,
            raft_applied: raft.applied,
            raft_members: raft.members.into_iter().map(|(node, member)| member.of(node)).collect(),
            map_version: map.as_ref().map(|map| map.version()).unwrap_or_default(),
            slots_owned: map.as_ref().map_or(0, |map| map.owned_by(self.node).count() as u32),
            slots_serving: self.table.len() as u32,
            sessions: self.mailboxes.sessions(),
        }
    }

    fn moves(&self) -> Result<Answer, Refusal> {
        match *self.raft.leadership().borrow() {
            Leadership::Leading { .. } => Ok(Answer::Moves(self.moves.all())),
            Leadership::Following { leader, .. } => Err(Refusal::NotLeader { leader: Some(leader) }),
            Leadership::Unknown => Err(Refusal::NotLeader { leader: None }),
        }
    }

    fn load(&self) -> NodeLoad {
        let served: Vec<Slot> = {
            let map = self.map.borrow();
            let owned = map.iter().flat_map(|map| map.owned_by(self.node));
            owned.map(|(slot, _)| slot).filter(|slot| self.table.get(*slot).is_some()).collect()
        };
        let now = Instant::now();
        let rates = self.load.meter.events_per_s(served.iter().copied(), now);
        let slots = served.into_iter().zip(rates).map(|(slot, events_per_s)| SlotLoad { slot, events_per_s });
        NodeLoad { slots: slots.collect(), stores: self.load.meter.stores(&self.load.lanes, now) }
    }
}

/// Registers this incarnation in the map, and again whenever the map names another: only then are its slots its own.
pub async fn announce(
    raft: Raft,
    started: Change,
    is_announced: impl Fn(&ShardMap) -> bool + Send,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut map = raft.map();
    loop {
        let current = map.borrow_and_update().clone();
        let pending = current.is_some_and(|map| !is_announced(&map));
        if pending {
            match raft.propose_anywhere(started.clone(), PROPOSE_WITHIN).await {
                Ok(version) => tracing::info!(%version, "announced this incarnation"),
                // Perhaps because an earlier try was applied after all: the map, once here, tells.
                Err(error) => tracing::debug!(error = %clock::chain(&error), "could not announce this incarnation"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = map.changed() => changed?,
            () = sleep(ANNOUNCE_PAUSE), if pending => {}
        }
    }
}
