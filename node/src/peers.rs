//! The other nodes, as the map names them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tertulia_runtime::{
    PeerName,
    rpc::{CallOptions, Class, Client, Endpoint, NoInbox, PeerAddress},
};
use tertulia_shard_map::{ConversationId, NodeId, Seq, ShardMap};
use tertulia_wire::{
    EventRecord,
    cluster::{Answer, Call, Head, HistoryRange, HistoryRead, Reader},
    limits::HISTORY_PAGE_MAX,
};
use tokio::sync::watch;

const HISTORY_DEADLINE: Duration = Duration::from_secs(5);
const HEADS_DEADLINE: Duration = Duration::from_secs(2);

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

    /// A page of what the reader may see of a conversation, from the conversation's owner. `None` where that does not answer.
    pub async fn events_after(
        &self,
        conversation: ConversationId,
        reader: Reader,
        after: Seq,
    ) -> Option<Vec<EventRecord>> {
        let range = HistoryRange::After(after);
        self.history(HistoryRead { conversation, reader, range, limit: HISTORY_PAGE_MAX }).await
    }

    /// The newest event of a conversation. `None` where its owner does not answer.
    pub async fn latest_event(&self, conversation: ConversationId) -> Option<EventRecord> {
        let range = HistoryRange::Latest;
        self.history(HistoryRead { conversation, reader: Reader::App, range, limit: 1 }).await?.pop()
    }

    async fn history(&self, read: HistoryRead) -> Option<Vec<EventRecord>> {
        let owner = self.owner(read.conversation)?;
        let answer = self.data(owner)?.call(Call::History(read), CallOptions::within(HISTORY_DEADLINE)).await.ok()?;
        if let Answer::History(page) = answer { Some(page.events) } else { None }
    }

    /// Tells the owners of these large groups that this node wants to hear of their new events, and learns where the groups
    /// are now. `None` for a group whose owner does not answer, or does not serve it.
    pub async fn interest(&self, conversations: Vec<ConversationId>) -> Vec<(ConversationId, Option<Head>)> {
        self.ask_owners(conversations, Call::Interest).await
    }

    /// Where these large groups are now; `None` as for [`interest`](Self::interest).
    pub async fn heads(&self, conversations: Vec<ConversationId>) -> Vec<(ConversationId, Option<Head>)> {
        self.ask_owners(conversations, Call::Heads).await
    }

    /// All owners at the same time. In no particular order.
    async fn ask_owners(
        &self,
        conversations: Vec<ConversationId>,
        call: fn(Vec<ConversationId>) -> Call,
    ) -> Vec<(ConversationId, Option<Head>)> {
        let mut by_owner: BTreeMap<Option<NodeId>, Vec<ConversationId>> = BTreeMap::new();
        for conversation in conversations {
            by_owner.entry(self.owner(conversation)).or_default().push(conversation);
        }
        let asked = by_owner.into_iter().map(|(owner, conversations)| async move {
            let client = owner.and_then(|owner| self.data(owner));
            let answer = match client {
                Some(client) => {
                    client.call(call(conversations.clone()), CallOptions::within(HEADS_DEADLINE)).await.ok()
                }
                None => None,
            };
            let heads = match answer {
                Some(Answer::Interest(heads) | Answer::Heads(heads)) if heads.len() == conversations.len() => heads,
                _ => vec![None; conversations.len()],
            };
            conversations.into_iter().zip(heads).collect::<Vec<_>>()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn owner(&self, conversation: ConversationId) -> Option<NodeId> {
        let map = self.inner.map.borrow();
        let map = map.as_ref()?;
        Some(map.owner(map.slot_of_conversation(conversation))?.node)
    }

    /// Changes with the map.
    pub fn map(&self) -> watch::Receiver<Option<Arc<ShardMap>>> {
        self.inner.map.clone()
    }
}
