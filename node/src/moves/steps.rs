//! What each step of a move asks for, in the stores.
//!
//! Everything here may be dropped at any point, and done again by another: it looks first at what there is.

use std::{collections::BTreeSet, time::Duration};

use tertulia_shard_map::{AbortReason, Epoch, ShardMap, Slot};
use tertulia_wire::cluster::MoveStage;
use tokio::time::{Instant, sleep};

use super::{
    comparison::{Compared, Comparison},
    driver::Driver,
};
use crate::store::{Copied, Drained, Filling, MoveEnd, Stamp, Store, StoreError};

/// Slots that are copied at once: at most so many, and none beyond so many bytes.
const GROUP_SLOTS: usize = 4;
const GROUP_BYTES: u64 = 64 * 1024 * 1024;
const COPY_POLL: Duration = Duration::from_millis(50);
/// How often tables that are waited for are asked whether they ever will be copied.
const STRANDED_POLL: Duration = Duration::from_secs(1);
/// The target is so close that the seal will not be long.
const LAG_MAX: u64 = 1024 * 1024;
const LAG_POLL: Duration = Duration::from_millis(100);
const DRAIN_POLL: Duration = Duration::from_millis(2);
/// What differs, or was written meanwhile, is compared again until a round is as short as the last one is to be…
const ROUND_MAX: Duration = Duration::from_millis(150);
const DIFFERING_MAX: usize = 256;
/// …or for so long.
const ROUNDS_WITHIN: Duration = Duration::from_secs(20);
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// A move, with the map that says which step it is at.
pub struct Stage<'a> {
    pub driver: &'a Driver,
    pub map: &'a ShardMap,
    pub source: &'a Store,
    pub target: &'a Store,
    pub slots: Vec<Slot>,
}

