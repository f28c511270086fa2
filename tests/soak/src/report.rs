//! The result, for people and for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use tertulia_test_invariants::{Invariant, Violations};

use crate::{
    Options,
    memory::{Course, FLAT_KIB_PER_MINUTE, FLAT_SHARE_PER_MINUTE, Verdict},
};
use tertulia_soak::{tally::Unexpected, world::World};

/// I8 and I9 are about push notifications and faults, which a soak has none of.
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
    /// Names the run's people: `soak-RUN-0` and so on.
    run: String,
    minutes: f64,
    people: u32,
    groups: u32,
    /// Events a second: asked for, and acked while people sent.
    rate: f64,
    acked_per_s: f64,
    said: u64,
    acked: u64,
    refused: u64,
    retried: u64,
    /// Said, and at the end without an answer.
    unanswered: u64,
    /// Due, and not said because the person was too far behind.
    passed_over: u64,
    /// Error replies by code, and those that no client should get that keeps to the protocol.
    errors: BTreeMap<&'static str, u64>,
    unexpected_errors: u64,
    pushes: u64,
    resyncs: u64,
    syncs: u64,
    marks: u64,
    own_reads: u64,
    sessions: Sessions,
    invariants: BTreeMap<String, u64>,
    memory: Vec<Course>,
    /// Why the run has failed; empty where it has not.
    faults: Vec<String>,
    #[serde(skip)]
    unexpected: Unexpected,
    #[serde(skip)]
    violations: Violations,
}

#[derive(Debug, Serialize)]
struct Sessions {
    joined: u64,
    closed: u64,
    dropped: u64,
    closed_by_router: u64,
    stopped_reading: u64,
    never_reading: u64,
    never_reading_closed_by_router: u64,
}

/// What is known when nobody sends any more.
pub struct Observed {
    /// Acks until then.
    pub acked_in_time: u64,
    pub memory: Vec<Course>,
}

impl Report {
    pub fn new(options: &Options, world: &World, observed: Observed, violations: Violations) -> Self {
        let tally = &world.tally;
        let unexpected = tally.all_unexpected();
        let mut report = Self {
            run: format!("{:08x}", world.run),
            minutes: options.minutes,
            people: options.crowd.people,
            groups: options.crowd.groups,
            rate: options.rate,
            acked_per_s: (observed.acked_in_time as f64 / (60.0 * options.minutes)).round(),
            said: world.said() as u64,
            acked: tally.acked.get(),
            refused: tally.refused.get(),
            retried: tally.retried.get(),
            unanswered: world.unanswered(),
            passed_over: tally.passed_over.get(),
            errors: tally.errors(),
            unexpected_errors: unexpected.count,
            pushes: tally.pushes.get(),
            resyncs: tally.resyncs.get(),
            syncs: tally.syncs.get(),
            marks: tally.marks.get(),
            own_reads: tally.own_reads.get(),
            sessions: Sessions {
                joined: tally.joins.get(),
                closed: tally.closed.get(),
                dropped: tally.dropped.get(),
                closed_by_router: tally.closed_by_router.get(),
                stopped_reading: tally.freezes.get(),
                never_reading: tally.deaf.get(),
                never_reading_closed_by_router: tally.deaf_closed.get(),
            },
            invariants: CHECKED.iter().map(|it| (it.to_string(), violations.count(*it))).collect(),
            memory: observed.memory,
            faults: Vec::new(),
            unexpected,
            violations,
        };
        report.faults = report.judge(options);
        report
    }

    fn judge(&self, options: &Options) -> Vec<String> {
        let mut faults = Vec::new();
        for invariant in CHECKED {
            let count = self.violations.count(invariant);
            if count > 0 {
                faults.push(format!("{invariant} was broken {count} times"));
            }
        }
        if self.unanswered > 0 {
            faults.push(format!("{} commands were never answered", self.unanswered));
        }
        if self.unexpected_errors > 0 {
            faults.push(format!("{} errors that nobody had given cause for", self.unexpected_errors));
        }
        if self.acked_per_s < self.rate * options.acked_percent_min / 100.0 {
            faults.push(format!("the rate was not kept: {} a second of {}", self.acked_per_s, self.rate));
        }
        for course in self.memory.iter().filter(|course| course.verdict.is_a_fault()) {
            faults.push(match course.verdict {
                Verdict::Gone => format!("{} ended", course.process),
                _ => format!("the memory of {} grows", course.process),
            });
        }
        faults
    }

