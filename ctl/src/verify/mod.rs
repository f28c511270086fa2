//! `tertuliactl verify`: holds the invariants against what the stores of a running cluster hold. Reads only.
//!
//! Slot by slot, each in one snapshot of its store, and no longer than that takes: a long transaction would keep Postgres
//! from cleaning up. Between slots the store rests as long as it was read. Moves and changes of owner go on meanwhile: a slot
//! is read where the newest map has it, and what fits no map that could be had is a violation.
//!
//! Absent: what only the people know who sent something (I1, I4 of contents, I6), and what was read by whom.

mod check;
mod cluster;
mod fence;
#[cfg(test)]
mod fixtures;
mod inbox;
mod log;
mod mailboxes;
mod report;
mod store;
mod stray;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use clap::Args;
use tertulia_runtime::config::Config;
use tertulia_shard_map::{Epoch, ShardMap, Slot, StoreId};
use tokio::time::{Instant, sleep};

use self::{
    check::{Check, Findings, Violation},
    cluster::Cluster,
    fence::{Standing, compare},
    log::Volume,
    mailboxes::Mailboxes,
    report::{Outcome, Report, Skipped, Why},
    store::{Dsn, Snapshot},
};
use crate::{
    OutputArgs,
    membership::with_nodes,
    moves::parse_slots,
    nodes::Nodes,
    output,
    output::grouped,
    progress::{Progress, bar},
};

/// Nothing wrong was found, and not everything could be read.
const EXIT_INCOMPLETE: u8 = 3;
/// How often a slot is looked for that is not where, or not what, the map says.
const TRIES: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only these, as 3,17,40-47, and the inbox rows of their conversations' members
    #[arg(long, value_parser = parse_slots)]
    slots: Option<BTreeSet<Slot>>,
    /// Violations of each check that are told one by one
    #[arg(long, value_name = "N", default_value_t = 10)]
    describe: u16,
    /// Longest time that one statement may take in a store
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    statement_timeout: u32,
    /// Read on without resting: as fast as one connection goes
    #[arg(long)]
    no_rest: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Exit code 1 where something is violated, 3 where nothing is and not everything could be read.
pub async fn run(config: &Config, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let dsns = store::dsns(config, Duration::from_secs(args.statement_timeout.into()))?;
    with_nodes(config, async |nodes| {
        let map = match nodes.newest_map().await {
            Ok(map) => map,
            Err(error) => {
                eprintln!("{}: {error:#}", crate::BINARY);
                return Ok(ExitCode::from(EXIT_INCOMPLETE));
            }
        };
        let selected = selected(&map, args.slots.as_ref())?;
        let report = Verification::new(map, nodes, &dsns, args).run(&selected).await?;
        if args.output.json {
            output::print(|out| writeln!(out, "{:#}", report.json()))?;
        } else {
            output::print(|out| report.write(out))?;
        }
        Ok(match report.outcome() {
            Outcome::Holds => ExitCode::SUCCESS,
            Outcome::Violated => ExitCode::FAILURE,
            Outcome::Incomplete => ExitCode::from(EXIT_INCOMPLETE),
        })
    })
    .await
}

fn selected(map: &ShardMap, wanted: Option<&BTreeSet<Slot>>) -> anyhow::Result<BTreeSet<Slot>> {
    let Some(wanted) = wanted else { return Ok(map.slot_count().slots().collect()) };
    if let Some(slot) = wanted.iter().find(|slot| map.get(**slot).is_none()) {
        bail!("the cluster has no slot {slot}: they are 0 to {}", map.slots().len() - 1);
    }
    Ok(wanted.clone())
}

/// What became of a slot.
enum Read {
    Whole(Volume),
    Skipped(Why),
    /// Nobody knows whose it is: what it holds was not looked at.
    Fenced(String),
}

struct Verification<'a> {
    cluster: Cluster<'a>,
    mailboxes: Mailboxes,
    findings: Findings,
    report: Report,
    rests: bool,
    told: Progress,
}

impl<'a> Verification<'a> {
    fn new(map: Box<ShardMap>, nodes: &'a Nodes, dsns: &'a BTreeMap<StoreId, Dsn>, args: &VerifyArgs) -> Self {
        let report = Report {
            cluster: map.cluster(),
            map_version: map.version(),
            stores: map.stores().len(),
            slots: 0,
            volume: Volume::default(),
            findings: Findings::new(0),
            lagging: mailboxes::Lagging::default(),
            skipped: Vec::new(),
            elapsed_ms: 0,
        };
        Self {
            cluster: Cluster::new(map, nodes, dsns),
            mailboxes: Mailboxes::default(),
            findings: Findings::new(args.describe.into()),
            report,
            rests: !args.no_rest,
            told: Progress::new(),
        }
    }

