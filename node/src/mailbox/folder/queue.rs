//! The way into a folder: what it is asked, and how the jobs of one commit are gathered.

use std::{collections::HashSet, sync::Arc};

use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::{Epoch, SessionId, Slot, UserId};
use tertulia_wire::cluster::{DeliverStanding, Membership, Refusal, SetProfile};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        RETRY_AFTER_MS,
        delivery::{Budget, Ticket},
        fold::EventFacts,
    },
    memory::Memory,
};

/// Jobs that wait; beyond, deliveries are to be sent again and sessions are told `Overloaded`. What deliveries hold in bytes
/// is bounded by their tickets.
const CHANNEL: usize = 16 * 1024;
/// A commit waits for no further jobs once it has so many items: under load the commits come closer together.
const ITEMS_MAX: usize = 8192;

pub enum Job {
    Fold(FoldJob),
    Person(PersonJob),
    Flush(oneshot::Sender<()>),
}

/// Which slots are here. As long as the map changes, no longer: nobody waits.
pub enum Control {
    Open(Slot, Epoch),
    Close(Slot),
}

/// The deliveries of one stream.
pub struct FoldJob {
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
pub enum Start {
    /// All that was sent before is acknowledged.
    Afresh,
    Following,
}

/// An entry of the log for one recipient.
pub struct FoldItem {
    pub user: UserId,
    pub membership: Membership,
    pub entry: Arc<FoldEntry>,
}

/// What the recipients of an entry share.
pub enum FoldEntry {
    Event(EventFacts),
    Standing(DeliverStanding),
}

/// What concerns the user and not a conversation.
pub struct PersonJob {
    pub slot: Slot,
    pub epoch: Epoch,
    pub user: UserId,
    pub what: PersonWork,
    pub reply: Responder,
}

pub enum PersonWork {
    /// A session that wants to know its mailbox, with the display name of its token.
    Attach {
        session: SessionId,
        name: Option<String>,
    },
    SetProfile(SetProfile),
}

#[derive(Clone)]
pub struct FolderHandle {
    jobs: mpsc::Sender<Job>,
    control: mpsc::UnboundedSender<Control>,
    budget: Budget,
}

/// The other end of a [`FolderHandle`], for [`run`](super::run).
pub struct FolderInputs {
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
}

impl FolderHandle {
    pub fn new() -> (Self, FolderInputs) {
        let (sender, jobs) = mpsc::channel(CHANNEL);
        let (control, told) = mpsc::unbounded_channel();
        (Self { jobs: sender, control, budget: Budget::new() }, FolderInputs { jobs, control: told })
    }

    /// For a delivery to this store of so many bytes. `None` at the limit.
    pub(in super::super) fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.budget.take(bytes)
    }

    /// False where the queue is full: the job is dropped, and its stream sent again.
    pub(in super::super) fn fold(&self, job: FoldJob) -> bool {
        self.jobs.try_send(Job::Fold(job)).is_ok()
    }

    pub(in super::super) fn person(&self, job: PersonJob) {
        if let Err(error) = self.jobs.try_send(Job::Person(job))
            && let Job::Person(PersonJob { reply, .. }) = error.into_inner()
        {
            reply.refuse(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        }
    }

    pub(in super::super) fn open(&self, slot: Slot, epoch: Epoch) {
        // A folder that has ended takes its process down with it: nobody is left to be told.
        let _ = self.control.send(Control::Open(slot, epoch));
    }

    pub(in super::super) fn close(&self, slot: Slot) {
        let _ = self.control.send(Control::Close(slot));
    }

    /// True once everything that was delivered before is committed, or given back to its sender. False where the store is
    /// away.
    pub async fn flush(&self) -> bool {
        let (done, flushed) = oneshot::channel();
        self.jobs.send(Job::Flush(done)).await.is_ok() && flushed.await.is_ok()
    }
}

/// The jobs of one commit.
#[derive(Default)]
pub(super) struct Round {
    pub folds: Vec<FoldJob>,
    pub people: Vec<PersonJob>,
    pub flushes: Vec<oneshot::Sender<()>>,
    items: usize,
    /// Whether a block begins or ends: what the two see of each other depends on it.
    changes_blocks: bool,
}

impl Round {
    fn add(&mut self, job: Job, memory: &Memory) {
        match job {
            Job::Fold(fold) => {
                self.changes_blocks |= fold.items.iter().any(|item| memory.would_change_block(fold.slot, item));
                // An item-less stream still counts, so that it is answered.
                self.items += fold.items.len().max(1);
                self.folds.push(fold);
            }
            Job::Person(person) => {
                self.items += 1;
                self.people.push(person);
            }
            Job::Flush(done) => self.flushes.push(done),
        }
    }

