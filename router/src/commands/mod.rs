//! What every command means: what it asks of the cluster, and what the client is told of the answer. The same for every
//! skin.
//!
//! [`plan`] turns a validated command into something to do, and each [`Planned`] thing makes the reply of its
//! [`Outcome`]. Both are pure. A session starts the work itself, since it keeps an order and bounds of its own; a skin
//! without one has [`execute`].
//!
//! Deliberately absent: what needs a session (`hello`, `ping`, subscriptions, throttles), and how anything is encoded.

mod event;
mod execute;
mod outcome;
mod plan;
mod query;
mod refusal;
mod reply;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::cluster::{Authority, Reader};

pub use self::{
    event::Ordered,
    execute::{carry_out, execute},
    outcome::{Failure, Outcome},
    plan::{Planned, Query, Routed, Work, plan},
    refusal::{error_of, internal, overloaded},
    reply::{Asked, conversation_row, presence_state, profile},
};

/// Typing that has not reached its owner by then is not interesting any more.
pub(crate) const TYPING_DEADLINE: Duration = Duration::from_secs(1);

/// Who asks, and on whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub session: Option<SessionId>,
    pub authority: Authority,
}

impl Caller {
    /// Whose eyes a conversation is read with.
    fn reader(&self) -> Reader {
        match self.authority {
            Authority::Member => Reader::Member(self.user),
            Authority::App => Reader::App,
        }
    }
}
