//! How a piece of work ended.

use tertulia_wire::cluster::{Answer, Refusal};

use crate::{
    limits::Limited,
    routing::{HoldReason, Verdict},
};

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Answered(Answer),
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It could not be carried out now. For something ordered: this attempt; for everything else: within the hold.
    Hold(HoldReason),
    Refused(Refusal),
    Limited(Limited),
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Answered(answer) => Self::Answered(answer),
            Verdict::Hold { reason, .. } => Self::Failed(Failure::Hold(reason)),
            Verdict::Refused(refusal) => Self::Failed(Failure::Refused(refusal)),
        }
    }
}
