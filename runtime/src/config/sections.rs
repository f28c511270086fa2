//! The sections of `cluster.toml`. The file in the repository shows every key with its default.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Deserializer, de};
use tertulia_shard_map::{SlotCount, StoreId, Weight};
use tertulia_wire::client::ClientVersion;

use super::{Address, Network, Secret, Sha256Hash};

/// `[cluster]`: what all processes must agree on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Hash partitions of all keys. Read when the cluster is initialised, fixed from then on.
    pub slots: SlotCount,
    /// Each process keeps its files in a folder of its own in here: `node-1`, …
    pub data_dir: PathBuf,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { slots: SlotCount::DEFAULT, data_dir: ".tertulia/data".into() }
    }
}

/// `[tls]`: the identities of the processes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The authority (PEM) that has signed the certificates of all processes.
    pub ca_file: PathBuf,
    /// Where a process finds its own `node-1.pem` and `node-1.key`.
    pub dir: PathBuf,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { ca_file: ".tertulia/pki/ca.pem".into(), dir: ".tertulia/pki".into() }
    }
}

/// `[auth]`: whose tokens clients may show.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Public key (PEM, ECDSA P-256) that verifies tokens.
    pub public_key_file: PathBuf,
    /// What a token's `iss` must be.
    pub issuer: String,
    /// Private key (PEM) for the development sign-in, which exists only where this is set. Never in production.
    pub dev_signing_key_file: Option<PathBuf>,
    /// API keys of the app's back end, as names and hashes of the keys.
    pub api_keys: BTreeMap<String, Sha256Hash>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            public_key_file: ".tertulia/pki/jwt.pub.pem".into(),
            issuer: "tertulia-dev".to_owned(),
            dev_signing_key_file: None,
            api_keys: BTreeMap::new(),
        }
    }
}

/// `[stores.ID]`: a Postgres database.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Unique, for people.
    pub name: String,
    /// libpq keywords, or a `postgresql://` URL.
    pub dsn: Secret,
    /// Share of the slots, relative to the other stores.
    #[serde(default, deserialize_with = "weight")]
    pub weight: Weight,
}

/// `[nodes.ID]`: a process that owns slots.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// QUIC over UDP, for routers and other nodes.
    pub cluster_address: Address,
    /// HTTP: health and metrics.
    pub admin_address: Address,
    /// The store whose slots it prefers.
    pub home_store: StoreId,
    /// Share of its store's slots, relative to the other nodes.
    #[serde(default, deserialize_with = "weight")]
    pub weight: Weight,
}

/// `[routers.ID]`: a process that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterConfig {
    /// HTTP and WebSocket, for clients.
    pub client_address: Address,
}

/// `[redis]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://host:port/database`.
    pub url: Secret,
}

/// `[node]`: tuning of every node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeTuning {
    /// Threads that run tasks; 0: one per core.
    pub worker_threads: usize,
    /// Committers per store: each has a connection, and a fixed part of the store's slots.
    pub append_lanes_per_store: usize,
    /// Most events in one commit.
    pub append_batch_max: usize,
    /// Appends that wait for one lane; beyond, clients are told to come back.
    pub append_queue_bytes: usize,
    /// Members of a group beyond which its messages reach mailboxes by interest, and no row is written for each.
    pub fanout_limit: u64,
    /// Longest time for which a mailbox collects changes of its rows before it writes them.
    pub fold_interval_ms: u64,
    /// Connections per store, besides the committers'.
    pub pool_size: usize,
    /// A node that the others have not heard for this long loses its slots to them.
    pub node_timeout_ms: u64,
    /// What one live move copies in a second, so that the stores have time for their owners.
    pub move_bytes_per_second: u64,
    pub raft_heartbeat_ms: u64,
    /// An election starts at a random time between these two without a heartbeat.
    pub raft_election_min_ms: u64,
    pub raft_election_max_ms: u64,
    /// Longest time that a stopping node takes to finish what it has accepted.
    pub drain_ms: u64,
}

impl Default for NodeTuning {
    fn default() -> Self {
        Self {
            worker_threads: 0,
            append_lanes_per_store: 1,
            append_batch_max: 500,
            append_queue_bytes: 16 * 1024 * 1024,
            fanout_limit: 500,
            fold_interval_ms: 200,
            pool_size: 4,
            node_timeout_ms: 600,
            move_bytes_per_second: 32 * 1024 * 1024,
            raft_heartbeat_ms: 50,
            raft_election_min_ms: 150,
            raft_election_max_ms: 300,
            drain_ms: 5_000,
        }
    }
}

/// `[router]`: tuning of every router.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterTuning {
    /// Threads that run tasks; 0: one per core.
    pub worker_threads: usize,
    /// Sessions that one router takes; beyond, it refuses new ones.
    pub sessions_max: usize,
    /// Connections from one client address (of IPv6: from one /64); beyond, more are refused.
    pub connections_per_address: usize,
    /// WebSocket handshakes that one router takes in a second; beyond, clients are told when to come again.
    pub handshakes_per_second: u32,
    /// Handshakes that are taken at once after a quiet time, before the pace counts.
    pub handshakes_burst: u32,
    /// Load balancers, which say in `X-Forwarded-For` for whom they connect.
    pub trusted_proxies: Vec<Network>,
    /// By platform, in lower case: the oldest version of a client that may sign in. Of other platforms any may.
    pub min_client_version: BTreeMap<String, ClientVersion>,
    /// How long a new connection may take to say `hello`.
    pub hello_timeout_ms: u64,
    /// How often an idle client is pinged.
    pub ping_interval_ms: u64,
    /// What may wait for one client; beyond, pushes are dropped and it is told to resync.
    pub session_queue_bytes: usize,
    /// Commands of one session that may wait for their replies; beyond, a command is answered `overloaded`.
    pub commands_in_flight: usize,
    /// How long a command is held while its slot has no owner.
    pub hold_ms: u64,
    /// Longest time that a stopping router takes to finish what it has accepted.
    pub drain_ms: u64,
}

impl Default for RouterTuning {
    fn default() -> Self {
        Self {
            worker_threads: 0,
            sessions_max: 16_000,
            connections_per_address: 4_096,
            handshakes_per_second: 1_000,
            handshakes_burst: 2_000,
            trusted_proxies: Vec::new(),
            min_client_version: BTreeMap::new(),
            hello_timeout_ms: 10_000,
            ping_interval_ms: 25_000,
            session_queue_bytes: 256 * 1024,
            commands_in_flight: 64,
            hold_ms: 5_000,
            drain_ms: 5_000,
        }
    }
}

/// `[limits]`: what a user may do in a while, at all routers together. 0: as much as they like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    pub enabled: bool,
    /// The counts are of any stretch of time that is so long.
    pub window_ms: u64,
    /// `dm:send`.
    pub sends: u32,
    /// `dm:edit`, `dm:delete`, `dm:react`.
    pub changes: u32,
    /// `conversation:create`, and everything that changes a group.
    pub groups: u32,
    /// `profile:set`, `block`, `unblock`.
    pub account: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { enabled: true, window_ms: 60_000, sends: 30, changes: 60, groups: 30, account: 30 }
    }
}

/// `[log]`: to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Level, or directives of `tracing`: `info,tertulia_node=debug`.
    pub level: String,
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Json,
    Text,
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
    Weight::try_from(f64::deserialize(deserializer)?).map_err(de::Error::custom)
}
