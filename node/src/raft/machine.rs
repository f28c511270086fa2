//! The replicated state machine: changes in, shard maps out.
//!
//! The state lives in memory. At a start it is the last snapshot on disk, and openraft applies the committed rest of
//! the log again; so every snapshot is durable before openraft may forget the log behind it.

use std::sync::Arc;

use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError, storage::RaftStateMachine};
use tertulia_shard_map::{Change, ShardMap, apply};
use tokio::sync::watch;

use super::{
    disk::{Disk, DiskError, StoredSnapshot},
    types::{Entry, LogId, Membership, Outcome, Snapshot, SnapshotMeta, State, StorageError, Types},
};

/// What has been applied so far.
#[derive(Debug, Clone, Default)]
struct Applied {
    last: Option<LogId>,
    membership: Membership,
    state: State,
}

#[derive(Debug)]
pub(super) struct Machine {
    disk: Arc<Disk>,
    applied: Applied,
    published: watch::Sender<Option<Arc<ShardMap>>>,
}

impl Machine {
    /// The state of the last snapshot.
    pub(super) fn load(disk: Arc<Disk>) -> Result<Self, DiskError> {
        let applied = match disk.snapshot()? {
            Some(StoredSnapshot { meta, state }) => {
                Applied { last: meta.last_log_id, membership: meta.last_membership, state }
            }
            None => Applied::default(),
        };
        let published = watch::Sender::new(applied.state.map.clone());
        Ok(Self { disk, applied, published })
    }

    /// The applied map, as it changes.
    pub(super) fn map(&self) -> watch::Receiver<Option<Arc<ShardMap>>> {
        self.published.subscribe()
    }

    /// Keeps the map's receivers from ending with the machine.
    pub(super) fn map_sender(&self) -> watch::Sender<Option<Arc<ShardMap>>> {
        self.published.clone()
    }

    fn apply_change(&mut self, change: &Change) -> Outcome {
        match apply(self.applied.state.map.as_deref(), change) {
            Ok(map) => {
                let version = map.version();
                self.applied.state.map = Some(Arc::new(map));
                Outcome::Applied(version)
            }
            Err(refused) => Outcome::Refused(refused),
        }
    }

    fn publish(&self) {
        self.published.send_if_modified(|published| {
            let version = |map: &Option<Arc<ShardMap>>| map.as_ref().map(|map| map.version());
            let is_newer = version(published) != version(&self.applied.state.map);
            if is_newer {
                published.clone_from(&self.applied.state.map);
            }
            is_newer
        });
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        for entry in entries {
            self.applied.last = Some(entry.log_id);
            outcomes.push(match entry.payload {
                EntryPayload::Blank => Outcome::NoChange,
                EntryPayload::Normal(change) => self.apply_change(&change),
                EntryPayload::Membership(membership) => {
                    self.applied.membership = Membership::new(Some(entry.log_id), membership);
                    Outcome::NoChange
                }
            });
        }
        self.publish();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { disk: Arc::clone(&self.disk), applied: self.applied.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<State>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, state: Box<State>) -> Result<(), StorageError> {
        let StoredSnapshot { meta, state } = save(&self.disk, meta.clone(), *state).await?;
        self.applied = Applied { last: meta.last_log_id, membership: meta.last_membership, state };
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let stored = self.disk.run(Disk::snapshot).await;
        let stored = stored.map_err(|e| StorageIOError::read_snapshot(None, AnyError::new(&e)))?;
        Ok(stored.map(|StoredSnapshot { meta, state }| Snapshot { meta, snapshot: Box::new(state) }))
    }
}

/// A view of the state at one moment; later changes do not reach it.
#[derive(Debug)]
pub(super) struct SnapshotBuilder {
    disk: Arc<Disk>,
    applied: Applied,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let Applied { last, membership, state } = self.applied.clone();
        let snapshot_id = match last {
            Some(last) => format!("{}-{}", last.leader_id, last.index),
            None => "empty".to_owned(),
        };
        let meta = SnapshotMeta { last_log_id: last, last_membership: membership, snapshot_id };
        let StoredSnapshot { meta, state } = save(&self.disk, meta, state).await?;
        Ok(Snapshot { meta, snapshot: Box::new(state) })
    }
}

async fn save(disk: &Arc<Disk>, meta: SnapshotMeta, state: State) -> Result<StoredSnapshot, StorageError> {
    let signature = meta.signature();
    let snapshot = StoredSnapshot { meta, state };
    let saved = disk.run(move |disk| disk.save_snapshot(&snapshot).map(|()| snapshot)).await;
    Ok(saved.map_err(|e| StorageIOError::write_snapshot(Some(signature), AnyError::new(&e)))?)
}
