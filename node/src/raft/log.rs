//! openraft's view of the log and the vote on disk.

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use openraft::{
    AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};

use super::{
    disk::Disk,
    types::{Entry, LogId, StorageError, Types, Vote},
};

/// Cheap to clone: openraft gives each replication stream one of its own to read from.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    disk: Arc<Disk>,
}

impl LogStore {
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => Some(index + 1),
            Bound::Excluded(index) => Some(*index),
            Bound::Unbounded => None,
        };
        Ok(self.disk.run(move |disk| disk.entries(start, end)).await.map_err(|e| read_logs(&e))?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let read = move |disk: &Disk| disk.entries_for_replication(start, end);
        Ok(self.disk.run(read).await.map_err(|e| read_logs(&e))?)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let ends = self.disk.run(Disk::log_ends).await.map_err(|e| read_logs(&e))?;
        Ok(LogState { last_purged_log_id: ends.last_purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let saved = self.disk.run(move |disk| disk.save_vote(&vote)).await;
        Ok(saved.map_err(|e| StorageIOError::write_vote(AnyError::new(&e)))?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.disk.run(Disk::vote).await.map_err(|e| StorageIOError::read_vote(AnyError::new(&e)))?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        Ok(self.disk.run(move |disk| disk.save_committed(committed)).await.map_err(|e| write_logs(&e))?)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.disk.run(Disk::committed).await.map_err(|e| read_logs(&e))?)
    }

    /// All entries of a call in one transaction and one fsync. openraft waits for the callback before it does anything
    /// else, so there is nothing to gain from returning earlier.
    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.disk.run(move |disk| disk.append(&entries)).await.map_err(|e| write_logs(&e))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        Ok(self.disk.run(move |disk| disk.truncate(log_id.index)).await.map_err(|e| write_logs(&e))?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        Ok(self.disk.run(move |disk| disk.purge(log_id)).await.map_err(|e| write_logs(&e))?)
    }
}

fn read_logs(error: &super::disk::DiskError) -> StorageIOError<u64> {
    StorageIOError::read_logs(AnyError::new(error))
}

fn write_logs(error: &super::disk::DiskError) -> StorageIOError<u64> {
    StorageIOError::write_logs(AnyError::new(error))
}
