//! A frozen owner is deposed while it is frozen: what it writes when it wakes must not be committed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tertulia_runtime::{
    PeerName,
    config::{Config, NodeConfig},
    rpc::{CallError, CallOptions, Class, Client as RpcClient, Endpoint, EndpointConfig, NoInbox, PeerAddress},
    tasks::Supervisor,
    tls::Identity,
};
use tertulia_shard_map::{
    Change, ConversationId, DirectPair, EventId, MapVersion, NodeId, OwnerChange, ShardMap, Slot, SlotEntry, UserId,
};
use tertulia_test_support::{Client, Cluster, Member, client::message, eventually};
use tertulia_wire::{
    client::{Command, Reply},
    cluster::{Answer, Call, Refusal},
};
use tokio::{sync::watch, task::JoinHandle};

/// The cluster as an operator's command reaches it.
struct Operator {
    nodes: Vec<RpcClient>,
    _endpoint: Endpoint,
}

impl Operator {
    fn of(cluster: &Cluster) -> Self {
        let config = Config::load(&cluster.config_path(), [], &[]).expect("the harness writes a sound configuration");
        let identity = Identity::load(PeerName::Operator, &config.tls.dir, &config.tls.ca_file).expect("a certificate");
        let endpoint =
            Endpoint::bind(EndpointConfig::client(Arc::new(identity)), &Supervisor::new()).expect("a socket");
        let peer = |(&id, node): (&NodeId, &NodeConfig)| {
            let peer = PeerAddress { name: PeerName::Node(id), address: node.cluster_address.to_string() };
            endpoint.peer(peer, Class::Data, Arc::new(NoInbox))
        };
        Self { nodes: config.nodes.iter().map(peer).collect(), _endpoint: endpoint }
    }

    async fn map(&self) -> ShardMap {
        eventually("a node to tell the map", async || {
            for node in &self.nodes {
                let call = Call::WatchMap { have: MapVersion::ZERO };
                if let Ok(Answer::WatchMap(Some(map))) =
                    node.call(call, CallOptions::within(Duration::from_secs(1))).await
                {
                    return Some(*map);
                }
            }
            None
        })
        .await
    }

    /// Has whichever node leads apply the change.
    async fn propose(&self, change: Change) {
        eventually("a leader to take the change", async || {
            for node in &self.nodes {
                let call = Call::Propose(Box::new(change.clone()));
                match node.call(call, CallOptions::within(Duration::from_secs(2))).await {
                    Ok(Answer::Propose { .. }) => return Some(()),
                    Err(CallError::Refused(Refusal::Invalid(reason))) => panic!("refused: {reason}"),
                    _ => {}
                }
            }
            None
        })
        .await;
    }
}

/// The slots of `from` go to `to`, as a controller would decide that holds `from` for dead.
fn take_over(map: &ShardMap, from: NodeId, to: NodeId) -> Change {
    let change = |(slot, entry): (Slot, &SlotEntry)| OwnerChange { slot, expected_epoch: entry.epoch, to };
    Change::Reassign { slots: map.owned_by(from).map(change).collect() }
}

/// What a sender knows for sure: every event that was acknowledged to it.
struct Sent {
    client: Client,
    conversation: ConversationId,
    acked: BTreeSet<EventId>,
}

/// Keeps the owner's queue full: many messages at a time, each tried again until it is acknowledged.
fn flood(mut client: Client, to: UserId, go: watch::Receiver<bool>) -> JoinHandle<Sent> {
    tokio::spawn(async move {
        let mut acked = BTreeSet::new();
        let mut number = 0;
        while *go.borrow() {
            let mut open: Vec<_> = (0..30)
                .map(|_| {
                    number += 1;
                    message(to, &number.to_string(), "flood")
                })
                .collect();
            while !open.is_empty() {
                let mut begun = Vec::new();
                for send in open.drain(..) {
                    begun.push((client.begin(&Command::Send(send.clone())).await, send));
                }
                for (id, send) in begun {
                    match client.reply(id).await {
                        Reply::Ack(ack) => drop(acked.insert(ack.message.id)),
                        Reply::Error(error) if error.retryable => open.push(send),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        let conversation = DirectPair::new(client.user(), to).conversation_id();
        Sent { client, conversation, acked }
    })
}

#[tokio::test]
async fn an_owner_that_was_frozen_and_deposed_under_load_commits_nothing_when_it_wakes() {
    let cluster = Cluster::builder().start().await;
    let operator = Operator::of(&cluster);
    let (go, going) = watch::channel(true);
    let mut floods = Vec::new();
    for number in 0..8 {
        let to = cluster.login(&format!("b{number}")).await.user;
        floods.push(flood(cluster.connect(1 + number % 2, &format!("a{number}")).await, to, going.clone()));
    }

    let (old, new) = (NodeId::new(1), NodeId::new(2));
    let mut stopped = 0.0;
    // It may happen to freeze with nothing under way: then once more.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.pause(Member::Node(1));
        operator.propose(take_over(&operator.map().await, old, new)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.resume(Member::Node(1));
        tokio::time::sleep(Duration::from_millis(500)).await;
        stopped = cluster.metric(Member::Node(1), "tertulia_node_fenced_batches_total").await;
        if stopped > 0.0 {
            break;
        }
        operator.propose(take_over(&operator.map().await, new, old)).await;
    }
    assert!(stopped > 0.0, "no stale write was attempted: the test has shown nothing");
    go.send(false).expect("senders listen");

    for flood in floods {
        let Sent { mut client, conversation, acked } = flood.await.expect("a sender ends well");
        let history = client.history(conversation).await;
        let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
        assert_eq!(seqs, (1..=acked.len() as u64).collect::<Vec<_>>(), "contiguous, and no more than was acknowledged");
        assert_eq!(history.iter().map(|event| event.id).collect::<BTreeSet<_>>(), acked);
    }
    cluster.assert_no_errors();
}
