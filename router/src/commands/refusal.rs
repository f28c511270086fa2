//! Why a command failed, in the client's words.

use tertulia_wire::{
    client::{ErrorCode, ErrorReply, Reply},
    cluster::{Answer, Refusal},
};

use super::{Failure, Outcome};

/// The error of a command that was not carried out.
pub fn error_of(failure: Failure) -> ErrorReply {
    match failure {
        Failure::Hold(_) => ErrorReply::new(ErrorCode::Unavailable, "the shard cannot be reached; try again"),
        Failure::Refused(refusal) => refused(refusal),
        Failure::Limited(limited) => limited.error(),
    }
}

fn refused(refusal: Refusal) -> ErrorReply {
    match refusal {
        Refusal::NotFound => {
            ErrorReply::new(ErrorCode::NotFound, "no such conversation or message, or you are not a member")
        }
        Refusal::Conflict => {
            ErrorReply::new(ErrorCode::Conflict, "this id was used before, with another payload or for another group")
        }
        Refusal::Blocked => ErrorReply::new(ErrorCode::Blocked, "one of the two users has blocked the other"),
        Refusal::NotAllowed(why) => ErrorReply::new(ErrorCode::Forbidden, why),
        Refusal::NoChange(what) => ErrorReply::new(ErrorCode::NoChange, what),
        Refusal::LimitReached(limit) => ErrorReply::new(ErrorCode::LimitReached, limit),
        Refusal::Invalid(message) => ErrorReply::new(ErrorCode::BadRequest, message),
        Refusal::Overloaded { retry_after_ms } => overloaded("a queue is full", retry_after_ms),
        Refusal::NotOwner { .. }
        | Refusal::NotServing
        | Refusal::StoreUnavailable
        | Refusal::NotLeader { .. }
        | Refusal::NotInitialised => ErrorReply::new(ErrorCode::Unavailable, "the shard is not served now; try again"),
        Refusal::Forbidden | Refusal::Internal => internal(),
    }
}

pub fn overloaded(message: &str, retry_after_ms: u64) -> ErrorReply {
    ErrorReply::new(ErrorCode::Overloaded, message).with_retry_after_ms(retry_after_ms)
}

pub fn internal() -> ErrorReply {
    ErrorReply::new(ErrorCode::Internal, "a fault of the server's")
}

/// The reply where the outcome is not the answer that the work has. An answer of another kind is a fault.
pub(super) fn unexpected(outcome: Outcome) -> Reply {
    Reply::Error(match outcome {
        Outcome::Failed(failure) => error_of(failure),
        Outcome::Answered(answer) => strange(&answer),
    })
}

fn strange(answer: &Answer) -> ErrorReply {
    tracing::warn!(answer = ?std::mem::discriminant(answer), "a node gave an answer of another kind");
    internal()
}
