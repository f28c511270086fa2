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

use futures_util::future::try_join4;
use rand::Rng;
use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::{Epoch, EventId, Slot};
use tertulia_wire::cluster::{Answer, Append, DeliverTyping, Refusal};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Committed, LaneInputs, Outlets, Request,
    details::Details,
    draft::Draft,
    handle::{Control, Queued},
    log::{Decision, Due, Log, Moment, answer_duplicate, appended},
};
use crate::{
    clock, metrics as names,
    store::{AppendBatch, DuplicateKey, Lane, Store, StoreError},
};

/// Cursors that no batch carried along are written after this time.
const CURSOR_INTERVAL: Duration = Duration::from_millis(500);
const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(50);
const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The same command found neither committed nor committable this often is answered `Internal`.
const MAX_ATTEMPTS: u8 = 5;
/// Commands that one batch takes grow no further beyond so much, as the queue counts it.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The consumer whose cursor the lane writes.
const MAILBOX: &str = "mailbox";

#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// Most events in one commit.
    pub batch_max: usize,
    /// A group with more members than this is a large one, for good.
    pub fanout_limit: u64,
}

struct Command {
    slot: Slot,
    request: Request,
    reply: Responder,
    attempts: u8,
}

impl Command {
    fn append(&self) -> Option<&Append> {
        match &self.request {
            Request::Append(append) => Some(append),
            Request::Mark(_) | Request::Block(_) | Request::Typing(_) => None,
        }
    }

    fn key(&self) -> Option<DuplicateKey<'_>> {
        let append = self.append()?;
        let (conversation, sender, temp_id) = (append.conversation, append.sender, append.temp_id.as_str());
        Some(DuplicateKey { slot: self.slot, conversation, sender, temp_id })
    }
}

/// A command of the batch, and how it is answered once that is committed.
struct Awaiting {
    command: Command,
    due: Due,
}

struct Committer {
    lane: Lane,
    settings: LaneSettings,
    log: Log,
    queue: VecDeque<Command>,
    cursors: HashMap<Slot, (Epoch, EventId)>,
    queued_bytes: Arc<AtomicUsize>,
    outlets: Outlets,
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
    outlets: Outlets,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let LaneInputs { mut queue, mut control, cursors_waiting, queued_bytes } = inputs;
    let mut committer = Committer {
        lane,
        settings,
        log: Log::new(settings.fanout_limit),
        queue: VecDeque::new(),
        cursors: HashMap::new(),
        queued_bytes,
        outlets,
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
        let Queued { slot, request, reply } = queued;
        let command = Command { slot, request, reply, attempts: 0 };
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

    fn answer(&self, command: Command, result: Result<Answer, Refusal>) {
        self.queued_bytes.fetch_sub(command.request.cost(), Ordering::Relaxed);
        command.reply.send(result.unwrap_or_else(Answer::Refused));
    }

    /// One commit: of the oldest commands, up to the bounds.
    async fn cycle(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut commands = self.take();
        let mut details = match self.look_up(&commands).await {
            Ok(details) => details,
            Err(error) => {
                tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "conversations cannot be loaded");
                for command in commands {
                    self.answer(command, Err(Refusal::StoreUnavailable));
                }
                return Ok(());
            }
        };
        let pairs: Vec<(Slot, &Request)> = commands.iter().map(|c| (c.slot, &c.request)).collect();
        let mut entropy = || rand::rng().random::<u128>();
        let previous = self.positions(&pairs);
        let moment = Moment { now_ms: clock::unix_ms(), entropy: &mut entropy };
        let (decisions, mut draft) = self.log.assign(&pairs, &mut details, moment);
        self.attach_cursors(&mut draft.batch);

        // What needs no commit is answered before it; what must wait goes back to the front.
        let mut awaiting = Vec::with_capacity(draft.batch.events.len() + draft.batch.standings.len());
        let (mut later, mut refused) = (Vec::new(), Vec::new());
        for (command, decision) in commands.drain(..).zip(decisions) {
            match decision {
                Decision::Known(answer) => self.answer(command, Ok(answer)),
                Decision::Refuse(refusal) if command.append().is_some() && may_hide_a_retry(&refusal) => {
                    refused.push((command, refusal));
                }
                Decision::Refuse(refusal) => self.answer(command, Err(refusal)),
                Decision::Tell(typing) => self.tell(command, typing),
                Decision::Commit(due) => awaiting.push(Awaiting { command, due }),
                Decision::Later => later.push(command),
            }
        }
        for command in later.into_iter().rev() {
            self.queue.push_front(command);
        }
        if !draft.batch.is_empty() {
            self.commit(draft, previous, awaiting, stop).await?;
        }
        self.settle_refused(refused).await;
        Ok(())
    }

