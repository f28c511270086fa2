//! What openraft says of itself, in our words.

use std::collections::BTreeMap;

use anyhow::bail;
use openraft::{BasicNode, RaftMetrics, ServerState, error::Fatal};
use tertulia_shard_map::NodeId;
use tertulia_wire::cluster::RaftMember;
use tokio::sync::watch;

use super::types::{RaftNodeId, node_id};

type Metrics = RaftMetrics<RaftNodeId, BasicNode>;

/// Who leads, as far as a node knows: another may have been elected since, and only a commit or a linearizable read
/// proves that none has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leadership {
    /// No leader is known: none is elected, or the cluster is not initialised.
    #[default]
    Unknown,
    /// This node leads.
    Leading {
        term: u64,
    },
    Following {
        term: u64,
        leader: NodeId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives the log and has no vote; also what a node is before it belongs to a cluster.
    Learner,
    Follower,
    Candidate,
    Leader,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voting {
    Voter,
    Learner,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Cluster address, as given when it joined.
    pub address: String,
    pub voting: Voting,
}

impl Member {
    pub fn of(self, node: NodeId) -> RaftMember {
        RaftMember { node, address: self.address, is_voter: self.voting == Voting::Voter }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Index of the last log entry that the map reflects; 0 where none is.
    pub applied: u64,
    pub role: Role,
    /// Empty until this node belongs to a cluster.
    pub members: BTreeMap<NodeId, Member>,
}

impl RaftStatus {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let membership = metrics.membership_config.membership();
        let voters: Vec<RaftNodeId> = membership.voter_ids().collect();
        let members = membership.nodes().map(|(id, node)| {
            let voting = if voters.contains(id) { Voting::Voter } else { Voting::Learner };
            (node_id(*id), Member { address: node.addr.clone(), voting })
        });
        Self {
            leader: metrics.current_leader.map(node_id),
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            role: match metrics.state {
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Stopped,
            },
            members: members.collect(),
        }
    }
}

fn leadership(metrics: &Metrics) -> Leadership {
    let term = metrics.current_term;
    match metrics.current_leader.map(node_id) {
        None => Leadership::Unknown,
        Some(_) if metrics.state == ServerState::Leader => Leadership::Leading { term },
        // A leader that has lost the role, or that has stopped, may still name itself for a moment.
        Some(leader) if RaftNodeId::from(leader.get()) == metrics.id => Leadership::Unknown,
        Some(leader) => Leadership::Following { term, leader },
    }
}

/// Publishes the leadership as it changes. An error once openraft has stopped unasked: its log can no longer be
/// trusted to move, so the process must end.
pub(super) async fn follow(
    mut metrics: watch::Receiver<Metrics>,
    publish: watch::Sender<Leadership>,
) -> anyhow::Result<()> {
    loop {
        let (now, running) = {
            let metrics = metrics.borrow_and_update();
            (leadership(&metrics), metrics.running_state.clone())
        };
        publish.send_if_modified(|published| std::mem::replace(published, now) != now);
        match running {
            Ok(()) => {}
            Err(Fatal::Stopped) => return Ok(()),
            Err(fatal) => return Err(anyhow::Error::new(fatal).context("raft stopped")),
        }
        if metrics.changed().await.is_err() {
            bail!("raft ended without a word");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn follow_until(running_state: Result<(), Fatal<RaftNodeId>>) -> anyhow::Result<()> {
        let (metrics, seen) = watch::channel(Metrics::new_initial(1));
        let following = tokio::spawn(follow(seen, watch::channel(Leadership::Unknown).0));
        metrics.send_modify(|metrics| metrics.running_state = running_state);
        following.await.unwrap()
    }

    #[tokio::test]
    async fn a_raft_that_broke_is_an_error_and_one_that_was_stopped_is_not() {
        assert!(follow_until(Err(Fatal::Panicked)).await.is_err());
        assert!(follow_until(Err(Fatal::Stopped)).await.is_ok());
    }

    #[test]
    fn a_leader_that_no_longer_leads_is_not_reported_as_leading() {
        let mut metrics = Metrics::new_initial(1);
        metrics.current_term = 4;
        assert_eq!(leadership(&metrics), Leadership::Unknown);
        metrics.current_leader = Some(1);
        metrics.state = ServerState::Leader;
        assert_eq!(leadership(&metrics), Leadership::Leading { term: 4 });
        metrics.state = ServerState::Follower;
        assert_eq!(leadership(&metrics), Leadership::Unknown);
        metrics.current_leader = Some(2);
        assert_eq!(leadership(&metrics), Leadership::Following { term: 4, leader: NodeId::new(2) });
    }
}
