//! Raft, as its users see it: a log of changes that only grows, and the maps that it leads to.
//!
//! A proposal may be lost, committed much later, or committed twice; who proposed sees in the map what became of it. Who
//! follows learns maps late, and not every one of them.

use std::rc::Rc;

use tertulia_shard_map::{Change, ChangeRefused, MapVersion, NodeId, ShardMap, apply};

use crate::world::Process;

/// Who follows the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learner {
    Node(Process),
    Router,
}

#[derive(Debug, Clone)]
pub struct Proposal {
    pub change: Change,
    pub by: Proposer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposer {
    /// As Raft's leader, which it may no longer be.
    Leader(Process),
    /// Passed on to whoever leads.
    Anybody,
}

#[derive(Debug)]
pub struct Raft {
    /// Every version there was since the beginning of the run.
    maps: Vec<Rc<ShardMap>>,
    pub leader: Option<NodeId>,
}

impl Raft {
    pub fn new(genesis: ShardMap) -> Self {
        Self { maps: vec![Rc::new(genesis)], leader: None }
    }

    /// The newest committed map.
    pub fn map(&self) -> &Rc<ShardMap> {
        self.maps.last().expect("there is one from the beginning")
    }

    /// In order of versions.
    pub fn maps(&self) -> &[Rc<ShardMap>] {
        &self.maps
    }

    /// # Panics
    /// Where there is no such version.
    pub fn version(&self, version: MapVersion) -> &Rc<ShardMap> {
        let first = self.maps[0].version().get();
        &self.maps[(version.get() - first) as usize]
    }

    /// # Errors
    /// Where the rules forbid it: it is in the log, and changes nothing.
    pub fn commit(&mut self, change: &Change) -> Result<&Rc<ShardMap>, ChangeRefused> {
        let next = apply(Some(self.map()), change)?;
        self.maps.push(Rc::new(next));
        Ok(self.map())
    }
}
