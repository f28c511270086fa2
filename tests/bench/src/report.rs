//! Results, for people and for programs.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use tertulia_bench::processes::Kind;

use crate::{Options, Verdict, load::Tally};

#[derive(Debug, Serialize)]
pub struct LoadReport {
    pairs: u32,
    seconds: u64,
    /// Messages a second that were asked for; absent in the closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    format: &'static str,
    sent: u64,
    acked: u64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    errors: u64,
    /// Sessions that were told to sync. Fails a run only by what was lost with it.
    resyncs: u64,
    acked_per_s: f64,
    delivered_per_s: f64,
    ack_ms: Percentiles,
    deliver_ms: Percentiles,
    cpu_us_per_message: CpuPerMessage,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct CpuPerMessage {
    router: f64,
    node: f64,
    postgres: f64,
    redis: f64,
    bench: f64,
}

impl LoadReport {
    pub fn new(
        tally: &Tally,
        options: &Options,
        format: &'static str,
        cpu_before: &BTreeMap<Kind, Duration>,
        cpu_after: &BTreeMap<Kind, Duration>,
    ) -> Self {
        let counts = tally.counts.clone();
        let seconds = options.seconds as f64;
        let cpu = |kind: Kind| {
            let of = |cpu: &BTreeMap<Kind, Duration>| cpu.get(&kind).copied().unwrap_or_default();
            let used = of(cpu_after).saturating_sub(of(cpu_before));
            round(used.as_micros() as f64 / tally.acked_in_window.max(1) as f64)
        };
        Self {
            pairs: options.pairs,
            seconds: options.seconds,
            rate: options.rate,
            format,
            sent: counts.sent,
            acked: counts.acked,
            delivered: counts.delivered,
            lost: counts.lost,
            duplicated: counts.duplicated,
            out_of_order: counts.out_of_order,
            errors: counts.errors,
            resyncs: counts.resyncs,
            acked_per_s: round(tally.acked_in_window as f64 / seconds),
            delivered_per_s: round(tally.delivered_in_window as f64 / seconds),
            ack_ms: Percentiles::of(&tally.ack_us),
            deliver_ms: Percentiles::of(&tally.deliver_us),
            cpu_us_per_message: CpuPerMessage {
                router: cpu(Kind::Router),
                node: cpu(Kind::Node),
                postgres: cpu(Kind::Postgres),
                redis: cpu(Kind::Redis),
                bench: cpu(Kind::Bench),
            },
        }
    }

    pub fn verdict(&self) -> Verdict {
        let faults = self.lost + self.duplicated + self.out_of_order + self.errors;
        if faults == 0 && self.sent > 0 { Verdict::Kept } else { Verdict::Broken }
    }
}

impl Percentiles {
    fn of(histogram_us: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.2}   p95 {:.2}   p99 {:.2}   p99.9 {:.2}   max {:.2}",
            self.p50, self.p95, self.p99, self.p999, self.max
        )
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.rate {
            Some(rate) => format!("{rate} messages a second"),
            None => "closed loop".to_owned(),
        };
        writeln!(f, "{} pairs, {mode}, {} s, {}", self.pairs, self.seconds, self.format)?;
        writeln!(f, "  sent {}   acked {}   delivered {}", self.sent, self.acked, self.delivered)?;
        writeln!(
            f,
            "  lost {}   duplicated {}   out of order {}   errors {}   resyncs {}",
            self.lost, self.duplicated, self.out_of_order, self.errors, self.resyncs
        )?;
        writeln!(f, "  acked/s {:.0}   delivered/s {:.0}", self.acked_per_s, self.delivered_per_s)?;
        writeln!(f, "  ack ms      {}", self.ack_ms)?;
        writeln!(f, "  deliver ms  {}", self.deliver_ms)?;
        let cpu = &self.cpu_us_per_message;
        writeln!(
            f,
            "  cpu us a message: router {:.1}   node {:.1}   postgres {:.1}   redis {:.1}   bench {:.1}",
            cpu.router, cpu.node, cpu.postgres, cpu.redis, cpu.bench
        )
    }
}

#[derive(Debug, Serialize)]
pub struct IdleReport {
    pub sessions: u32,
    pub opened: u32,
    pub still_connected: u32,
    pub errors: u64,
    pub opened_per_s: f64,
    pub router_kb_per_session: f64,
    pub node_kb_per_session: f64,
}

impl IdleReport {
    pub fn verdict(&self) -> Verdict {
        if self.errors == 0 && self.still_connected == self.sessions { Verdict::Kept } else { Verdict::Broken }
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} idle sessions", self.sessions)?;
        writeln!(
            f,
            "  opened {} ({:.0} a second)   still connected {}",
            self.opened, self.opened_per_s, self.still_connected
        )?;
        writeln!(f, "  errors {}", self.errors)?;
        writeln!(f, "  KB a session: router {:.2}   node {:.2}", self.router_kb_per_session, self.node_kb_per_session)
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
