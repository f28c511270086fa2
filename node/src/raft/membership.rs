//! Who takes part in Raft: nodes are added and removed one at a time, by an operator's command.

use std::{collections::BTreeSet, time::Duration};

use openraft::{
    BasicNode, ChangeMembers,
    error::{ClientWriteError, RaftError},
};
use tertulia_wire::cluster::MembershipChange;
use tokio::time::timeout;

use super::{ProposeError, Raft, types::RaftNodeId};

/// For the whole log, or a snapshot and what came after it.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

type WriteError = RaftError<RaftNodeId, ClientWriteError<RaftNodeId, BasicNode>>;

impl Raft {
    /// Carries the change out, where this node leads. Asking again for what was done is harmless.
    pub async fn change_membership(&self, change: MembershipChange) -> Result<(), ProposeError> {
        match change {
            MembershipChange::Add { node, address } => {
                let id = RaftNodeId::from(node.get());
                // It has no vote before it has the log: else it would count against the quorum, and could not be one of it.
                let learns = self.inner.raft.add_learner(id, BasicNode::new(address), true);
                let learned = timeout(CATCH_UP_TIMEOUT, learns).await.map_err(|_| ProposeError::Timeout)?;
                learned.map_err(|error| self.membership_error(error))?;
                self.change_voters(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
            }
            MembershipChange::Remove { node } => {
                let nodes = BTreeSet::from([RaftNodeId::from(node.get())]);
                self.change_voters(ChangeMembers::RemoveVoters(nodes.clone())).await?;
                // One that never got a vote.
                self.change_voters(ChangeMembers::RemoveNodes(nodes)).await
            }
            MembershipChange::Snapshot => self.inner.raft.trigger().snapshot().await.map_err(|_| ProposeError::Stopped),
        }
    }

    async fn change_voters(&self, change: ChangeMembers<RaftNodeId, BasicNode>) -> Result<(), ProposeError> {
        let changes = self.inner.raft.change_membership(change, false);
        let changed = timeout(CHANGE_TIMEOUT, changes).await.map_err(|_| ProposeError::Timeout)?;
        changed.map(drop).map_err(|error| self.membership_error(error))
    }

    fn membership_error(&self, error: WriteError) -> ProposeError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => self.not_leader(forward.leader_id),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
                ProposeError::Membership(error.to_string())
            }
            RaftError::Fatal(_) => ProposeError::Stopped,
        }
    }
}
