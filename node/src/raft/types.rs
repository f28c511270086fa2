//! What openraft is told about our log, state and nodes.

use std::sync::Arc;

use openraft::BasicNode;
use serde::{Deserialize, Serialize};
use tertulia_shard_map::{Change, ChangeRefused, MapVersion, NodeId, ShardMap};

openraft::declare_raft_types!(
    /// Entries carry a [`Change`], the state is the map, a node is its cluster address.
    pub(super) Types:
        D = Change,
        R = Outcome,
        NodeId = RaftNodeId,
        Node = BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = State,
);

pub(super) type RaftNodeId = u64;
pub(super) type Entry = openraft::Entry<Types>;
pub(super) type LogId = openraft::LogId<RaftNodeId>;
pub(super) type Vote = openraft::Vote<RaftNodeId>;
pub(super) type Membership = openraft::StoredMembership<RaftNodeId, BasicNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<RaftNodeId, BasicNode>;
pub(super) type Snapshot = openraft::Snapshot<Types>;
pub(super) type StorageError = openraft::StorageError<RaftNodeId>;

/// The replicated state: no map until the change that makes the cluster is applied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) map: Option<Arc<ShardMap>>,
}

/// What applying one log entry led to. A refused change is an ordinary outcome, the same on every node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Outcome {
    Applied(MapVersion),
    Refused(ChangeRefused),
    /// The entry carried no change: a blank one, or a change of Raft's own membership.
    NoChange,
}

/// Back from openraft's id. Every one was made from a [`NodeId`], so none is cut off here.
pub(super) fn node_id(id: RaftNodeId) -> NodeId {
    NodeId::new(id as u32)
}
