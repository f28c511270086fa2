//! Memory of every process over the time of a run, and whether it is flat.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tertulia_bench::processes::{OWN_NAME, Processes};
use tokio::task::JoinHandle;

const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// The first part of a run fills caches and buffers. It is not looked at.
const WARM_UP_SHARE: f64 = 0.5;
/// Less than this after the warm-up says nothing about a slope.
const JUDGED_MINUTES_MIN: f64 = 5.0;
/// A slope up to here is flat. At 6,000 events a second, a byte kept of each would be 350 KiB a minute.
pub const FLAT_KIB_PER_MINUTE: f64 = 256.0;
/// So is one of this share of the process's memory: allocators breathe.
pub const FLAT_SHARE_PER_MINUTE: f64 = 0.0025;

/// Minutes since the start, and KiB.
type Points = Vec<(f64, f64)>;

pub struct Memory {
    series: Rc<RefCell<BTreeMap<String, Series>>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Series {
    points: Points,
    has_gone: bool,
}

/// How the memory of one process went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Course {
    pub process: String,
    pub first_kib: f64,
    pub last_kib: f64,
    pub most_kib: f64,
    /// Least squares over what follows the warm-up.
    pub kib_per_minute: f64,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Flat,
    Grows,
    /// The run was too short to tell, or it is the soak itself, which remembers what was said.
    NotJudged,
    /// The process ended during the run.
    Gone,
}

impl Verdict {
    pub const fn is_a_fault(self) -> bool {
        matches!(self, Self::Grows | Self::Gone)
    }
}

impl Memory {
    /// Samples until stopped.
    pub fn watch(processes: Processes) -> Self {
        let series: Rc<RefCell<BTreeMap<String, Series>>> = Rc::default();
        let into = series.clone();
        let task = tokio::task::spawn_local(async move {
            let start = Instant::now();
            loop {
                let minutes = start.elapsed().as_secs_f64() / 60.0;
                for (name, kib) in processes.memory_kib().unwrap_or_default() {
                    let mut all = into.borrow_mut();
                    let series = all.entry(name.to_owned()).or_default();
                    match kib {
                        Some(kib) => series.points.push((minutes, kib as f64)),
                        None => series.has_gone = true,
                    }
                }
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        });
        Self { series, task }
    }

    pub fn stop(self) -> Vec<Course> {
        self.task.abort();
        let series = self.series.borrow();
        series.iter().map(|(process, series)| course(process, &series.points, series.has_gone)).collect()
    }
}

fn course(process: &str, points: &[(f64, f64)], has_gone: bool) -> Course {
    let minutes = points.last().map_or(0.0, |point| point.0);
    let warm = points.partition_point(|point| point.0 < minutes * WARM_UP_SHARE);
    let judged = &points[warm..];
    let slope = slope(judged);
    let mean = judged.iter().map(|point| point.1).sum::<f64>() / judged.len().max(1) as f64;
    let verdict = if has_gone {
        Verdict::Gone
    } else if process == OWN_NAME || minutes * (1.0 - WARM_UP_SHARE) < JUDGED_MINUTES_MIN {
        Verdict::NotJudged
    } else if slope <= FLAT_KIB_PER_MINUTE.max(mean * FLAT_SHARE_PER_MINUTE) {
        Verdict::Flat
    } else {
        Verdict::Grows
    };
    Course {
        process: process.to_owned(),
        first_kib: points.first().map_or(0.0, |point| point.1),
        last_kib: points.last().map_or(0.0, |point| point.1),
        most_kib: points.iter().map(|point| point.1).fold(0.0, f64::max),
        kib_per_minute: (slope * 10.0).round() / 10.0,
        verdict,
    }
}

/// Of the line that fits best, by least squares; 0 where there is none.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample every five seconds for half an hour.
    fn points(kib_at: impl Fn(f64) -> f64) -> Points {
        (0..=360).map(|sample| f64::from(sample) / 12.0).map(|minute| (minute, kib_at(minute))).collect()
    }

    #[test]
    fn what_fills_up_first_and_then_stays_is_flat() {
        let filling = points(|minute| if minute < 12.0 { minute * 10_000.0 } else { 120_000.0 + minute });
        let course = course("node-1", &filling, false);
        assert_eq!((course.kib_per_minute, course.verdict), (1.0, Verdict::Flat));
        assert_eq!((course.first_kib, course.last_kib, course.most_kib), (0.0, 120_030.0, 120_030.0));
    }

    #[test]
    fn ups_and_downs_are_flat_and_a_byte_kept_of_each_event_is_not() {
        let breathing = |minute: f64| 60_000.0 + 2_000.0 * (minute * 3.0).sin();
        assert_eq!(course("router-1", &points(breathing), false).verdict, Verdict::Flat);
        let leaking = points(|minute| breathing(minute) + minute * 350.0);
        assert_eq!(course("router-1", &leaking, false).verdict, Verdict::Grows);
    }

    #[test]
    fn a_short_run_is_not_judged_and_a_process_that_has_gone_is() {
        let leaking = points(|minute| minute * 9_000.0);
        assert_eq!(course("node-1", &leaking[..60], false).verdict, Verdict::NotJudged);
        assert_eq!(course("node-1", &leaking[..60], true).verdict, Verdict::Gone);
        assert_eq!(course("node-1", &[], false).verdict, Verdict::NotJudged);
        assert_eq!(course(OWN_NAME, &leaking, false).verdict, Verdict::NotJudged);
        assert!(!Verdict::NotJudged.is_a_fault() && Verdict::Gone.is_a_fault() && Verdict::Grows.is_a_fault());
    }
}
