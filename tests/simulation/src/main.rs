//! `tertulia-simulation`: runs seeds, and shows the course of one that fails.
//!
//! Exit code 1 where a promise was broken.

use std::{ops::Range, process::ExitCode, time::Instant};

use clap::Parser;
use tertulia_simulation::{Figures, Keep, KnownFault, Options, STEPS, run};

/// Runs the cluster's pure parts under faults that follow from a seed.
#[derive(Debug, Parser)]
#[command(name = "tertulia-simulation")]
struct Arguments {
    /// One seed, with everything that happens.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Many: the first, and the one after the last. Ends at the first that fails.
    #[arg(long, value_name = "A..B", default_value = "0..10000", value_parser = parse_range)]
    seeds: Range<u64>,
    /// Things that happen before the faults are healed.
    #[arg(long, default_value_t = STEPS)]
    steps: u32,
    /// A fault put back that some seed must find: see docs/RELIABILITY.md.
    #[arg(long, value_name = "NAME")]
    known_fault: Option<KnownFault>,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("want A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| "want two whole numbers");
    let range = number(first)?..number(end)?;
    // No seed fails where there is none.
    if range.is_empty() { Err("want A below B".to_owned()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = |seed, keep| Options { seed, steps: arguments.steps, known_fault: arguments.known_fault, keep };
    if let Some(seed) = arguments.seed {
        return show(options(seed, Keep::Everything));
    }
    let started = Instant::now();
    let mut all = Figures::default();
    for seed in arguments.seeds.clone() {
        let report = run(options(seed, Keep::Nothing));
        all += report.figures;
        if !report.violations.is_empty() {
            let tried = seed - arguments.seeds.start + 1;
            println!("seed {seed} fails, the last of {tried}, after {:.1?}", started.elapsed());
            return show(options(seed, Keep::Everything));
        }
    }
    let seeds = arguments.seeds.end - arguments.seeds.start;
    println!("{seeds} seeds hold, in {:.1?}: {all}", started.elapsed());
    ExitCode::SUCCESS
}

fn show(options: Options) -> ExitCode {
    let report = run(options);
    println!("{}seed {}: {}\n{}", report.course, options.seed, report.figures, report.violations);
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
