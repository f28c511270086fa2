//! Resident memory over the time of a run, and how steep it is.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tertulia_bench::processes::{Kind, Processes};
use tokio::task::JoinHandle;

const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Of one process: minutes since the start, and KiB.
type Series = Vec<(f64, f64)>;

pub struct Memory {
    series: Rc<RefCell<Vec<(String, Series)>>>,
    task: JoinHandle<()>,
}

/// How the memory of one process went.
#[derive(Debug, Clone, Serialize)]
pub struct Slope {
    pub process: String,
    pub first_kib: f64,
    pub last_kib: f64,
    pub most_kib: f64,
    /// Least squares over the second half of the run: the first half fills caches.
    pub kib_per_minute: f64,
}

impl Memory {
    /// Samples until stopped.
    pub fn watch(processes: Processes) -> Self {
        let series: Rc<RefCell<Vec<(String, Series)>>> = Rc::default();
        let into = series.clone();
        let task = tokio::task::spawn_local(async move {
            let start = Instant::now();
            loop {
                for (kind, name) in [(Kind::Router, "router"), (Kind::Node, "node"), (Kind::Redis, "redis")] {
                    // A process that has gone is the run's failure anyway.
                    let Ok(each) = processes.resident_kib_each(kind) else { continue };
                    for (place, kib) in each.into_iter().enumerate() {
                        let process = format!("{name}-{}", place + 1);
                        let at = (start.elapsed().as_secs_f64() / 60.0, kib as f64);
                        let mut series = into.borrow_mut();
                        match series.iter_mut().find(|(known, _)| *known == process) {
                            Some((_, points)) => points.push(at),
                            None => series.push((process, vec![at])),
                        }
                    }
                }
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        });
        Self { series, task }
    }

    pub fn stop(self) -> Vec<Slope> {
        self.task.abort();
        let series = self.series.borrow();
        series.iter().map(|(process, points)| slope(process, points)).collect()
    }
}

fn slope(process: &str, points: &[(f64, f64)]) -> Slope {
    let tail = &points[points.len() / 2..];
    let count = tail.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| tail.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = tail.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = tail.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let round = |value: f64| (value * 10.0).round() / 10.0;
    Slope {
        process: process.to_owned(),
        first_kib: points.first().map_or(0.0, |point| point.1),
        last_kib: points.last().map_or(0.0, |point| point.1),
        most_kib: points.iter().map(|point| point.1).fold(0.0, f64::max),
        kib_per_minute: if variance > 0.0 { round(covariance / variance) } else { 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn the_slope_is_that_of_the_second_half() {
        let filling = (0..10).map(|minute| (f64::from(minute), f64::from(minute) * 1000.0));
        let steady = (10..30).map(|minute| (f64::from(minute), 10_000.0 + f64::from(minute) * 2.0));
        let points: Vec<_> = filling.chain(steady).collect();
        let slope = slope("router-1", &points);
        assert!((slope.kib_per_minute - 2.0).abs() < 0.1, "{slope:?}");
        assert_eq!(slope.first_kib, 0.0);
    }
}
