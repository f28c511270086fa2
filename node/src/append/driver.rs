//! Drains a lane: takes whatever queued during the last commit, decides it, commits it in one round trip, answers.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::Rng;
use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::{Epoch, EventId, Slot};
use tertulia_wire::cluster::{Answer, Append, Refusal};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Committed, CommittedEvent, Control, LaneInputs, Queued, cost,
    log::{Decision, Log, Moment, answer_duplicate, appended},
};
use crate::{
    clock, metrics as names,
    store::{AppendBatch, DuplicateKey, Lane, StoreError},
};

/// Cursors that no batch carried along are written after this time.
const CURSOR_INTERVAL: Duration = Duration::from_millis(500);
const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(50);
const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The same command found neither committed nor committable this often is answered `Internal`.
const MAX_ATTEMPTS: u8 = 5;
/// The consumer whose cursor the lane writes.
const MAILBOX: &str = "mailbox";

#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// Most events in one commit.
    pub batch_max: usize,
}

struct Command {
    slot: Slot,
    append: Append,
    reply: Responder,
    attempts: u8,
}

struct Committer {
    lane: Lane,
    settings: LaneSettings,
    log: Log,
    queue: VecDeque<Command>,
    cursors: HashMap<Slot, (Epoch, EventId)>,
    queued_bytes: Arc<AtomicUsize>,
    committed: mpsc::Sender<Committed>,
    /// Set after the store refused a whole batch: commands go one by one until this many are through, so that a bad one
    /// fails alone.
    one_by_one: usize,
    /// So many at the queue's head were in a batch with a duplicate: they go again among themselves, so that duplicates
    /// that keep coming in cannot keep them waiting.
    settling: usize,
}

/// Runs until `stop`, or until this process is found deposed, which is an error: another incarnation of the node runs.
pub async fn run(
    lane: Lane,
    settings: LaneSettings,
    inputs: LaneInputs,
    committed: mpsc::Sender<Committed>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let LaneInputs { mut queue, mut control, cursors_waiting, queued_bytes } = inputs;
    let mut committer = Committer {
        lane,
        settings,
        log: Log::new(),
        queue: VecDeque::new(),
        cursors: HashMap::new(),
        queued_bytes,
        committed,
        one_by_one: 0,
        settling: 0,
    };
    let mut received = Vec::new();
    let mut cursors_due = Instant::now() + CURSOR_INTERVAL;
    let ended = loop {
        if stop.is_cancelled() {
            break Ok(());
        }
        let mut only_cursors = false;
        if committer.queue.is_empty() {
            tokio::select! {
                // A slot is opened before its first command.
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(told) = control.recv() => committer.told(told, &cursors_waiting),
                count = queue.recv_many(&mut received, settings.batch_max) => if count == 0 { break Ok(()) },
                () = sleep_until(cursors_due) => {
                    cursors_due = Instant::now() + CURSOR_INTERVAL;
                    only_cursors = !committer.cursors.is_empty();
                }
            }
        }
        while let Ok(told) = control.try_recv() {
            committer.told(told, &cursors_waiting);
        }
        while committer.queue.len() + received.len() < settings.batch_max
            && let Ok(queued) = queue.try_recv()
        {
            received.push(queued);
        }
        for queued in received.drain(..) {
            committer.accept(queued);
        }
        if (!committer.queue.is_empty() || only_cursors)
            && let Err(deposed) = committer.cycle(&stop).await
        {
            break Err(deposed);
        }
    };
    // Whoever waits is told at once to look for another owner.
    queue.close();
    while let Some(queued) = queue.recv().await {
        committer.accept(queued);
    }
    for command in std::mem::take(&mut committer.queue) {
        committer.answer(command, Err(Refusal::NotServing));
    }
    ended
}

impl Committer {
    fn accept(&mut self, queued: Queued) {
        let Queued { slot, append, reply } = queued;
        let command = Command { slot, append, reply, attempts: 0 };
        if self.log.epoch(slot).is_some() {
            self.queue.push_back(command);
        } else {
            self.answer(command, Err(Refusal::NotServing));
        }
    }

    fn told(&mut self, told: Control, cursors_waiting: &AtomicUsize) {
        match told {
            Control::Open(taken) => self.log.open_slot(&taken),
            Control::Close(slot) => self.close_slot(slot),
            Control::Cursor { slot, epoch, event } => {
                cursors_waiting.fetch_sub(1, Ordering::Relaxed);
                if self.log.epoch(slot) == Some(epoch) {
                    self.cursors.insert(slot, (epoch, event));
                }
            }
        }
    }

    fn close_slot(&mut self, slot: Slot) {
        self.log.close_slot(slot);
        self.cursors.remove(&slot);
        let (gone, kept): (VecDeque<_>, _) = self.queue.drain(..).partition(|command| command.slot == slot);
        self.queue = kept;
        for command in gone {
            self.answer(command, Err(Refusal::NotServing));
        }
    }

