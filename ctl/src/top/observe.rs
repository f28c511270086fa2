//! What there is to see of a cluster at one moment, gathered from all nodes that answer.

use serde::Serialize;
use tertulia_shard_map::{ClusterId, NodeEntry, NodeId, NodeState, ShardMap, StoreEntry, StoreId, StoreState};
use tertulia_wire::cluster::{NodeLoad, NodeStatus, StoreLoad};

use crate::{
    hot::{BusySlot, Rates, busy_slots, rates},
    nodes::Nodes,
    output::rounded,
};

/// Busy slots that programs are told.
const BUSY_SLOTS_MAX: usize = 32;

/// A cluster at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    pub cluster: ClusterId,
    pub map_version: u64,
    pub leader: Option<NodeId>,
    pub nodes_up: usize,
    pub sessions: u64,
    pub events_per_s: f64,
    pub nodes: Vec<NodeLine>,
    pub stores: Vec<StoreLine>,
    pub moves: Vec<MoveLine>,
    /// Those in which anything goes on, the busiest first.
    pub busy_slots: Vec<BusySlot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    Up,
    /// Up, and on its way out.
    Draining,
    /// Does not answer this command.
    Absent,
}

impl Presence {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Absent => "absent",
        }
    }
}

/// What only the node knows is absent where it does not answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeLine {
    pub node: NodeId,
    pub state: Presence,
    pub slots_owned: usize,
    pub slots_serving: Option<u32>,
    pub sessions: Option<u64>,
    pub events_per_s: Option<f64>,
    /// Mean time of a commit.
    pub commit_ms: Option<f64>,
    pub queued_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreLine {
    pub store: StoreId,
    pub name: String,
    pub state: &'static str,
    pub slots: usize,
    pub events_per_s: f64,
    /// Mean time of a commit, of all nodes.
    pub commit_ms: Option<f64>,
    pub queued_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MoveLine {
    #[serde(rename = "move")]
    pub id: u64,
    pub from_store: StoreId,
    pub to_store: StoreId,
    pub slots: usize,
    pub step: String,
}

/// All that is known. An error where no node has a map.
pub async fn observe(nodes: &Nodes) -> anyhow::Result<View> {
    let (map, statuses, loads) = tokio::join!(nodes.newest_map(), nodes.statuses(), nodes.loads());
    let statuses = statuses.into_iter().filter_map(|(_, status)| status.ok()).collect::<Vec<_>>();
    Ok(View::new(&*map?, &statuses, &loads))
}

impl View {
    fn new(map: &ShardMap, statuses: &[NodeStatus], loads: &[(NodeId, NodeLoad)]) -> Self {
        let rates = rates(loads);
        let line = |(node, entry)| node_line(map, node, entry, statuses, loads);
        let nodes: Vec<NodeLine> = map.nodes().map(line).collect();
        let mut busy_slots = busy_slots(map, &rates);
        busy_slots.truncate(BUSY_SLOTS_MAX);
        Self {
            cluster: map.cluster(),
            map_version: map.version().get(),
            // Whoever is in the newest term knows best.
            leader: statuses.iter().max_by_key(|status| status.raft_term).and_then(|status| status.raft_leader),
            nodes_up: nodes.iter().filter(|line| line.state != Presence::Absent).count(),
            sessions: statuses.iter().map(|status| status.sessions).sum(),
            events_per_s: total(rates.values().copied()),
            nodes,
            stores: map.stores().map(|(store, entry)| store_line(map, store, entry, &rates, loads)).collect(),
            moves: moves(map),
            busy_slots,
        }
    }
}

fn node_line(
    map: &ShardMap,
    node: NodeId,
    entry: &NodeEntry,
    statuses: &[NodeStatus],
    loads: &[(NodeId, NodeLoad)],
) -> NodeLine {
    let status = statuses.iter().find(|status| status.node == node);
    let load = loads.iter().find(|(id, _)| *id == node).map(|(_, load)| load);
    NodeLine {
        node,
        state: match (status, entry.state) {
            (None, _) => Presence::Absent,
            (Some(_), NodeState::Draining) => Presence::Draining,
            (Some(_), NodeState::Active) => Presence::Up,
        },
        slots_owned: map.owned_by(node).count(),
        slots_serving: status.map(|status| status.slots_serving),
        sessions: status.map(|status| status.sessions),
        events_per_s: load.map(|load| total(load.slots.iter().map(|slot| slot.events_per_s))),
        commit_ms: load.and_then(|load| mean_commit_ms(&load.stores)),
        queued_bytes: load.map(|load| load.stores.iter().map(|store| store.queued_bytes).sum()),
    }
}

fn store_line(
    map: &ShardMap,
    store: StoreId,
    entry: &StoreEntry,
    rates: &Rates,
    loads: &[(NodeId, NodeLoad)],
) -> StoreLine {
    let of_nodes: Vec<_> =
        loads.iter().flat_map(|(_, load)| &load.stores).filter(|it| it.store == store).copied().collect();
    StoreLine {
        store,
        name: entry.name.clone(),
        state: match entry.state {
            StoreState::Draining => "draining",
            StoreState::Active => "active",
        },
        slots: map.held_by(store).count(),
        events_per_s: total(map.held_by(store).filter_map(|(slot, _)| rates.get(&slot).copied())),
        commit_ms: mean_commit_ms(&of_nodes),
        queued_bytes: of_nodes.iter().map(|it| it.queued_bytes).sum(),
    }
}

/// Each counts as often as it commits.
/// An empty sum of floats is -0.
fn total(rates: impl Iterator<Item = f64>) -> f64 {
    rounded(rates.sum::<f64>() + 0.0)
}

fn mean_commit_ms(loads: &[StoreLoad]) -> Option<f64> {
    let commits: f64 = loads.iter().filter(|load| load.commit_ms.is_some()).map(|load| load.commits_per_s).sum();
    let ms: f64 = loads.iter().filter_map(|load| Some(load.commit_ms? * load.commits_per_s)).sum();
    (commits > 0.0).then(|| rounded(ms / commits))
}

fn moves(map: &ShardMap) -> Vec<MoveLine> {
    let lines = map.moves().map(|(id, entry)| MoveLine {
        id: id.get(),
        from_store: entry.source,
        to_store: entry.target,
        slots: entry.slots.len(),
        step: entry.step.to_string(),
    });
    lines.collect()
}

#[cfg(test)]
pub mod tests {
    use tertulia_shard_map::{
        Change, MapVersion, MovingSlot, NewMove, NewNode, NewStore, Slot, SlotCount, Weight, apply,
    };
    use tertulia_wire::cluster::SlotLoad;

    use super::*;

    /// Three nodes, two stores, 64 slots; a move of two slots; the third node is draining and does not answer.
    pub fn view() -> View {
        let map = map();
        let status = |node: u32, leader: u32, term| NodeStatus {
            node: NodeId::new(node),
            cluster: Some(map.cluster()),
            raft_leader: Some(NodeId::new(leader)),
            raft_term: term,
            raft_applied: 9,
            raft_members: Vec::new(),
            map_version: map.version(),
            slots_owned: 30,
            slots_serving: 29,
            sessions: 1_200,
        };
        let load = |first: u16, rate: f64| NodeLoad {
            slots: (first..first + 20)
                .map(|slot| SlotLoad { slot: Slot::new(slot), events_per_s: if slot == first { rate } else { 0.5 } })
                .collect(),
            stores: [(1, 100.0, Some(2.0)), (2, 300.0, Some(4.0)), (2, 0.0, None)]
                .map(|(store, commits_per_s, commit_ms)| StoreLoad {
                    store: StoreId::new(store),
                    commits_per_s,
                    commit_ms,
                    queued_bytes: 700,
                })
                .to_vec(),
        };
        let loads = [(NodeId::new(1), load(0, 4_321.04)), (NodeId::new(2), load(20, 3.0))];
        View::new(&map, &[status(1, 3, 1), status(2, 2, 2)], &loads)
    }

    fn map() -> ShardMap {
        let store = |id: u32| NewStore { id: StoreId::new(id), name: format!("store-{id}"), weight: Weight::default() };
        let node = |id: u32| NewNode {
            id: NodeId::new(id),
            address: format!("host:{id}"),
            home_store: StoreId::new(1 + id % 2),
            weight: Weight::default(),
        };
        let genesis = Change::Genesis {
            cluster: ClusterId::from_u128(7),
            slots: SlotCount::try_from(64).unwrap(),
            stores: vec![store(1), store(2)],
            nodes: vec![node(1), node(2), node(3)],
        };
        let map = apply(None, &genesis).unwrap();
        let source = map.slot(Slot::new(0)).store;
        let target = StoreId::new(3 - source.get());
        let of_source = map.held_by(source).take(2);
        let slots = of_source.map(|(slot, entry)| MovingSlot { slot, expected_epoch: entry.epoch }).collect();
        let map = apply(Some(&map), &Change::BeginMove(NewMove { source, target, slots })).unwrap();
        let drain = Change::SetNodeState { node: NodeId::new(3), state: NodeState::Draining };
        let map = apply(Some(&map), &drain).unwrap();
        assert_eq!(map.version(), MapVersion::new(3));
        map
    }

    #[test]
    fn what_nodes_say_is_put_together_and_who_does_not_answer_is_absent() {
        let view = view();
        assert_eq!((view.leader, view.nodes_up, view.sessions), (Some(NodeId::new(2)), 2, 2_400));
        assert_eq!(view.events_per_s, 4_343.0);
        assert_eq!((view.nodes[0].commit_ms, view.nodes[0].queued_bytes), (Some(3.5), Some(2_100)));
        assert_eq!((view.nodes[2].state, view.nodes[2].events_per_s), (Presence::Absent, None));
        assert_eq!(view.stores.iter().map(|store| store.slots).sum::<usize>(), 64);
        assert_eq!(view.stores[1].commit_ms, Some(4.0));
        assert_eq!((view.moves.len(), view.moves[0].slots, view.moves[0].step.as_str()), (1, 2, "copying"));
        let hottest = view.busy_slots[0];
        assert_eq!((hottest.slot, hottest.hot), (Slot::new(0), true));
        assert!(view.busy_slots[1..].iter().all(|slot| !slot.hot));
    }
}
