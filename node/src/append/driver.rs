//! Drains a lane: takes whatever queued during the last commit, decides it, commits it in one round trip, answers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::try_join3;
use rand::Rng;
use tertulia_shard_map::{EventId, MessageNo, Slot};
use tertulia_wire::cluster::{Answer, DeliverTyping, Refusal};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Committed, LaneInputs, Outlets, Request,
    backlog::{Backlog, Command},
    cursors::Cursors,
    details::{Details, Wanted},
    draft::Draft,
    handle::{Control, Queued},
    log::{Decision, Due, Log, Moment, appended},
    settle::{Refused, Settler, answer_known},
};
use crate::{
    clock,
    known_faults::KnownFault,
    metrics as names,
    store::{AppendBatch, Lane, StoreError, StoredMember, StoredTarget},
};

/// Cursors that no batch carried along are written after this time.
const CURSOR_INTERVAL: Duration = Duration::from_millis(500);
const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(50);
const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// Most events in one commit.
    pub batch_max: usize,
    /// A group with more members than this is a large one, for good.
    pub fanout_limit: u64,
}

/// A command that was decided together with the batch: what it is told is true once that is committed.
struct Awaiting {
    command: Command,
    verdict: Verdict,
}

enum Verdict {
    Due(Due),
    Known(Answer),
    Refused(Refusal),
}

struct Committer {
    lane: Lane,
    log: Log,
    backlog: Backlog,
    cursors: Cursors,
    settler: Settler,
    outlets: Outlets,
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
    let settler = Settler::new(lane.store().clone(), queued_bytes);
    let mut committer = Committer {
        lane,
        log: Log::new(settings.fanout_limit),
        backlog: Backlog::new(settings.batch_max),
        cursors: Cursors::default(),
        settler,
        outlets,
    };
    let mut received = Vec::new();
    let mut cursors_due = Instant::now() + CURSOR_INTERVAL;
    let ended = loop {
        if stop.is_cancelled() {
            break Ok(());
        }
        let mut only_cursors = false;
        if committer.backlog.is_empty() {
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
        while committer.backlog.len() + received.len() < settings.batch_max
            && let Ok(queued) = queue.try_recv()
        {
            received.push(queued);
        }
        for queued in received.drain(..) {
            committer.accept(queued);
        }
        if (!committer.backlog.is_empty() || only_cursors)
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
    for command in committer.backlog.take_all() {
        committer.answer(command, Err(Refusal::NotServing));
    }
    committer.settler.finish().await;
    ended
}

impl Committer {
    fn accept(&mut self, queued: Queued) {
        let command = Command::from(queued);
        if self.log.epoch(command.slot).is_some() {
            self.backlog.push(command);
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
                    self.cursors.advance(slot, epoch, event);
                }
            }
        }
    }

    fn close_slot(&mut self, slot: Slot) {
        self.log.close_slot(slot);
        self.cursors.close(slot);
        for command in self.backlog.take_slot(slot) {
            self.answer(command, Err(Refusal::NotServing));
        }
    }

    fn answer(&self, command: Command, result: Result<Answer, Refusal>) {
        self.settler.answer(command, result);
    }

    /// One commit: of the oldest commands, up to the bounds.
    async fn cycle(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut commands = self.backlog.take();
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
        self.cursors.go_with(&mut draft.batch);

        // What the conversations have no part in is answered at once; what must wait goes back to the front.
        let mut awaiting = Vec::with_capacity(commands.len());
        let mut later = Vec::new();
        for (command, decision) in commands.drain(..).zip(decisions) {
            let verdict = match decision {
                Decision::Reject(refusal) => {
                    self.answer(command, Err(refusal));
                    continue;
                }
                Decision::Tell(typing) => {
                    self.tell(command, typing);
                    continue;
                }
                Decision::Later => {
                    later.push(command);
                    continue;
                }
                Decision::Known(answer) => Verdict::Known(answer),
                Decision::Refuse(refusal) => Verdict::Refused(refusal),
                Decision::Commit(due) => Verdict::Due(due),
            };
            awaiting.push(Awaiting { command, verdict });
        }
        self.backlog.back(later);
        if draft.batch.is_empty() {
            self.hand_over(draft, &previous, awaiting).await;
            return Ok(());
        }
        self.commit(draft, previous, awaiting, stop).await
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
        let store = self.lane.store();
        if !wanted.is_empty() {
            let targets = store.load_targets(&wanted.targets);
            let (members, positions) = (store.load_members(&wanted.members), store.load_positions(&wanted.positions));
            let (targets, members, positions) = try_join3(targets, members, positions).await?;
            self.note(wanted, targets, members, positions, &mut details);
        }
        for key in self.log.wanted_seniority(commands.iter().map(|c| (c.slot, &c.request))) {
            details.add_seniority(key.id, self.lane.store().load_seniority(key.slot, key.id).await?);
        }
        Ok(details)
    }

