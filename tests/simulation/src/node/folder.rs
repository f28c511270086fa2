//! Mailboxes: `tertulia_node::mailbox::fold` folds, this takes deliveries in the order of their streams and commits rows.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    rc::Rc,
};

use tertulia_node::{
    fanout::tail::{Addressed, Outcome, SendId},
    mailbox::fold::{EventFacts, Folded, fold, is_told, stand},
};
use tertulia_shard_map::{ConversationId, Epoch, EventId, Slot, StoreId, UserId};
use tertulia_test_invariants::Invariant;
use tertulia_wire::cluster::{DeliverEntry, InboxRow, Recipient};

use super::link::{Link, Next};
use crate::{
    agenda::{Answer, Ask, Message, Ticket},
    network::Fate,
    store::{Batch, FoldBatch, LaneKind, NotCommitted},
    world::{Process, World},
};

/// The mailboxes of a slot that this process serves.
pub struct Mailbox {
    store: StoreId,
    epoch: Epoch,
    /// The newest entry that was taken on each stream.
    streams: BTreeMap<Slot, EventId>,
}

impl Mailbox {
    pub fn new(store: StoreId, epoch: Epoch) -> Self {
        Self { store, epoch, streams: BTreeMap::new() }
    }
}

/// Folds the deliveries to all slots of a store.
#[derive(Default)]
pub struct Folder {
    link: Link,
    waiting: VecDeque<Job>,
    under_way: Option<UnderWay>,
    /// Streams of which a job was given back: what follows on it has a hole, until the stream starts afresh.
    broken: BTreeSet<(Slot, Slot)>,
    /// Committed rows.
    rows: BTreeMap<(Slot, UserId, ConversationId), InboxRow>,
}

struct Job {
    id: SendId,
    by: Process,
    epoch: Epoch,
    start: Start,
    items: Vec<Addressed>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Afresh,
    Following,
}

struct UnderWay {
    batch: Rc<FoldBatch>,
    /// Who is told once it is committed.
    jobs: Vec<Job>,
}

impl Folder {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Of a slot that is not open nothing is remembered.
    pub fn forget(&mut self, slot: Slot) {
        self.rows.retain(|(of, ..), _| *of != slot);
        self.broken.retain(|(_, to)| *to != slot);
    }
}

type RowKey = (Slot, UserId, ConversationId);
type Changes = BTreeMap<RowKey, InboxRow>;

impl World {
    pub(super) fn take_delivery(
        &mut self,
        at: Process,
        id: SendId,
        by: Process,
        previous: Option<EventId>,
        items: Vec<Addressed>,
    ) {
        let Some(node) = self.process(at) else { return };
        let Some(mailbox) = node.mailboxes.get_mut(&id.to) else { return self.fail(by, id) };
        // Out of order, because what was sent before was lost: the sender will start again there.
        if previous.is_some() && mailbox.streams.get(&id.from).copied() != previous {
            return self.fail(by, id);
        }
        if let Some(last) = items.last() {
            mailbox.streams.insert(id.from, last.entry.id());
        }
        let (store, epoch) = (mailbox.store, mailbox.epoch);
        let start = if previous.is_none() { Start::Afresh } else { Start::Following };
        node.folders.entry(store).or_default().waiting.push_back(Job { id, by, epoch, start, items });
        self.fold_round(at, store);
    }

    fn fail(&mut self, by: Process, id: SendId) {
        self.tell(by, Message::Delivered { id, outcome: Outcome::Failed });
    }

    fn folder(&mut self, at: Process, store: StoreId) -> Option<&mut Folder> {
        Some(self.process(at)?.folders.entry(store).or_default())
    }

    /// Folds whatever waits, and commits it together.
    fn fold_round(&mut self, at: Process, store: StoreId) {
        let Some(folder) = self.folder(at, store) else { return };
        if folder.under_way.is_some() || folder.waiting.is_empty() {
            return;
        }
        let (mut jobs, mut changes) = (Vec::new(), Changes::new());
        for job in mem::take(&mut folder.waiting) {
            if self.may_fold(at, store, &job) && self.fold_job(at, store, &job, &mut changes) {
                jobs.push(job);
            } else {
                self.give_back(at, store, &job);
            }
        }
        let slots: BTreeMap<Slot, Epoch> = jobs.iter().map(|job| (job.id.to, job.epoch)).collect();
        let rows = changes.into_iter().map(|((slot, user, _), row)| (slot, user, row)).collect();
        let batch = Rc::new(FoldBatch { slots: slots.into_iter().collect(), rows });
        if let Some(folder) = self.folder(at, store).filter(|_| !jobs.is_empty()) {
            folder.under_way = Some(UnderWay { batch, jobs });
            self.write_fold(at, store);
        }
    }

    fn may_fold(&mut self, at: Process, store: StoreId, job: &Job) -> bool {
        let Some(node) = self.process(at) else { return false };
        let is_open = node.mailboxes.get(&job.id.to).is_some_and(|mailbox| mailbox.epoch == job.epoch);
        let broken = &mut node.folders.entry(store).or_default().broken;
        let stream = (job.id.from, job.id.to);
        if job.start == Start::Afresh {
            broken.remove(&stream);
        }
        is_open && !broken.contains(&stream)
    }

