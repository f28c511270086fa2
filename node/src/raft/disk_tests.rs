//! What is on disk: openraft's own suite, restarts, damage, foreign data.

use std::{fs, path::Path, sync::Arc};

use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
    testing::{StoreBuilder, Suite, log_id},
};
use tempfile::TempDir;
use tertulia_shard_map::{Change, MapVersion, NodeId};

use super::{
    disk::{Disk, DiskError, FILE_NAME},
    fixtures::genesis,
    log::LogStore,
    machine::Machine,
    types::{Entry, LogId, Outcome, SnapshotMeta, State, StorageError, Types, Vote},
};

const NODE: NodeId = NodeId::new(1);

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let (log, machine) = open(folder.path());
        Ok((folder, log, machine))
    }
}

fn open(folder: &Path) -> (LogStore, Machine) {
    let disk = Arc::new(Disk::open(folder, NODE).unwrap());
    (LogStore::new(Arc::clone(&disk)), Machine::load(disk).unwrap())
}

fn entry(index: u64, payload: EntryPayload<Types>) -> Entry {
    Entry { log_id: log_id(1, 1, index), payload }
}

fn first_map() -> Entry {
    entry(1, EntryPayload::Normal(genesis(7)))
}

#[test]
fn the_store_passes_openrafts_own_suite() {
    Suite::test_all(Builder).unwrap();
}

#[tokio::test]
async fn log_vote_and_map_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let vote = Vote::new_committed(3, 1);
    {
        let (mut log, mut machine) = open(folder.path());
        log.save_vote(&vote).await.unwrap();
        log.blocking_append([first_map(), entry(2, EntryPayload::Blank), entry(3, EntryPayload::Blank)]).await.unwrap();
        let outcomes = machine.apply([first_map()]).await.unwrap();
        assert!(matches!(outcomes[..], [Outcome::Applied(version)] if version == MapVersion::new(1)), "{outcomes:?}");
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        log.purge(log_id(1, 1, 1)).await.unwrap();
        log.truncate(log_id(1, 1, 3)).await.unwrap();
    }

    let (mut log, mut machine) = open(folder.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 1, 1)), Some(log_id(1, 1, 2))));
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 1, 1)));
    assert_eq!(machine.map().borrow().as_ref().map(|map| map.version()), Some(MapVersion::new(1)));
}

#[tokio::test]
async fn a_refused_change_is_an_outcome_and_leaves_the_map_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, mut machine) = open(folder.path());
    let orphan = entry(1, EntryPayload::Normal(Change::RemoveNode { node: NODE }));
    let outcomes = machine.apply([orphan]).await.unwrap();
    assert!(matches!(outcomes[..], [Outcome::Refused(_)]), "{outcomes:?}");
    assert!(machine.map().borrow().is_none());
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 1, 1)));
}

#[tokio::test]
async fn a_snapshot_carries_the_whole_map_to_another_node() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_log, mut leader) = open(from.path());
    leader.apply([first_map()]).await.unwrap();
    let built = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(leader.get_current_snapshot().await.unwrap().unwrap().meta, built.meta);

    {
        let (_log, mut follower) = open(to.path());
        let mut seen = follower.map();
        follower.install_snapshot(&built.meta, built.snapshot.clone()).await.unwrap();
        assert!(seen.has_changed().unwrap());
        assert_eq!(*seen.borrow_and_update(), built.snapshot.map);
    }
    let (_log, mut follower) = open(to.path());
    let stored = follower.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!((&stored.meta, &stored.snapshot), (&built.meta, &built.snapshot));
    assert_eq!(*follower.map().borrow(), built.snapshot.map);
}

#[tokio::test]
async fn an_older_snapshot_that_finishes_late_does_not_replace_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, mut machine) = open(folder.path());
    machine.apply([first_map()]).await.unwrap();
    let mut slow = machine.get_snapshot_builder().await;
    let newer = SnapshotMeta { last_log_id: Some(log_id(1, 1, 9)), ..SnapshotMeta::default() };
    machine.install_snapshot(&newer, Box::new(State::default())).await.unwrap();
    slow.build_snapshot().await.unwrap();
    assert_eq!(machine.get_current_snapshot().await.unwrap().unwrap().meta, newer);
}

#[test]
fn another_nodes_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Disk::open(folder.path(), NODE).unwrap());
    let error = Disk::open(folder.path(), NodeId::new(2)).unwrap_err();
    assert_eq!(error.to_string(), "belongs to node 1");
}

#[test]
fn entries_of_a_foreign_format_are_told_by_their_position() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), NODE).unwrap();
    disk.append(&[first_map()]).unwrap();
    disk.overwrite_entry(1, &[9, 0xc0]);
    for error in [disk.entries(1, None).unwrap_err(), disk.log_ends().unwrap_err()] {
        assert_eq!(
            format!("{:#}", anyhow::Error::new(error)),
            "log entry 1: format version 9, this build reads version 1"
        );
    }
    disk.overwrite_entry(1, &[]);
    assert!(matches!(disk.entries(1, None), Err(DiskError::Codec { .. })));
}

#[test]
fn a_damaged_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    drop(Disk::open(folder.path(), NODE).unwrap());
    let whole = fs::read(&path).unwrap();
    let mut scribbled = whole.clone();
    scribbled[..4096].fill(0xa5);
    for (what, damaged) in [
        ("not a database", b"log entries by hand\n".to_vec()),
        ("first page lost", scribbled),
        ("cut off", whole[..whole.len() / 2].to_vec()),
    ] {
        fs::write(&path, damaged).unwrap();
        assert!(Disk::open(folder.path(), NODE).is_err(), "{what}");
    }
}

#[test]
fn replication_reads_stop_at_their_bound_and_never_come_back_empty() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), NODE).unwrap();
    let entries: Vec<Entry> = (1..=20).map(|index| entry(index, EntryPayload::Blank)).collect();
    disk.append(&entries).unwrap();
    let indexes = |read: Vec<Entry>| read.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>();
    assert_eq!(indexes(disk.entries_for_replication(3, 6).unwrap()), [3, 4, 5]);
    assert_eq!(indexes(disk.entries_within(3, Some(6), 1).unwrap()), [3]);
    assert_eq!(disk.log_ends().unwrap().last, Some::<LogId>(log_id(1, 1, 20)));
}