    fn answer(&self, command: Command, result: Result<tertulia_wire::cluster::Appended, Refusal>) {
        self.queued_bytes.fetch_sub(cost(&command.append), Ordering::Relaxed);
        command.reply.send(match result {
            Ok(appended) => Answer::Append(appended),
            Err(refusal) => Answer::Refused(refusal),
        });
    }

    /// One commit: of the oldest commands, up to the bound.
    async fn cycle(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let bound = match (self.one_by_one, mem::take(&mut self.settling)) {
            (0, 0) => self.settings.batch_max,
            (0, settling) => settling,
            (_, _) => 1,
        };
        let count = self.queue.len().min(bound);
        let mut commands: Vec<Command> = self.queue.drain(..count).collect();

        let missing = self.log.missing(commands.iter().map(|c| (c.slot, &c.append)));
        if !missing.is_empty() {
            match self.lane.store().load_conversations(&missing).await {
                Ok(stored) => {
                    let slots: HashMap<_, _> = missing.iter().map(|key| (key.id, key.slot)).collect();
                    for conversation in &stored {
                        self.log.load(slots[&conversation.id], conversation);
                    }
                }
                Err(error) => {
                    tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "conversations cannot be loaded");
                    for command in commands {
                        self.answer(command, Err(Refusal::StoreUnavailable));
                    }
                    return Ok(());
                }
            }
        }

        let pairs: Vec<(Slot, &Append)> = commands.iter().map(|c| (c.slot, &c.append)).collect();
        let mut entropy = || rand::rng().random::<u128>();
        let previous = self.positions(&pairs);
        let (decisions, mut batch) =
            self.log.assign(&pairs, Moment { now_ms: clock::unix_ms(), entropy: &mut entropy });
        self.attach_cursors(&mut batch);