    /// What follows on its stream has a hole.
    fn give_back(&mut self, at: Process, store: StoreId, job: &Job) {
        if let Some(folder) = self.folder(at, store) {
            folder.broken.insert((job.id.from, job.id.to));
        }
        self.fail(job.by, job.id);
    }

    /// False where its rows cannot be had.
    fn fold_job(&mut self, at: Process, store: StoreId, job: &Job, changes: &mut Changes) -> bool {
        job.items.iter().all(|item| {
            let entry = &item.entry.entry;
            item.recipients.iter().all(|recipient| {
                let key = (job.id.to, recipient.user, conversation_of(entry));
                let Some(row) = self.row(at, store, (key, job.epoch), changes) else { return false };
                changes.extend(self.folded(row, recipient, entry).map(|row| (key, row)));
                true
            })
        })
    }

    /// The row as this round has left it. `None` where it cannot be read.
    fn row(
        &mut self,
        at: Process,
        store: StoreId,
        (key, epoch): (RowKey, Epoch),
        changes: &Changes,
    ) -> Option<Option<InboxRow>> {
        let remembered = self.folder(at, store).and_then(|folder| folder.rows.get(&key));
        if let Some(row) = changes.get(&key).or(remembered) {
            return Some(Some(row.clone()));
        }
        let (slot, user, conversation) = key;
        let store = &self.stores[&store];
        store.may_read(at, slot, epoch).then(|| store.partition(slot)?.inbox_row(user, conversation).cloned())
    }

    /// The row that the entry makes of it. `None` where that changes nothing.
    fn folded(
        &mut self,
        row: Option<InboxRow>,
        &Recipient { user, membership }: &Recipient,
        entry: &DeliverEntry,
    ) -> Option<InboxRow> {
        match entry {
            DeliverEntry::Event(event) => match fold(row.as_ref(), user, membership, &EventFacts::from(event)) {
                Folded::Changed(row) => Some(row),
                Folded::Unchanged => None,
                // What is acknowledged is committed, and a stream is in order: fan-out has left something out.
                Folded::Gap { after } => {
                    let (seq, conversation) = (event.record.seq, event.record.conversation);
                    self.violate(Invariant::InboxIsTheFold, || {
                        format!("fan-out brought seq {seq} of {conversation} to {user}, who has had seq {after}")
                    });
                    None
                }
            },
            DeliverEntry::Standing(told) => {
                row.filter(|_| is_told(user, told)).and_then(|row| stand(&row, user, &told.standing))
            }
        }
    }

    /// Memory holds what is committed, under the epoch at which the slot is open.
    fn remember(&mut self, at: Process, store: StoreId, batch: &FoldBatch) {
        let Some(node) = self.process(at) else { return };
        let folder = node.folders.entry(store).or_default();
        for (slot, user, row) in &batch.rows {
            let open = node.mailboxes.get(slot).map(|mailbox| (*slot, mailbox.epoch));
            if open.is_some_and(|open| batch.slots.contains(&open)) {
                folder.rows.insert((*slot, *user, row.conversation), row.clone());
            }
        }
    }

    fn write_fold(&mut self, at: Process, store: StoreId) {
        let Some(folder) = self.folder(at, store) else { return };
        let Some(under_way) = &folder.under_way else { return };
        let batch = Batch::Fold(under_way.batch.clone());
        let ask = match folder.link.next() {
            Next::Open => Ask::OpenLane(LaneKind::Fold, folder.link.token),
            Next::Write => Ask::Write(LaneKind::Fold, folder.link.token, batch),
            Next::Wait => return,
        };
        self.ask(at, store, Ticket::Lane(store, LaneKind::Fold), ask);
    }

    pub(super) fn folder_hears(&mut self, at: Process, store: StoreId, answer: Answer) {
        let Some(folder) = self.folder(at, store) else { return };
        match answer {
            Answer::LaneIsOpen => {
                folder.link.opened();
                self.write_fold(at, store);
            }
            Answer::Unknown | Answer::NotCommitted(NotCommitted::LaneFenced) => {
                folder.link.shut();
                self.write_fold(at, store);
            }
            Answer::Committed => {
                let Some(UnderWay { batch, jobs }) = folder.under_way.take() else { return };
                self.remember(at, store, &batch);
                for job in jobs {
                    if self.weather.fate(&mut self.dice) == Fate::Arrives {
                        self.tell(job.by, Message::Delivered { id: job.id, outcome: Outcome::Acknowledged });
                    }
                }
                self.fold_round(at, store);
            }
            Answer::NotCommitted(_) => {
                let Some(UnderWay { jobs, .. }) = folder.under_way.take() else { return };
                folder.broken.extend(jobs.iter().map(|job| (job.id.from, job.id.to)));
                for job in jobs {
                    self.fail(job.by, job.id);
                }
                self.fold_round(at, store);
            }
            Answer::Taken(_) | Answer::Page(_) | Answer::Move(_) => unreachable!("a folder asks for nothing of that"),
        }
    }
}

fn conversation_of(entry: &DeliverEntry) -> ConversationId {
    match entry {
        DeliverEntry::Event(event) => event.record.conversation,
        DeliverEntry::Standing(told) => told.conversation,
    }
}
