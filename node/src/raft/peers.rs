//! The other members' clients, one per node for the life of the process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tertulia_runtime::rpc::Client;
use tertulia_shard_map::NodeId;

/// Makes the client of class Raft to a node, by its id and cluster address. Called once per node; must not wait for a
/// connection.
pub type MakeClient = Arc<dyn Fn(NodeId, &str) -> Client + Send + Sync>;

/// openraft asks for a way to a member at every vote and every linearizable read: each gets the same client, and so the
/// same connection.
pub(super) struct Peers {
    make: MakeClient,
    /// By node, with the address that it has now. As many as the cluster has members.
    known: Mutex<HashMap<NodeId, (String, Client)>>,
}

impl Peers {
    pub(super) fn new(make: MakeClient) -> Self {
        Self { make, known: Mutex::default() }
    }

    pub(super) fn client(&self, node: NodeId, address: &str) -> Client {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, client) = known.entry(node).or_insert_with(|| (address.to_owned(), (self.make)(node, address)));
        if current != address {
            address.clone_into(current);
            client.set_address(address.to_owned());
        }
        client.clone()
    }
}
