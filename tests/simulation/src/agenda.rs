//! What is going to happen, and when.

use std::{collections::BTreeMap, rc::Rc};

use tertulia_node::{append::Request, entry::LogEntry, fanout::tail, store::TakenSlot};
use tertulia_shard_map::{Epoch, EventId, MapVersion, MoveId, NodeId, Slot, StoreId};

use crate::{
    clients::{CommandId, Reply},
    mover::{Chore, Finding, Turn},
    raft::{Learner, Proposal},
    store::{Batch, Fill, LaneKind, NotCommitted, Token, Transaction, Wanted},
    time::Time,
    world::Process,
};

#[derive(Debug)]
pub enum Event {
    /// A proposal is with whoever it believes to be Raft's leader.
    Proposed(Proposal),
    /// It is the next entry of the log.
    Committed(Proposal),
    Learned {
        by: Learner,
        version: MapVersion,
    },
    ToNode(Process, Message),
    ToStore(StoreId, Statement),
    BatchEnds(StoreId, Transaction),
    Replicates {
        id: MoveId,
        source: StoreId,
        target: StoreId,
        fill: Fill,
    },
    /// A client wants to say something.
    ClientActs,
    ClientRetries {
        id: CommandId,
        attempt: u32,
    },
    ClientHears {
        id: CommandId,
        reply: Reply,
    },
    /// Whether Raft's leader is there; and, once all faults are healed, whether everything has come to rest.
    LeaderIsWatched,
    SomethingBreaks,
    /// A node that was down, frozen or cut off is back.
    Recovers(NodeId),
}

/// What reaches a process. What is for one that has ended is lost.
#[derive(Debug)]
pub enum Message {
    Command(Command),
    Deliver {
        id: tail::SendId,
        by: Process,
        previous: Option<EventId>,
        items: Vec<tail::Addressed>,
    },
    Delivered {
        id: tail::SendId,
        outcome: tail::Outcome,
    },
    /// A pause of fan-out is over.
    Resume {
        slot: Slot,
        epoch: Epoch,
        purpose: tail::Purpose,
        number: u32,
    },
    /// What a store answers.
    Answer(Ticket, Answer),
    /// The map may not know yet that it has started.
    ReportStart,
    /// Look again whether everything is as the map says.
    Follow,
    FlushCursors(StoreId),
    Elected,
    Deposed,
    /// The controller looks around.
    Tick,
    /// A driver goes on.
    Drive(MoveId, Turn),
    /// [`KnownFault::UnsealByTimeout`](crate::KnownFault::UnsealByTimeout).
    SealIsOld(Wanted),
    /// [`KnownFault::EpochReused`](crate::KnownFault::EpochReused).
    MayServe(StoreId, TakenSlot),
}

/// A command of a client's, at the owner of its conversation.
#[derive(Debug, Clone)]
pub struct Command {
    pub id: CommandId,
    pub slot: Slot,
    pub request: Rc<Request>,
    pub attempts: u32,
}

/// What is asked of a store.
#[derive(Debug)]
pub struct Statement {
    pub by: Process,
    pub ticket: Ticket,
    pub ask: Ask,
    pub since: Time,
    pub is_heard: IsHeard,
}

/// Whether the one who asked still listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsHeard {
    Yes,
    No,
}

#[derive(Debug, Clone)]
pub enum Ask {
    OpenLane(LaneKind, Token),
    Write(LaneKind, Token, Batch),
    Take(Vec<Wanted>),
    Unseal(Wanted),
    LogAfter(Slot, Epoch, EventId),
    Move(Chore),
}

/// What the asker goes on with.
#[derive(Debug, Clone, Copy)]
pub enum Ticket {
    Lane(StoreId, LaneKind),
    Take(StoreId),
    Page { slot: Slot, epoch: Epoch, purpose: tail::Purpose },
    Move(MoveId, Turn),
}

#[derive(Debug)]
pub enum Answer {
    LaneIsOpen,
    Committed,
    NotCommitted(NotCommitted),
    Taken(Vec<TakenSlot>),
    Page(Vec<LogEntry>),
    Move(Finding),
    /// Nobody knows whether it happened, or will.
    Unknown,
}

#[derive(Debug, Default)]
pub struct Agenda {
    /// Boxed: they are large, and a tree moves what it holds.
    events: BTreeMap<(Time, u64), Box<Event>>,
    number: u64,
}

impl Agenda {
    /// What is due at the same time happens in the order in which it was put here.
    pub fn put(&mut self, at: Time, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), Box::new(event));
    }

    pub fn next(&mut self) -> Option<(Time, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, *event))
    }
}
