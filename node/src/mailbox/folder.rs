//! Folds deliveries into inbox rows: takes whatever queued, loads the rows that it does not know, folds, commits them all
//! in one round trip, and acknowledges.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::{ConversationId, Epoch, Rev, Slot, UserId};
use tertulia_wire::cluster::{Answer, InboxRow, NamedUser, Refusal};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Ticket,
    fold::{FoldItem, Folded, apply, fold},
};
use crate::{
    clock,
    generations::Generations,
    metrics as names,
    peers::Peers,
    store::{FoldBatch, InboxKey, Lane, StoreError, StoredInboxRow},
};

/// Jobs that wait; beyond, deliveries are to be sent again and sessions are told `Overloaded`.
const CHANNEL: usize = 16 * 1024;
/// A commit waits for no further jobs once it has so many items: under load the commits come closer together.
const ITEMS_MAX: usize = 8192;
/// Rows, revs and names that are remembered, per generation of each cache.
const ROWS: usize = 64 * 1024;
/// Questions about missing events that one round asks, and how long each may take.
const GAPS_PER_ROUND: u32 = 4;
const GAP_TIMEOUT: Duration = Duration::from_secs(1);
const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(50);
const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub struct FolderSettings {
    /// Shortest time between two commits, unless somebody waits for one: a row that changes often is written once.
    pub interval: Duration,
}

pub(super) enum Job {
    Fold(FoldJob),
    Attach(AttachJob),
    Flush(oneshot::Sender<()>),
}

/// Which slots are here. As long as the map changes, no longer: nobody waits.
enum Control {
    Open(Slot, Epoch),
    Close(Slot),
}

/// The deliveries of one stream.
pub(super) struct FoldJob {
    pub from: Slot,
    pub slot: Slot,
    pub epoch: Epoch,
    pub start: Start,
    pub items: Vec<FoldItem>,
    pub ticket: Arc<Ticket>,
    /// Which stream of the ticket.
    pub stream: usize,
}

/// Whether a job follows on what its stream brought before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// All that was sent before is acknowledged.
    Afresh,
    Following,
}

/// A session that wants to know its mailbox's rev.
pub(super) struct AttachJob {
    pub slot: Slot,
    pub epoch: Epoch,
    pub user: UserId,
    pub name: Option<String>,
    pub reply: Responder,
}

#[derive(Clone)]
pub struct FolderHandle {
    jobs: mpsc::Sender<Job>,
    control: mpsc::UnboundedSender<Control>,
}

/// The other end of a [`FolderHandle`], for [`run`].
pub struct FolderInputs {
    jobs: mpsc::Receiver<Job>,
    control: mpsc::UnboundedReceiver<Control>,
}

impl FolderHandle {
    pub fn new() -> (Self, FolderInputs) {
        let (sender, jobs) = mpsc::channel(CHANNEL);
        let (control, told) = mpsc::unbounded_channel();
        (Self { jobs: sender, control }, FolderInputs { jobs, control: told })
    }

    pub(super) fn try_send(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|error| error.into_inner())
    }

    pub(super) fn open(&self, slot: Slot, epoch: Epoch) {
        // A folder that has ended takes its process down with it: nobody is left to be told.
        let _ = self.control.send(Control::Open(slot, epoch));
    }

    pub(super) fn close(&self, slot: Slot) {
        let _ = self.control.send(Control::Close(slot));
    }

    /// Returns once everything that was delivered before is committed, or given back to its sender.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

type RowKey = (UserId, ConversationId);

struct Folder {
    lane: Lane,
    peers: Peers,
    slots: HashMap<Slot, Epoch>,
    rows: Generations<RowKey, (Slot, Option<InboxRow>)>,
    revs: Generations<UserId, (Slot, Rev)>,
    names: Generations<UserId, (Slot, String)>,
    /// Streams of which a job was given back: what follows on it has a hole, until the stream starts afresh.
    broken: HashSet<(Slot, Slot)>,
}

/// The jobs of one commit.
#[derive(Default)]
struct Round {
    folds: Vec<FoldJob>,
    attaches: Vec<AttachJob>,
    flushes: Vec<oneshot::Sender<()>>,
    items: usize,
}

