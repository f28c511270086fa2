//! `tertulia-bench`: drives a running cluster over real WebSockets, measures it, and checks that it kept its promises.
//!
//! Everything runs on one thread, so that the load takes little from the machine it shares with the cluster. A run
//! fails (exit code 1) where a message was lost, doubled, out of order or altered, or where anything was refused.

mod idle;
mod ledger;
mod load;
mod report;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use tertulia_wire::client;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a running cluster, and checks that nothing is lost, doubled or out of order.
#[derive(Debug, Parser)]
#[command(name = "tertulia-bench")]
pub struct Options {
    /// The running cluster's data folder: its pid files say whose processor time and memory to count.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Client address of a router; repeat it. The users of a pair are on different routers where there are two.
    #[arg(long = "router", value_name = "HOST:PORT", required = true)]
    routers: Vec<SocketAddr>,
    /// Pairs of users that chat with each other.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pairs: u32,
    /// Messages a second over all pairs, sent on time whatever the answers do; latency counts from the time at which a
    /// message should have been sent. Without it: closed loop, one message in flight per pair.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,
    /// How long to measure, after a warm-up of 2 seconds; with --idle, how long to hold the sessions.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Size of every message's text, instead of realistic sizes (median about 60 bytes, one in a hundred 2 KB).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16_384))]
    bytes: Option<u64>,
    /// How the clients speak.
    #[arg(long, value_enum, default_value = "json")]
    format: FrameFormat,
    /// Instead of chatting: open N idle sessions on the first router, and measure memory.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    idle: Option<u32>,
    /// With --idle: spread the sessions over all routers.
    #[arg(long, requires = "idle")]
    all_routers: bool,
    /// Also write the result as JSON here; `-` for standard output alone.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FrameFormat {
    Json,
    Msgpack,
}

impl FrameFormat {
    const fn format(self) -> client::Format {
        match self {
            Self::Json => client::Format::Json,
            Self::Msgpack => client::Format::MessagePack,
        }
    }
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=1_000_000.0).contains(&rate) { Ok(rate) } else { Err("want 0.1 to 1000000".to_owned()) }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(Verdict::Kept) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tertulia-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether the cluster kept its promises during the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    Broken,
}

fn run(options: &Options) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    let tasks = tokio::task::LocalSet::new();
    let (value, text, verdict) = match options.idle {
        Some(sessions) => {
            let report = runtime.block_on(tasks.run_until(idle::run(options, sessions)))?;
            (serde_json::to_value(&report)?, report.to_string(), report.verdict())
        }
        None => {
            let report = runtime.block_on(tasks.run_until(load::run(options)))?;
            (serde_json::to_value(&report)?, report.to_string(), report.verdict())
        }
    };
    let json = serde_json::to_string_pretty(&value)?;
    match &options.json {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        Some(path) => {
            std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
            print!("{text}");
        }
        None => print!("{text}"),
    }
    Ok(verdict)
}
