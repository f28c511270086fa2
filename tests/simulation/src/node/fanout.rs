//! Fan-out: `tertulia_node::fanout::tail::Tail` decides, this sends, reads and waits.

use tertulia_node::{
    append::Committed,
    fanout::tail::{Effect, Outcome, Purpose, SendId, Tail},
};
use tertulia_shard_map::{Epoch, EventId, Slot};

use crate::{
    agenda::{Answer, Ask, Event, Message, Ticket},
    known_fault::KnownFault,
    network::Fate,
    time::Span,
    world::{Process, World},
};

/// Longest time from a send to the commit of the inbox rows at its receiver.
const DELIVER_DEADLINE: Span = Span::millis(1_500);
/// The first pause after a failure; it doubles.
const PAUSE_MS: u64 = 50;
const DOUBLINGS_MAX: u32 = 4;

impl World {
    /// Entries that a lane has committed.
    pub(super) fn fan_out(&mut self, at: Process, committed: Committed) {
        let Some(node) = self.process(at) else { return };
        let Some((_, tail)) = node.tails.get_mut(&committed.slot) else { return };
        if tail.epoch() == committed.epoch {
            let mut effects = Vec::new();
            tail.committed(committed, &mut effects);
            self.perform(at, effects);
        }
    }

    /// Has a slot's tail take a step, where it is still the one of this epoch.
    fn step(&mut self, at: Process, (slot, epoch): (Slot, Epoch), step: impl FnOnce(&mut Tail, &mut Vec<Effect>)) {
        let Some(node) = self.process(at) else { return };
        if let Some((_, tail)) = node.tails.get_mut(&slot).filter(|(_, tail)| tail.epoch() == epoch) {
            let mut effects = Vec::new();
            step(tail, &mut effects);
            self.perform(at, effects);
        }
    }

    pub(super) fn perform(&mut self, at: Process, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { id, previous, items } => {
                    self.deliver(at, id, Message::Deliver { id, by: at, previous, items });
                }
                Effect::Read { slot, purpose, after } => self.read(at, slot, purpose, after),
                Effect::Pause { slot, purpose, number } => self.pause(at, slot, purpose, number),
                Effect::Cursor { slot, epoch, event } => {
                    let store = self.process(at).and_then(|node| node.tails.get(&slot)).map(|(store, _)| *store);
                    if let Some(store) = store {
                        self.move_cursor(at, store, slot, epoch, event);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, at: Process, id: SendId, message: Message) {
        self.tell_after(DELIVER_DEADLINE, at, Message::Delivered { id, outcome: Outcome::Failed });
        let map = self.process(at).and_then(|node| node.map.clone());
        if let Some(owner) = map.and_then(|map| map.owner(id.to))
            && self.weather.fate(&mut self.dice) != Fate::Lost
        {
            self.tell(Process { node: owner.node, incarnation: owner.incarnation }, message);
        }
        if self.has(KnownFault::CursorBeforeDelivery) {
            self.delivered(at, id, Outcome::Acknowledged);
        }
    }

    pub(super) fn delivered(&mut self, at: Process, id: SendId, outcome: Outcome) {
        self.step(at, (id.from, id.epoch), |tail, effects| tail.settled(id, outcome, effects));
    }

    fn read(&mut self, at: Process, slot: Slot, purpose: Purpose, after: EventId) {
        let tail = self.process(at).and_then(|node| node.tails.get(&slot));
        if let Some((store, epoch)) = tail.map(|(store, tail)| (*store, tail.epoch())) {
            self.ask(at, store, Ticket::Page { slot, epoch, purpose }, Ask::LogAfter(slot, epoch, after));
        }
    }

    pub(super) fn page_read(&mut self, at: Process, slot: Slot, epoch: Epoch, purpose: Purpose, answer: Answer) {
        self.step(at, (slot, epoch), |tail, effects| match answer {
            Answer::Page(entries) => tail.page(purpose, entries, effects),
            _ => tail.read_failed(purpose, effects),
        });
    }

    fn pause(&mut self, at: Process, slot: Slot, purpose: Purpose, number: u32) {
        let epoch = self.process(at).and_then(|node| node.tails.get(&slot)).map(|(_, tail)| tail.epoch());
        if let Some(epoch) = epoch {
            let pause = Span::millis(PAUSE_MS << number.min(DOUBLINGS_MAX));
            self.agenda.put(self.now + pause, Event::ToNode(at, Message::Resume { slot, epoch, purpose, number }));
        }
    }

    pub(super) fn resume(&mut self, at: Process, slot: Slot, epoch: Epoch, purpose: Purpose, number: u32) {
        self.step(at, (slot, epoch), |tail, effects| tail.resume(purpose, number, effects));
    }

    /// The map is another: whoever did not answer may have been replaced.
    pub(super) fn resume_paused(&mut self, at: Process) {
        let Some(node) = self.process(at) else { return };
        let mut effects = Vec::new();
        for (_, tail) in node.tails.values_mut() {
            // In an order that is the same in each run.
            let mut paused = tail.paused_streams();
            paused.sort_unstable();
            paused.into_iter().for_each(|to| tail.resume_stream(to, &mut effects));
        }
        self.perform(at, effects);
    }
}
