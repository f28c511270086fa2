//! Follows the shard map: subscribes to one live node, takes the maps that it sends, and keeps a connection to every
//! node of the newest. The only writer of the [routing table](super::Routes).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tertulia_runtime::{
    PeerName,
    rpc::{CallOptions, Class, Client, Endpoint, Inbox, LinkState, PeerAddress},
    tasks::{Supervisor, TaskSpec},
};
use tertulia_shard_map::{ClusterId, MapVersion, NodeId, ShardMap};
use tertulia_wire::cluster::{Answer, Call};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Routes, routes::Table};
use crate::metrics::{LINKS_UP, MAP_VERSION, MAPS_REFUSED};

const SUBSCRIBE_TIMEOUT: Duration = Duration::from_millis(1500);
const RETRY_WAIT: Duration = Duration::from_millis(100);
/// A node that has not sent a map of which another node spoke by then is left for another: it may be cut off.
const BEHIND_PATIENCE: Duration = Duration::from_millis(300);
/// At most one log line about foreign maps in this time.
const FOREIGN_LOG_EVERY: Duration = Duration::from_secs(10);

/// A node as configured, for the time before the first map.
#[derive(Debug, Clone)]
pub struct Seed {
    pub node: NodeId,
    pub address: String,
}

/// Where maps that nodes send are put; only the newest of them matters.
#[derive(Clone)]
pub struct Offers {
    newest: Arc<watch::Sender<Option<Arc<ShardMap>>>>,
}

impl Offers {
    pub fn new() -> Self {
        Self { newest: Arc::new(watch::Sender::new(None)) }
    }

    pub fn offer(&self, map: Box<ShardMap>) {
        self.newest.send_replace(Some(Arc::from(map)));
    }
}

