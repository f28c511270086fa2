//! What Raft's members say to each other, inside the opaque `Call::Raft` and `Answer::Raft`.

use openraft::{BasicNode, raft};
use serde::{Deserialize, Serialize};

use super::{
    disk::StoredSnapshot,
    types::{RaftNodeId, Types, Vote},
};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    AppendEntries(raft::AppendEntriesRequest<Types>),
    Vote(raft::VoteRequest<RaftNodeId>),
    /// The whole state at once: the map of the largest cluster is far smaller than a frame.
    Snapshot {
        vote: Vote,
        snapshot: StoredSnapshot,
    },
}

impl Request {
    /// Who a request claims to come from: leaders and candidates speak for themselves only.
    pub(super) fn sender(&self) -> Option<RaftNodeId> {
        let vote = match self {
            Self::AppendEntries(request) => &request.vote,
            Self::Vote(request) => &request.vote,
            Self::Snapshot { vote, .. } => vote,
        };
        vote.leader_id().voted_for()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    AppendEntries(raft::AppendEntriesResponse<RaftNodeId>),
    Vote(raft::VoteResponse<RaftNodeId>),
    Snapshot(raft::SnapshotResponse<RaftNodeId>),
    /// The member could not process the request at all; asking again at once is no use.
    Failed(String),
}

pub(super) type RpcError = openraft::error::RPCError<RaftNodeId, BasicNode, openraft::error::RaftError<RaftNodeId>>;
