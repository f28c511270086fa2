//! Calling the nodes of the configuration, as the operator.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tertulia_runtime::{
    PeerName,
    config::Config,
    rpc::{CallError, CallOptions, Class, Client, Endpoint, EndpointConfig, NoInbox, PeerAddress},
    tasks::Supervisor,
    tls::Identity,
};
use tertulia_shard_map::NodeId;
use tertulia_wire::cluster::{Answer, Call, NodeStatus};

/// A node answers from memory; what takes longer than this does not work.
const CALL_LIMIT: Duration = Duration::from_secs(2);

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
        let mut statuses = Vec::with_capacity(self.clients.len());
        // One after another: there are few, and those that are away fail fast.
        for &(id, _) in &self.clients {
            let status = match self.call(id, Call::Status, CALL_LIMIT).await {
                Ok(Answer::Status(status)) => Ok(*status),
                // Another answer than the call's is a fault of the peer's.
                Ok(_) => Err(CallError::Closed),
                Err(error) => Err(error),
            };
            statuses.push((id, status));
        }
        statuses
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.clients.iter().map(|(id, _)| *id)
    }

    /// Says good-bye, so that no node has to find out by a timeout.
    pub async fn close(self) {
        self.endpoint.close().await;
    }
}