    /// Promises nothing: streams are sent again, and sessions attached elsewhere or later.
    pub fn refuse(self, refusal: &Refusal) {
        self.people.into_iter().for_each(|person| person.reply.refuse(refusal.clone()));
    }

    fn is_urgent(&self) -> bool {
        !self.people.is_empty() || !self.flushes.is_empty() || self.changes_blocks
    }
}

pub(super) enum Next {
    Round(Round),
    Control(Control),
    Stopped,
}

impl FolderInputs {
    /// Adds to the round until it is the next commit: what comes until the interval is over, somebody waits for it, or it
    /// is large enough. What is said of slots comes first.
    pub(super) async fn next(
        &mut self,
        round: &mut Round,
        memory: &Memory,
        not_before: Instant,
        stop: &CancellationToken,
    ) -> Next {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Next::Stopped,
                Some(told) = self.control.recv() => return Next::Control(told),
                job = self.jobs.recv() => {
                    let Some(job) = job else { return Next::Stopped };
                    round.add(job, memory);
                    while round.items < ITEMS_MAX && let Ok(job) = self.jobs.try_recv() {
                        round.add(job, memory);
                    }
                    if round.is_urgent() || round.items >= ITEMS_MAX {
                        return Next::Round(std::mem::take(round));
                    }
                }
                () = sleep_until(not_before), if round.items > 0 => return Next::Round(std::mem::take(round)),
            }
        }
    }

    /// Gives back what comes until `waiting` is over, but not before `patient_until`: what would wait for a store that is away
    /// is better where it came from. Of the streams, what follows has a hole.
    pub(super) async fn give_back_during<T>(
        &mut self,
        waiting: impl Future<Output = T>,
        patient_until: Instant,
        broken: &mut HashSet<(Slot, Slot)>,
    ) -> T {
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            done = &mut waiting => return done,
            () = sleep_until(patient_until) => {}
        }
        loop {
            tokio::select! {
                biased;
                done = &mut waiting => return done,
                Some(job) = self.jobs.recv() => match job {
                    Job::Fold(fold) => drop(broken.insert((fold.from, fold.slot))),
                    Job::Person(person) => person.reply.refuse(Refusal::StoreUnavailable),
                    Job::Flush(done) => drop(done),
                },
            }
        }
    }

    /// Whoever waits is told at once to look for another owner.
    pub(super) async fn refuse_all(mut self, mut rest: Round, memory: &Memory) {
        self.jobs.close();
        while let Some(job) = self.jobs.recv().await {
            rest.add(job, memory);
        }
        rest.refuse(&Refusal::NotServing);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tertulia_wire::cluster::StreamResult;

    use super::*;
    use crate::mailbox::delivery::DeliverReply;

    #[tokio::test]
    async fn what_waits_for_a_store_that_is_away_is_given_back() {
        let (handle, mut inputs) = FolderHandle::new();
        let (reply, given_back) = oneshot::channel();
        let bytes = handle.reserve(100).expect("nothing else is under way");
        let ticket = Ticket::new(1, DeliverReply::Local(reply), bytes);
        let (from, slot) = (Slot::new(1), Slot::new(2));
        let (epoch, start) = (Epoch::new(1), Start::Following);
        assert!(handle.fold(FoldJob { from, slot, epoch, start, items: Vec::new(), ticket, stream: 0 }));
        let flushing = tokio::spawn(async move { handle.flush().await });

        let mut broken = HashSet::new();
        let soon = Instant::now() + Duration::from_millis(20);
        inputs.give_back_during(sleep_until(soon), soon, &mut broken).await;
        assert!(broken.is_empty(), "a lane that opens at once is waited for");
        let asked = inputs.give_back_during(given_back, soon, &mut broken).await;
        assert_eq!(asked.expect("it is answered"), [StreamResult::Retry]);
        assert!(broken.contains(&(from, slot)));
        assert!(!inputs.give_back_during(flushing, soon, &mut broken).await.expect("no panic"));
    }
}
