//! `tertulia-chaos`: a cluster of its own under load from real clients, faults by a seeded schedule, and at the end every
//! invariant checked over the complete history. A command whose answer was lost is *unknown*, never *failed*.
//!
//! Exit code 1 where a promise was broken, 2 where there was no run. On 1 the history, the logs and the course of things are
//! kept.

mod course;
mod inflict;
mod moves;
mod outage;
mod report;
mod run;
mod schedule;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum as _};
use tertulia_soak::chat::Crowd;

use crate::{
    report::Report,
    schedule::{Kind, Need},
};

/// Breaks a cluster in all the ways there are, under load, and checks that no promise was broken.
#[derive(Debug, Parser)]
#[command(name = "tertulia-chaos")]
pub struct Options {
    #[arg(long, default_value_t = 3.0, value_parser = parse_minutes)]
    minutes: f64,
    /// Of the faults' schedule: the same one makes the same faults. By default another each time.
    #[arg(long, default_value_t = rand::random::<u32>().into())]
    seed: u64,
    /// The kinds of faults, with commas between them. By default all that can be had here: those of the network want root and
    /// iptables, those of full disks root, those of slow and failing ones strace.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Seconds from one fault to the next; more where the cluster needs more to be whole again.
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    every: f64,
    /// Events a second, over all people.
    #[arg(long, default_value_t = 300.0, value_parser = parse_rate)]
    rate: f64,
    #[command(flatten)]
    crowd: Crowd,
    /// Also write the result as JSON here; `-` for standard output alone.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the history, the logs and the course are kept; without it, only those of a failed run, in chaos/SEED in the build's
    /// folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn parse_minutes(text: &str) -> Result<f64, String> {
    within(text, 0.1, 600.0)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    within(text, 0.0, 3600.0)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    within(text, 0.1, 100_000.0)
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().map_err(|_| "not a number".to_owned())?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("want {least} to {most}")) }
}

impl Options {
    /// The kinds of faults to be, at least one.
    fn faults(&self) -> anyhow::Result<Vec<Kind>> {
        let named = !self.faults.is_empty();
        let mut kinds = if named { self.faults.clone() } else { Kind::value_variants().to_vec() };
        let needs: BTreeSet<Need> = kinds.iter().map(|kind| kind.needs()).collect();
        for (need, why) in needs.into_iter().filter_map(|need| Some((need, need.unavailable()?))) {
            let (without, left): (Vec<Kind>, Vec<Kind>) = kinds.into_iter().partition(|kind| kind.needs() == need);
            let names: Vec<String> = without.into_iter().map(Kind::name).collect();
            ensure!(!named, "{} cannot be had here: {why}", names.join(", "));
            eprintln!("without {}: {why}", names.join(", "));
            kinds = left;
        }
        Ok(kinds)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(60.0 * self.minutes)
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(report) if report.is_faultless() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tertulia-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    let tasks = tokio::task::LocalSet::new();
    let report = runtime.block_on(tasks.run_until(run::chaos(options)))?;
    let json = serde_json::to_string_pretty(&report)? + "\n";
    match &options.json {
        Some(path) if path.as_os_str() == "-" => print!("{json}"),
        Some(path) => {
            std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
            print!("{report}");
        }
        None => print!("{report}"),
    }
    Ok(report)
}
