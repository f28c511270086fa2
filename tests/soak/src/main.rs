//! `tertulia-soak`: people who come and go, chat, read, fall silent and stop reading, for a long time; then every
//! invariant is checked over the complete history, and the memory of the cluster's processes over the whole time.
//!
//! One thread, like the bench. Exit code 1 where a promise was broken, 2 where the run itself failed.

mod check;
mod memory;
mod person;
mod report;
mod world;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, rc::Rc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use tertulia_bench::{connection::SignIn, processes::Processes};

use crate::{memory::Memory, report::Report, world::World};

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
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Events a second, over all people.
    #[arg(long, default_value_t = 6000.0)]
    rate: f64,
    /// People, in pairs.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    people: u32,
    /// Groups that they have, and members of each.
    #[arg(long, default_value_t = 20)]
    groups: u32,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=400))]
    group_size: u32,
    /// Of a hundred people: how many come and go, and now and then stop reading.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(0..=100))]
    restless_percent: u32,
    /// Also write the result as JSON here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
    print!("{report}");
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

/// After the last message: until everything is acked and folded.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

async fn soak(options: &Options) -> anyhow::Result<Report> {
    let processes = Processes::find(&options.data)?;
    let run: u32 = rand::random();
    let mut sign_in = SignIn::connect(options.routers[0]).await?;
    let mut people = Vec::new();
    for number in 0..options.people {
        people.push(sign_in.sign_in(&format!("soak-{run:08x}-{number}")).await?);
    }
    drop(sign_in);
    let world = Rc::new(World::new(options, run, &people));
    let mut tasks = Vec::new();
    for (number, signed_in) in people.into_iter().enumerate() {
        tasks.push(tokio::task::spawn_local(person::live(world.clone(), number, signed_in)));
    }
    world.wait_for_groups().await?;

    let memory = Memory::watch(processes);
    println!(
        "{} people, {} groups, {} events a second, {} minutes",
        options.people, options.groups, options.rate, options.minutes
    );
    world.pace(options.rate, Duration::from_secs(60 * options.minutes)).await;
    let memory = memory.stop();

    world.stop_sending();
    let settled = tokio::time::timeout(SETTLE_LIMIT, world.settled()).await.is_ok();
    world.end();
    for task in tasks {
        task.await.context("a person")?;
    }
    println!("checking {} events", world.sent());
    let violations = check::run(options, &world).await?;
    Ok(Report::new(options, &world, settled, &memory, violations))
}
