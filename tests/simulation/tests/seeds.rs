//! Seeds by the thousand, and whether they find what they are for.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use tertulia_simulation::{Figures, Keep, KnownFault, Options, STEPS, run};

/// Each known fault is found by one of them, all but one by one of the first few hundred.
const SEEDS: u64 = 10_000;

fn options(seed: u64, known_fault: Option<KnownFault>, keep: Keep) -> Options {
    Options { seed, steps: STEPS, known_fault, keep }
}

/// The first seed that fails, among those that were run until then, and what all consisted of.
fn first_that_fails(seeds: Range<u64>, known_fault: Option<KnownFault>) -> (Option<u64>, Figures) {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX));
    let work = || {
        let mut figures = Figures::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end.min(failed.load(Ordering::Relaxed)) {
                return figures;
            }
            let report = run(options(seed, known_fault, Keep::Nothing));
            figures += report.figures;
            if !report.violations.is_empty() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut figures = Figures::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| figures += worker.join().expect("seeds do not panic"));
    });
    let failed = failed.into_inner();
    ((failed < u64::MAX).then_some(failed), figures)
}

#[test]
fn ten_thousand_seeds_hold() {
    let (failed, figures) = first_that_fails(0..SEEDS, None);
    if let Some(seed) = failed {
        let report = run(options(seed, None, Keep::Everything));
        panic!("{}seed {seed}: {}\n{}", report.course, report.figures, report.violations);
    }
    println!("{figures}");
    assert!(figures.flipped > SEEDS && figures.aborted > SEEDS / 10, "moves go both ways: {figures}");
}

#[test]
fn every_known_fault_is_found() {
    for fault in KnownFault::ALL {
        let (failed, _) = first_that_fails(0..SEEDS, Some(fault));
        let seed = failed.unwrap_or_else(|| panic!("{SEEDS} seeds do not find {fault}"));
        println!("{fault}: found by seed {seed}");
    }
}

#[test]
fn a_seed_takes_the_same_course_each_time() {
    for seed in 0..20 {
        let course = || run(options(seed, None, Keep::Everything)).course.to_string();
        assert_eq!(course(), course(), "seed {seed}");
    }
}
