//! What reaches a store, and when it happens there: locks are waited for, backends are ended, outcomes are lost.

use tertulia_node::fanout::tail;
use tertulia_shard_map::{Slot, StoreId};
use tertulia_test_invariants::Invariant;

use crate::{
    agenda::{Answer, Ask, Event, IsHeard, Message, Statement, Ticket},
    store::{Batch, Fence, NotCommitted, Seal, Transaction, Writer},
    time::{Span, Time},
    world::World,
};

/// Who waits longer for the batch of an old owner ends its backend.
const LOCK_TIMEOUT: Span = Span::millis(1_500);
/// The log is read in pages of so many entries.
const PAGE_ENTRIES: usize = tail::PAGE_ENTRIES as usize;

impl World {
    pub(crate) fn reaches_store(&mut self, id: StoreId, statement: Statement) {
        if let Some(up) = self.is_down(id) {
            return self.agenda.put(up, Event::ToStore(id, statement));
        }
        if let Some((ends, transactions)) = self.waits_for(id, &statement) {
            let patience = statement.since + LOCK_TIMEOUT;
            if self.now < patience {
                let again = ends.min(patience).max(self.now) + Span::micros(1);
                return self.agenda.put(again, Event::ToStore(id, statement));
            }
            for transaction in transactions {
                self.lose(id, transaction);
            }
        }
        let by = statement.by;
        let store = self.stores.get_mut(&id).expect("statements go to stores that there are");
        let answer = match &statement.ask {
            Ask::OpenLane(lane, token) => {
                let is_open = store.open_lane(Writer { process: by, lane: *lane, token: *token });
                if is_open { Answer::LaneIsOpen } else { Answer::NotCommitted(NotCommitted::LaneFenced) }
            }
            Ask::Write(lane, token, batch) => {
                let writer = Writer { process: by, lane: *lane, token: *token };
                return self.begin(id, writer, batch.clone(), &statement);
            }
            Ask::Take(wanted) => Answer::Taken(store.take(wanted)),
            Ask::Unseal(wanted) => {
                if let Some(taken) = store.unseal(wanted) {
                    self.tell(by, Message::MayServe(id, taken));
                }
                Answer::Unknown
            }
            Ask::LogAfter(slot, epoch, after) if store.may_read(by, *slot, *epoch) => {
                let entries = store.partition(*slot).map(|partition| partition.entries_after(*after));
                Answer::Page(entries.unwrap_or_default().into_iter().take(PAGE_ENTRIES).collect())
            }
            Ask::LogAfter(..) => Answer::Unknown,
            Ask::Move(chore) => {
                let (slots, done) = (chore.slots.clone(), self.chore(id, chore));
                slots.iter().for_each(|slot| self.check_acked(*slot));
                Answer::Move(done)
            }
        };
        self.answer(&statement, answer);
    }

    /// The batches that hold the rows which the statement locks.
    fn waits_for(&self, id: StoreId, statement: &Statement) -> Option<(Time, Vec<Transaction>)> {
        let store = &self.stores[&id];
        match &statement.ask {
            Ask::OpenLane(lane, _) => store.in_flight_of(&[(statement.by.node, *lane)].into()),
            Ask::Take(wanted) => store.in_flight_of(&store.lanes_of(wanted.iter().map(|it| it.slot))),
            Ask::Write(..) | Ask::Unseal(_) | Ask::LogAfter(..) | Ask::Move(_) => None,
        }
    }

    fn begin(&mut self, id: StoreId, writer: Writer, batch: Batch, statement: &Statement) {
        let ends = self.now + self.weather.commit(&mut self.dice);
        let store = self.stores.get_mut(&id).expect("statements go to stores that there are");
        match store.begin(writer, batch, statement.is_heard, ends) {
            Ok(transaction) => self.agenda.put(ends, Event::BatchEnds(id, transaction)),
            Err(why) => self.answer(statement, Answer::NotCommitted(why)),
        }
    }

    pub(crate) fn batch_ends(&mut self, id: StoreId, transaction: Transaction) {
        let store = self.stores.get_mut(&id).expect("batches end in stores that there are");
        let Some(in_flight) = store.in_flight(transaction) else { return };
        let (writer, batch, is_heard) = (in_flight.writer, in_flight.batch.clone(), in_flight.is_heard);
        let slots: Vec<Slot> = batch.slots().iter().map(|&(slot, _)| slot).collect();
        let answer = match store.commit(transaction) {
            Ok(()) => {
                self.check_commit(id, writer, &batch);
                Answer::Committed
            }
            Err(why) => Answer::NotCommitted(why),
        };
        self.note(|| format!("store {id}: {} {:?} of slots {slots:?}: {answer:?}", writer.process, writer.lane));
        self.answer_writer(id, writer, is_heard, answer);
    }

    /// The batch's backend is gone, perhaps right after its commit. Its client sees that, and no more.
    pub(crate) fn lose(&mut self, id: StoreId, transaction: Transaction) {
        let store = self.stores.get_mut(&id).expect("batches are lost in stores that there are");
        let Some(in_flight) = store.in_flight(transaction) else { return };
        let (writer, batch, is_heard) = (in_flight.writer, in_flight.batch.clone(), in_flight.is_heard);
        if self.dice.happens(300) {
            if store.commit(transaction).is_ok() {
                self.check_commit(id, writer, &batch);
            }
        } else {
            store.roll_back(transaction);
        }
        self.answer_writer(id, writer, is_heard, Answer::Unknown);
    }

    fn answer_writer(&mut self, id: StoreId, writer: Writer, is_heard: IsHeard, answer: Answer) {
        if is_heard == IsHeard::Yes {
            self.tell(writer.process, Message::Answer(Ticket::Lane(id, writer.lane), answer));
        }
    }

    /// I5: what is committed is the owner's, under the fence that stands, in the store that the map names.
    fn check_commit(&mut self, id: StoreId, writer: Writer, batch: &Batch) {
        for &(slot, epoch) in batch.slots() {
            let fence = Fence { epoch, owner: writer.process, seal: Seal::Open };
            let stands = self.stores[&id].fence(slot);
            if stands != Some(fence) {
                self.violate(Invariant::OneOwnerPerEpoch, || {
                    format!("slot {slot}: {} committed under epoch {epoch}, where {stands:?} stands", writer.process)
                });
            }
            let (named, version) = (self.raft.map().slot(slot).store, self.raft.map().version());
            if named != id {
                self.violate(Invariant::OneOwnerPerEpoch, || {
                    format!("slot {slot}: {} committed in store {id}, map {version} says {named}", writer.process)
                });
            }
        }
    }
}
