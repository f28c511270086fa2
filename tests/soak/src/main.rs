//! `tertulia-soak`: people who come and go, chat, read, fall silent and stop reading, for a long time; then every
//! invariant is checked over the complete history, and the memory of the cluster's processes over the whole time.
//!
//! Exit code 1 where a promise was broken or the run did not show it, 2 where it could not be made.

mod memory;
mod report;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Parser;
use tertulia_bench::processes::Processes;
use tertulia_soak::{
    chat::{Chat, Crowd},
    check,
    records::RECORD_BYTES,
};

use crate::{
    memory::Memory,
    report::{Observed, Report},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lets people chat for long, and checks every invariant at the end.
#[derive(Debug, Parser)]
#[command(name = "tertulia-soak")]
pub struct Options {
    /// The running cluster's data folder: its pid files say whose memory to watch.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Client address of a router; repeat it.
    #[arg(long = "router", value_name = "HOST:PORT", required = true)]
    routers: Vec<SocketAddr>,
    /// Connection string of a store; repeat it, for all of them.
    #[arg(long = "store", value_name = "DSN", required = true)]
    stores: Vec<String>,
    /// How long people chat.
    #[arg(long, default_value_t = 30.0, value_parser = parse_minutes)]
    minutes: f64,
    /// Events a second, over all people. The default is about half of what two cores can (docs/PERFORMANCE.md). For half
    /// of what another machine can: half of the acked/s of `scripts/bench` without --rate.
    #[arg(long, default_value_t = 6000.0, value_parser = parse_rate)]
    rate: f64,
    /// Of a hundred events that were asked for: how many must be acked while people still send. With fewer the run has not
    /// shown what it was to show.
    #[arg(long, default_value_t = 95.0, value_parser = parse_percent)]
    acked_percent_min: f64,
    #[command(flatten)]
    crowd: Crowd,
    /// Also write the result as JSON here; `-` for standard output alone.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Tokens of development users last twelve hours.
const MINUTES_MAX: f64 = 600.0;
/// What the soak may remember of what was said, at most.
const RECORDS_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;

fn parse_minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=MINUTES_MAX).contains(&minutes) { Ok(minutes) } else { Err(format!("want 0.1 to {MINUTES_MAX}")) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=1_000_000.0).contains(&rate) { Ok(rate) } else { Err("want 0.1 to 1000000".to_owned()) }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err("want 0 to 100".to_owned()) }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(report) if report.is_faultless() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tertulia-soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    let tasks = tokio::task::LocalSet::new();
    let report = runtime.block_on(tasks.run_until(soak(options)))?;
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

async fn soak(options: &Options) -> anyhow::Result<Report> {
    let events = options.rate * 60.0 * options.minutes;
    let most = (RECORDS_BYTES_MAX / RECORD_BYTES) as f64;
    ensure!(
        events <= most,
        "{events} events are more than can be remembered ({most}): fewer --minutes, or a lower --rate"
    );
    let processes = Processes::find(&options.data)?;
    let time = Duration::from_secs_f64(60.0 * options.minutes);
    let chat = Chat::start(&options.crowd, options.routers.clone(), time).await?;
    let world = chat.world.clone();
    let memory = Memory::watch(processes);
    // To standard error: standard output may be wanted for the result alone.
    eprintln!(
        "run {:08x}: {} people, {} groups, {} events a second, {} minutes",
        world.run, options.crowd.people, options.crowd.groups, options.rate, options.minutes
    );
    let before = world.tally.acked.get();
    world.pace(options.rate, time).await;
    let acked_in_time = world.tally.acked.get() - before;
    let memory = memory.stop();

    chat.finish().await?;
    eprintln!("checking {} events", world.said());
    let violations = check::run(&options.stores, &world).await?;
    Ok(Report::new(options, &world, Observed { acked_in_time, memory }, violations))
}