    fn take(&mut self) -> Vec<Command> {
        let bound = match (self.one_by_one, mem::take(&mut self.settling)) {
            (0, 0) => self.settings.batch_max,
            (0, settling) => settling,
            (_, _) => 1,
        };
        let (mut count, mut bytes) = (0, 0);
        while count < bound && bytes < BATCH_BYTES_MAX {
            let Some(command) = self.queue.get(count) else { break };
            bytes += command.request.cost();
            count += 1;
        }
        self.queue.drain(..count).collect()
    }

    /// Everything that deciding these commands needs from the store.
    async fn look_up(&mut self, commands: &[Command]) -> Result<Details, StoreError> {
        let missing = self.log.missing(commands.iter().map(|c| (c.slot, &c.request)));
        if !missing.is_empty() {
            let stored = self.lane.store().load_conversations(&missing).await?;
            let slots: HashMap<_, _> = missing.iter().map(|key| (key.id, key.slot)).collect();
            for conversation in stored {
                self.log.load(slots[&conversation.id], conversation);
            }
        }
        let wanted = self.log.wanted(commands.iter().map(|c| (c.slot, &c.request)));
        let mut details = Details::default();
        if wanted.is_empty() {
            return Ok(details);
        }
        let store: &Store = self.lane.store();
        let seniority = async {
            let mut found = Vec::with_capacity(wanted.seniority.len());
            for key in &wanted.seniority {
                found.push((key.id, store.load_seniority(key.slot, key.id).await?));
            }
            Ok(found)
        };
        let (targets, members, positions, seniority) = try_join4(
            store.load_targets(&wanted.targets),
            store.load_members(&wanted.members),
            store.load_positions(&wanted.positions),
            seniority,
        )
        .await?;
        for (key, member) in wanted.members.iter().zip(members) {
            self.log.learn(key, member);
        }
        for (key, target) in wanted.targets.into_iter().zip(targets) {
            if let Some(target) = target {
                details.add_target(key, target);
            }
        }
        for (key, message_no) in wanted.positions.into_iter().zip(positions) {
            if let Some(message_no) = message_no {
                details.add_position(key, message_no);
            }
        }
        for (conversation, members) in seniority {
            details.add_seniority(conversation, members);
        }
        Ok(details)
    }

    /// Ephemeral: where there is no room it is forgotten.
    fn tell(&self, command: Command, typing: DeliverTyping) {
        let _ = self.outlets.typing.try_send(typing);
        self.answer(command, Ok(Answer::Typing));
    }

