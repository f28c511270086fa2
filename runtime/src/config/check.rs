//! Ranges, and what must fit together.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive};

use tertulia_wire::limits::CLIENT_INFO_BYTES;

use super::{Config, ConfigError, Problem, tree::Node};

const MILLISECONDS_MAX: u64 = 600_000;
const NAME_BYTES_MAX: usize = 64;
/// Each is looked at for each connection.
const TRUSTED_PROXIES_MAX: usize = 256;

impl Config {
    pub(super) fn check(&self, tree: &Node) -> Result<(), ConfigError> {
        let check = Check { tree };
        self.check_topology(&check)?;
        self.check_node(&check)?;
        self.check_router(&check)?;
        self.check_limits(&check)?;
        self.check_auth(&check)
    }

    fn check_auth(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        if self.auth.issuer.is_empty() {
            return check.refuse("auth.issuer", "\"\"", "a text that is not empty");
        }
        // An environment variable's name is read in lower case.
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        for name in self.auth.api_keys.keys() {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
                let expected = format!("a name of 1 to {NAME_BYTES_MAX} characters of a-z, 0-9, _ and -");
                return check.refuse("auth.api_keys", &format!("{name:?}"), &expected);
            }
        }
        Ok(())
    }

    fn check_topology(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        if self.stores.is_empty() {
            return check.refuse("stores", "nothing", "at least one section [stores.ID]");
        }
        if self.nodes.is_empty() {
            return check.refuse("nodes", "nothing", "at least one section [nodes.ID]");
        }
        let mut names = Unique::default();
        for (id, store) in &self.stores {
            let key = format!("stores.{id}.name");
            if store.name.is_empty() || store.name.len() > NAME_BYTES_MAX {
                return check.refuse(&key, &format!("{:?}", store.name), &format!("1 to {NAME_BYTES_MAX} bytes"));
            }
            names.insert(check, &key, &store.name)?;
        }
        // UDP and TCP ports are apart: a node may use the same number for both.
        let (mut udp, mut tcp) = (Unique::default(), Unique::default());
        for (id, node) in &self.nodes {
            udp.insert(check, &format!("nodes.{id}.cluster_address"), node.cluster_address.as_str())?;
            tcp.insert(check, &format!("nodes.{id}.admin_address"), node.admin_address.as_str())?;
            if !self.stores.contains_key(&node.home_store) {
                let ids: Vec<String> = self.stores.keys().map(ToString::to_string).collect();
                let expected = format!("the id of a store: {}", ids.join(", "));
                return check.refuse(&format!("nodes.{id}.home_store"), &node.home_store.to_string(), &expected);
            }
        }
        for (id, router) in &self.routers {
            tcp.insert(check, &format!("routers.{id}.client_address"), router.client_address.as_str())?;
        }
        Ok(())
    }

    fn check_node(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let node = &self.node;
        check.range("node.worker_threads", node.worker_threads, 0..=256)?;
        check.range("node.append_lanes_per_store", node.append_lanes_per_store, 1..=16)?;
        check.range("node.append_batch_max", node.append_batch_max, 1..=5_000)?;
        check.range("node.append_queue_bytes", node.append_queue_bytes, 65_536..=1_073_741_824)?;
        check.range("node.fanout_limit", node.fanout_limit, 2..=1_000)?;
        check.range("node.fold_interval_ms", node.fold_interval_ms, 0..=10_000)?;
        check.range("node.pool_size", node.pool_size, 1..=256)?;
        check.range("node.node_timeout_ms", node.node_timeout_ms, 200..=600_000)?;
        check.range("node.move_bytes_per_second", node.move_bytes_per_second, 65_536..=17_179_869_184)?;
        check.range("node.raft_heartbeat_ms", node.raft_heartbeat_ms, 10..=10_000)?;
        // An election during two missed heartbeats would be a false alarm.
        check.range("node.raft_election_min_ms", node.raft_election_min_ms, node.raft_heartbeat_ms * 2..=60_000)?;
        check.range("node.raft_election_max_ms", node.raft_election_max_ms, node.raft_election_min_ms + 1..=60_001)?;
        check.range("node.drain_ms", node.drain_ms, 0..=MILLISECONDS_MAX)
    }

    fn check_router(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let router = &self.router;
        check.range("router.worker_threads", router.worker_threads, 0..=256)?;
        check.range("router.sessions_max", router.sessions_max, 1..=1_000_000)?;
        check.range("router.connections_per_address", router.connections_per_address, 1..=1_000_000)?;
        check.range("router.handshakes_per_second", router.handshakes_per_second, 1..=1_000_000)?;
        check.range("router.handshakes_burst", router.handshakes_burst, 1..=1_000_000)?;
        if router.trusted_proxies.len() > TRUSTED_PROXIES_MAX {
            let found = router.trusted_proxies.len().to_string();
            return check.refuse("router.trusted_proxies", &found, &format!("at most {TRUSTED_PROXIES_MAX} networks"));
        }
        if let Some(name) = router.min_client_version.keys().find(|name| !is_platform(name)) {
            return check.refuse("router.min_client_version", &format!("{name:?}"), "a platform in lower case");
        }
        check.range("router.hello_timeout_ms", router.hello_timeout_ms, 100..=MILLISECONDS_MAX)?;
        check.range("router.ping_interval_ms", router.ping_interval_ms, 100..=MILLISECONDS_MAX)?;
        check.range("router.session_queue_bytes", router.session_queue_bytes, 65_536..=67_108_864)?;
        check.range("router.commands_in_flight", router.commands_in_flight, 1..=4_096)?;
        check.range("router.hold_ms", router.hold_ms, 0..=MILLISECONDS_MAX)?;
        check.range("router.drain_ms", router.drain_ms, 0..=MILLISECONDS_MAX)
    }

    fn check_limits(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let limits = &self.limits;
        check.range("limits.window_ms", limits.window_ms, 100..=MILLISECONDS_MAX)?;
        let counts = [
            ("limits.sends", limits.sends),
            ("limits.changes", limits.changes),
            ("limits.groups", limits.groups),
            ("limits.account", limits.account),
        ];
        counts.into_iter().try_for_each(|(key, count)| check.range(key, count, 0..=100_000))
    }
}

/// As clients name theirs in `hello`, in lower case.
fn is_platform(name: &str) -> bool {
    (1..=CLIENT_INFO_BYTES).contains(&name.len()) && name.to_lowercase() == name
}

struct Check<'a> {
    tree: &'a Node,
}

impl Check<'_> {
    fn range<T: PartialOrd + Display>(&self, key: &str, value: T, range: RangeInclusive<T>) -> Result<(), ConfigError> {
        if range.contains(&value) {
            return Ok(());
        }
        self.refuse(key, &value.to_string(), &format!("{} to {}", range.start(), range.end()))
    }

    fn refuse(&self, key: &str, found: &str, expected: &str) -> Result<(), ConfigError> {
        Err(ConfigError {
            place: self.tree.place_of(key).clone(),
            problem: Problem::OutOfRange {
                key: key.to_owned(),
                found: found.to_owned(),
                expected: expected.to_owned(),
            },
        })
    }
}

/// Values that must differ, by value: the key that had it first.
#[derive(Default)]
struct Unique<'a> {
    seen: BTreeMap<&'a str, String>,
}

impl<'a> Unique<'a> {
    fn insert(&mut self, check: &Check<'_>, key: &str, value: &'a str) -> Result<(), ConfigError> {
        match self.seen.insert(value, key.to_owned()) {
            None => Ok(()),
            Some(first) => check.refuse(key, &format!("{value:?}"), &format!("another value than {first}")),
        }
    }
}
