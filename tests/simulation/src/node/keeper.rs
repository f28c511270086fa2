//! Follows the map: takes over in the stores what it gives to this process, opens it, and closes what it takes away.
//!
//! A slot that a move has sealed is taken over *closed*: nobody writes it, and the epoch is the map's all the same.

use std::collections::BTreeMap;

use tertulia_node::{fanout::tail::Tail, store::TakenSlot};
use tertulia_shard_map::{ShardMap, Slot, StoreId};

use super::{Held, folder::Mailbox, lane::Control};
use crate::{
    agenda::{Answer, Ask, Message, Ticket},
    known_fault::KnownFault,
    store::{Seal, Wanted},
    time::Span,
    world::{Process, World},
};

const RETRY_PAUSE: Span = Span::millis(250);
/// [`KnownFault::UnsealByTimeout`]: an owner's patience with a seal.
const SEAL_PATIENCE: Span = Span::millis(150);

/// What the map gives to a process.
fn wanted(map: &ShardMap, by: Process) -> BTreeMap<Slot, Held> {
    let of_slot = |(slot, _)| {
        let held = held(map, slot)?;
        (held.wanted.owner == by).then_some((slot, held))
    };
    map.owned_by(by.node).filter_map(of_slot).collect()
}

/// What the map says of a slot. `None` where it has no owner.
fn held(map: &ShardMap, slot: Slot) -> Option<Held> {
    let owner = map.owner(slot)?;
    let seal = if map.slot(slot).sealed_by.is_some() { Seal::Closed } else { Seal::Open };
    let process = Process { node: owner.node, incarnation: owner.incarnation };
    Some(Held { store: owner.store, wanted: Wanted { slot, epoch: owner.epoch, owner: process, seal } })
}

/// The same, for who takes slots on behalf of their owners.
pub fn wanted_of(map: &ShardMap, slot: Slot) -> Option<Wanted> {
    held(map, slot).map(|held| held.wanted)
}

impl World {
    pub(crate) fn follow(&mut self, at: Process) {
        let Some(node) = self.process(at) else { return };
        let Some(map) = node.map.clone() else { return };
        let wanted = wanted(&map, at);
        let lost: Vec<(Slot, Held)> =
            node.held.iter().filter(|(slot, held)| wanted.get(slot) != Some(held)).map(|(&s, &h)| (s, h)).collect();
        for (slot, held) in lost {
            self.close_slot(at, slot, held.store);
        }
        let Some(node) = self.process(at) else { return };
        let mut missing: BTreeMap<StoreId, Vec<Wanted>> = BTreeMap::new();
        for (slot, held) in &wanted {
            if !node.held.contains_key(slot) && !node.taking.contains_key(&held.store) {
                missing.entry(held.store).or_default().push(held.wanted);
            }
        }
        node.taking.extend(missing.keys().map(|&store| (store, map.version())));
        for (store, wanted) in missing {
            self.ask(at, store, Ticket::Take(store), Ask::Take(wanted));
        }
        self.resume_paused(at);
    }

    pub(super) fn keeper_hears(&mut self, at: Process, store: StoreId, answer: Answer) {
        let Some(node) = self.process(at) else { return };
        let asked = node.taking.remove(&store);
        let is_old = node.map.as_ref().map(|map| map.version()) != asked;
        let wanted = node.map.as_ref().map(|map| wanted(map, at)).unwrap_or_default();
        let taken = match answer {
            Answer::Taken(taken) => taken,
            _ => Vec::new(),
        };
        for taken in taken {
            // The map may say something else by now.
            if let Some(&held) = wanted.get(&taken.slot)
                && (held.store, held.wanted.epoch) == (store, taken.epoch)
            {
                self.open_slot(at, held, &taken);
            }
        }
        let Some(node) = self.process(at) else { return };
        if wanted.keys().any(|slot| !node.held.contains_key(slot)) {
            let pause = if is_old { Span::default() } else { RETRY_PAUSE };
            self.tell_after(pause, at, Message::Follow);
        }
    }

    fn open_slot(&mut self, at: Process, held: Held, taken: &TakenSlot) {
        let (store, slot, epoch) = (held.store, taken.slot, taken.epoch);
        let Some(node) = self.process(at) else { return };
        if let Some(before) = node.held.insert(slot, held)
            && before.store != store
        {
            self.close_slot(at, slot, before.store);
        }
        let Some(node) = self.process(at) else { return };
        node.held.insert(slot, held);
        if held.wanted.seal == Seal::Closed {
            self.note(|| format!("{at} has slot {slot} sealed in store {store}, epoch {epoch}"));
            if self.has(KnownFault::UnsealByTimeout) {
                self.tell_after(SEAL_PATIENCE, at, Message::SealIsOld(held.wanted));
            }
            return;
        }
        let Some(map) = node.map.clone() else { return };
        node.lanes.entry(store).or_default().told(Control::Open(*taken));
        node.mailboxes.insert(slot, Mailbox::new(store, epoch));
        node.folders.entry(store).or_default().forget(slot);
        let mut effects = Vec::new();
        let tail = Tail::new(taken, map.slot_count(), &mut effects);
        node.tails.insert(slot, (store, tail));
        self.note(|| format!("{at} serves slot {slot} from store {store}, epoch {epoch}"));
        self.perform(at, effects);
        self.cycle(at, store);
    }

    fn close_slot(&mut self, at: Process, slot: Slot, store: StoreId) {
        let Some(node) = self.process(at) else { return };
        node.held.remove(&slot);
        node.tails.remove(&slot);
        node.mailboxes.remove(&slot);
        node.folders.entry(store).or_default().forget(slot);
        node.lanes.entry(store).or_default().told(Control::Close(slot));
        self.cycle(at, store);
    }

    /// [`KnownFault::UnsealByTimeout`].
    pub(super) fn seal_is_old(&mut self, at: Process, wanted: Wanted) {
        let Some(node) = self.process(at) else { return };
        if let Some(held) = node.held.get(&wanted.slot).filter(|held| held.wanted == wanted) {
            let store = held.store;
            self.note(|| format!("{at} has waited long enough for slot {}", wanted.slot));
            self.ask(at, store, Ticket::Take(store), Ask::Unseal(wanted));
        }
    }

    /// [`KnownFault::EpochReused`], [`KnownFault::UnsealByTimeout`]: the owner goes by the fence, not by the map.
    pub(super) fn may_serve(&mut self, at: Process, store: StoreId, taken: TakenSlot) {
        let Some(node) = self.process(at) else { return };
        let is_sealed = node.held.get(&taken.slot).is_some_and(|held| held.wanted.seal == Seal::Closed);
        if is_sealed {
            let wanted = Wanted { slot: taken.slot, epoch: taken.epoch, owner: at, seal: Seal::Open };
            self.open_slot(at, Held { store, wanted }, &taken);
        }
    }
}
