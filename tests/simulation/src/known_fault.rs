//! Faults that a cluster of this kind can have, put back one at a time to see that the simulation finds them.

use std::{fmt, str::FromStr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownFault {
    /// A message is acked as soon as it has a place, and committed then.
    AckBeforeCommit,
    /// The cursor of fan-out passes what was sent, and not only what was taken.
    CursorBeforeDelivery,
    /// The target's fence is written ahead of the flip, with the epoch that a flip would have, and the owner goes by the
    /// fence: where an abort comes instead, that epoch means two stores.
    EpochReused,
    /// Who takes a slot over, or seals it, does not wait for the batch in flight, which has passed the fence.
    FenceByJoin,
    /// A move copies events, and leaves behind the keys under which they were sent.
    KeysLeftBehind,
    /// Partitions are dropped without a look at whose they are by now.
    LateDriverDrops,
    /// An owner reads logs and rows without proving that it is the owner: once they have moved away, it finds nothing, and takes
    /// that for the end of the log, or for a mailbox without rows.
    ReadsNotFenced,
    /// A refused batch leaves its places taken in memory: the next messages get later ones.
    StaleSeq,
    /// An owner whose slot is sealed for long goes on writing, by its own clock.
    UnsealByTimeout,
}

impl KnownFault {
    pub const ALL: [Self; 9] = [
        Self::AckBeforeCommit,
        Self::CursorBeforeDelivery,
        Self::EpochReused,
        Self::FenceByJoin,
        Self::KeysLeftBehind,
        Self::LateDriverDrops,
        Self::ReadsNotFenced,
        Self::StaleSeq,
        Self::UnsealByTimeout,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::CursorBeforeDelivery => "cursor-before-delivery",
            Self::EpochReused => "epoch-reused",
            Self::FenceByJoin => "fence-by-join",
            Self::KeysLeftBehind => "keys-left-behind",
            Self::LateDriverDrops => "late-driver-drops",
            Self::ReadsNotFenced => "reads-not-fenced",
            Self::StaleSeq => "stale-seq",
            Self::UnsealByTimeout => "unseal-by-timeout",
        }
    }
}

impl fmt::Display for KnownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KnownFault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|fault| fault.name() == name).ok_or_else(|| format!("want one of {}", names()))
    }
}
