//! Faults that a chat server can have, put back one at a time to see that the chaos runs find them: see docs/RELIABILITY.md.
//! Without the feature `known-faults` none of this is in the binary; with it, the environment names the one that is on.

/// Names the fault that is on.
#[cfg(feature = "known-faults")]
const VARIABLE: &str = "TERTULIA_KNOWN_FAULT";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownFault {
    /// A message is acked as soon as it has a place, and committed then.
    AckBeforeCommit,
    /// The fence reads the epochs and locks nothing: who takes a slot over does not wait for the batch in flight.
    FenceByJoin,
    /// The cursor of fan-out passes what was sent, and not only what was taken.
    CursorBeforeDelivery,
    /// A refused batch leaves its places taken in memory: the next messages get later ones.
    StaleSeq,
}

impl KnownFault {
    #[cfg(feature = "known-faults")]
    const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::FenceByJoin => "fence-by-join",
            Self::CursorBeforeDelivery => "cursor-before-delivery",
            Self::StaleSeq => "stale-seq",
        }
    }

    #[cfg(feature = "known-faults")]
    pub fn is_on(self) -> bool {
        static ON: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        ON.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default()) == self.name()
    }

    #[cfg(not(feature = "known-faults"))]
    pub const fn is_on(self) -> bool {
        false
    }
}

/// [`KnownFault::FenceByJoin`].
pub const FENCE_BY_JOIN: &str = "CREATE OR REPLACE FUNCTION check_fence(
    p_node bigint, p_lane smallint, p_incarnation bigint, p_token bigint, p_slots integer[], p_epochs bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    stale text;
BEGIN
    SELECT string_agg(want.slot::text, ',') INTO stale
        FROM unnest(p_slots, p_epochs) AS want (slot, epoch)
        LEFT JOIN slot_fence f ON f.slot = want.slot AND f.epoch = want.epoch
            AND f.node = p_node AND f.incarnation = p_incarnation AND NOT f.sealed
        WHERE f.slot IS NULL;
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'TT003', MESSAGE = 'slots fenced', DETAIL = stale;
    END IF;
END $$";
