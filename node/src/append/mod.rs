//! The append path: a lane per store and share of its slots, each drained by one committer, so that commit order is log
//! order within a slot.
//!
//! Commands wait in a [`backlog`]. [`log`] decides each from memory (pure), with what [`details`] looked up for it, and
//! gathers what is to be written in a [`draft`]; the [`driver`] reads and writes the store, answers, and hands on to
//! fan-out. How far that has come ([`cursors`]) goes back with later batches.

mod backlog;
mod conversation;
mod cursors;
mod details;
mod draft;
mod driver;
mod event;
mod group;
mod handle;
mod hash;
mod log;
mod settle;
mod standing;
#[cfg(test)]
mod tests;

use tertulia_shard_map::{Epoch, EventId, Slot};
use tertulia_wire::cluster::DeliverTyping;

pub use cursors::Cursors;
pub use details::{Details, Wanted};
pub use draft::Draft;
pub use driver::{LaneSettings, run};
pub use handle::{LaneHandle, LaneInputs, Request};
pub use log::{Decision, Due, Log, Moment, answer_duplicate, appended};

use crate::{entry::LogEntry, load::Meter};

/// Where committed entries go, and what is not committed but told.
pub struct Outlets {
    pub committed: tokio::sync::mpsc::Sender<Committed>,
    /// Ephemeral: dropped where it is full.
    pub typing: tokio::sync::mpsc::Sender<DeliverTyping>,
    pub meter: Meter,
}

/// Entries of one slot that were committed together, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub slot: Slot,
    pub epoch: Epoch,
    /// The newest entry of the slot before these: whoever has not seen it has missed something.
    pub previous: EventId,
    pub entries: Vec<LogEntry>,
}