    fn positions(&self, commands: &[(Slot, &Request)]) -> BTreeMap<Slot, EventId> {
        commands.iter().filter_map(|&(slot, _)| Some((slot, self.log.last_entry(slot)?))).collect()
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
        draft: Draft,
        previous: BTreeMap<Slot, EventId>,
        awaiting: Vec<Awaiting>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let batch = &draft.batch;
        let mut outcome = self.lane.append(batch).await;
        let was_known = !matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::LaneFenced));
        while let Err(StoreError::Unavailable(_) | StoreError::LaneFenced) = outcome {
            // The outcome is unknown. Nothing else of this lane may commit before that is settled: the old connection is
            // fenced off, and the very same batch is tried again. If it was committed, its duplicates say so.
            if !self.reopen(stop).await? {
                for Awaiting { command, .. } in awaiting {
                    self.answer(command, Err(Refusal::NotServing));
                }
                return Ok(());
            }
            outcome = self.lane.append(batch).await;
        }
        metrics::histogram!(names::COMMIT_SECONDS).record(started.elapsed().as_secs_f64());
        metrics::histogram!(names::COMMIT_EVENTS).record(batch.events.len() as f64);
        match outcome {
            Ok(()) => {
                self.one_by_one = self.one_by_one.saturating_sub(1);
                self.log.confirm(batch);
                self.hand_over(draft, &previous, awaiting).await;
            }
            Err(StoreError::SlotsFenced(slots)) => {
                tracing::info!(?slots, "deposed: slots belong to another owner or epoch");
                metrics::counter!(names::FENCED_BATCHES_TOTAL).increment(1);
                self.log.forget(batch);
                for Awaiting { command, .. } in awaiting.into_iter().rev() {
                    self.queue.push_front(command);
                }
                for slot in slots {
                    self.close_slot(slot);
                }
            }
            Err(StoreError::Duplicate) => {
                self.log.forget(batch);
                let commands = awaiting.into_iter().map(|it| it.command).collect();
                self.settle_duplicates(commands, batch).await;
            }
            Err(error) => {
                self.log.forget(batch);
                if !was_known {
                    self.have_log_read(batch).await;
                }
                self.refused(awaiting.into_iter().map(|it| it.command).collect(), &error);
            }
        }
        Ok(())
    }

    async fn hand_over(&mut self, draft: Draft, previous: &BTreeMap<Slot, EventId>, awaiting: Vec<Awaiting>) {
        let Draft { batch, mut entries, .. } = draft;
        for Awaiting { command, due } in awaiting {
            let answer = match due {
                Due::Event(place) => batch.events.get(place).map(|event| Answer::Append(appended(&event.record))),
                Due::Answer(answer) => Some(answer),
            };
            self.answer(command, answer.ok_or(Refusal::Internal));
        }
        for &(slot, epoch) in &batch.slots {
            if let (Some(entries), Some(&previous)) = (entries.remove(&slot), previous.get(&slot)) {
                let _ = self.outlets.committed.send(Committed { slot, epoch, previous, entries }).await;
            }
        }
    }

    /// To the front, in their order; given up after some attempts that led nowhere.
    fn requeue(&mut self, commands: Vec<Command>) {
        for mut command in commands.into_iter().rev() {
            command.attempts += 1;
            if command.attempts > MAX_ATTEMPTS {
                tracing::error!(slot = %command.slot, conversation = %command.request.conversation(), "a command can neither be committed nor found");
                self.answer(command, Err(Refusal::Internal));
            } else {
                self.queue.push_front(command);
            }
        }
    }

    /// Something of the batch is in the store already: answers what is found, and queues the rest again.
    async fn settle_duplicates(&mut self, commands: Vec<Command>, batch: &AppendBatch) {
        metrics::counter!(names::DUPLICATE_BATCHES_TOTAL).increment(1);
        let count = commands.len();
        let open = match self.answer_known(commands.into_iter().map(|command| (command, ())).collect()).await {
            Ok(open) => open.into_iter().map(|(command, ())| command).collect::<Vec<_>>(),
            Err((commands, error)) => {
                self.have_log_read(batch).await;
                return self.refused(commands.into_iter().map(|(command, ())| command).collect(), &error);
            }
        };
        if open.len() < count {
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

    /// A retry of what was committed may look like something that is not allowed: its first answer counts.
    async fn settle_refused(&mut self, refused: Vec<(Command, Refusal)>) {
        if refused.is_empty() {
            return;
        }
        match self.answer_known(refused).await {
            Ok(open) => open.into_iter().for_each(|(command, refusal)| self.answer(command, Err(refusal))),
            Err((refused, error)) => {
                tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "retries cannot be looked up");
                for (command, _) in refused {
                    self.answer(command, Err(Refusal::StoreUnavailable));
                }
            }
        }
    }

    /// Answers those commands under whose keys the store has an event, and gives back the others.
    async fn answer_known<T>(
        &self,
        commands: Vec<(Command, T)>,
    ) -> Result<Vec<(Command, T)>, (Vec<(Command, T)>, StoreError)> {
        let keys: Vec<DuplicateKey<'_>> = commands.iter().filter_map(|(command, _)| command.key()).collect();
        let mut found = match self.lane.store().find_duplicates(&keys).await {
            Ok(found) => found.into_iter(),
            Err(error) => return Err((commands, error)),
        };
        let mut open = Vec::new();
        for (command, with) in commands {
            let stored = command.append().and_then(|_| found.next().flatten());
            match command.append().zip(stored) {
                Some((append, stored)) => {
                    let result = answer_duplicate(append, &stored).map(Answer::Append);
                    self.answer(command, result);
                }
                None => open.push((command, with)),
            }
        }
        Ok(open)
    }

    /// Where entries of the batch are our own, committed before their reply was lost, nobody has told fan-out yet: an empty
    /// group whose predecessor nobody has seen makes it read the log.
    async fn have_log_read(&self, batch: &AppendBatch) {
        for &(slot, epoch) in &batch.slots {
            if let Some(previous) = self.log.last_entry(slot) {
                let _ = self.outlets.committed.send(Committed { slot, epoch, previous, entries: Vec::new() }).await;
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

/// Whether what was committed may have led to this refusal of the very same command.
fn may_hide_a_retry(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NotFound
            | Refusal::Conflict
            | Refusal::Blocked
            | Refusal::NotAllowed(_)
            | Refusal::NoChange(_)
            | Refusal::LimitReached(_)
            | Refusal::Invalid(_)
    )
}
