//! What runs consisted of, so that it can be seen that something happened in them.

use std::{fmt, ops::AddAssign};

use tertulia_shard_map::MoveStep;

use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Things that happened.
    pub steps: u64,
    pub virtual_ms: u64,
    /// Commands of clients.
    pub commands: u64,
    /// Versions of the map.
    pub maps: u64,
    /// Moves between stores that came to this step.
    pub begun: u64,
    pub sealed: u64,
    pub flipped: u64,
    pub aborted: u64,
}

impl World {
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures {
            steps: self.steps.into(),
            virtual_ms: self.now.millis(),
            commands: self.clients.said().len() as u64,
            maps: self.raft.map().version().get(),
            ..Figures::default()
        };
        for (before, after) in self.raft.maps().iter().zip(self.raft.maps().iter().skip(1)) {
            for (id, entry) in after.moves() {
                let step = before.move_entry(id).map(|entry| entry.step);
                if step == Some(entry.step) {
                    continue;
                }
                match entry.step {
                    MoveStep::Copying => figures.begun += 1,
                    MoveStep::Sealed => figures.sealed += 1,
                    MoveStep::Flipped => figures.flipped += 1,
                    MoveStep::Aborted(_) => figures.aborted += 1,
                }
            }
        }
        figures
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        let Self { steps, virtual_ms, commands, maps, begun, sealed, flipped, aborted } = other;
        self.steps += steps;
        self.virtual_ms += virtual_ms;
        self.commands += commands;
        self.maps += maps;
        self.begun += begun;
        self.sealed += sealed;
        self.flipped += flipped;
        self.aborted += aborted;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, virtual_ms, commands, maps, begun, sealed, flipped, aborted } = self;
        let seconds = virtual_ms / 1_000;
        write!(f, "{steps} steps in {seconds} virtual seconds, {commands} commands, {maps} maps, {begun} moves ")?;
        write!(f, "({sealed} sealed, {flipped} flipped, {aborted} aborted)")
    }
}
