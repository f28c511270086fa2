//! The configuration file of a test's cluster: everything in one folder, every port its own.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use crate::{member::Member, ports::PortBlock, postgres};

/// How big a cluster is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub nodes: u32,
    pub routers: u32,
    pub stores: u32,
    pub slots: u32,
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
    pub fn assign(shape: Shape, ports: &mut PortBlock) -> Self {
        let mut address = || SocketAddr::from(([127, 0, 0, 1], ports.take()));
        let mut main = BTreeMap::from([(Member::Postgres, address()), (Member::Redis, address())]);
        let mut cluster = BTreeMap::new();
        for id in 1..=shape.nodes {
            main.insert(Member::Node(id), address());
            cluster.insert(Member::Node(id), address());
        }
        main.extend((1..=shape.routers).map(|id| (Member::Router(id), address())));
        Self { main, cluster }
    }

    pub fn of(&self, member: Member) -> SocketAddr {
        *self.main.get(&member).unwrap_or_else(|| panic!("this cluster has no {member}"))
    }
}

pub fn store_database(store: u32) -> String {
    format!("store_{store}")
}

pub fn store_dsn(store: u32, addresses: &Addresses) -> String {
    let port = addresses.of(Member::Postgres).port();
    format!("host=127.0.0.1 port={port} user={} dbname={}", postgres::USER, store_database(store))
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
        let (cluster, admin) = (addresses.cluster[&Member::Node(id)], addresses.of(Member::Node(id)));
        let home = (id - 1) % shape.stores + 1;
        write(format!(
            "\n[nodes.{id}]\ncluster_address = \"{cluster}\"\nadmin_address = \"{admin}\"\nhome_store = {home}\n"
        ));
    }
    for id in 1..=shape.routers {
        write(format!("\n[routers.{id}]\nclient_address = \"{}\"\n", addresses.of(Member::Router(id))));
    }
    text
}
