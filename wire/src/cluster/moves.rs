//! How far the live moves are, as their driver tells it.

use std::fmt;

use serde::{Deserialize, Serialize};
use tertulia_shard_map::MoveId;

/// A move that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveProgress {
    pub id: MoveId,
    pub stage: MoveStage,
    pub slots: u32,
    pub slots_copied: u32,
    pub slots_compared: u32,
    /// Copied so far and to copy in all, without indexes. What is written meanwhile comes on top.
    pub bytes: u64,
    pub bytes_total: u64,
    /// The same in rows, as the source estimates them.
    pub rows: u64,
    pub rows_total: u64,
    /// Of the source's log: what has not come to the target.
    pub lag_bytes: Option<u64>,
    /// Since this driver began.
    pub elapsed_ms: u64,
    /// What is left of the copying at the pace so far.
    pub left_ms: Option<u64>,
    /// Why it does not go on; it is tried again.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoveStage {
    Preparing,
    Copying,
    CatchingUp,
    Comparing,
    Sealed,
    CleaningUp,
}

impl MoveProgress {
    pub fn new(id: MoveId) -> Self {
        Self {
            id,
            stage: MoveStage::Preparing,
            slots: 0,
            slots_copied: 0,
            slots_compared: 0,
            bytes: 0,
            bytes_total: 0,
            rows: 0,
            rows_total: 0,
            lag_bytes: None,
            elapsed_ms: 0,
            left_ms: None,
            error: None,
        }
    }
}

impl fmt::Display for MoveStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparing => "preparing",
            Self::Copying => "copying",
            Self::CatchingUp => "catching up",
            Self::Comparing => "comparing",
            Self::Sealed => "sealed",
            Self::CleaningUp => "cleaning up",
        })
    }
}
