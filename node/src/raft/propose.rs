//! Getting a change into the log, and reading what the log has led to.

use std::{sync::Arc, time::Duration};

use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use tertulia_runtime::rpc::{CallError, CallOptions};
use tertulia_shard_map::{Change, ChangeRefused, MapVersion, NodeId, ShardMap};
use tertulia_wire::cluster::{Answer, Call, Refusal};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    Leadership, Raft,
    types::{Outcome, RaftNodeId, node_id},
};

/// How long a leader waits for a quorum before it says that the outcome is unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before asking for a leader again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node is not the Raft leader")]
    NotLeader { leader: Option<NodeId> },
    /// The rules of the map forbid it. Final, for this map.
    #[error("the change is refused")]
    Refused(#[source] ChangeRefused),
    /// As [`ProposeError::Refused`], where the leader is another node: it tells the reason as text only.
    #[error("the leader refuses the change: {0}")]
    RefusedByLeader(String),
    /// Who takes part in Raft cannot be changed like that, or not now.
    #[error("the members of Raft cannot be changed: {0}")]
    Membership(String),
    /// No leader with a quorum answered in time. The change may be applied later, or never.
    #[error("no quorum answered in time: the outcome is unknown")]
    Timeout,
    #[error("this node belongs to no cluster yet")]
    NotInitialised,
    #[error("this node is not among the members of the cluster to be")]
    NotAMember,
    #[error("raft has stopped")]
    Stopped,
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::Refused(refused) => Self::Invalid(refused.to_string()),
            ProposeError::RefusedByLeader(reason) => Self::Invalid(reason),
            ProposeError::NotInitialised => Self::NotInitialised,
            ProposeError::NotAMember | ProposeError::Membership(_) => Self::Invalid(error.to_string()),
            ProposeError::Timeout => Self::NotServing,
            ProposeError::Stopped => Self::Internal,
        }
    }
}

impl Raft {
    /// Applies a change, where this node leads. The version is the map's after the change; [`Raft::map`] shows it.
    ///
    /// After [`ProposeError::Timeout`], and after [`ProposeError::NotLeader`] where the leadership was lost meanwhile,
    /// the change may still be applied. Proposing it again is safe: a change names what it expects.
    pub async fn propose(&self, change: Change) -> Result<MapVersion, ProposeError> {
        let written = timeout(COMMIT_TIMEOUT, self.inner.raft.client_write(change)).await;
        match written.map_err(|_| ProposeError::Timeout)? {
            Ok(response) => match response.data {
                Outcome::Applied(version) => Ok(version),
                Outcome::Refused(refused) => Err(ProposeError::Refused(refused)),
                Outcome::NoChange => unreachable!("an entry that carries a change has another outcome"),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(self.not_leader(forward.leader_id))
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(_))) => {
                unreachable!("an entry that carries a change does not touch the membership")
            }
            Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped),
        }
    }

    /// Applies a change through whichever node leads, trying again `within` a time. A refusal after a try whose answer
    /// was lost may mean that that try was applied: the map tells.
    pub async fn propose_anywhere(&self, change: Change, within: Duration) -> Result<MapVersion, ProposeError> {
        let deadline = Instant::now() + within;
        let mut leadership = self.leadership();
        loop {
            let known = *leadership.borrow_and_update();
            let attempt = async {
                match known {
                    Leadership::Leading { .. } => self.propose(change.clone()).await,
                    Leadership::Following { leader, .. } => self.propose_to(leader, change.clone()).await,
                    Leadership::Unknown => Err(self.not_leader(None)),
                }
            };
            let tried = tokio::select! {
                biased;
                tried = timeout_at(deadline, attempt) => tried,
                // The leader is another by now: the answer of the old one may never come.
                Ok(_) = leadership.wait_for(|now| *now != known) => continue,
            };
            let error = match tried {
                Ok(Ok(version)) => return Ok(version),
                Ok(Err(error)) => error,
                Err(_) => return Err(ProposeError::Timeout),
            };
            if !matches!(error, ProposeError::NotLeader { .. } | ProposeError::Timeout | ProposeError::NotInitialised) {
                return Err(error);
            }
            if Instant::now() + RETRY_INTERVAL >= deadline {
                return Err(error);
            }
            // A new leader is worth a try at once, an old one only after a pause.
            let _ = timeout(RETRY_INTERVAL, leadership.changed()).await;
        }
    }

    /// The map after every change that was acknowledged before this call. Only the leader can tell.
    pub async fn read_linearizable(&self) -> Result<Option<Arc<ShardMap>>, ProposeError> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        loop {
            let confirmed = timeout_at(deadline, self.inner.raft.ensure_linearizable()).await;
            match confirmed.map_err(|_| ProposeError::Timeout)? {
                Ok(_) => return Ok(self.inner.map.borrow().clone()),
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                    return Err(self.not_leader(forward.leader_id));
                }
                // Followers that have just restarted count again in a moment.
                Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => sleep(RETRY_INTERVAL).await,
                Err(RaftError::Fatal(_)) => return Err(ProposeError::Stopped),
            }
        }
    }

    async fn propose_to(&self, leader: NodeId, change: Change) -> Result<MapVersion, ProposeError> {
        let Some(member) = self.status().members.remove(&leader) else {
            return Err(ProposeError::NotLeader { leader: None });
        };
        let client = self.inner.peers.client(leader, &member.address);
        let options = CallOptions::within(COMMIT_TIMEOUT);
        match client.call(Call::Propose(Box::new(change)), options).await {
            Ok(Answer::Propose { version }) => Ok(version),
            Err(CallError::Refused(Refusal::NotLeader { leader })) => Err(ProposeError::NotLeader { leader }),
            Err(CallError::Refused(Refusal::Invalid(reason))) => Err(ProposeError::RefusedByLeader(reason)),
            Err(error) => {
                tracing::debug!(%error, %leader, "a proposal did not reach the leader, or its answer was lost");
                Err(ProposeError::Timeout)
            }
            Ok(_) => {
                tracing::warn!(%leader, "the leader answered a proposal as if it were another call");
                Err(ProposeError::Timeout)
            }
        }
    }

    pub(super) fn not_leader(&self, leader: Option<RaftNodeId>) -> ProposeError {
        let is_member = self.inner.raft.metrics().borrow().membership_config.membership().nodes().next().is_some();
        if is_member { ProposeError::NotLeader { leader: leader.map(node_id) } } else { ProposeError::NotInitialised }
    }
}