        // What needs no commit is answered before it; what must wait goes back to the front.
        let mut waiting = Vec::with_capacity(batch.events.len());
        let mut later = Vec::new();
        for (command, decision) in commands.drain(..).zip(decisions) {
            match decision {
                Decision::Known(appended) => self.answer(command, Ok(appended)),
                Decision::Refuse(refusal) => self.answer(command, Err(refusal)),
                Decision::Commit => waiting.push(command),
                Decision::Later => later.push(command),
            }
        }
        for command in later.into_iter().rev() {
            self.queue.push_front(command);
        }
        if batch.events.is_empty() && batch.cursors.is_empty() {
            return Ok(());
        }
        self.commit(batch, previous, waiting, stop).await
    }

    fn positions(&self, commands: &[(Slot, &Append)]) -> BTreeMap<Slot, EventId> {
        commands.iter().filter_map(|&(slot, _)| Some((slot, self.log.last_event(slot)?))).collect()
    }

    fn attach_cursors(&mut self, batch: &mut AppendBatch) {
        for (slot, (epoch, event)) in self.cursors.drain() {
            if !batch.slots.iter().any(|&(s, _)| s == slot) {
                batch.slots.push((slot, epoch));
            }
            batch.cursors.push((slot, MAILBOX, event));
        }
    }

    async fn commit(
        &mut self,
        batch: AppendBatch,
        previous: BTreeMap<Slot, EventId>,
        commands: Vec<Command>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut outcome = self.lane.append(&batch).await;
        let was_known = !matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::LaneFenced));
        while let Err(StoreError::Unavailable(_) | StoreError::LaneFenced) = outcome {
            // The outcome is unknown. Nothing else of this lane may commit before that is settled: the old connection is
            // fenced off, and the very same batch is tried again. If it was committed, its duplicates say so.
            if !self.reopen(stop).await? {
                for command in commands {
                    self.answer(command, Err(Refusal::NotServing));
                }
                return Ok(());
            }
            outcome = self.lane.append(&batch).await;
        }
        metrics::histogram!(names::COMMIT_SECONDS).record(started.elapsed().as_secs_f64());
        metrics::histogram!(names::COMMIT_EVENTS).record(batch.events.len() as f64);
        match outcome {
            Ok(()) => {
                self.one_by_one = self.one_by_one.saturating_sub(1);
                self.log.confirm(&batch);
                self.hand_over(batch, &previous, commands).await;
            }
            Err(StoreError::SlotsFenced(slots)) => {
                tracing::info!(?slots, "deposed: slots belong to another owner or epoch");
                metrics::counter!(names::FENCED_BATCHES_TOTAL).increment(1);
                self.log.forget(&batch);
                for command in commands.into_iter().rev() {
                    self.queue.push_front(command);
                }
                for slot in slots {
                    self.close_slot(slot);
                }
            }
            Err(StoreError::Duplicate) => {
                self.log.forget(&batch);
                self.settle_duplicates(commands, &batch).await;
            }
            Err(error) => {
                self.log.forget(&batch);
                if !was_known {
                    self.have_log_read(&batch).await;
                }
                self.refused(commands, &error);
            }
        }
        Ok(())
    }

    async fn hand_over(&mut self, batch: AppendBatch, previous: &BTreeMap<Slot, EventId>, commands: Vec<Command>) {
        let mut committed: Vec<Committed> = batch
            .slots
            .iter()
            .filter_map(|&(slot, epoch)| {
                Some(Committed { slot, epoch, previous: *previous.get(&slot)?, events: Vec::new() })
            })
            .collect();
        for (event, command) in batch.events.into_iter().zip(commands) {
            let origin = command.append.origin;
            self.answer(command, Ok(appended(&event.record)));
            // Just confirmed, so remembered; were it not, fan-out would find the hole and read the log.
            let Some(direct) = self.log.pair(event.record.conversation) else { continue };
            if let Some(of_slot) = committed.iter_mut().find(|c| c.slot == event.slot) {
                of_slot.events.push(CommittedEvent { record: event.record, direct, origin });
            }
        }
        for of_slot in committed {
            if !of_slot.events.is_empty() {
                let _ = self.committed.send(of_slot).await;
            }
        }
    }

    /// To the front, in their order; given up after some attempts that led nowhere.
    fn requeue(&mut self, commands: Vec<Command>) {
        for mut command in commands.into_iter().rev() {
            command.attempts += 1;
            if command.attempts > MAX_ATTEMPTS {
                tracing::error!(slot = %command.slot, conversation = %command.append.conversation, "a command can neither be committed nor found");
                self.answer(command, Err(Refusal::Internal));
            } else {
                self.queue.push_front(command);
            }
        }
    }

    /// Something of the batch is in the store already: answers what is found, and queues the rest again.
    async fn settle_duplicates(&mut self, commands: Vec<Command>, batch: &AppendBatch) {
        metrics::counter!(names::DUPLICATE_BATCHES_TOTAL).increment(1);
        let keys: Vec<DuplicateKey<'_>> = commands
            .iter()
            .map(|command| DuplicateKey {
                slot: command.slot,
                conversation: command.append.conversation,
                sender: command.append.sender,
                temp_id: &command.append.temp_id,
            })
            .collect();
        let found = match self.lane.store().find_duplicates(&keys).await {
            Ok(found) => found,
            Err(error) => {
                self.have_log_read(batch).await;
                return self.refused(commands, &error);
            }
        };
        let mut open = Vec::new();
        for (command, stored) in commands.into_iter().zip(found) {
            match stored {
                Some(stored) => {
                    let result = answer_duplicate(&command.append, &stored);
                    self.answer(command, result);
                }
                None => open.push(command),
            }
        }
        if open.len() < batch.events.len() {
            self.settling = open.len();
            for command in open.into_iter().rev() {
                self.queue.push_front(command);
            }
        } else {
            // Nothing was found, so a seq or an id was stale: with what is loaded anew it should not be.
            self.requeue(open);
        }
        self.have_log_read(batch).await;
    }

    /// Where events of the batch are our own, committed before their reply was lost, nobody has told fan-out yet: an empty
    /// group whose predecessor nobody has seen makes it read the log.
    async fn have_log_read(&self, batch: &AppendBatch) {
        for &(slot, epoch) in &batch.slots {
            if let Some(previous) = self.log.last_event(slot) {
                let _ = self.committed.send(Committed { slot, epoch, previous, events: Vec::new() }).await;
            }
        }
    }

    /// The store cannot take the batch now, or one command of it never: find out which.
    fn refused(&mut self, commands: Vec<Command>, error: &StoreError) {
        tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(error), events = commands.len(), "commit refused");
        if commands.len() > 1 && matches!(error, StoreError::Rejected(_)) {
            self.one_by_one = commands.len();
            return self.requeue(commands);
        }
        self.one_by_one = self.one_by_one.saturating_sub(1);
        for command in commands {
            self.answer(command, Err(Refusal::StoreUnavailable));
        }
    }

    /// False when asked to stop meanwhile.
    async fn reopen(&mut self, stop: &CancellationToken) -> anyhow::Result<bool> {
        let mut backoff = REOPEN_BACKOFF_MIN;
        loop {
            match self.lane.reopen().await {
                Ok(()) => return Ok(true),
                Err(error @ StoreError::LaneFenced) => {
                    return Err(anyhow::Error::new(error).context("a newer incarnation of this node runs"));
                }
                Err(error) => {
                    tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "the store cannot be reached");
                    metrics::counter!(names::LANE_REOPEN_FAILURES_TOTAL).increment(1);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                () = sleep(backoff) => backoff = (backoff * 2).min(REOPEN_BACKOFF_MAX),
            }
        }
    }
}