/// Copying.
impl Stage<'_> {
    /// Until the target is as good as the source, but for what was written a moment ago.
    pub async fn copy(&self) -> Result<Result<Compared, AbortReason>, StoreError> {
        self.tell(MoveStage::Preparing);
        // The target may be a store that no node has used yet.
        self.target.prepare(Stamp { cluster: self.map.cluster(), slots: self.map.slot_count() }).await?;
        let (source, target) = (self.end(self.source).await?, self.end(self.target).await?);
        let (filling, published) = match self.begun(&source, &target).await? {
            Some(begun) => begun,
            None => (self.begin(&source, &target).await?, BTreeSet::new()),
        };
        self.fill(&source, &target, filling, published).await?;
        self.catch_up(&source, &target, filling).await?;
        target.analyze(&self.slots).await?;

        self.tell(MoveStage::Comparing);
        let mut comparison = Comparison::full(&source, &target, self.slots.iter().copied(), |done| {
            self.driver.progresses.update(self.driver.id, |progress| progress.slots_compared = done as u32);
        })
        .await?;
        let began = Instant::now();
        loop {
            let round = Instant::now();
            comparison.again(&source, &target, &self.slots).await?;
            let is_short = round.elapsed() < ROUND_MAX && comparison.differing().len() <= DIFFERING_MAX;
            if is_short || began.elapsed() > ROUNDS_WITHIN {
                break;
            }
            sleep(ROUND_PAUSE).await;
        }
        self.catch_up(&source, &target, filling).await?;
        let same = self.same_timelines(&source, &target).await?;
        Ok(same.map(|()| Compared { filling, source, target, comparison }))
    }

    /// What an earlier driver has begun, with the slots that are being copied, if it can be gone on with.
    async fn begun(&self, source: &MoveEnd, target: &MoveEnd) -> Result<Option<(Filling, BTreeSet<Slot>)>, StoreError> {
        let Some(mark) = target.mark().await?.filter(|mark| !mark.is_closed) else { return Ok(None) };
        let same =
            mark.source_timeline == source.timeline().await? && mark.target_timeline == target.timeline().await?;
        if !same || !source.is_published(mark.filling).await? || !target.is_subscribed(mark.filling).await? {
            return Ok(None);
        }
        if target.is_stranded(mark.filling, source).await? {
            return Ok(None);
        }
        Ok(Some((mark.filling, source.published_slots(mark.filling).await?)))
    }

    async fn begin(&self, source: &MoveEnd, target: &MoveEnd) -> Result<Filling, StoreError> {
        let filling = target.begin_fill(source.timeline().await?).await?;
        // Of earlier fillings.
        target.unsubscribe().await?;
        source.unpublish().await?;
        target.empty_partitions(filling).await?;
        source.publish(filling).await?;
        target.subscribe(filling, source).await?;
        Ok(filling)
    }

    /// Some slots at a time, no faster than is allowed.
    async fn fill(
        &self,
        source: &MoveEnd,
        target: &MoveEnd,
        filling: Filling,
        published: BTreeSet<Slot>,
    ) -> Result<(), StoreError> {
        let total = source.size(&self.slots).await?;
        let mut done: Vec<Slot> = published.into_iter().collect();
        let mut copied = source.size(&done).await?;
        let copying = |copied: Copied, slots: usize| {
            self.driver.progresses.update(self.driver.id, |progress| {
                progress.stage = MoveStage::Copying;
                (progress.slots, progress.slots_copied) = (self.slots.len() as u32, slots as u32);
                (progress.bytes, progress.bytes_total) = (copied.bytes, total.bytes.max(copied.bytes));
                (progress.rows, progress.rows_total) = (copied.rows, total.rows.max(copied.rows));
            });
        };
        copying(copied, done.len());
        // An earlier driver may have published them and gone.
        target.copy_published(filling).await?;
        self.wait_until_copied(source, target, filling).await?;
        let mut left: Vec<Slot> = self.slots.iter().copied().filter(|slot| !done.contains(slot)).collect();
        while !left.is_empty() {
            let began = Instant::now();
            let (mut group, mut size) = (Vec::new(), Copied::default());
            while let Some(&slot) = left.last() {
                let of_slot = source.size(&[slot]).await?;
                if !group.is_empty() && (group.len() >= GROUP_SLOTS || size.bytes + of_slot.bytes > GROUP_BYTES) {
                    break;
                }
                size = Copied { bytes: size.bytes + of_slot.bytes, rows: size.rows + of_slot.rows };
                group.extend(left.pop());
            }
            source.publish_slots(filling, &group).await?;
            target.copy_published(filling).await?;
            self.wait_until_copied(source, target, filling).await?;
            done.append(&mut group);
            copied = Copied { bytes: copied.bytes + size.bytes, rows: copied.rows + size.rows };
            copying(copied, done.len());
            let allowed = Duration::from_secs_f64(size.bytes as f64 / self.driver.bytes_per_second as f64);
            sleep(allowed.saturating_sub(began.elapsed())).await;
        }
        Ok(())
    }

    async fn wait_until_copied(&self, source: &MoveEnd, target: &MoveEnd, filling: Filling) -> Result<(), StoreError> {
        let mut look = Instant::now() + STRANDED_POLL;
        while target.tables_to_copy(filling).await? > 0 {
            if Instant::now() >= look {
                if target.is_stranded(filling, source).await? {
                    return Err(StoreError::Unreadable("a copy that the target's crash has stranded: it begins anew"));
                }
                look = Instant::now() + STRANDED_POLL;
            }
            sleep(COPY_POLL).await;
        }
        Ok(())
    }

    async fn catch_up(&self, source: &MoveEnd, target: &MoveEnd, filling: Filling) -> Result<(), StoreError> {
        loop {
            // An error of the subscription ends the waiting.
            target.tables_to_copy(filling).await?;
            let lag = target.lag(filling, source).await?;
            self.driver.progresses.update(self.driver.id, |progress| {
                progress.stage = MoveStage::CatchingUp;
                progress.lag_bytes = lag;
            });
            if lag.is_some_and(|lag| lag < LAG_MAX) {
                return Ok(());
            }
            sleep(LAG_POLL).await;
        }
    }
}