    async fn run(mut self, selected: &BTreeSet<Slot>) -> anyhow::Result<Report> {
        let started = Instant::now();
        // Inbox rows may be in any of them.
        self.cluster.connect_all().await;
        let plan: Vec<(StoreId, Vec<Slot>)> = self.plan(selected);
        for (store, slots) in &plan {
            for (done, &slot) in slots.iter().enumerate() {
                self.tell(&plan, *store, done)?;
                self.slot(slot).await;
            }
        }
        self.say("inbox rows that differed, and what is between the stores")?;
        let failed = stray::check(&mut self.cluster, selected, &mut self.findings).await;
        self.report.lagging = self.mailboxes.settle(&mut self.cluster, &mut self.findings).await;
        self.told.clear()?;
        let unread = |(store, error): (StoreId, anyhow::Error)| {
            let why = Why::Unreadable(format!("{error:#}"));
            // Said already where its slots could not be read either.
            let is_said = self.report.skipped.iter().any(|it| it.store == store && it.why == why);
            (!is_said).then_some(Skipped { store, slot: None, why })
        };
        let unread: Vec<Skipped> = failed.into_iter().filter_map(unread).collect();
        self.report.skipped.extend(unread);
        self.report.elapsed_ms = started.elapsed().as_millis() as u64;
        Ok(Report { findings: self.findings, map_version: self.cluster.map.version(), ..self.report })
    }

    /// One store after the other.
    fn plan(&self, selected: &BTreeSet<Slot>) -> Vec<(StoreId, Vec<Slot>)> {
        let map = &self.cluster.map;
        let slots = |store| map.held_by(store).map(|(slot, _)| slot).filter(|slot| selected.contains(slot)).collect();
        map.stores().map(|(store, _)| (store, slots(store))).collect()
    }

    async fn slot(&mut self, slot: Slot) {
        let started = Instant::now();
        let read = self.read(slot).await;
        let store = self.cluster.map.slot(slot).store;
        match read {
            Read::Whole(volume) => {
                self.report.slots += 1;
                self.report.volume.conversations += volume.conversations;
                self.report.volume.events += volume.events;
            }
            Read::Skipped(why) => self.report.skipped.push(Skipped { store, slot: Some(slot), why }),
            Read::Fenced(what) => {
                self.findings.checked(Check::Fences, 1);
                let check = Check::Fences;
                self.findings.add(Violation { check, store, slot, conversation: None, user: None, what });
            }
        }
        if self.rests {
            sleep(started.elapsed().min(REST_MAX)).await;
        }
    }

    /// Where the newest map says.
    async fn read(&mut self, slot: Slot) -> Read {
        let mut fenced = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(RETRY_PAUSE).await;
                self.cluster.refresh().await;
            }
            let entry = *self.cluster.map.slot(slot);
            if let Err(error) = self.cluster.connect(entry.store).await {
                return unreadable(&error);
            }
            let snapshot = match self.cluster.store_of(slot) {
                Ok(store) => store.snapshot(slot).await,
                Err(error) => Err(error),
            };
            let snapshot = match snapshot {
                Ok(Some(snapshot)) => snapshot,
                // It was never owned: there is nothing of it anywhere.
                Ok(None) if entry.epoch == Epoch::ZERO => return Read::Whole(Volume::default()),
                Ok(None) => {
                    fenced = None;
                    continue;
                }
                Err(error) => return unreadable(&error),
            };
            let standing = compare(&snapshot.fence, &self.cluster.map, slot);
            let mut found = self.findings.part();
            let read = match standing {
                Standing::Fits => Some(check(&snapshot, &self.cluster, &mut self.mailboxes, &mut found).await),
                Standing::Ahead(what) => {
                    fenced = Some(what);
                    None
                }
            };
            let ended = snapshot.end().await;
            match read {
                Some(Ok(volume)) if ended.is_ok() => {
                    self.findings.merge(found);
                    return Read::Whole(volume);
                }
                Some(Ok(_)) | None => {}
                Some(Err(error)) => return unreadable(&error),
            }
        }
        fenced.map_or(Read::Skipped(Why::MovedAway), Read::Fenced)
    }

    /// A bar for each store, where somebody looks.
    fn tell(&mut self, plan: &[(StoreId, Vec<Slot>)], now: StoreId, done: usize) -> anyhow::Result<()> {
        if !self.told.is_terminal() {
            return Ok(());
        }
        let line = |(store, slots): &(StoreId, Vec<Slot>)| {
            let done = match store.cmp(&now) {
                std::cmp::Ordering::Less => slots.len(),
                std::cmp::Ordering::Equal => done,
                std::cmp::Ordering::Greater => 0,
            };
            let part = done as f64 / slots.len().max(1) as f64;
            format!("store {store:<4} {} {done} of {} slots", bar(part), slots.len())
        };
        let events = format!("{} events", grouped(self.report.volume.events));
        self.told.show(plan.iter().map(line).chain([events]))?;
        Ok(())
    }

    fn say(&mut self, line: &str) -> anyhow::Result<()> {
        if self.told.is_terminal() {
            self.told.show([line.to_owned()].into_iter())?;
        }
        Ok(())
    }
}

async fn check(
    snapshot: &Snapshot<'_>,
    cluster: &Cluster<'_>,
    mailboxes: &mut Mailboxes,
    findings: &mut Findings,
) -> anyhow::Result<Volume> {
    findings.checked(Check::Fences, 1);
    let store = cluster.map.slot(snapshot.slot).store;
    let volume = log::check(snapshot, store, cluster.map.slot_count(), findings).await?;
    mailboxes.read(snapshot, cluster, findings).await?;
    Ok(volume)
}

fn unreadable(error: &anyhow::Error) -> Read {
    Read::Skipped(Why::Unreadable(format!("{error:#}")))
}
