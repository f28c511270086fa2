//! What Tertulia promises, whatever dies and whatever moves. Named here once, for the checkers of tests and for counters.

use std::fmt;

/// One of the promises. They are never renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Invariant {
    AckedIsDurable = 1,
    OneEventPerTempId = 2,
    SeqIsContiguous = 3,
    NothingIsInvented = 4,
    OneOwnerPerEpoch = 5,
    OwnWritesAreRead = 6,
    InboxIsTheFold = 7,
    PushJobsEnd = 8,
    ServesAfterFaults = 9,
}

impl Invariant {
    pub const ALL: [Self; 9] = [
        Self::AckedIsDurable,
        Self::OneEventPerTempId,
        Self::SeqIsContiguous,
        Self::NothingIsInvented,
        Self::OneOwnerPerEpoch,
        Self::OwnWritesAreRead,
        Self::InboxIsTheFold,
        Self::PushJobsEnd,
        Self::ServesAfterFaults,
    ];

    pub const fn statement(self) -> &'static str {
        match self {
            Self::AckedIsDurable => "what was acked is durable and readable",
            Self::OneEventPerTempId => "there is at most one event per conversation, sender and temp_id",
            Self::SeqIsContiguous => "seq is contiguous from 1, immutable, and the same for every reader",
            Self::NothingIsInvented => "there is no event that nobody sent",
            Self::OneOwnerPerEpoch => "one owner commits per slot and epoch",
            Self::OwnWritesAreRead => "a sender reads its own acked writes",
            Self::InboxIsTheFold => "an inbox row is the fold of the log and of the members' standings",
            Self::PushJobsEnd => "each push job ends sent, unneeded or dead-lettered",
            Self::ServesAfterFaults => "after faults heal, everything serves again within 10 s",
        }
    }
}

/// `I1`, `I2`, …
impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", *self as u8)
    }
}
