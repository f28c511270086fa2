//! What an attempt's end means, and how long to wait before the next one. Pure.

use std::time::Duration;

use tertulia_runtime::rpc::CallError;
use tertulia_shard_map::{Epoch, MapVersion};
use tertulia_wire::cluster::{Answer, Refusal};

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// What a client is told to wait where the connection to a node is full.
const LINK_FULL_RETRY_AFTER_MS: u64 = 200;

/// Why a command is held: it could not be carried out now, and may be shortly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldReason {
    NoMap,
    NoOwner,
    Unreachable,
    /// The connection was lost under way: the outcome is unknown.
    ConnectionLost,
    /// No answer in time: the outcome is unknown.
    NoAnswer,
    /// No answer before there was another owner: the outcome is unknown.
    Moved,
    NotOwner,
    /// The owner answered as that of another epoch than the map says: it is deposed, or the map is behind.
    OtherEpoch,
    NotServing,
    StoreUnavailable,
    /// An earlier send to the same conversation is held.
    Behind,
}

impl HoldReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoMap => "no_map",
            Self::NoOwner => "no_owner",
            Self::Unreachable => "unreachable",
            Self::ConnectionLost => "connection_lost",
            Self::NoAnswer => "no_answer",
            Self::Moved => "moved",
            Self::NotOwner => "not_owner",
            Self::OtherEpoch => "other_epoch",
            Self::NotServing => "not_serving",
            Self::StoreUnavailable => "store_unavailable",
            Self::Behind => "behind",
        }
    }
}

/// What to do with an attempt's end.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Answered(Answer),
    /// Try again. `newer` is a map version that is known to exist.
    Hold {
        reason: HoldReason,
        newer: Option<MapVersion>,
    },
    /// The client's to know.
    Refused(Refusal),
}

/// `epoch` is the one of the owner that the map names, which was called.
pub fn judge(outcome: Result<Answer, CallError>, epoch: Epoch) -> Verdict {
    let hold = |reason| Verdict::Hold { reason, newer: None };
    match outcome {
        // A deposed owner would be told nothing, and so would the session.
        Ok(Answer::Attach(attached)) if attached.epoch != epoch => hold(HoldReason::OtherEpoch),
        Ok(answer) => Verdict::Answered(answer),
        Err(CallError::Unreachable) => hold(HoldReason::Unreachable),
        Err(CallError::Closed) => hold(HoldReason::ConnectionLost),
        Err(CallError::Deadline) => hold(HoldReason::NoAnswer),
        Err(CallError::TooManyInFlight) => {
            Verdict::Refused(Refusal::Overloaded { retry_after_ms: LINK_FULL_RETRY_AFTER_MS })
        }
        Err(CallError::TooLarge) => Verdict::Refused(Refusal::Invalid("too large".into())),
        Err(CallError::Refused(refusal)) => match refusal {
            Refusal::NotOwner { version } => Verdict::Hold { reason: HoldReason::NotOwner, newer: Some(version) },
            Refusal::NotServing | Refusal::NotInitialised => hold(HoldReason::NotServing),
            Refusal::StoreUnavailable => hold(HoldReason::StoreUnavailable),
            // A full queue is the client's to know at once: holding would only make it longer.
            Refusal::Overloaded { .. }
            | Refusal::NotFound
            | Refusal::Conflict
            | Refusal::Blocked
            | Refusal::NotAllowed(_)
            | Refusal::NoChange(_)
            | Refusal::LimitReached(_)
            | Refusal::Invalid(_)
            | Refusal::NotLeader { .. }
            | Refusal::Forbidden
            | Refusal::Internal => Verdict::Refused(refusal),
        },
    }
}

/// The wait before the attempt after `failures` failed ones (1 or more). `random` is from 0 to 1.
pub fn backoff(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = (BACKOFF_MIN * (1 << doublings)).min(BACKOFF_MAX);
    longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{Rev, UserId};
    use tertulia_wire::cluster::{Attached, ProfileRecord};

    use super::*;

    const EPOCH: Epoch = Epoch::new(4);

    #[test]
    fn what_may_pass_is_held_and_what_will_not_is_told() {
        let reason = |error| match judge(Err(error), EPOCH) {
            Verdict::Hold { reason, .. } => Some(reason),
            _ => None,
        };
        let refused = |refusal| reason(CallError::Refused(refusal));
        assert_eq!(reason(CallError::Closed), Some(HoldReason::ConnectionLost));
        assert_eq!(reason(CallError::Unreachable), Some(HoldReason::Unreachable));
        assert_eq!(refused(Refusal::NotServing), Some(HoldReason::NotServing));
        assert_eq!(refused(Refusal::StoreUnavailable), Some(HoldReason::StoreUnavailable));
        assert_eq!(refused(Refusal::Overloaded { retry_after_ms: 5 }), None);
        assert_eq!(refused(Refusal::NotFound), None);
        assert_eq!(refused(Refusal::Conflict), None);
        assert_eq!(refused(Refusal::Blocked), None);
        assert_eq!(refused(Refusal::NoChange("so already".into())), None);
        assert_eq!(reason(CallError::TooManyInFlight), None);
    }

    #[test]
    fn a_wrong_owner_tells_of_a_newer_map() {
        let version = MapVersion::new(7);
        let verdict = judge(Err(CallError::Refused(Refusal::NotOwner { version })), EPOCH);
        assert_eq!(verdict, Verdict::Hold { reason: HoldReason::NotOwner, newer: Some(version) });
    }

    #[test]
    fn an_attachment_to_a_deposed_owner_is_none() {
        let attached = |epoch| {
            let user = UserId::from_u128(1);
            let profile = ProfileRecord { user, name: None, avatar_url: None, shares_presence: true, disabled: false };
            let (rev, in_large_group) = (Rev::ZERO, false);
            judge(Ok(Answer::Attach(Attached { rev, in_large_group, profile, epoch })), EPOCH)
        };
        assert!(matches!(attached(EPOCH), Verdict::Answered(Answer::Attach(_))));
        for other in [3, 5] {
            let verdict = attached(Epoch::new(other));
            assert_eq!(verdict, Verdict::Hold { reason: HoldReason::OtherEpoch, newer: None });
        }
    }

    #[test]
    fn the_backoff_grows_to_its_bound_and_is_spread() {
        assert_eq!(backoff(1, 1.0), Duration::from_millis(5));
        assert_eq!(backoff(2, 1.0), Duration::from_millis(10));
        assert_eq!(backoff(2, 0.0), Duration::from_millis(5));
        assert_eq!(backoff(u32::MAX, 1.0), BACKOFF_MAX);
    }
}
