//! Counts what sessions answer. The counters of success are looked up once: they are touched for every command.

use std::time::Duration;

use metrics::{Counter, Histogram};
use tertulia_wire::client::{Command, ErrorReply, Reply};

use crate::metrics::{ACK_LATENCY, COMMANDS, ERRORS, MESSAGES_SENT, count_command, status};

const SEND: &str = "dm:send";

pub struct Meter {
    /// In the order of [`Command::TYPES`].
    succeeded: Vec<Counter>,
    sent: Counter,
    ack_latency: Histogram,
}

impl Meter {
    /// Call after the metrics recorder is installed.
    pub fn new() -> Self {
        let types = Command::TYPES.iter();
        Self {
            succeeded: types.map(|kind| metrics::counter!(COMMANDS, "type" => *kind, "status" => "ok")).collect(),
            sent: metrics::counter!(MESSAGES_SENT, "status" => "ok"),
            ack_latency: metrics::histogram!(ACK_LATENCY),
        }
    }

    /// `kind` is the command's type, `after` the time since it came.
    pub(super) fn answered(&self, kind: &'static str, reply: &Reply, after: Duration) {
        if let Reply::Error(error) = reply {
            self.complained(error);
            count_command(kind, reply);
            if kind == SEND {
                metrics::counter!(MESSAGES_SENT, "status" => status(reply)).increment(1);
            }
            return;
        }
        let at = Command::TYPES.iter().position(|it| *it == kind);
        if let Some(counter) = at.and_then(|at| self.succeeded.get(at)) {
            counter.increment(1);
        }
        if kind == SEND {
            self.sent.increment(1);
            self.ack_latency.record(after.as_secs_f64());
        }
    }

    /// An error that answers no known command.
    pub(crate) fn complained(&self, error: &ErrorReply) {
        metrics::counter!(ERRORS, "code" => error.code.as_str()).increment(1);
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}
