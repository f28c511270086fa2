//! Follows the shard map: subscribes to some live nodes, takes the newest of the maps that they send, and keeps a
//! connection to every node of it. The only writer of the [routing table](super::Routes).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tertulia_runtime::{
    PeerName,
    rpc::{CallOptions, Class, Client, Endpoint, Inbox, LinkState, PeerAddress},
    tasks::{Supervisor, TaskSpec},
};
use tertulia_shard_map::{ClusterId, MapVersion, NodeId, ShardMap};
use tertulia_wire::cluster::{Answer, Call};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Routes, routes::Table};
use crate::metrics::{LINKS_UP, MAP_VERSION, MAPS_REFUSED};

/// Nodes that are followed at the same time: news of a death must not wait until it is noticed that they were to come from
/// the dead.
const FOLLOWED: usize = 3;
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_millis(1500);
const RETRY_WAIT: Duration = Duration::from_millis(100);
/// Nodes that have not sent a map of which another node spoke by then are left for others: they may be cut off.
const BEHIND_PATIENCE: Duration = Duration::from_millis(300);
/// At most one log line about foreign maps in this time.
const FOREIGN_LOG_EVERY: Duration = Duration::from_secs(10);

/// A node as configured, for the time before the first map.
#[derive(Debug, Clone)]
pub struct Seed {
    pub node: NodeId,
    pub address: String,
}

/// Where maps that nodes send are put: of each cluster the newest, whichever came last.
#[derive(Clone)]
pub struct Offers {
    newest: Arc<watch::Sender<BTreeMap<ClusterId, Arc<ShardMap>>>>,
}

/// There is one, unless somebody's configuration is wrong.
const CLUSTERS_MAX: usize = 4;

impl Offers {
    pub fn new() -> Self {
        Self { newest: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }

    pub fn offer(&self, map: Box<ShardMap>) {
        self.newest.send_if_modified(|newest| {
            let known = newest.get(&map.cluster()).map(|known| known.version());
            let is_new = known.map_or(newest.len() < CLUSTERS_MAX, |version| map.version() > version);
            if is_new {
                newest.insert(map.cluster(), Arc::from(map));
            }
            is_new
        });
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
    offers: Offers,
    supervisor: Supervisor,
    foreign_logged: Option<Instant>,
}

impl Follower {
    /// Starts to connect to the seeds.
    pub fn new(
        routes: Arc<Routes>,
        endpoint: Endpoint,
        inbox: Arc<dyn Inbox>,
        offers: Offers,
        seeds: Vec<Seed>,
        supervisor: Supervisor,
    ) -> Self {
        let follower = Self { routes, endpoint, inbox, offers, supervisor, foreign_logged: None };
        let clients = seeds.into_iter().map(|seed| (seed.node, follower.connect(seed.node, seed.address))).collect();
        follower.routes.publish(Table::new(None, clients));
        follower
    }

    pub async fn run(mut self, shutdown: CancellationToken) {
        let (mut links, mut heard_of) = (self.routes.changes(), self.routes.heard_of());
        let mut offered = self.offers.newest.subscribe();
        let mut following = FuturesUnordered::new();
        let mut followed = BTreeSet::new();
        let (mut turn, mut behind_at) = (0, None);
        loop {
            links.mark_unchanged();
            for (node, client) in self.candidates(turn, &followed) {
                followed.insert(node);
                let (have, offers) = (self.routes.version(), self.offers.clone());
                following.push(async move {
                    follow(node, &client, have, &offers).await;
                    node
                });
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = links.changed() => {}
                changed = offered.changed() => {
                    let maps: Vec<_> = offered.borrow_and_update().values().cloned().collect();
                    maps.into_iter().for_each(|map| self.accept(map));
                    if changed.is_err() {
                        return;
                    }
                }
                Some(node) = following.next() => {
                    followed.remove(&node);
                    turn += 1;
                }
                _ = heard_of.changed() => {
                    heard_of.borrow_and_update();
                    behind_at.get_or_insert_with(|| Instant::now() + BEHIND_PATIENCE);
                }
                () = sleep_until(behind_at.unwrap_or_else(Instant::now).into()), if behind_at.is_some() => {
                    behind_at = None;
                    let newest = *heard_of.borrow();
                    if self.routes.version() < newest {
                        tracing::info!(%newest, version = %self.routes.version(), "the followed nodes are behind");
                        following.clear();
                        followed.clear();
                        turn += FOLLOWED;
                    }
                }
            }
        }
    }

    /// Connected nodes that are to be followed besides those that are; others each turn.
    fn candidates(&self, turn: usize, followed: &BTreeSet<NodeId>) -> Vec<(NodeId, Client)> {
        let table = self.routes.table();
        let is_candidate =
            |(node, client): &(&NodeId, &Client)| !followed.contains(node) && client.generation().is_some();
        let mut up: Vec<_> = table.clients.iter().filter(is_candidate).collect();
        let first = turn.checked_rem(up.len()).unwrap_or(0);
        up.rotate_left(first);
        let wanted = FOLLOWED.saturating_sub(followed.len());
        up.into_iter().take(wanted).map(|(node, client)| (*node, client.clone())).collect()
    }

    fn accept(&mut self, map: Arc<ShardMap>) {
        let current = self.routes.map().map(|map| (map.cluster(), map.version()));
        match consider(current, map.cluster(), map.version()) {
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
        self.routes.publish(Table::new(Some(map), clients));
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

/// Subscribes on one connection, and ends with it; the maps that come on it are offered by its [inbox](Inbox).
async fn follow(node: NodeId, client: &Client, have: MapVersion, offers: &Offers) {
    let mut state = client.watch_state();
    let LinkState::Up { generation } = *state.borrow() else { return };
    match client.call(Call::WatchMap { have }, CallOptions::within(SUBSCRIBE_TIMEOUT)).await {
        Ok(Answer::WatchMap(map)) => {
            tracing::info!(%node, "following the shard map");
            if let Some(map) = map {
                offers.offer(map);
            }
            // Fails only where the client is gone.
            let _ended = state.wait_for(|now| *now != LinkState::Up { generation }).await;
        }
        Ok(_) => sleep(RETRY_WAIT).await,
        Err(error) => {
            tracing::debug!(%node, %error, "cannot follow the shard map here");
            sleep(RETRY_WAIT).await;
        }
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
    use tertulia_shard_map::{Change, NewNode, NewStore, NodeState, SlotCount, StoreId, Weight, apply};

    use super::*;

    #[test]
    fn an_older_map_that_comes_later_does_not_hide_a_newer_one() {
        let offers = Offers::new();
        let versions = || offers.newest.borrow().values().map(|map| map.version().get()).collect::<Vec<_>>();
        let (store, node, weight) = (StoreId::new(1), NodeId::new(1), Weight::ONE);
        let old = Change::Genesis {
            cluster: ClusterId::from_u128(1),
            slots: SlotCount::try_from(16).unwrap(),
            stores: vec![NewStore { id: store, name: "a".into(), weight }],
            nodes: vec![NewNode { id: node, address: "localhost:1".into(), home_store: store, weight }],
        };
        let old = apply(None, &old).unwrap();
        let new = apply(Some(&old), &Change::SetNodeState { node, state: NodeState::Draining }).unwrap();
        offers.offer(Box::new(new));
        offers.offer(Box::new(old));
        assert_eq!(versions(), [2]);
    }

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
