//! Calling the nodes of the configuration, as the operator.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use tertulia_runtime::{
    PeerName,
    config::Config,
    rpc::{CallError, CallOptions, Class, Client, Endpoint, EndpointConfig, NoInbox, PeerAddress},
    tasks::Supervisor,
    tls::Identity,
};
use tertulia_shard_map::{Change, ChangeRefused, MapVersion, NodeId, ShardMap};
use tertulia_wire::cluster::{Answer, Call, MembershipChange, MoveProgress, NodeLoad, NodeStatus, Refusal};
use tokio::time::{Instant, sleep};

/// A node answers from memory; what takes longer than this does not work.
const CALL_LIMIT: Duration = Duration::from_secs(2);
const PROPOSE_LIMIT: Duration = Duration::from_secs(3);
/// A node that joins has to receive the whole map first.
const MEMBERSHIP_LIMIT: Duration = Duration::from_secs(45);
/// An election takes less.
const LEADER_LIMIT: Duration = Duration::from_secs(5);
const LEADER_POLL: Duration = Duration::from_millis(100);

/// Clients of all configured nodes.
pub struct Nodes {
    clients: Vec<(NodeId, Client)>,
    // Owns the connections' tasks.
    _supervisor: Supervisor,
    endpoint: Endpoint,
}

impl Nodes {
    pub fn connect(config: &Config) -> anyhow::Result<Self> {
        let identity = Identity::load(PeerName::Operator, &config.tls.dir, &config.tls.ca_file)
            .context("the operator's certificate (tertuliactl pki makes a development one)")?;
        let supervisor = Supervisor::new();
        let endpoint = Endpoint::bind(EndpointConfig::client(Arc::new(identity)), &supervisor)?;
        let clients = config
            .nodes
            .iter()
            .map(|(&id, node)| {
                let address = PeerAddress { name: PeerName::Node(id), address: node.cluster_address.to_string() };
                (id, endpoint.peer(address, Class::Data, Arc::new(NoInbox)))
            })
            .collect();
        Ok(Self { clients, _supervisor: supervisor, endpoint })
    }

    pub async fn call(&self, node: NodeId, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let client = self.clients.iter().find(|(id, _)| *id == node).map(|(_, client)| client);
        match client {
            Some(client) => client.call(call, CallOptions::within(limit)).await,
            None => Err(CallError::Unreachable),
        }
    }

    /// What each node says of itself, in order of id.
    pub async fn statuses(&self) -> Vec<(NodeId, Result<NodeStatus, CallError>)> {
        let status = |answer: Result<Answer, CallError>| match answer {
            Ok(Answer::Status(status)) => Ok(*status),
            // Another answer than the call's is a fault of the peer's.
            Ok(_) => Err(CallError::Closed),
            Err(error) => Err(error),
        };
        let answers = self.ask_all(Call::Status, CALL_LIMIT).await;
        answers.into_iter().map(|(id, answer)| (id, status(answer))).collect()
    }

    /// How busy each node is that says so, in order of id. One of an earlier release does not.
    pub async fn loads(&self) -> Vec<(NodeId, NodeLoad)> {
        let load = |(id, answer)| match answer {
            Ok(Answer::Load(load)) => Some((id, *load)),
            Ok(_) | Err(_) => None,
        };
        self.ask_all(Call::Load, CALL_LIMIT).await.into_iter().filter_map(load).collect()
    }

    /// All at once, so that those that are away cost their time only once. In order of id.
    async fn ask_all(&self, call: Call, limit: Duration) -> Vec<(NodeId, Result<Answer, CallError>)> {
        let asked = self.ids().map(|id| {
            let call = call.clone();
            async move { (id, self.call(id, call, limit).await) }
        });
        join_all(asked).await
    }

    /// The newest map that any node has.
    pub async fn newest_map(&self) -> anyhow::Result<Box<ShardMap>> {
        let mut newest: Option<Box<ShardMap>> = None;
        let mut problem = None;
        for (id, answer) in self.ask_all(Call::WatchMap { have: MapVersion::ZERO }, CALL_LIMIT).await {
            match answer {
                Ok(Answer::WatchMap(Some(map))) => {
                    if newest.as_ref().is_none_or(|best| best.version() < map.version()) {
                        newest = Some(map);
                    }
                }
                Ok(_) => problem = Some(format!("node-{id} has no map: is the cluster initialised?")),
                Err(error) => problem = Some(format!("node-{id}: {error}")),
            }
        }
        match (newest, problem) {
            (Some(map), _) => Ok(map),
            (None, problem) => bail!(problem.unwrap_or_else(|| "the configuration has no nodes".to_owned())),
        }
    }

    /// Has whichever node leads apply the change. One that is in force already is no error.
    pub async fn propose(&self, change: Change) -> anyhow::Result<()> {
        match self.ask_the_leader(Call::Propose(Box::new(change)), PROPOSE_LIMIT).await {
            Err(CallError::Refused(Refusal::Invalid(reason))) if reason == ChangeRefused::Unchanged.to_string() => {
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Has whichever node leads change who takes part in Raft.
    pub async fn change_membership(&self, change: MembershipChange) -> anyhow::Result<()> {
        self.ask_the_leader(Call::ChangeMembership(change), MEMBERSHIP_LIMIT).await?;
        Ok(())
    }

    /// How far the moves are, of whoever drives them.
    pub async fn moves(&self) -> anyhow::Result<Vec<MoveProgress>> {
        match self.ask_the_leader(Call::Moves, CALL_LIMIT).await? {
            Answer::Moves(moves) => Ok(moves),
            _ => bail!("the leader answers as if it were another call"),
        }
    }

    /// Makes the call to whichever node leads, looking for one for some seconds.
    async fn ask_the_leader(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let deadline = Instant::now() + LEADER_LIMIT;
        loop {
            let mut refusal = CallError::Unreachable;
            for id in self.ids() {
                match self.call(id, call.clone(), limit).await {
                    Ok(answer) => return Ok(answer),
                    Err(error @ CallError::Refused(Refusal::Invalid(_) | Refusal::Forbidden)) => return Err(error),
                    // Not the leader, or away: another may be.
                    Err(error) => refusal = error,
                }
            }
            if Instant::now() > deadline {
                return Err(refusal);
            }
            sleep(LEADER_POLL).await;
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.clients.iter().map(|(id, _)| *id)
    }

    /// Says good-bye, so that no node has to find out by a timeout.
    pub async fn close(self) {
        self.endpoint.close().await;
    }
}
