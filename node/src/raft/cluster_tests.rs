//! What three members agree on, and do not, while one of them is lost, late, cut off or lied to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tertulia_runtime::tasks::Supervisor;
use tertulia_shard_map::{Change, ChangeRefused, ClusterId, Incarnation, MapVersion, NodeId, ShardMap};

use super::{
    ProposeError, Raft, RaftConfig,
    fixtures::genesis,
    test_cluster::{CLUSTER, Cluster, DEADLINE},
    types::LogId,
};

fn started(node: u32, incarnation: u64) -> Change {
    Change::NodeStarted {
        node: NodeId::new(node),
        incarnation: Incarnation::new(incarnation),
        address: format!("127.0.0.1:{}", 7100 + node),
    }
}

fn has_started(node: u32, incarnation: u64) -> impl Fn(&ShardMap) -> bool {
    move |map| map.node(NodeId::new(node)).is_some_and(|node| node.incarnation == Incarnation::new(incarnation))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_through_any_member_reaches_the_map_of_all() {
    let cluster = Cluster::initialised().await;
    let leader = cluster.leader(None).await;
    let follower = &cluster.members[&cluster.any_but(leader)].raft;

    assert_eq!(follower.propose(started(1, 1)).await, Err(ProposeError::NotLeader { leader: Some(leader) }));
    let version = follower.propose_anywhere(started(1, 1), DEADLINE).await.unwrap();
    assert_eq!(version, MapVersion::new(2));
    for member in cluster.members.values() {
        member.wait_for_map(has_started(1, 1)).await;
        assert_eq!(member.version(), Some(version));
    }

    let stale = ChangeRefused::StaleIncarnation { node: NodeId::new(1), known: Incarnation::new(1) };
    let refused = cluster.members[&leader].raft.propose(started(1, 1)).await;
    assert_eq!(refused, Err(ProposeError::Refused(stale.clone())));
    let refused = follower.propose_anywhere(started(1, 1), DEADLINE).await;
    assert_eq!(refused, Err(ProposeError::RefusedByLeader(stale.to_string())));

    let read = cluster.members[&leader].raft.read_linearizable().await.unwrap();
    assert_eq!(read.map(|map| map.version()), Some(version));
    assert!(matches!(follower.read_linearizable().await, Err(ProposeError::NotLeader { .. })));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_initialised_once() {
    let cluster = Cluster::start().await;
    let first = &cluster.members[&NodeId::new(1)].raft;
    assert_eq!(first.propose(started(1, 1)).await, Err(ProposeError::NotInitialised));
    assert_eq!(first.status().members, BTreeMap::new());

    let mut others = cluster.addresses.clone();
    others.remove(&NodeId::new(1));
    assert_eq!(first.initialise(others, genesis(CLUSTER)).await, Err(ProposeError::NotAMember));

    let addresses = &cluster.addresses;
    assert_eq!(first.initialise(addresses.clone(), genesis(CLUSTER)).await, Ok(ClusterId::from_u128(CLUSTER)));
    let again = Err(ProposeError::Refused(ChangeRefused::AlreadyInitialised(ClusterId::from_u128(CLUSTER))));
    for member in cluster.members.values() {
        member.wait_for_map(|_| true).await;
        assert_eq!(member.raft.initialise(addresses.clone(), genesis(8)).await, again);
    }
    let members = first.status().members;
    assert_eq!(
        members.into_iter().map(|(node, member)| (node, member.address)).collect::<BTreeMap<_, _>>(),
        *addresses
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_the_leader_is_survived_and_it_catches_up_when_it_is_back() {
    let mut cluster = Cluster::initialised().await;
    let lost = cluster.leader(None).await;
    cluster.stop_member(lost).await;

    let survivor = cluster.any_but(lost);
    let version = cluster.members[&survivor].raft.propose_anywhere(started(2, 1), DEADLINE).await.unwrap();
    assert_ne!(cluster.leader(None).await, lost);

    cluster.start_member(lost).await;
    let back = &cluster.members[&lost];
    assert!(back.version().is_some(), "the map of before is there at once");
    back.wait_for_map(has_started(2, 1)).await;
    assert_eq!(back.version(), Some(version));
    let version = back.raft.propose_anywhere(started(lost.get(), 9), DEADLINE).await.unwrap();
    for member in cluster.members.values() {
        member.wait_for_map(|map| map.version() == version).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_missed_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::initialised().await;
    let leader = cluster.leader(None).await;
    let late = cluster.any_but(leader);
    cluster.stop_member(late).await;

    let raft = &cluster.members[&leader].raft;
    let version = raft.propose(started(2, 1)).await.unwrap();
    // A linearizable read waits until the status shows what it read.
    raft.read_linearizable().await.unwrap();
    let applied = raft.status().applied;
    raft.inner.raft.trigger().snapshot().await.unwrap();
    let wait = raft.inner.raft.wait(Some(DEADLINE));
    let is_taken = |snapshot: Option<LogId>| snapshot.is_some_and(|snapshot| snapshot.index >= applied);
    wait.metrics(|metrics| is_taken(metrics.snapshot), "a snapshot").await.unwrap();
    raft.inner.raft.trigger().purge_log(applied).await.unwrap();
    wait.metrics(|metrics| is_taken(metrics.purged), "a purge").await.unwrap();

    cluster.start_member(late).await;
    let late = &cluster.members[&late];
    late.wait_for_map(|map| map.version() == version).await;
    let received = late.raft.inner.raft.wait(Some(DEADLINE));
    received.metrics(|metrics| is_taken(metrics.snapshot), "a received snapshot").await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_the_map_does_not_end_with_raft() {
    let mut cluster = Cluster::initialised().await;
    let raft = cluster.members[&NodeId::new(1)].raft.clone();
    let (map, leadership) = (raft.map(), raft.leadership());
    cluster.stop_member(NodeId::new(1)).await;
    assert!(map.has_changed().is_ok() && leadership.has_changed().is_ok());
    drop(raft);
    assert!(map.has_changed().is_err() && leadership.has_changed().is_err());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_commits_nothing() {
    let cluster = Cluster::initialised().await;
    let cut_off = cluster.leader(None).await;
    cluster.cut_off.send_replace(vec![cut_off]);

    let minority = cluster.members[&cut_off].raft.clone();
    let (lost, read) = tokio::join!(minority.propose(started(3, 5)), minority.read_linearizable());
    assert!(matches!(lost, Err(ProposeError::Timeout | ProposeError::NotLeader { .. })), "{lost:?}");
    assert!(matches!(read, Err(ProposeError::Timeout | ProposeError::NotLeader { .. })), "{read:?}");

    let majority = cluster.leader(Some(cut_off)).await;
    let version = cluster.members[&majority].raft.propose(started(3, 1)).await.unwrap();
    assert_eq!(version, MapVersion::new(2), "what the minority wrote was never applied");
    assert_eq!(cluster.members[&cut_off].version(), Some(MapVersion::new(1)));

    cluster.cut_off.send_replace(vec![]);
    let healed = &cluster.members[&cut_off];
    healed.wait_for_map(|map| map.version() >= version).await;
    healed.wait_for_map(has_started(3, 1)).await;
    assert_eq!(healed.version(), Some(version));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_anothers_name_or_of_a_foreign_format_is_not_processed() {
    let cluster = Cluster::initialised().await;
    let leader = cluster.leader(None).await;
    let follower = cluster.any_but(leader);
    let status = cluster.members[&follower].raft.status();

    let vote = openraft::Vote::new(status.term + 100, u64::from(leader.get()));
    let forged =
        super::codec::encode(&super::rpc::Request::Vote(openraft::raft::VoteRequest::new(vote, None))).unwrap();
    let mut foreign = forged.clone();
    foreign[0] = 9;
    for (from, request) in [(follower, forged), (leader, foreign), (leader, vec![])] {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        cluster.members[&follower].raft.handle(from, &request.into(), |answer| sender.send(answer).unwrap());
        let answer = super::codec::decode(&receiver.await.unwrap()).unwrap();
        assert!(matches!(answer, super::rpc::Response::Failed(_)), "{answer:?}");
    }
    assert_eq!(cluster.members[&follower].raft.status().term, status.term);
    cluster.stop().await;
}

#[tokio::test]
async fn a_damaged_log_is_a_clear_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(super::disk::FILE_NAME), "not a log").unwrap();
    let config = RaftConfig {
        node: NodeId::new(1),
        dir: folder.path().to_owned(),
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
    };
    let make_client = |_: NodeId, _: &str| unreachable!("a start connects to nobody");
    let error = Raft::start(config, Arc::new(make_client), &Supervisor::new()).await.err().unwrap();
    assert!(format!("{error:#}").starts_with("cannot open the Raft log"), "{error:#}");
}
