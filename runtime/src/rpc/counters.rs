//! What the RPC layer counts. Handles are looked up once, the first time that a label combination is seen.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tertulia_wire::cluster::Call;

use super::Class;
use crate::metrics::{RPC_CALL_SECONDS, RPC_CALLS_TOTAL, RPC_CONNECTIONS, RPC_CONNECTS_TOTAL};

macro_rules! call_kinds {
    ($($variant:ident: $pattern:pat => $name:literal,)+) => {
        /// The kind of a [`Call`], for labels and logs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum CallKind {
            $($variant,)+
        }

        impl CallKind {
            const COUNT: usize = [$($name,)+].len();

            pub const fn of(call: &Call) -> Self {
                match call {
                    $($pattern => Self::$variant,)+
                }
            }

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

call_kinds! {
    Ping: Call::Ping => "ping",
    Raft: Call::Raft(_) => "raft",
    WatchMap: Call::WatchMap { .. } => "watch_map",
    Propose: Call::Propose(_) => "propose",
    Initialise: Call::Initialise => "initialise",
    Status: Call::Status => "status",
    Append: Call::Append(_) => "append",
    Mark: Call::Mark(_) => "mark",
    Block: Call::Block(_) => "block",
    Conversation: Call::Conversation(_) => "conversation",
    Members: Call::Members(_) => "members",
    Typing: Call::Typing(_) => "typing",
    History: Call::History(_) => "history",
    Attach: Call::Attach(_) => "attach",
    Detach: Call::Detach { .. } => "detach",
    Sync: Call::Sync(_) => "sync",
    Inbox: Call::Inbox(_) => "inbox",
    Blocks: Call::Blocks(_) => "blocks",
    Profiles: Call::Profiles { .. } => "profiles",
    SetProfile: Call::SetProfile(_) => "set_profile",
    WatchPresence: Call::WatchPresence(_) => "watch_presence",
    UnwatchPresence: Call::UnwatchPresence(_) => "unwatch_presence",
    Deliver: Call::Deliver(_) => "deliver",
    DeliverTyping: Call::DeliverTyping(_) => "deliver_typing",
    Interest: Call::Interest(_) => "interest",
    Announce: Call::Announce(_) => "announce",
    ChangeMembership: Call::ChangeMembership(_) => "change_membership",
    Heartbeat: Call::Heartbeat { .. } => "heartbeat",
    Heads: Call::Heads(_) => "heads",
    Load: Call::Load => "load",
    Moves: Call::Moves => "moves",
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Outcome {
    Answered,
    Refused,
    Unreachable,
    Deadline,
    Closed,
    TooMany,
    TooLarge,
    Abandoned,
}

impl Outcome {
    const COUNT: usize = 8;

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Deadline => "deadline",
            Self::Closed => "closed",
            Self::TooMany => "too_many",
            Self::TooLarge => "too_large",
            Self::Abandoned => "abandoned",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that calls.
    Client,
    /// The one that answers.
    Server,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// The counters of one side of an endpoint.
pub(super) struct Counters {
    side: Side,
    calls: [[OnceLock<Counter>; Outcome::COUNT]; CallKind::COUNT],
    seconds: [OnceLock<Histogram>; CallKind::COUNT],
}

impl Counters {
    pub fn new(side: Side) -> Self {
        Self {
            side,
            calls: [const { [const { OnceLock::new() }; Outcome::COUNT] }; CallKind::COUNT],
            seconds: [const { OnceLock::new() }; CallKind::COUNT],
        }
    }

    pub fn call_ended(&self, kind: CallKind, outcome: Outcome, started: Instant) {
        let side = self.side.as_str();
        self.calls[kind as usize][outcome as usize]
            .get_or_init(
                || counter!(RPC_CALLS_TOTAL, "side" => side, "kind" => kind.as_str(), "outcome" => outcome.as_str()),
            )
            .increment(1);
        if matches!(outcome, Outcome::Answered | Outcome::Refused) {
            let elapsed: Duration = started.elapsed();
            self.seconds[kind as usize]
                .get_or_init(|| histogram!(RPC_CALL_SECONDS, "side" => side, "kind" => kind.as_str()))
                .record(elapsed.as_secs_f64());
        }
    }

    /// Counts a connection as open until the returned value is dropped.
    pub fn connected(&self, class: Class) -> ConnectedGauge {
        let gauge = gauge!(RPC_CONNECTIONS, "side" => self.side.as_str(), "class" => class.as_str());
        gauge.increment(1.0);
        self.attempted(class, "connected");
        ConnectedGauge(gauge)
    }

    pub fn attempted(&self, class: Class, outcome: &'static str) {
        counter!(RPC_CONNECTS_TOTAL, "side" => self.side.as_str(), "class" => class.as_str(), "outcome" => outcome)
            .increment(1);
    }
}

pub(super) struct ConnectedGauge(Gauge);

impl Drop for ConnectedGauge {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
