//! For tests: three members in one process, over real connections, each of which can be stopped or cut off.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tempfile::TempDir;
use tertulia_runtime::{
    PeerName,
    pki::DevPki,
    rpc::{Class, Connection, Endpoint, EndpointConfig, NoInbox, PeerAddress, Responder, Service},
    tasks::Supervisor,
    tls::Identity,
};
use tertulia_shard_map::{ClusterId, MapVersion, NodeId, ShardMap};
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, Refusal},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Leadership, Raft, RaftConfig, fixtures::genesis};

/// Far above what anything here takes on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
pub(super) const CLUSTER: u128 = 7;

/// Which nodes nobody hears, nor they anybody.
pub(super) type CutOff = watch::Sender<Vec<NodeId>>;

/// Takes the calls of the other members, as the node's real service does.
struct Calls {
    node: NodeId,
    raft: OnceLock<Raft>,
    cut_off: watch::Receiver<Vec<NodeId>>,
}

impl Service for Calls {
    fn call(&self, from: &Connection, _trace: Option<TraceId>, call: Call, reply: Responder) {
        let (PeerName::Node(from), Some(raft)) = (from.peer(), self.raft.get()) else {
            return reply.refuse(Refusal::NotServing);
        };
        let cut_off = self.cut_off.borrow();
        if cut_off.contains(&from) || cut_off.contains(&self.node) {
            return reply.refuse(Refusal::NotServing);
        }
        match call {
            Call::Raft(request) => raft.handle(from, &request, |answer| reply.send(Answer::Raft(answer))),
            Call::Propose(change) => {
                let raft = raft.clone();
                tokio::spawn(async move {
                    match raft.propose(*change).await {
                        Ok(version) => reply.send(Answer::Propose { version }),
                        Err(error) => reply.refuse(error.into()),
                    }
                });
            }
            _ => reply.refuse(Refusal::Forbidden),
        }
    }

    fn closed(&self, _from: &Connection) {}
}

pub(super) struct Member {
    pub(super) raft: Raft,
    endpoint: Endpoint,
    supervisor: Supervisor,
}

impl Member {
    async fn stop(self) {
        self.raft.shutdown().await;
        self.endpoint.close().await;
        self.supervisor.drain(Duration::from_secs(1)).await;
    }

    pub(super) fn version(&self) -> Option<MapVersion> {
        self.raft.map().borrow().as_ref().map(|map| map.version())
    }

    pub(super) async fn wait_for_map(&self, wanted: impl Fn(&ShardMap) -> bool) {
        let mut map = self.raft.map();
        let seen = timeout(DEADLINE, map.wait_for(|map| map.as_deref().is_some_and(&wanted))).await;
        seen.expect("the map is not as wanted in time").unwrap();
    }
}

pub(super) struct Cluster {
    folder: TempDir,
    pki: DevPki,
    pub(super) cut_off: CutOff,
    pub(super) addresses: BTreeMap<NodeId, String>,
    pub(super) members: BTreeMap<NodeId, Member>,
}

impl Cluster {
    /// Three members that know nothing of each other yet.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nodes = (1..=3).map(NodeId::new);
        let pki = DevPki::create(&folder.path().join("pki"), nodes.clone().map(PeerName::Node)).unwrap();
        let (cut_off, addresses, members) = (CutOff::default(), BTreeMap::new(), BTreeMap::new());
        let mut cluster = Self { folder, pki, cut_off, addresses, members };
        for node in nodes {
            cluster.start_member(node).await;
        }
        cluster
    }

    pub(super) async fn initialised() -> Self {
        let cluster = Self::start().await;
        let made = cluster.members[&NodeId::new(1)].raft.initialise(cluster.addresses.clone(), genesis(CLUSTER)).await;
        assert_eq!(made, Ok(ClusterId::from_u128(CLUSTER)));
        cluster
    }

    /// Starts a member, or starts it again on its old address and log.
    pub(super) async fn start_member(&mut self, node: NodeId) {
        let supervisor = Supervisor::new();
        let identity = Identity::load(PeerName::Node(node), self.pki.dir(), &self.pki.ca_file()).unwrap();
        let listen = match self.addresses.get(&node) {
            Some(address) => address.parse().unwrap(),
            None => (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let config = EndpointConfig { listen, identity: Arc::new(identity) };
        let endpoint = Endpoint::bind(config, &supervisor).unwrap();
        self.addresses.insert(node, endpoint.local_address().to_string());
        let calls = Arc::new(Calls { node, raft: OnceLock::new(), cut_off: self.cut_off.subscribe() });
        endpoint.serve(calls.clone());
        let raft = start_raft(node, &self.folder.path().join(format!("node-{node}")), &endpoint, &supervisor).await;
        assert!(calls.raft.set(raft.clone()).is_ok());
        self.members.insert(node, Member { raft, endpoint, supervisor });
    }

    pub(super) async fn stop_member(&mut self, node: NodeId) {
        self.members.remove(&node).unwrap().stop().await;
    }

    pub(super) async fn stop(mut self) {
        while let Some((_, member)) = self.members.pop_first() {
            member.stop().await;
        }
    }

    /// The leader that the members other than `without` agree on.
    pub(super) async fn leader(&self, without: Option<NodeId>) -> NodeId {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let heard = self.members.iter().filter(|(node, _)| Some(**node) != without);
            let mut leaders = heard.map(|(node, member)| match *member.raft.leadership().borrow() {
                Leadership::Leading { .. } => Some(*node),
                Leadership::Following { leader, .. } => Some(leader),
                Leadership::Unknown => None,
            });
            let first = leaders.next().flatten();
            if let Some(leader) = first.filter(|leader| Some(*leader) != without && leaders.all(|l| l == Some(*leader)))
            {
                return leader;
            }
            assert!(Instant::now() < deadline, "no leader in time");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn any_but(&self, node: NodeId) -> NodeId {
        *self.members.keys().find(|other| **other != node).unwrap()
    }
}

async fn start_raft(node: NodeId, dir: &Path, endpoint: &Endpoint, supervisor: &Supervisor) -> Raft {
    let config = RaftConfig {
        node,
        dir: dir.to_owned(),
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
    };
    let endpoint = endpoint.clone();
    let make_client = move |node, address: &str| {
        let peer = PeerAddress { name: PeerName::Node(node), address: address.to_owned() };
        endpoint.peer(peer, Class::Raft, Arc::new(NoInbox))
    };
    Raft::start(config, Arc::new(make_client), supervisor).await.unwrap()
}
