//! The other nodes, as the map names them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tertulia_runtime::{
    PeerName,
    rpc::{CallOptions, Class, Client, Endpoint, NoInbox, PeerAddress},
};
use tertulia_shard_map::{ConversationId, DirectPair, NodeId, Seq, ShardMap, UserId};
use tertulia_wire::{
    cluster::{Answer, Call, DeliverEvent, HistoryRange, HistoryRead},
    limits::HISTORY_PAGE_MAX,
};
use tokio::sync::watch;

const HISTORY_DEADLINE: Duration = Duration::from_secs(5);

/// Clients for the nodes of the map. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    map: watch::Receiver<Option<Arc<ShardMap>>>,
    clients: Mutex<HashMap<NodeId, Client>>,
}

impl Peers {
    pub fn new(endpoint: Endpoint, map: watch::Receiver<Option<Arc<ShardMap>>>) -> Self {
        Self { inner: Arc::new(Inner { endpoint, map, clients: Mutex::default() }) }
    }

    /// Connects to every other node of the map, so that nothing has to wait for that later.
    pub fn connect_all(&self, map: &ShardMap) {
        for (node, _) in map.nodes().filter(|(node, _)| PeerName::Node(*node) != self.inner.endpoint.name()) {
            self.data(node);
        }
    }

    /// For bulk and commands. `None` where the map has no such node.
    pub fn data(&self, node: NodeId) -> Option<Client> {
        let map = self.inner.map.borrow().clone()?;
        let address = map.node(node)?.address.clone();
        let mut clients = self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Who left the map is not called again.
        clients.retain(|known, _| map.node(*known).is_some());
        if let Some(client) = clients.get(&node) {
            client.set_address(address);
            return Some(client.clone());
        }
        let peer = PeerAddress { name: PeerName::Node(node), address };
        let client = self.inner.endpoint.peer(peer, Class::Data, Arc::new(NoInbox));
        client.connect();
        clients.insert(node, client.clone());
        Some(client)
    }

    /// A page of a conversation, as a member may see it, from its owner. `None` where that does not answer.
    pub async fn events_after(
        &self,
        conversation: ConversationId,
        reader: UserId,
        after: Seq,
    ) -> Option<Vec<DeliverEvent>> {
        let owner = {
            let map = self.inner.map.borrow();
            let map = map.as_ref()?;
            map.owner(map.slot_of_conversation(conversation))?.node
        };
        let read = HistoryRead { conversation, reader, range: HistoryRange::After(after), limit: HISTORY_PAGE_MAX };
        let answer = self.data(owner)?.call(Call::History(read), CallOptions::within(HISTORY_DEADLINE)).await.ok()?;
        let Answer::History(page) = answer else { return None };
        let with_record = |record| DeliverEvent { record, direct: None::<DirectPair>, origin: None };
        Some(page.events.into_iter().map(with_record).collect())
    }
}