    pub fn is_faultless(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "run {}: {} minutes, {} people, {} groups, {} events a second asked for, {} acked",
            self.run, self.minutes, self.people, self.groups, self.rate, self.acked_per_s
        )?;
        writeln!(
            f,
            "  said {}   acked {}   refused {}   unanswered {}   retried {}   passed over {}",
            self.said, self.acked, self.refused, self.unanswered, self.retried, self.passed_over
        )?;
        writeln!(
            f,
            "  pushes {}   resyncs {}   syncs {}   marks {}   own writes read back {}",
            self.pushes, self.resyncs, self.syncs, self.marks, self.own_reads
        )?;
        let it = &self.sessions;
        writeln!(
            f,
            "  sessions {}: closed {}, dropped {}, closed by a router {}; stopped reading for a while {}; never reading {}, of \
             which a router closed {}",
            it.joined,
            it.closed,
            it.dropped,
            it.closed_by_router,
            it.stopped_reading,
            it.never_reading,
            it.never_reading_closed_by_router
        )?;
        let errors: Vec<String> = self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        writeln!(f, "  error replies: {}", if errors.is_empty() { "none".to_owned() } else { errors.join(", ") })?;
        for description in &self.unexpected.described {
            writeln!(f, "  unexpected: {description}")?;
        }
        for invariant in CHECKED {
            let count = self.violations.count(invariant);
            let found = if count == 0 { "ok".to_owned() } else { format!("{count} violations") };
            writeln!(f, "  {invariant} {}: {found}", invariant.statement())?;
        }
        write!(f, "{}", self.violations)?;
        for course in &self.memory {
            let verdict = match course.verdict {
                Verdict::Flat => "flat",
                Verdict::Grows => "GROWS",
                Verdict::NotJudged => "not judged",
                Verdict::Gone => "HAS ENDED",
            };
            writeln!(
                f,
                "  {}: {:.0} KiB at first, {:.0} at last, {:.0} at most; {:+.1} KiB a minute after the warm-up: {verdict}",
                course.process, course.first_kib, course.last_kib, course.most_kib, course.kib_per_minute
            )?;
        }
        writeln!(
            f,
            "  (flat: up to {FLAT_KIB_PER_MINUTE} KiB a minute, or {} % of the memory)",
            FLAT_SHARE_PER_MINUTE * 100.0
        )?;
        match self.faults.as_slice() {
            [] => writeln!(f, "faultless"),
            faults => writeln!(f, "FAILED: {}", faults.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tertulia_wire::client::{ErrorCode, ErrorReply};

    use super::*;
    use tertulia_soak::{chat::Crowd, records::What};

    const ARGUMENTS: [&str; 8] = ["--people", "2", "--groups", "0", "--minutes", "1", "--rate", "10"];

    fn report(world: &World, acked_in_time: u64, verdict: Verdict, violations: Violations) -> Report {
        let needed = ["soak", "--data", "nowhere", "--router", "127.0.0.1:1", "--store", "none"];
        let options = Options::parse_from(needed.iter().chain(&ARGUMENTS));
        let course = Course {
            process: "node-1".into(),
            first_kib: 1.0,
            last_kib: 2.0,
            most_kib: 2.0,
            kib_per_minute: 0.5,
            verdict,
        };
        Report::new(&options, world, Observed { acked_in_time, memory: vec![course] }, violations)
    }

    #[test]
    fn only_a_run_that_shows_everything_is_faultless() {
        let world = World::of_strangers(&Crowd { people: 2, groups: 0, ..Crowd::default() });
        let faultless = report(&world, 600, Verdict::Flat, Violations::default());
        assert!(faultless.is_faultless() && faultless.to_string().ends_with("faultless\n"), "{faultless}");
        assert!(report(&world, 580, Verdict::NotJudged, Violations::default()).is_faultless());

        let mut broken = Violations::default();
        broken.add(Invariant::OneOwnerPerEpoch, || "two owners".into());
        for report in [
            report(&world, 600, Verdict::Flat, broken),
            report(&world, 560, Verdict::Flat, Violations::default()),
            report(&world, 600, Verdict::Grows, Violations::default()),
            report(&world, 600, Verdict::Gone, Violations::default()),
        ] {
            assert_eq!(report.faults.len(), 1, "{report}");
        }
        world.begin(0, 0, What::Message);
        world.tally.unexpected("Message", &ErrorReply::new(ErrorCode::Conflict, "why"));
        let report = report(&world, 600, Verdict::Flat, Violations::default());
        assert_eq!(report.faults.len(), 2, "{report}");
        let json = serde_json::to_value(&report).expect("it is JSON");
        assert_eq!((&json["invariants"]["I5"], &json["unanswered"]), (&0.into(), &1.into()));
    }
}
