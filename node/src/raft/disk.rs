//! The file that Raft must never lose: log, vote, snapshot, and how far the log is purged and committed.
//!
//! One redb database per node. Everything here blocks; [`Disk::run`] moves it off the async threads.
//!
//! Invariants: whatever a method wrote is fsynced when it returns, the committed position excepted (losing it only
//! delays the re-apply at a start). The log has no hole: purging records its position in the transaction that deletes.
//! A snapshot never goes back. The file names its format and its node, and is refused under another.

use std::{path::Path, sync::Arc};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tertulia_shard_map::NodeId;

use super::{
    codec::{self, CodecError},
    types::{Entry, LogId, SnapshotMeta, State, Vote},
};

/// File name inside the node's data folder.
pub(super) const FILE_NAME: &str = "raft.redb";
/// Page cache. The whole file is a few MB: the map, and the log since the last snapshot.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// A read of the log for replication stops after this many bytes, so that a request stays well below a frame.
const READ_BYTES_MAX: usize = tertulia_wire::limits::CLUSTER_FRAME_BYTES / 8;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

const NODE: &str = "node";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const LAST_PURGED: &str = "last_purged";
const SNAPSHOT: &str = "snapshot";

#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error("redb")]
    Database(#[source] redb::Error),
    #[error("{what}")]
    Codec { what: String, source: CodecError },
    #[error("belongs to node {owner}")]
    ForeignNode { owner: NodeId },
    #[error("the disk task failed")]
    Task(#[source] tokio::task::JoinError),
}

impl<E: Into<redb::Error>> From<E> for DiskError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

type Result<T, E = DiskError> = std::result::Result<T, E>;

/// First and last position of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LogEnds {
    pub(super) last_purged: Option<LogId>,
    pub(super) last: Option<LogId>,
}

/// The whole state, and the position in the log that it stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredSnapshot {
    pub(super) meta: SnapshotMeta,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) struct Disk {
    db: Database,
}

impl Disk {
    /// Opens the node's file, or makes it. Refuses another node's, one of another format, and a damaged one.
    pub(super) fn open(folder: &Path, node: NodeId) -> Result<Self> {
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(folder.join(FILE_NAME))?;
        let disk = Self { db };
        let txn = disk.begin_durable()?;
        {
            txn.open_table(LOG)?;
            let mut meta = txn.open_table(META)?;
            let owner = meta.get(NODE)?.map(|bytes| decode(NODE, bytes.value())).transpose()?;
            match owner {
                None => drop(meta.insert(NODE, encode(NODE, &node)?.as_slice())?),
                Some(owner) if owner == node => {}
                Some(owner) => return Err(DiskError::ForeignNode { owner }),
            }
        }
        txn.commit()?;
        Ok(disk)
    }

