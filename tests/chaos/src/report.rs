//! The result, for people and for programs.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use tertulia_soak::world::World;
use tertulia_test_invariants::{Invariant, Violations};

use crate::{
    Options,
    outage::{self, Percentiles, SlotWait, Window},
    schedule::{self, Effect, Kind},
};

/// I8 is about push notifications, of which there are none yet.
const CHECKED: [Invariant; 8] = [
    Invariant::AckedIsDurable,
    Invariant::OneEventPerTempId,
    Invariant::SeqIsContiguous,
    Invariant::NothingIsInvented,
    Invariant::OneOwnerPerEpoch,
    Invariant::OwnWritesAreRead,
    Invariant::InboxIsTheFold,
    Invariant::ServesAfterFaults,
];

/// A slot whose store is well does not wait for another store. Much, for a machine that does everything at once.
const WAIT_ELSEWHERE_MAX: Duration = Duration::from_secs(3);

/// A fault that was, and how it went.
#[derive(Debug)]
pub struct Happened {
    pub kind: Kind,
    pub window: Window,
    /// From the end of the fault until everything served again; `None` where it did not in time.
    pub healed_in: Option<Duration>,
}

/// What the run has seen besides the invariants.
#[derive(Debug, Default)]
pub struct Observed {
    pub faults: Vec<Happened>,
    pub waits: Vec<SlotWait>,
    /// Batches that a store refused because another owned the slots by then.
    pub fenced: u64,
    /// Times that a mailbox found events missing, and asked for them: fan-out is to leave none out.
    pub inbox_gaps: u64,
    /// Slots taken from a node that was there, while packets were lost, late or doubled.
    pub spurious_take_overs: u64,
    /// ERROR lines and panics of the processes, and processes that ended by themselves.
    pub complaints: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    seed: u64,
    minutes: f64,
    acked: u64,
    refused: u64,
    /// Said, and at the end without an answer.
    unanswered: u64,
    unexpected_errors: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    /// `ok`, or how often it was broken.
    invariants: BTreeMap<String, Value>,
    /// Slots whose owner was gone without a word.
    outage_ms: Option<Percentiles>,
    /// Slots that were handed over.
    stall_ms: Option<Percentiles>,
    /// The same by the kind of fault, for all kinds; and the longest time from its end until everything served.
    by_fault: BTreeMap<String, ByFault>,
    stale_writes_attempted: u64,
    stale_writes_committed: u64,
    /// Times that a mailbox found events missing that fan-out should have brought.
    inbox_gaps: u64,
    /// While packets were lost, late or doubled: how often a node lost its slots that was there all the time.
    spurious_take_overs: u64,
    faults: BTreeMap<String, u64>,
    /// Why the run has failed; empty where it has not.
    failures: Vec<String>,
    #[serde(skip)]
    violations: Violations,
}

#[derive(Debug, Serialize)]
struct ByFault {
    count: u64,
    wait_ms: Option<Percentiles>,
    /// In the slots that the faults did not concern, where they concern only some.
    wait_elsewhere_ms: Option<Percentiles>,
    healed_ms: Option<u64>,
}