impl Round {
    fn add(&mut self, job: Job) {
        match job {
            Job::Fold(fold) => {
                // An item-less stream still counts, so that it is answered.
                self.items += fold.items.len().max(1);
                self.folds.push(fold);
            }
            Job::Attach(attach) => {
                self.items += 1;
                self.attaches.push(attach);
            }
            Job::Flush(done) => self.flushes.push(done),
        }
    }

    /// Promises nothing: streams are sent again, and sessions attached elsewhere or later.
    fn refuse(self, refusal: &Refusal) {
        self.attaches.into_iter().for_each(|attach| attach.reply.refuse(refusal.clone()));
    }

    fn is_urgent(&self) -> bool {
        !self.attaches.is_empty() || !self.flushes.is_empty()
    }
}

/// Runs until `stop`, or until this process is found deposed, which is an error: another incarnation of the node runs.
pub async fn run(
    lane: Lane,
    peers: Peers,
    settings: FolderSettings,
    inputs: FolderInputs,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let FolderInputs { mut jobs, mut control } = inputs;
    let mut folder = Folder {
        lane,
        peers,
        slots: HashMap::new(),
        rows: Generations::new(ROWS),
        revs: Generations::new(ROWS),
        names: Generations::new(ROWS),
        broken: HashSet::new(),
    };
    let mut not_before = Instant::now();
    while let Some(round) = folder.next_round(&mut jobs, &mut control, not_before, &stop).await {
        folder.cycle(round, &stop).await?;
        not_before = Instant::now() + settings.interval;
    }
    // Whoever waits is told at once to look for another owner.
    jobs.close();
    let mut rest = Round::default();
    while let Some(job) = jobs.recv().await {
        rest.add(job);
    }
    rest.refuse(&Refusal::NotServing);
    Ok(())
}