    /// Runs `work` on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&disk)).await.map_err(DiskError::Task)?
    }

    pub(super) fn vote(&self) -> Result<Option<Vote>> {
        self.get(VOTE)
    }

    pub(super) fn save_vote(&self, vote: &Vote) -> Result<()> {
        let txn = self.begin_durable()?;
        put(&txn, VOTE, vote)?;
        Ok(txn.commit()?)
    }

    pub(super) fn committed(&self) -> Result<Option<LogId>> {
        Ok(self.get::<Option<LogId>>(COMMITTED)?.flatten())
    }

    /// Reaches the disk with the next durable write: without it a start applies less, until a leader says more.
    pub(super) fn save_committed(&self, committed: Option<LogId>) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::None)?;
        put(&txn, COMMITTED, &committed)?;
        Ok(txn.commit()?)
    }

    pub(super) fn log_ends(&self) -> Result<LogEnds> {
        let txn = self.db.begin_read()?;
        let last_purged = read(&txn, LAST_PURGED)?;
        let log = txn.open_table(LOG)?;
        let last = match log.last()? {
            Some((index, bytes)) => Some(decode_entry(index.value(), bytes.value())?.log_id),
            None => last_purged,
        };
        Ok(LogEnds { last_purged, last })
    }

    pub(super) fn append(&self, entries: &[Entry]) -> Result<()> {
        let txn = self.begin_durable()?;
        {
            let mut log = txn.open_table(LOG)?;
            for entry in entries {
                log.insert(entry.log_id.index, encode("a log entry", entry)?.as_slice())?;
            }
        }
        Ok(txn.commit()?)
    }

    /// Entries from `start` to before `end`, as many as there are.
    pub(super) fn entries(&self, start: u64, end: Option<u64>) -> Result<Vec<Entry>> {
        self.entries_within(start, end, usize::MAX)
    }

    /// The first entries from `start` to before `end` that one request to a follower can hold; at least one.
    pub(super) fn entries_for_replication(&self, start: u64, end: u64) -> Result<Vec<Entry>> {
        self.entries_within(start, Some(end), READ_BYTES_MAX)
    }

    /// Forgets the log from `index` on.
    pub(super) fn truncate(&self, index: u64) -> Result<()> {
        let txn = self.begin_durable()?;
        txn.open_table(LOG)?.retain_in(index.., |_, _| false)?;
        Ok(txn.commit()?)
    }

    /// Forgets the log up to and with `upto`, and remembers that it did.
    pub(super) fn purge(&self, upto: LogId) -> Result<()> {
        let txn = self.begin_durable()?;
        txn.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
        put(&txn, LAST_PURGED, &upto)?;
        Ok(txn.commit()?)
    }

    pub(super) fn snapshot(&self) -> Result<Option<StoredSnapshot>> {
        self.get(SNAPSHOT)
    }

    /// Keeps the newer of this and the stored snapshot: one built here may finish after one received, and the log
    /// before the received one may be gone.
    pub(super) fn save_snapshot(&self, snapshot: &StoredSnapshot) -> Result<()> {
        let txn = self.begin_durable()?;
        // No other write can come between: this transaction is the only writer.
        if self.snapshot()?.is_some_and(|stored| stored.meta.last_log_id > snapshot.meta.last_log_id) {
            return Ok(txn.abort()?);
        }
        put(&txn, SNAPSHOT, snapshot)?;
        Ok(txn.commit()?)
    }

    fn begin_durable(&self) -> Result<WriteTransaction> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        Ok(txn)
    }

    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        read(&self.db.begin_read()?, key)
    }

    #[cfg(test)]
    pub(super) fn overwrite_entry(&self, index: u64, bytes: &[u8]) {
        let txn = self.begin_durable().unwrap();
        txn.open_table(LOG).unwrap().insert(index, bytes).unwrap();
        txn.commit().unwrap();
    }

    pub(super) fn entries_within(&self, start: u64, end: Option<u64>, bytes_max: usize) -> Result<Vec<Entry>> {
        let txn = self.db.begin_read()?;
        let log = txn.open_table(LOG)?;
        let mut entries = Vec::new();
        let mut total_bytes = 0;
        for item in log.range(start..end.unwrap_or(u64::MAX))? {
            let (index, bytes) = item?;
            total_bytes += bytes.value().len();
            if total_bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(decode_entry(index.value(), bytes.value())?);
        }
        Ok(entries)
    }
}

fn read<T: DeserializeOwned>(txn: &ReadTransaction, key: &str) -> Result<Option<T>> {
    txn.open_table(META)?.get(key)?.map(|bytes| decode(key, bytes.value())).transpose()
}

fn put<T: Serialize>(txn: &WriteTransaction, key: &str, value: &T) -> Result<()> {
    txn.open_table(META)?.insert(key, encode(key, value)?.as_slice())?;
    Ok(())
}

fn encode<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>> {
    codec::encode(value).map_err(|source| DiskError::Codec { what: what.to_owned(), source })
}

fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    codec::decode(bytes).map_err(|source| DiskError::Codec { what: what.to_owned(), source })
}

fn decode_entry(index: u64, bytes: &[u8]) -> Result<Entry> {
    codec::decode(bytes).map_err(|source| DiskError::Codec { what: format!("log entry {index}"), source })
}
