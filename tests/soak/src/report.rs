//! The result, for people and for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use tertulia_test_invariants::{Invariant, Violations};

use crate::{Options, memory::Slope, world::World};

/// I8 and I9 are about pushes and faults, which a soak has none of.
const CHECKED: [Invariant; 7] = [
    Invariant::AckedIsDurable,
    Invariant::OneEventPerTempId,
    Invariant::SeqIsContiguous,
    Invariant::NothingIsInvented,
    Invariant::OneOwnerPerEpoch,
    Invariant::OwnWritesAreRead,
    Invariant::InboxIsTheFold,
];

#[derive(Debug, Serialize)]
pub struct Report {
    minutes: u64,
    rate: f64,
    people: u32,
    sent: u64,
    acked: u64,
    refused: u64,
    retried: u64,
    /// Sent, and at the end without an answer.
    unanswered: u64,
    /// Due, and not sent because the person was away for too long.
    passed_over: u64,
    pushes: u64,
    resyncs: u64,
    marks: u64,
    joins: u64,
    leaves: u64,
    stopped_reading: u64,
    own_reads: u64,
    settled: bool,
    invariants: BTreeMap<String, u64>,
    memory: Vec<Slope>,
    #[serde(skip)]
    violations: Violations,
}

impl Report {
    pub fn new(options: &Options, world: &World, settled: bool, memory: &[Slope], violations: Violations) -> Self {
        let tally = &world.tally;
        Self {
            minutes: options.minutes,
            rate: options.rate,
            people: options.people,
            sent: world.sent() as u64,
            acked: tally.acked.get(),
            refused: tally.refused.get(),
            retried: tally.retried.get(),
            unanswered: world.unanswered(),
            passed_over: tally.passed_over.get(),
            pushes: tally.pushes.get(),
            resyncs: tally.resyncs.get(),
            marks: tally.marks.get(),
            joins: tally.joins.get(),
            leaves: tally.leaves.get(),
            stopped_reading: tally.freezes.get(),
            own_reads: tally.own_reads.get(),
            settled,
            invariants: CHECKED.iter().map(|it| (it.to_string(), violations.count(*it))).collect(),
            memory: memory.to_vec(),
            violations,
        }
    }

    pub fn is_faultless(&self) -> bool {
        self.violations.is_empty() && self.settled && self.acked > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} minutes, {} people, {} events a second asked for", self.minutes, self.people, self.rate)?;
        writeln!(
            f,
            "  sent {}   acked {}   refused {}   unanswered {}   retried {}   passed over {}",
            self.sent, self.acked, self.refused, self.unanswered, self.retried, self.passed_over
        )?;
        writeln!(f, "  pushes {}   resyncs {}   marks {}", self.pushes, self.resyncs, self.marks)?;
        writeln!(
            f,
            "  joins {}   leaves {}   stopped reading {}   own writes read back {}",
            self.joins, self.leaves, self.stopped_reading, self.own_reads
        )?;
        for invariant in CHECKED {
            let count = self.violations.count(invariant);
            let found = if count == 0 { "ok".to_owned() } else { format!("{count} violations") };
            writeln!(f, "  {invariant} {}: {found}", invariant.statement())?;
        }
        write!(f, "{}", self.violations)?;
        for slope in &self.memory {
            writeln!(
                f,
                "  {}: {:.0} KiB at first, {:.0} at last, {:.0} at most; {:+.1} KiB a minute over the second half",
                slope.process, slope.first_kib, slope.last_kib, slope.most_kib, slope.kib_per_minute
            )?;
        }
        Ok(())
    }
}
