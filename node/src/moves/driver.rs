//! Drives one move, step by step.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tertulia_shard_map::{AbortReason, Change, MoveEntry, MoveId, MoveStep, ShardMap, StoreId};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{comparison::Compared, progress::Progresses, steps::Stage};
use crate::{
    clock, metrics as names,
    raft::Raft,
    store::{Store, StoreError},
};

/// Longest time that a driver leaves slots sealed before it proposes to abort.
pub const STALL_MAX: Duration = Duration::from_millis(500);
/// How long a copy may meet errors without getting on before it is aborted.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The same for slots that are sealed.
const RETRY_PAUSE_SEALED: Duration = Duration::from_millis(10);
/// And for changes that were not applied.
const PROPOSE_PAUSE: Duration = Duration::from_millis(50);

pub struct Driver {
    pub id: MoveId,
    pub raft: Raft,
    pub stores: Arc<BTreeMap<StoreId, Store>>,
    pub bytes_per_second: u64,
    pub progresses: Progresses,
}

/// A copy that meets errors, and had come so far when that began.
struct Failing {
    since: Instant,
    done: u32,
}

impl Failing {
    fn since_now(done: u32) -> Self {
        Self { since: Instant::now(), done }
    }
}

impl Driver {
    /// Until the move is ended.
    pub async fn run(self) {
        let mut map = self.raft.map();
        let mut compared = None;
        let mut failing: Option<Failing> = None;
        let mut entered: Option<(MoveStep, Instant)> = None;
        loop {
            let current = map.borrow_and_update().clone();
            let Some(current) = current else { return };
            let Some(entry) = current.move_entry(self.id) else { return };
            let since = match entered {
                Some((step, since)) if step == entry.step => since,
                _ => {
                    tracing::info!(id = %self.id, step = %entry.step, source = %entry.source, target = %entry.target, slots = entry.slots.len(), "driving a move");
                    let now = Instant::now();
                    (entered, failing) = (Some((entry.step, now)), None);
                    now
                }
            };
            let done = tokio::select! {
                biased;
                () = leaves(map.clone(), self.id, entry.step) => continue,
                done = self.carry_out(&current, entry, since, &mut compared) => done,
            };
            let change = match done {
                Ok(change) => change,
                Err(error) => {
                    let done = self.progresses.slots_done(self.id);
                    let failing = failing.get_or_insert_with(|| Failing::since_now(done));
                    if done > failing.done {
                        *failing = Failing::since_now(done);
                    }
                    let error_text = clock::chain(&error).to_string();
                    tracing::warn!(id = %self.id, step = %entry.step, error = %error_text, "a move meets an error");
                    self.progresses.update(self.id, |progress| progress.error = Some(error_text));
                    match entry.step {
                        MoveStep::Copying if failing.since.elapsed() > GIVE_UP_AFTER => {
                            Change::AbortMove { id: self.id, reason: AbortReason::StoreUnavailable }
                        }
                        step => {
                            let pause = if step == MoveStep::Sealed { RETRY_PAUSE_SEALED } else { RETRY_PAUSE };
                            // A map with newer epochs is worth a try at once.
                            let _newer_or_not = timeout(pause, map.changed()).await;
                            continue;
                        }
                    }
                }
            };
            self.propose(change, entry, since).await;
        }
    }

    async fn propose(&self, change: Change, entry: &MoveEntry, since: Instant) {
        match self.raft.propose(change.clone()).await {
            Ok(_) => {
                let took = since.elapsed();
                tracing::info!(id = %self.id, was = %entry.step, ?took, ?change, "a move goes on");
                match change {
                    Change::FlipMove { .. } | Change::AbortMove { .. } if entry.step == MoveStep::Sealed => {
                        metrics::histogram!(names::MOVE_SEALED_SECONDS).record(took.as_secs_f64());
                    }
                    _ => {}
                }
                match change {
                    Change::FlipMove { .. } => {
                        metrics::counter!(names::SLOTS_MOVED_TOTAL).increment(entry.slots.len() as u64);
                    }
                    Change::AbortMove { .. } => metrics::counter!(names::MOVES_ABORTED_TOTAL).increment(1),
                    _ => {}
                }
            }
            // Another change came first, or nobody can tell: the map will.
            Err(error) => {
                tracing::info!(id = %self.id, error = %clock::chain(&error), ?change, "a change of a move was not applied");
                sleep(PROPOSE_PAUSE).await;
            }
        }
    }

    /// Does what the step asks for. The change is the one to the next step.
    async fn carry_out(
        &self,
        map: &ShardMap,
        entry: &MoveEntry,
        since: Instant,
        compared: &mut Option<Compared>,
    ) -> Result<Change, StoreError> {
        let id = self.id;
        let (Some(source), Some(target)) = (self.stores.get(&entry.source), self.stores.get(&entry.target)) else {
            return Err(StoreError::Unreadable("no [stores] entry for a store of the map"));
        };
        let slots = entry.slots.iter().copied().collect();
        let stage = Stage { driver: self, map, source, target, slots };
        match entry.step {
            MoveStep::Copying => {
                *compared = None;
                let outcome = stage.copy().await?;
                Ok(match outcome {
                    Ok(copy) => {
                        *compared = Some(copy);
                        Change::SealMove { id }
                    }
                    Err(reason) => Change::AbortMove { id, reason },
                })
            }
            MoveStep::Sealed => {
                let stalled = STALL_MAX.saturating_sub(since.elapsed());
                let sealed = match timeout(stalled, stage.finish(compared)).await {
                    Ok(Err(error)) if since.elapsed() < STALL_MAX => return Err(error),
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) | Err(_) => Err(AbortReason::Stalled),
                };
                Ok(match sealed {
                    Ok(()) => Change::FlipMove { id },
                    Err(reason) => Change::AbortMove { id, reason },
                })
            }
            MoveStep::Flipped => stage.clean_up_source().await.map(|()| Change::EndMove { id }),
            MoveStep::Aborted(_) => stage.clean_up_target().await.map(|()| Change::EndMove { id }),
        }
    }
}

/// Waits until the move is at another step, or ended.
async fn leaves(mut map: watch::Receiver<Option<Arc<ShardMap>>>, id: MoveId, step: MoveStep) {
    let is_there = |map: &Option<Arc<ShardMap>>| {
        map.as_ref().and_then(|map| map.move_entry(id)).is_some_and(|entry| entry.step == step)
    };
    // Ends with the Raft module as well.
    let _map_or_end = map.wait_for(|map| !is_there(map)).await;
}
