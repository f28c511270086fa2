//! A node: the pure parts of `tertulia-node`, with drivers beside them that ask the stores of this world.
//!
//! The drivers follow those of the node module by module: [`keeper`] is `slots`, [`lane`] `append::driver`, [`fanout`]
//! `fanout`, [`folder`] `mailbox::sessions` and `mailbox::folder`.

mod fanout;
mod folder;
pub mod keeper;
mod lane;
mod link;

use std::{collections::BTreeMap, rc::Rc};

use tertulia_node::fanout::tail::Tail;
use tertulia_shard_map::{Incarnation, MapVersion, MoveId, NodeId, ShardMap, Slot, StoreId};

use self::{
    folder::{Folder, Mailbox},
    lane::Lane,
};
use crate::{
    agenda::{Message, Ticket},
    dice::Dice,
    mover::Driver,
    store::{LaneKind, Wanted},
    time::Time,
    world::{Process, World},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Up,
    /// It does nothing until then, and does not know that it did not.
    Frozen(Time),
    Down,
}

/// What a process has in memory, and how it is doing.
pub struct Node {
    pub id: NodeId,
    pub incarnation: Incarnation,
    pub condition: Condition,
    /// From the other nodes: it neither learns maps nor is heard. Stores and clients reach it.
    pub is_cut_off: bool,
    pub silent_since: Option<Time>,
    /// Clocks differ, and order nothing.
    clock_ahead_ms: u64,
    pub map: Option<Rc<ShardMap>>,
    /// As it believes.
    pub leads: bool,
    pub drivers: BTreeMap<MoveId, Driver>,
    held: BTreeMap<Slot, Held>,
    /// By store: the map whose slots are being taken over there.
    taking: BTreeMap<StoreId, MapVersion>,
    lanes: BTreeMap<StoreId, Lane>,
    folders: BTreeMap<StoreId, Folder>,
    tails: BTreeMap<Slot, (StoreId, Tail)>,
    mailboxes: BTreeMap<Slot, Mailbox>,
}

/// A slot that is taken over: served, where it is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    store: StoreId,
    wanted: Wanted,
}

impl Node {
    pub fn new(id: NodeId, incarnation: Incarnation, dice: &mut Dice) -> Self {
        Self {
            id,
            incarnation,
            condition: Condition::Up,
            is_cut_off: false,
            silent_since: None,
            clock_ahead_ms: dice.within(0..2_000),
            map: None,
            leads: false,
            drivers: BTreeMap::new(),
            held: BTreeMap::new(),
            taking: BTreeMap::new(),
            lanes: BTreeMap::new(),
            folders: BTreeMap::new(),
            tails: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
        }
    }

    pub fn process(&self) -> Process {
        Process { node: self.id, incarnation: self.incarnation }
    }

    /// Its clock, which is for ids and display.
    fn clock_ms(&self, now: Time) -> i64 {
        (1_700_000_000_000 + self.clock_ahead_ms + now.millis()) as i64
    }

    /// What it still has to do.
    pub fn unrest(&self) -> Vec<String> {
        let mut unrest = Vec::new();
        if self.lanes.values().any(|lane| !lane.is_idle()) {
            unrest.push(format!("node {} has commands to commit", self.id));
        }
        if self.folders.values().any(|folder| !folder.is_idle()) {
            unrest.push(format!("node {} has rows to commit", self.id));
        }
        unrest
    }
}

impl World {
    pub fn hears(&mut self, at: Process, message: Message) {
        match message {
            Message::Command(command) => self.take_command(at, command),
            Message::Deliver { id, by, previous, items } => self.take_delivery(at, id, by, previous, items),
            Message::Delivered { id, outcome } => self.delivered(at, id, outcome),
            Message::Resume { slot, epoch, purpose, number } => self.resume(at, slot, epoch, purpose, number),
            Message::Answer(Ticket::Lane(store, LaneKind::Append), answer) => self.lane_hears(at, store, answer),
            Message::Answer(Ticket::Lane(store, LaneKind::Fold), answer) => self.folder_hears(at, store, answer),
            Message::Answer(Ticket::Take(store), answer) => self.keeper_hears(at, store, answer),
            Message::Answer(Ticket::Page { slot, epoch, purpose }, answer) => {
                self.page_read(at, slot, epoch, purpose, answer);
            }
            Message::Answer(Ticket::Move(id, turn), answer) => self.driver_hears(at, id, turn, answer),
            Message::ReportStart => self.report_start(at),
            Message::Follow => self.follow(at),
            Message::FlushCursors(store) => self.cycle(at, store),
            Message::Elected => self.elected(at),
            Message::Deposed => self.deposed(at),
            Message::Tick => self.tick(at),
            Message::Drive(id, turn) => self.drive_on(at, id, turn),
            Message::SealIsOld(wanted) => self.seal_is_old(at, wanted),
            Message::MayServe(store, taken) => self.may_serve(at, store, taken),
        }
    }
}