impl Folder {
    /// The jobs of the next commit: what comes until the interval is over, somebody waits for it, or it is large enough.
    /// `None` when asked to stop.
    async fn next_round(
        &mut self,
        jobs: &mut mpsc::Receiver<Job>,
        control: &mut mpsc::UnboundedReceiver<Control>,
        not_before: Instant,
        stop: &CancellationToken,
    ) -> Option<Round> {
        let mut round = Round::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    round.refuse(&Refusal::NotServing);
                    return None;
                }
                Some(told) = control.recv() => match told {
                    Control::Open(slot, epoch) => {
                        self.forget_slot(slot);
                        self.slots.insert(slot, epoch);
                    }
                    Control::Close(slot) => {
                        self.forget_slot(slot);
                        self.slots.remove(&slot);
                    }
                },
                job = jobs.recv() => {
                    round.add(job?);
                    while round.items < ITEMS_MAX && let Ok(job) = jobs.try_recv() {
                        round.add(job);
                    }
                    if round.is_urgent() || round.items >= ITEMS_MAX {
                        return Some(round);
                    }
                }
                () = sleep_until(not_before), if round.items > 0 => return Some(round),
            }
        }
    }

    fn forget_slot(&mut self, slot: Slot) {
        self.rows.retain(|_, (of, _)| *of != slot);
        self.revs.retain(|_, (of, _)| *of != slot);
        self.names.retain(|_, (of, _)| *of != slot);
        self.broken.retain(|(_, to)| *to != slot);
    }

    async fn cycle(&mut self, mut round: Round, stop: &CancellationToken) -> anyhow::Result<()> {
        // Dropping a ticket unmarked sends its stream again; dropping a responder would be an internal error.
        round.folds.retain(|fold| {
            let stream = (fold.from, fold.slot);
            if fold.start == Start::Afresh {
                self.broken.remove(&stream);
            }
            self.slots.get(&fold.slot) == Some(&fold.epoch) && !self.broken.contains(&stream)
        });
        let (kept, stale): (Vec<_>, Vec<_>) =
            round.attaches.into_iter().partition(|attach| self.slots.get(&attach.slot) == Some(&attach.epoch));
        stale.into_iter().for_each(|attach| attach.reply.refuse(Refusal::NotServing));
        round.attaches = kept;

        if let Err(error) = self.load(&round).await {
            tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "inbox rows cannot be loaded");
            self.broken.extend(round.folds.iter().map(|fold| (fold.from, fold.slot)));
            round.refuse(&Refusal::StoreUnavailable);
            return Ok(());
        }
        let mut batch = self.fold(&mut round).await;
        self.rename(&round, &mut batch);
        let failed = self.commit(batch, stop).await?;
        for fold in round.folds {
            if failed.contains(&fold.slot) {
                self.broken.insert((fold.from, fold.slot));
            } else {
                fold.ticket.commit(fold.stream);
            }
        }
        for attach in round.attaches {
            match self.revs.get_mut(&attach.user) {
                Some((_, rev)) if !failed.contains(&attach.slot) => attach.reply.send(Answer::Attach { rev: *rev }),
                _ => attach.reply.refuse(Refusal::StoreUnavailable),
            }
        }
        for done in round.flushes {
            let _ = done.send(());
        }
        Ok(())
    }

    /// What the round touches and the caches do not hold.
    async fn load(&mut self, round: &Round) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        let mut keys = Vec::new();
        let mut users = Vec::new();
        // What is here counts as used now, so that loading the others does not push it out.
        let mut want_user = |slot, user, revs: &mut Generations<UserId, (Slot, Rev)>| {
            if revs.get_mut(&user).is_none() && seen.insert(user) {
                users.push((slot, user));
            }
        };
        let mut seen_rows = HashSet::new();
        for fold in &round.folds {
            for item in &fold.items {
                want_user(fold.slot, item.user, &mut self.revs);
                if self.rows.get_mut(&(item.user, item.conversation)).is_none()
                    && seen_rows.insert((item.user, item.conversation))
                {
                    keys.push(InboxKey { slot: fold.slot, user: item.user, conversation: item.conversation });
                }
            }
        }
        for attach in &round.attaches {
            want_user(attach.slot, attach.user, &mut self.revs);
        }
        if !users.is_empty() {
            let revs = self.lane.store().load_revs(&users).await?;
            for ((slot, user), rev) in users.into_iter().zip(revs) {
                self.revs.insert(user, (slot, rev));
            }
        }
        if !keys.is_empty() {
            let rows = self.lane.store().load_inbox_rows(&keys).await?;
            for (key, row) in keys.into_iter().zip(rows) {
                self.rows.insert((key.user, key.conversation), (key.slot, row.map(|stored| stored.row)));
            }
        }
        Ok(())
    }

    /// Folds in memory. A stream with a gap that cannot be filled now is dropped from the round, to be sent again.
    async fn fold(&mut self, round: &mut Round) -> FoldBatch {
        let mut changed: BTreeMap<RowKey, Slot> = BTreeMap::new();
        let mut kept = Vec::with_capacity(round.folds.len());
        let mut questions = GAPS_PER_ROUND;
        for fold in round.folds.drain(..) {
            let mut whole = !self.broken.contains(&(fold.from, fold.slot));
            for item in &fold.items {
                whole = whole && self.fold_item(fold.slot, item, &mut changed, &mut questions).await;
            }
            if whole {
                kept.push(fold);
            } else {
                self.broken.insert((fold.from, fold.slot));
            }
        }
        round.folds = kept;

        let mut batch = FoldBatch::default();
        for ((user, conversation), slot) in changed {
            // Both were loaded, or used, in this round: the caches hold them.
            let Some((_, Some(row))) = self.rows.get_mut(&(user, conversation)) else { continue };
            let row = row.clone();
            let Some((_, rev)) = self.revs.get_mut(&user) else { continue };
            *rev = rev.next();
            let rev = *rev;
            touch(&mut batch, slot, &self.slots);
            batch.rows.push((slot, user, StoredInboxRow { row, rev }));
        }
        batch
    }

    /// False where the item cannot be folded now.
    async fn fold_item(
        &mut self,
        slot: Slot,
        item: &FoldItem,
        changed: &mut BTreeMap<RowKey, Slot>,
        questions: &mut u32,
    ) -> bool {
        let key = (item.user, item.conversation);
        let Some((_, row)) = self.rows.get_mut(&key) else { return false };
        let folded = match fold(row.as_ref(), item) {
            Folded::Duplicate => return true,
            Folded::Changed(new) => new,
            Folded::Gap { after } => {
                // What is acknowledged is committed, and a stream is in order: so the store has lost something, as after
                // a fail-over to a standby that was behind. The conversation's owner has it all the same.
                metrics::counter!(names::INBOX_GAPS_TOTAL).increment(1);
                tracing::warn!(conversation = %item.conversation, %after, seq = %item.seq, "a gap in a mailbox: asking the conversation's owner");
                if *questions == 0 {
                    return false;
                }
                *questions -= 1;
                let asking = self.peers.events_after(item.conversation, item.user, after);
                let Ok(Some(missing)) = timeout(GAP_TIMEOUT, asking).await else { return false };
                let Some((_, row)) = self.rows.get_mut(&key) else { return false };
                let mut filled = row.clone();
                for event in missing.iter().filter(|event| event.record.seq < item.seq) {
                    let missed = FoldItem { peer: item.peer, ..FoldItem::new(item.user, event) };
                    if let Folded::Changed(new) = fold(filled.as_ref(), &missed) {
                        filled = Some(new);
                    }
                }
                apply(filled.as_ref(), item)
            }
        };
        if let Some((_, row)) = self.rows.get_mut(&key) {
            *row = Some(folded);
            changed.insert(key, slot);
        }
        true
    }

    fn rename(&mut self, round: &Round, batch: &mut FoldBatch) {
        let mut renamed = HashSet::new();
        for AttachJob { slot, user, name, .. } in &round.attaches {
            let Some(name) = name else { continue };
            if self.names.get_mut(user).is_some_and(|(_, known)| known == name) || !renamed.insert(*user) {
                continue;
            }
            self.names.insert(*user, (*slot, name.clone()));
            touch(batch, *slot, &self.slots);
            batch.profiles.push((*slot, NamedUser { user: *user, name: name.clone() }));
        }
    }

    /// The slots of which nothing is committed; everything of the others is. What failed is forgotten.
    async fn commit(&mut self, batch: FoldBatch, stop: &CancellationToken) -> anyhow::Result<HashSet<Slot>> {
        let mut failed = HashSet::new();
        let mut waiting = vec![batch];
        while let Some(mut batch) = waiting.pop() {
            if batch.slots.is_empty() {
                continue;
            }
            match self.commit_once(&batch, stop).await? {
                Committed::Yes => {}
                Committed::Fenced(slots) => {
                    tracing::info!(?slots, "deposed: slots belong to another owner or epoch");
                    for slot in slots {
                        self.forget(&take_slot(&mut batch, slot));
                        self.forget_slot(slot);
                        self.slots.remove(&slot);
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
                    failed.extend(batch.slots.iter().map(|&(slot, _)| slot));
                    self.forget(&batch);
                }
            }
        }
        Ok(failed)
    }

    async fn commit_once(&mut self, batch: &FoldBatch, stop: &CancellationToken) -> anyhow::Result<Committed> {
        let started = Instant::now();
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
                Err(StoreError::Unavailable(_) | StoreError::LaneFenced) => match self.lane.reopen().await {
                    Ok(()) => continue,
                    Err(error @ StoreError::LaneFenced) => {
                        return Err(anyhow::Error::new(error).context("a newer incarnation of this node runs"));
                    }
                    Err(error) => {
                        tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "the store cannot be reached");
                        metrics::counter!(names::LANE_REOPEN_FAILURES_TOTAL).increment(1);
                    }
                },
                Err(error) => {
                    tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), rows = batch.rows.len(), "fold refused");
                    return Ok(Committed::Refused);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(Committed::Refused),
                () = sleep(backoff) => backoff = (backoff * 2).min(REOPEN_BACKOFF_MAX),
            }
        }
    }

    /// What was folded in memory and not committed is loaded anew.
    fn forget(&mut self, batch: &FoldBatch) {
        for (_, user, stored) in &batch.rows {
            self.rows.remove(&(*user, stored.row.conversation));
            self.revs.remove(user);
        }
        for (_, profile) in &batch.profiles {
            self.names.remove(&profile.user);
        }
    }
}

enum Committed {
    Yes,
    Fenced(Vec<Slot>),
    Refused,
}

/// Takes a slot's part out of a batch.
fn take_slot(batch: &mut FoldBatch, slot: Slot) -> FoldBatch {
    FoldBatch {
        slots: batch.slots.extract_if(.., |(of, _)| *of == slot).collect(),
        rows: batch.rows.extract_if(.., |(of, ..)| *of == slot).collect(),
        profiles: batch.profiles.extract_if(.., |(of, _)| *of == slot).collect(),
    }
}

fn touch(batch: &mut FoldBatch, slot: Slot, slots: &HashMap<Slot, Epoch>) {
    if !batch.slots.iter().any(|&(s, _)| s == slot)
        && let Some(&epoch) = slots.get(&slot)
    {
        batch.slots.push((slot, epoch));
    }
}
