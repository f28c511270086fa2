//! Commits a batch, whatever the store does.

use std::{collections::HashSet, time::Duration};

use tertulia_shard_map::Slot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Folder, FolderInputs};
use crate::{
    clock, metrics as names,
    store::{FoldBatch, StoreError},
};

const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(50);
const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A commit that takes longer, and is without a lane then, holds nothing up but itself.
const PATIENCE: Duration = Duration::from_millis(500);

enum Committed {
    Yes,
    Fenced(Vec<Slot>),
    Refused,
}

impl Folder {
    /// The slots of which nothing is committed; everything of the others is, and enters memory.
    pub(super) async fn commit(
        &mut self,
        batch: FoldBatch,
        inputs: &mut FolderInputs,
        stop: &CancellationToken,
    ) -> anyhow::Result<HashSet<Slot>> {
        let mut failed = HashSet::new();
        let mut waiting = vec![batch];
        while let Some(mut batch) = waiting.pop() {
            if batch.slots.is_empty() {
                continue;
            }
            match self.commit_once(&batch, inputs, stop).await? {
                Committed::Yes => self.memory.committed(batch),
                Committed::Fenced(slots) => {
                    tracing::info!(?slots, "deposed: slots belong to another owner or epoch");
                    for slot in slots {
                        drop(take_slot(&mut batch, slot));
                        self.forget_slot(slot);
                        failed.insert(slot);
                    }
                    waiting.push(batch);
                }
                // Slot by slot, so that what is bad fails alone.
                Committed::Refused if batch.slots.len() > 1 => {
                    while let Some(&(slot, _)) = batch.slots.first() {
                        waiting.push(take_slot(&mut batch, slot));
                    }
                }
                Committed::Refused => {
                    for (slot, _) in batch.slots {
                        self.memory.forget_slot(slot);
                        failed.insert(slot);
                    }
                }
            }
        }
        Ok(failed)
    }

    async fn commit_once(
        &mut self,
        batch: &FoldBatch,
        inputs: &mut FolderInputs,
        stop: &CancellationToken,
    ) -> anyhow::Result<Committed> {
        let started = Instant::now();
        let patient_until = started + PATIENCE;
        let mut backoff = REOPEN_BACKOFF_MIN;
        loop {
            match self.lane.fold(batch).await {
                Ok(()) => {
                    metrics::histogram!(names::FOLD_SECONDS).record(started.elapsed().as_secs_f64());
                    metrics::histogram!(names::FOLD_ROWS).record(batch.rows.len() as f64);
                    return Ok(Committed::Yes);
                }
                Err(StoreError::SlotsFenced(slots)) if !slots.is_empty() => return Ok(Committed::Fenced(slots)),
                // The outcome is unknown: fence the old connection off and do the same again, which changes nothing
                // where it was committed.
                Err(StoreError::Unavailable(_) | StoreError::LaneFenced) => {
                    let reopening = self.lane.reopen();
                    match inputs.give_back_during(reopening, patient_until, &mut self.broken).await {
                        Ok(()) => continue,
                        Err(error @ StoreError::LaneFenced) => {
                            return Err(anyhow::Error::new(error).context("a newer incarnation of this node runs"));
                        }
                        Err(error) => {
                            tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "the store cannot be reached");
                            metrics::counter!(names::LANE_REOPEN_FAILURES_TOTAL).increment(1);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), rows = batch.rows.len(), "fold refused");
                    return Ok(Committed::Refused);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(Committed::Refused),
                () = inputs.give_back_during(sleep(backoff), patient_until, &mut self.broken) => backoff = (backoff * 2).min(REOPEN_BACKOFF_MAX),
            }
        }
    }
}

/// Takes a slot's part out of a batch.
fn take_slot(batch: &mut FoldBatch, slot: Slot) -> FoldBatch {
    FoldBatch {
        slots: batch.slots.extract_if(.., |(of, _)| *of == slot).collect(),
        rows: batch.rows.extract_if(.., |(of, ..)| *of == slot).collect(),
        blocks: batch.blocks.extract_if(.., |(key, _)| key.slot == slot).collect(),
        profiles: batch.profiles.extract_if(.., |(of, _)| *of == slot).collect(),
    }
}