impl Default for Offers {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether an offered map replaces the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offered {
    Newer,
    Known,
    /// Of another cluster: somebody's configuration is wrong.
    Foreign,
}

fn consider(current: Option<(ClusterId, MapVersion)>, cluster: ClusterId, version: MapVersion) -> Offered {
    match current {
        None => Offered::Newer,
        Some((ours, _)) if ours != cluster => Offered::Foreign,
        Some((_, have)) if version > have => Offered::Newer,
        Some(_) => Offered::Known,
    }
}

pub struct Follower {
    routes: Arc<Routes>,
    endpoint: Endpoint,
    inbox: Arc<dyn Inbox>,
    offers: watch::Receiver<Option<Arc<ShardMap>>>,
    supervisor: Supervisor,
    foreign_logged: Option<Instant>,
}

impl Follower {
    /// Starts to connect to the seeds.
    pub fn new(
        routes: Arc<Routes>,
        endpoint: Endpoint,
        inbox: Arc<dyn Inbox>,
        offers: &Offers,
        seeds: Vec<Seed>,
        supervisor: Supervisor,
    ) -> Self {
        let offers = offers.newest.subscribe();
        let follower = Self { routes, endpoint, inbox, offers, supervisor, foreign_logged: None };
        let clients = seeds.into_iter().map(|seed| (seed.node, follower.connect(seed.node, seed.address))).collect();
        follower.routes.publish(Table { map: None, clients });
        follower
    }

    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changes = self.routes.changes();
        let mut turn = 0;
        while !shutdown.is_cancelled() {
            changes.mark_unchanged();
            let Some((node, client)) = self.candidate(turn) else {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = changes.changed() => {}
                }
                continue;
            };
            if let Some((state, generation)) = self.subscribe(&client).await {
                tracing::info!(%node, version = %self.routes.version(), "following the shard map");
                self.follow(state, generation, &shutdown).await;
            } else {
                sleep(RETRY_WAIT).await;
            }
            turn += 1;
        }
    }

    /// One of the connected nodes, another one each turn.
    fn candidate(&self, turn: usize) -> Option<(NodeId, Client)> {
        let table = self.routes.table();
        let up: Vec<_> = table.clients.iter().filter(|(_, client)| client.generation().is_some()).collect();
        let (node, client) = up.get(turn.checked_rem(up.len())?)?;
        Some((**node, (*client).clone()))
    }

    /// Subscribes on one connection; `None` where that did not work, or the connection is not the same any more.
    async fn subscribe(&mut self, client: &Client) -> Option<(watch::Receiver<LinkState>, u64)> {
        let state = client.watch_state();
        let LinkState::Up { generation } = *state.borrow() else { return None };
        let call = Call::WatchMap { have: self.routes.version() };
        let answer = client.call(call, CallOptions::within(SUBSCRIBE_TIMEOUT)).await;
        let same = *state.borrow() == LinkState::Up { generation };
        match answer {
            Ok(Answer::WatchMap(map)) if same => {
                let accepted = map.is_none_or(|map| self.accept(Arc::from(map)) != Offered::Foreign);
                accepted.then_some((state, generation))
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(peer = %client.peer(), %error, "cannot follow the shard map here");
                None
            }
        }
    }

    /// Takes maps until the subscription ends, or the node turns out to be behind.
    async fn follow(&mut self, mut state: watch::Receiver<LinkState>, generation: u64, shutdown: &CancellationToken) {
        let mut heard_of = self.routes.heard_of();
        loop {
            if *state.borrow_and_update() != (LinkState::Up { generation }) {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = state.changed() => if changed.is_err() { return },
                changed = self.offers.changed() => {
                    let offered = self.offers.borrow_and_update().clone();
                    let foreign = offered.is_some_and(|map| self.accept(map) == Offered::Foreign);
                    if foreign || changed.is_err() {
                        return;
                    }
                }
                _ = heard_of.changed() => {
                    let newest = *heard_of.borrow_and_update();
                    let caught_up = async {
                        while self.routes.version() < newest && self.offers.changed().await.is_ok() {
                            let offered = self.offers.borrow_and_update().clone();
                            if let Some(map) = offered {
                                self.accept(map);
                            }
                        }
                    };
                    if timeout(BEHIND_PATIENCE, caught_up).await.is_err() {
                        tracing::info!(%newest, version = %self.routes.version(), "the followed node is behind");
                        return;
                    }
                }
            }
        }
    }

    fn accept(&mut self, map: Arc<ShardMap>) -> Offered {
        let current = self.routes.map().map(|map| (map.cluster(), map.version()));
        let offered = consider(current, map.cluster(), map.version());
        match offered {
            Offered::Known => {}
            Offered::Newer => self.replace(map),
            Offered::Foreign => {
                metrics::counter!(MAPS_REFUSED, "reason" => "foreign_cluster").increment(1);
                if self.foreign_logged.is_none_or(|at| at.elapsed() >= FOREIGN_LOG_EVERY) {
                    self.foreign_logged = Some(Instant::now());
                    tracing::error!(cluster = %map.cluster(), "refused the shard map of another cluster");
                }
            }
        }
        offered
    }

    fn replace(&mut self, map: Arc<ShardMap>) {
        let table = self.routes.table();
        let mut clients = BTreeMap::new();
        for (node, entry) in map.nodes() {
            let client = match table.clients.get(&node) {
                Some(client) => {
                    client.set_address(entry.address.clone());
                    client.clone()
                }
                None => self.connect(node, entry.address.clone()),
            };
            clients.insert(node, client);
        }
        tracing::debug!(version = %map.version(), nodes = clients.len(), "new shard map");
        metrics::gauge!(MAP_VERSION).set(map.version().get() as f64);
        self.routes.publish(Table { map: Some(map), clients });
    }

    fn connect(&self, node: NodeId, address: String) -> Client {
        let name = PeerName::Node(node);
        let client = self.endpoint.peer(PeerAddress { name, address }, Class::Data, self.inbox.clone());
        let (state, routes) = (client.watch_state(), self.routes.clone());
        self.supervisor.spawn(TaskSpec::log_and_end(format!("link to {name}")).abort_last(), async move {
            watch_link(state, &routes).await;
            Ok(())
        });
        client
    }
}

/// Tells the routes of every change of one connection, until its client is dropped.
async fn watch_link(mut state: watch::Receiver<LinkState>, routes: &Routes) {
    let gauge = metrics::gauge!(LINKS_UP);
    let mut counted = false;
    loop {
        let up = matches!(*state.borrow_and_update(), LinkState::Up { .. });
        match (counted, up) {
            (false, true) => gauge.increment(1.0),
            (true, false) => gauge.decrement(1.0),
            _ => {}
        }
        counted = up;
        routes.changed();
        if state.changed().await.is_err() {
            if counted {
                gauge.decrement(1.0);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_maps_of_the_same_cluster_are_accepted() {
        let (ours, other) = (ClusterId::from_u128(1), ClusterId::from_u128(2));
        let have = Some((ours, MapVersion::new(5)));
        assert_eq!(consider(None, ours, MapVersion::new(1)), Offered::Newer);
        assert_eq!(consider(have, ours, MapVersion::new(6)), Offered::Newer);
        assert_eq!(consider(have, ours, MapVersion::new(5)), Offered::Known);
        assert_eq!(consider(have, ours, MapVersion::new(4)), Offered::Known);
        assert_eq!(consider(have, other, MapVersion::new(9)), Offered::Foreign);
    }
}