/// Sealed.
impl Stage<'_> {
    /// The slots take no more writes; when this is done, the target has all that they have, durably. Takes what an attempt
    /// before it has compared, and gives it back where the same connections may do.
    pub async fn finish(&self, compared: &mut Option<Compared>) -> Result<Result<(), AbortReason>, StoreError> {
        self.tell(MoveStage::Sealed);
        let mut watch = Stopwatch::new();
        let (source, target, mut comparison) = match compared.take() {
            Some(Compared { filling, source, target, comparison }) => (source, target, Some((filling, comparison))),
            None => {
                let (source, target) = tokio::try_join!(self.end(self.source), self.end(self.target))?;
                (source, target, None)
            }
        };
        let finished = self.finish_between(&source, &target, &mut comparison, &mut watch).await;
        // Not of connections that are broken.
        if let (Ok(_) | Err(StoreError::Unreadable(_)), Some((filling, comparison))) = (&finished, comparison) {
            *compared = Some(Compared { filling, source, target, comparison });
        }
        finished
    }

    async fn finish_between(
        &self,
        source: &MoveEnd,
        target: &MoveEnd,
        compared: &mut Option<(Filling, Comparison)>,
        watch: &mut Stopwatch,
    ) -> Result<Result<(), AbortReason>, StoreError> {
        let epochs: Vec<(Slot, Epoch)> = self.slots.iter().map(|&slot| (slot, self.map.slot(slot).epoch)).collect();
        if source.seal(&epochs).await?.len() != epochs.len() {
            return Err(StoreError::Unreadable("slots that have newer epochs than this map"));
        }
        let sealed = watch.lap();
        let Some(mark) = target.mark().await? else { return Ok(Err(AbortReason::VerificationFailed)) };
        if !mark.is_closed {
            while target.is_drained(mark.filling).await? == Drained::NotYet {
                sleep(DRAIN_POLL).await;
            }
            target.close_fill(mark.filling).await?;
        }
        let drained = watch.lap();
        // Its commit makes durable what replication has brought: that was not waited for.
        target.copy_cursors(source).await?;
        if let Err(reason) = self.same_timelines(source, target).await? {
            return Ok(Err(reason));
        }
        let closed = watch.lap();
        // Where another driver has compared, or has filled anew meanwhile, all is to be compared: of small slots there is time.
        let comparison = match compared {
            Some((filling, comparison)) if *filling == mark.filling => comparison,
            _ => {
                let all = Comparison::full(source, target, self.slots.iter().copied(), |_| ()).await?;
                &mut compared.insert((mark.filling, all)).1
            }
        };
        let units = comparison.again(source, target, &self.slots).await?;
        let compared = watch.lap();
        tracing::info!(id = %self.driver.id, sealed, drained, closed, compared, units, "sealed, in ms");
        if !comparison.is_same() {
            tracing::error!(id = %self.driver.id, differing = ?comparison.differing(), "the target's copy is not the source's data");
            return Ok(Err(AbortReason::VerificationFailed));
        }
        Ok(Ok(()))
    }

    /// A standby that took over may lack what was copied to or from the old primary.
    async fn same_timelines(&self, source: &MoveEnd, target: &MoveEnd) -> Result<Result<(), AbortReason>, StoreError> {
        let now = (source.timeline().await?, target.timeline().await?);
        let mark = target.mark().await?;
        let same = mark.is_some_and(|mark| (mark.source_timeline, mark.target_timeline) == now);
        Ok(if same { Ok(()) } else { Err(AbortReason::TimelineChanged) })
    }
}

/// Cleaning up.
impl Stage<'_> {
    /// After the flip.
    pub async fn clean_up_source(&self) -> Result<(), StoreError> {
        self.tell(MoveStage::CleaningUp);
        let (source, target) = tokio::try_join!(self.end(self.source), self.end(self.target))?;
        target.unsubscribe().await?;
        source.unpublish().await?;
        target.forget_marker().await?;
        self.drop_slots(&source).await
    }

    /// After an abort. The target may be away for good: what is left in it is removed when it is back.
    pub async fn clean_up_target(&self) -> Result<(), StoreError> {
        self.tell(MoveStage::CleaningUp);
        let source = self.end(self.source).await?;
        // First, whatever becomes of the target: what nobody fetches piles up in the source.
        source.unpublish().await?;
        source.forget_marker().await?;
        let target = self.end(self.target).await?;
        target.unsubscribe().await?;
        self.drop_slots(&target).await
    }

    async fn drop_slots(&self, end: &MoveEnd) -> Result<(), StoreError> {
        for slot in end.give_up().await? {
            end.drop_partitions(slot).await?;
        }
        Ok(())
    }
}

/// Tells how long each part of something took, in milliseconds.
struct Stopwatch(Instant);

impl Stopwatch {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> u64 {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.0, now);
        u64::try_from((now - before).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Stage<'_> {
    async fn end(&self, store: &Store) -> Result<MoveEnd, StoreError> {
        store.move_end(self.map.cluster(), self.driver.id, self.slots.clone()).await
    }

    fn tell(&self, stage: MoveStage) {
        self.driver.progresses.update(self.driver.id, |progress| {
            progress.stage = stage;
            progress.slots = self.slots.len() as u32;
        });
    }
}
