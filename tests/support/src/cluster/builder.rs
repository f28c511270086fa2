//! How a cluster under test comes up.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Cluster;
use crate::{
    Hosts, Member, config,
    config::{Addresses, Shape},
    ports::PortBlock,
    postgres::PostgresFolder,
    watchdog::Watchdog,
    within,
};

/// From an empty folder until every process is ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a cluster is to be. Three nodes, two routers, two stores and 64 slots unless told otherwise; with no nodes and
/// no routers it is just a Postgres and a Redis, and needs no binaries.
#[derive(Debug, Clone)]
pub struct Builder {
    shape: Shape,
    settings: Vec<(String, String)>,
    on_hosts: bool,
    on_disks: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            shape: Shape { nodes: 3, routers: 2, stores: 2, slots: 64 },
            settings: Vec::new(),
            on_hosts: false,
            on_disks: false,
        }
    }
}

impl Builder {
    pub fn nodes(mut self, count: u32) -> Self {
        self.shape.nodes = count;
        self
    }

    pub fn routers(mut self, count: u32) -> Self {
        self.shape.routers = count;
        self
    }

    pub fn stores(mut self, count: u32) -> Self {
        self.shape.stores = count;
        self
    }

    pub fn slots(mut self, count: u32) -> Self {
        self.shape.slots = count;
        self
    }

    /// A setting of every node and router: `set("node.fold_interval_ms", 20)`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// Each process on a host of its own: see [`Hosts`].
    pub fn on_hosts(mut self) -> Self {
        self.on_hosts = true;
        self
    }

    /// Each store's tables on a disk of its own: see [`Disks`](crate::Disks).
    pub fn on_disks(mut self) -> Self {
        self.on_disks = true;
        self
    }

    /// Starts everything, initialises the cluster, and waits until all is ready.
    pub async fn start(self) -> Cluster {
        let cluster = self.prepare();
        within("the cluster's start", START_LIMIT, cluster.start_all()).await;
        cluster
    }

    /// Lays out the folder, but starts no node and no router: for tests of starting itself.
    pub async fn start_servers(self) -> Cluster {
        let cluster = self.prepare();
        within("Postgres and Redis", START_LIMIT, cluster.start_servers()).await;
        cluster
    }

    fn prepare(self) -> Cluster {
        let folder = new_folder();
        let watchdog = Watchdog::start(&folder);
        let mut ports = PortBlock::reserve();
        let hosts = self.on_hosts.then(|| Hosts::create(&folder, &self.shape.members()));
        let ip = |member| hosts.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |hosts| hosts.ip(member));
        let addresses = Addresses::assign(self.shape, &mut ports, ip);
        fs::create_dir(folder.join("log")).expect("a folder can be made");
        fs::create_dir(folder.join("data")).expect("a folder can be made");
        fs::write(folder.join("cluster.toml"), config::cluster_toml(self.shape, &addresses))
            .expect("a file can be written");
        let network = hosts.as_ref().map(Hosts::network);
        let mut postgres = PostgresFolder::create(&folder, addresses.of(Member::Postgres), network.as_deref());
        if self.on_disks {
            postgres.add_disks(self.shape.stores);
        }
        Cluster {
            shape: self.shape,
            settings: self.settings,
            addresses,
            postgres,
            hosts,
            running: Mutex::new(BTreeMap::new()),
            folder,
            watchdog: Some(watchdog),
            ports,
        }
    }
}

impl Cluster {
    async fn start_servers(&self) {
        self.start(Member::Postgres);
        self.start(Member::Redis);
        if self.shape.nodes + self.shape.routers > 0 {
            self.expect_ctl(&["pki"]);
        }
        self.wait_ready(Member::Postgres).await;
        self.wait_ready(Member::Redis).await;
        let admin = self.sql_database("postgres").await.expect("Postgres is ready");
        for store in 1..=self.shape.stores {
            let mut create = format!("CREATE DATABASE {}", config::store_database(store));
            if let Some(disks) = self.postgres.disks() {
                let folder = disks.folder(store);
                let space = format!("CREATE TABLESPACE disk_{store} LOCATION '{}'", folder.display());
                admin.batch_execute(&space).await.expect("a tablespace can be made");
                create += &format!(" TABLESPACE disk_{store}");
            }
            admin.batch_execute(&create).await.expect("a database can be made");
        }
    }

    async fn start_all(&self) {
        self.start_servers().await;
        let all = self.members();
        let ours = || all.iter().copied().filter(|member| matches!(member, Member::Node(_) | Member::Router(_)));
        ours().for_each(|member| self.start(member));
        if self.shape.nodes > 0 {
            self.initialise().await;
        }
        for member in ours() {
            self.wait_ready(member).await;
        }
    }

    /// The explicit, once-only step of a new cluster.
    pub async fn initialise(&self) {
        let mut command = self.binary("tertuliactl");
        command.arg("init");
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it starts");
        assert!(output.status.success(), "tertuliactl init: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Open to the user that Postgres runs as, and without symbolic links in its path.
fn new_folder() -> PathBuf {
    let base = std::env::temp_dir().canonicalize().expect("there is a temporary folder");
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    (0..1000_u32)
        .map(|attempt| base.join(format!("tertulia-test-{}-{nanos:09}-{attempt}", std::process::id())))
        .find(|folder| fs::DirBuilder::new().mode(0o711).create(folder).is_ok())
        .expect("a temporary folder can be made")
}