impl Report {
    pub fn new(options: &Options, world: &World, observed: &Observed, violations: Violations) -> Self {
        let unexpected = world.tally.all_unexpected();
        let count = |invariant| violations.count(invariant);
        let verdict = |invariant| if count(invariant) == 0 { json!("ok") } else { json!(count(invariant)) };
        let over = |is_of_it: &dyn Fn(Kind) -> bool, of_window: fn(&Window, &[SlotWait]) -> Vec<Duration>| {
            let faults = observed.faults.iter().filter(|fault| is_of_it(fault.kind));
            outage::percentiles(faults.flat_map(|fault| of_window(&fault.window, &observed.waits)).collect())
        };
        let waits = |is_of_it: &dyn Fn(Kind) -> bool| over(is_of_it, outage::of_window);
        let counts = schedule::counts(observed.faults.iter().map(|fault| fault.kind));
        let mut by_fault = BTreeMap::new();
        for fault in &observed.faults {
            by_fault.entry(fault.kind.name()).or_insert_with(|| {
                let same = observed.faults.iter().filter(|other| other.kind == fault.kind);
                ByFault {
                    count: counts[&fault.kind.name()],
                    wait_ms: waits(&|kind| kind == fault.kind),
                    wait_elsewhere_ms: over(&|kind| kind == fault.kind, outage::elsewhere),
                    healed_ms: same.filter_map(|it| it.healed_in).max().map(|time| time.as_millis() as u64),
                }
            });
        }
        let mut failures = Vec::new();
        for invariant in CHECKED.into_iter().filter(|invariant| count(*invariant) > 0) {
            failures.push(format!("{invariant} was broken {} times", count(invariant)));
        }
        if world.unanswered() > 0 {
            failures.push(format!("{} commands were never answered", world.unanswered()));
        }
        if unexpected.count > 0 {
            let described = unexpected.described.join("; ");
            failures.push(format!("{} errors that nobody had given cause for: {described}", unexpected.count));
        }
        let elsewhere = over(&|kind| kind == Kind::DiskFull, outage::elsewhere);
        if let Some(Percentiles { max, .. }) = elsewhere.filter(|it| it.max > WAIT_ELSEWHERE_MAX.as_millis() as u64) {
            failures.push(format!("while the disk of a store was full, a slot of another waited for {max} ms"));
        }
        if observed.inbox_gaps > 0 {
            failures.push(format!("{} times a mailbox found events missing", observed.inbox_gaps));
        }
        failures.extend(observed.complaints.iter().cloned());
        Self {
            seed: options.seed,
            minutes: options.minutes,
            acked: world.tally.acked.get(),
            refused: world.tally.refused.get(),
            unanswered: world.unanswered(),
            unexpected_errors: unexpected.count,
            lost: count(Invariant::AckedIsDurable),
            duplicated: count(Invariant::OneEventPerTempId),
            out_of_order: count(Invariant::SeqIsContiguous),
            invariants: CHECKED.iter().map(|it| (it.to_string(), verdict(*it))).collect(),
            outage_ms: waits(&|kind| kind.effect() == Effect::Outage),
            stall_ms: waits(&|kind| kind.effect() == Effect::Stall),
            by_fault,
            stale_writes_attempted: observed.fenced,
            stale_writes_committed: count(Invariant::OneOwnerPerEpoch),
            inbox_gaps: observed.inbox_gaps,
            spurious_take_overs: observed.spurious_take_overs,
            faults: counts,
            failures,
            violations,
        }
    }

    pub fn is_faultless(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {} minutes: {} acked, {} refused, {} unanswered; {} lost, {} duplicated, {} out of order",
            self.seed,
            self.minutes,
            self.acked,
            self.refused,
            self.unanswered,
            self.lost,
            self.duplicated,
            self.out_of_order
        )?;
        for invariant in CHECKED {
            let verdict = self.invariants[&invariant.to_string()].to_string();
            writeln!(f, "  {invariant} {}: {}", invariant.statement(), verdict.trim_matches('"'))?;
        }
        write!(f, "{}", self.violations)?;
        writeln!(
            f,
            "  stale writes: {} attempted, {} committed; take-overs because packets were lost, late or doubled: {}",
            self.stale_writes_attempted, self.stale_writes_committed, self.spurious_take_overs
        )?;
        writeln!(f, "  {:26} {:>5} {:>22} {:>14}", "fault", "count", "waits p50/p99/max ms", "healed in ms")?;
        let waits = |waits: Option<Percentiles>| {
            waits.map_or_else(|| "-".to_owned(), |it| format!("{}/{}/{}", it.p50, it.p99, it.max))
        };
        for (name, of_kind) in &self.by_fault {
            let healed = of_kind.healed_ms.map_or_else(|| "never".to_owned(), |ms| ms.to_string());
            writeln!(f, "  {name:26} {:>5} {:>22} {healed:>14}", of_kind.count, waits(of_kind.wait_ms))?;
        }
        writeln!(
            f,
            "  slots without an owner: {} ms; slots handed over: {} ms",
            waits(self.outage_ms),
            waits(self.stall_ms)
        )?;
        match self.failures.as_slice() {
            [] => writeln!(f, "faultless"),
            failures => writeln!(f, "FAILED: {}", failures.join("; ")),
        }
    }
}
