//! A router in this process, with nodes that do what a test tells them, and clients.

#![allow(dead_code, reason = "each file of tests uses a part")]

pub mod client;
pub mod node;
pub mod socketio;

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tertulia_router::Listening;
use tertulia_runtime::{PeerName, config::Config, pki::DevPki, tasks::Supervisor, tls::Identity};
use tertulia_shard_map::{
    Change, ClusterId, Incarnation, NewNode, NewStore, NodeId, OwnerChange, RouterId, ShardMap, Slot, SlotCount,
    StoreId, Weight, apply,
};

use self::node::FakeNode;

pub const WITHIN: Duration = Duration::from_secs(10);

pub struct Cluster {
    pub folder: TempDir,
    pub addresses: Vec<SocketAddr>,
    pub router: Listening,
    pub supervisor: Supervisor,
    pub map: ShardMap,
}

impl Cluster {
    /// A router that knows of two nodes, of which none runs yet. Node 1 owns all slots.
    pub async fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names =
            [PeerName::Node(NodeId::new(1)), PeerName::Node(NodeId::new(2)), PeerName::Router(RouterId::new(1))];
        DevPki::create(folder.path(), names).unwrap();
        let addresses: Vec<SocketAddr> = (0..2).map(|_| free_udp()).collect();
        let config = config(folder.path(), &addresses, settings);
        let supervisor = Supervisor::new();
        let name = PeerName::Router(RouterId::new(1));
        let router = tertulia_router::start(name, &config, None, &supervisor).await.unwrap();
        let map = map(&addresses);
        Self { folder, addresses, router, supervisor, map }
    }

    pub async fn node(&self, id: u32) -> FakeNode {
        let name = PeerName::Node(NodeId::new(id));
        let identity = Identity::load(name, self.folder.path(), &self.folder.path().join("ca.pem")).unwrap();
        FakeNode::start(Arc::new(identity), self.addresses[id as usize - 1], self.map.clone()).await
    }

    /// Hands all slots to a node: the next version of the map.
    pub fn give_all_to(&mut self, node: u32) -> ShardMap {
        self.give(node, |_| true)
    }

    /// Hands some slots to a node: the next version of the map.
    pub fn give(&mut self, node: u32, some: impl Fn(Slot) -> bool) -> ShardMap {
        let slots = self
            .map
            .slots()
            .filter(|(slot, _)| some(*slot))
            .map(|(slot, entry)| OwnerChange { slot, expected_epoch: entry.epoch, to: NodeId::new(node) })
            .collect();
        self.map = apply(Some(&self.map), &Change::Reassign { slots }).unwrap();
        self.map.clone()
    }

    /// Without waiting for clients that do not answer.
    pub async fn stop(self) {
        self.supervisor.drain(Duration::from_millis(100)).await;
        self.router.endpoint.close().await;
    }
}

fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn config(folder: &Path, nodes: &[SocketAddr], settings: &[&str]) -> Config {
    let client = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        r#"
        [tls]
        ca_file = "ca.pem"
        dir = "."
        [auth]
        public_key_file = "jwt.pub.pem"
        dev_signing_key_file = "jwt.key.pem"
        [stores.1]
        name = "a"
        dsn = "host=nowhere"
        [nodes.1]
        cluster_address = "{}"
        admin_address = "127.0.0.1:1"
        home_store = 1
        [nodes.2]
        cluster_address = "{}"
        admin_address = "127.0.0.1:2"
        home_store = 1
        [routers.1]
        client_address = "{client}"
        [redis]
        url = "redis://nowhere"
        [limits]
        enabled = false
        "#,
        nodes[0], nodes[1]
    );
    let settings: Vec<String> = settings.iter().map(|it| (*it).to_owned()).collect();
    Config::read(&text, &folder.join("cluster.toml"), [], &settings).unwrap()
}

fn map(addresses: &[SocketAddr]) -> ShardMap {
    let nodes = addresses.iter().zip(1..).map(|(address, id)| NewNode {
        id: NodeId::new(id),
        address: address.to_string(),
        home_store: StoreId::new(1),
        weight: Weight::default(),
    });
    let genesis = Change::Genesis {
        cluster: ClusterId::from_u128(7),
        slots: SlotCount::try_from(16).unwrap(),
        stores: vec![NewStore { id: StoreId::new(1), name: "a".into(), weight: Weight::default() }],
        nodes: nodes.collect(),
    };
    let mut map = apply(None, &genesis).unwrap();
    for id in [1, 2] {
        let (node, incarnation) = (NodeId::new(id), Incarnation::new(1));
        let address = addresses[id as usize - 1].to_string();
        map = apply(Some(&map), &Change::NodeStarted { node, incarnation, address }).unwrap();
    }
    let slots = map
        .slots()
        .filter(|(_, entry)| entry.owner != Some(NodeId::new(1)))
        .map(|(slot, entry)| OwnerChange { slot, expected_epoch: entry.epoch, to: NodeId::new(1) })
        .collect();
    apply(Some(&map), &Change::Reassign { slots }).unwrap()
}