    fn note(
        &mut self,
        wanted: Wanted,
        targets: Vec<Option<StoredTarget>>,
        members: Vec<Option<StoredMember>>,
        positions: Vec<Option<MessageNo>>,
        details: &mut Details,
    ) {
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
    }

    /// Ephemeral: where there is no room it is forgotten.
    fn tell(&self, command: Command, typing: DeliverTyping) {
        let _ = self.outlets.typing.try_send(typing);
        self.answer(command, Ok(Answer::Typing));
    }

    fn positions(&self, commands: &[(Slot, &Request)]) -> BTreeMap<Slot, EventId> {
        commands.iter().filter_map(|&(slot, _)| Some((slot, self.log.last_entry(slot)?))).collect()
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
        let awaiting = match KnownFault::AckBeforeCommit.is_on() {
            true => {
                self.tell_everybody(batch, awaiting);
                Vec::new()
            }
            false => awaiting,
        };
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
        let error = match outcome {
            Ok(()) => {
                self.log.confirm(batch);
                let slots = batch.events.iter().map(|event| event.slot);
                self.outlets.meter.committed(self.lane.store_id(), slots, started.elapsed());
                self.hand_over(draft, &previous, awaiting).await;
                return Ok(());
            }
            Err(error) => error,
        };
        // None of what was decided holds: not what was to be written, nor what was known or refused beside it.
        let commands = awaiting.into_iter().map(|it| it.command).collect();
        if was_known {
            if !KnownFault::StaleSeq.is_on() {
                self.log.take_back(batch, &previous);
            }
        } else {
            self.log.forget(batch);
            self.have_log_read(batch).await;
        }
        self.cursors.take_back(batch);
        match error {
            StoreError::SlotsFenced(slots) => {
                tracing::info!(?slots, "deposed: slots belong to another owner or epoch");
                metrics::counter!(names::FENCED_BATCHES_TOTAL).increment(1);
                self.backlog.back(commands);
                for slot in slots {
                    self.close_slot(slot);
                }
            }
            StoreError::Duplicate => self.settle_duplicates(commands).await,
            error => self.refused(commands, &error),
        }
        Ok(())
    }

    /// The batch is committed, or there was nothing to commit: everybody is told, and fan-out has the entries.
    async fn hand_over(&mut self, draft: Draft, previous: &BTreeMap<Slot, EventId>, awaiting: Vec<Awaiting>) {
        let refused = self.tell_everybody(&draft.batch, awaiting);
        let Draft { batch, mut entries, .. } = draft;
        for &(slot, epoch) in &batch.slots {
            if let (Some(entries), Some(&previous)) = (entries.remove(&slot), previous.get(&slot)) {
                let _ = self.outlets.committed.send(Committed { slot, epoch, previous, entries }).await;
            }
        }
        self.settler.settle(refused).await;
    }

    /// Answers what is committed or known. What is to be refused may be in the store already.
    fn tell_everybody(&self, batch: &AppendBatch, awaiting: Vec<Awaiting>) -> Vec<Refused> {
        let mut refused = Vec::new();
        for Awaiting { command, verdict } in awaiting {
            match verdict {
                Verdict::Due(Due::Event(place)) => {
                    let answer = batch.events.get(place).map(|event| Answer::Append(appended(&event.record)));
                    self.answer(command, answer.ok_or(Refusal::Internal));
                }
                Verdict::Due(Due::Answer(answer)) | Verdict::Known(answer) => self.answer(command, Ok(answer)),
                Verdict::Refused(refusal) => match self.log.epoch(command.slot) {
                    Some(epoch) => refused.push(Refused { command, epoch, refusal }),
                    None => self.answer(command, Err(Refusal::NotServing)),
                },
            }
        }
        refused
    }

    fn give_up(&self, commands: Vec<Command>) {
        for command in commands {
            tracing::error!(slot = %command.slot, conversation = %command.request.conversation(), "a command can neither be committed nor found");
            self.answer(command, Err(Refusal::Internal));
        }
    }

    /// Something of the batch is in the store already: answers what is found, and queues the rest again.
    async fn settle_duplicates(&mut self, commands: Vec<Command>) {
        metrics::counter!(names::DUPLICATE_BATCHES_TOTAL).increment(1);
        let count = commands.len();
        let commands = commands.into_iter().map(|command| (command, ())).collect();
        let without =
            |commands: Vec<(Command, ())>| commands.into_iter().map(|(command, ())| command).collect::<Vec<_>>();
        match answer_known(self.lane.store(), commands, |command, result| self.answer(command, result)).await {
            Ok(open) if open.len() < count => self.backlog.settle(without(open)),
            // Nothing was found, so a seq or an id was stale: with what is loaded anew it should not be.
            Ok(open) => {
                let given_up = self.backlog.try_again(without(open));
                self.give_up(given_up);
            }
            Err((commands, error)) => self.refused(without(commands), &error),
        }
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
            let given_up = self.backlog.try_one_by_one(commands);
            return self.give_up(given_up);
        }
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
