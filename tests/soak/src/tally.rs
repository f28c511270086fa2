//! What is counted while people chat. One thread, so cells.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use tertulia_wire::client::{ErrorCode, ErrorReply};

/// Descriptions of unexpected refusals that are kept.
const DESCRIBED: usize = 5;

#[derive(Debug, Default)]
pub struct Tally {
    pub acked: Cell<u64>,
    pub refused: Cell<u64>,
    pub retried: Cell<u64>,
    pub passed_over: Cell<u64>,
    pub pushes: Cell<u64>,
    pub resyncs: Cell<u64>,
    pub syncs: Cell<u64>,
    pub marks: Cell<u64>,
    pub own_reads: Cell<u64>,
    pub joins: Cell<u64>,
    /// Sessions that ended by a close frame of the client's, without one, or by the router.
    pub closed: Cell<u64>,
    pub dropped: Cell<u64>,
    pub closed_by_router: Cell<u64>,
    /// Times that somebody stopped reading for a while.
    pub freezes: Cell<u64>,
    /// Sessions that never read anything, and those of them that a router has closed.
    pub deaf: Cell<u64>,
    pub deaf_closed: Cell<u64>,
    codes: RefCell<BTreeMap<&'static str, u64>>,
    unexpected: RefCell<Unexpected>,
}

#[derive(Debug, Default, Clone)]
pub struct Unexpected {
    pub count: u64,
    pub described: Vec<String>,
}

pub fn add(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl Tally {
    /// A reply that is an error, of whatever kind.
    pub fn error(&self, code: ErrorCode) {
        *self.codes.borrow_mut().entry(code.as_str()).or_default() += 1;
    }

    /// One that a client that keeps to the protocol does not get.
    pub fn unexpected(&self, what: &str, error: &ErrorReply) {
        let mut unexpected = self.unexpected.borrow_mut();
        unexpected.count += 1;
        if unexpected.described.len() < DESCRIBED {
            unexpected.described.push(format!("{what}: {}: {}", error.code.as_str(), error.message));
        }
    }

    pub fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.codes.borrow().clone()
    }

    pub fn all_unexpected(&self) -> Unexpected {
        self.unexpected.borrow().clone()
    }
}
