//! The configuration file of a test's cluster: everything in one folder, every port its own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::{member::Member, ports::PortBlock, postgres};

/// How big a cluster is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub nodes: u32,
    pub routers: u32,
    pub stores: u32,
    pub slots: u32,
}

impl Shape {
    pub fn members(self) -> Vec<Member> {
        let nodes = (1..=self.nodes).map(Member::Node);
        let routers = (1..=self.routers).map(Member::Router);
        [Member::Postgres, Member::Redis].into_iter().chain(nodes).chain(routers).collect()
    }
}

/// Where each process listens.
#[derive(Debug)]
pub struct Addresses {
    /// Postgres and Redis: the server; nodes: admin (HTTP); routers: clients (HTTP).
    pub main: BTreeMap<Member, SocketAddr>,
    /// Nodes: the cluster's QUIC.
    pub cluster: BTreeMap<Member, SocketAddr>,
}

impl Addresses {
    pub fn assign(shape: Shape, ports: &mut PortBlock, ip: impl Fn(Member) -> IpAddr) -> Self {
        let mut address = |member| (member, SocketAddr::new(ip(member), ports.take()));
        let main = shape.members().into_iter().map(&mut address).collect();
        let cluster = (1..=shape.nodes).map(|id| address(Member::Node(id))).collect();
        Self { main, cluster }
    }

    /// Of one more node, on this host.
    pub fn add_node(&mut self, id: u32, ports: &mut PortBlock) {
        let mut address = || SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ports.take());
        self.main.insert(Member::Node(id), address());
        self.cluster.insert(Member::Node(id), address());
    }

    pub fn of(&self, member: Member) -> SocketAddr {
        *self.main.get(&member).unwrap_or_else(|| panic!("this cluster has no {member}"))
    }
}

pub fn store_database(store: u32) -> String {
    format!("store_{store}")
}

pub fn store_dsn(store: u32, addresses: &Addresses) -> String {
    let postgres = addresses.of(Member::Postgres);
    let (host, port) = (postgres.ip(), postgres.port());
    format!("host={host} port={port} user={} dbname={}", postgres::USER, store_database(store))
}

/// The part of `cluster.toml` about one node.
pub fn node_section(id: u32, home: u32, addresses: &Addresses) -> String {
    let (cluster, admin) = (addresses.cluster[&Member::Node(id)], addresses.of(Member::Node(id)));
    format!("\n[nodes.{id}]\ncluster_address = \"{cluster}\"\nadmin_address = \"{admin}\"\nhome_store = {home}\n")
}

/// The text of `cluster.toml`. Paths are relative to its folder.
pub fn cluster_toml(shape: Shape, addresses: &Addresses) -> String {
    let mut text = format!(
        r#"[cluster]
slots = {slots}
data_dir = "data"

[tls]
ca_file = "pki/ca.pem"
dir = "pki"

[auth]
public_key_file = "pki/jwt.pub.pem"
issuer = "tertulia-test"
dev_signing_key_file = "pki/jwt.key.pem"

[redis]
url = "redis://{redis}/0"

[limits]
enabled = false

[log]
level = "info"
format = "json"
"#,
        slots = shape.slots,
        redis = addresses.of(Member::Redis),
    );
    let mut write = |section: String| text.write_str(&section).expect("writing into a string works");
    for store in 1..=shape.stores {
        write(format!("\n[stores.{store}]\nname = \"store-{store}\"\ndsn = \"{}\"\n", store_dsn(store, addresses)));
    }
    for id in 1..=shape.nodes {
        write(node_section(id, (id - 1) % shape.stores + 1, addresses));
    }
    for id in 1..=shape.routers {
        write(format!("\n[routers.{id}]\nclient_address = \"{}\"\n", addresses.of(Member::Router(id))));
    }
    text
}
