//! Logs to stderr, and metrics for Prometheus.

use std::{
    fmt, fs,
    io::{self, IsTerminal},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::gauge;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format},
    registry::LookupSpan,
};

use crate::{
    config::{LogConfig, LogFormat},
    metrics as names,
    tasks::{Supervisor, TaskSpec},
};

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log.level = {level:?} is not allowed; want error, warn, info, debug, trace or tracing directives")]
    Level { level: String, source: tracing_subscriber::filter::ParseError },
    #[error("this process already has a logger")]
    Logger(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("this process already has a metrics recorder")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
}

/// openraft logs an ERROR for every request to a peer that is down, ten a second: nothing that a person must act on. A
/// directive of the configuration for the same target wins.
const QUIET: &str = "openraft=off";

/// Sends the logs of this process to stderr, each line marked with the name of the process (`node-1`).
pub fn init_logs(config: &LogConfig, process: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.level))
        .map_err(|source| TelemetryError::Level { level: config.level.clone(), source })?;
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal && !json);
    let process = process.to_owned();
    if json {
        let inner = format::format().json().flatten_event(true).with_current_span(true).with_span_list(false);
        builder.json().event_format(WithProcess { inner, process, json }).try_init()
    } else {
        builder.event_format(WithProcess { inner: format::format(), process, json }).try_init()
    }
    .map_err(TelemetryError::Logger)
}

/// Puts the name of the process into every line, whatever task the line comes from.
struct WithProcess<F> {
    inner: F,
    process: String,
    json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithProcess<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !self.json {
            write!(writer, "{} ", self.process)?;
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner.format_event(context, format::Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            // A name is letters, digits and dashes: nothing in it needs escaping.
            Some(rest) => write!(writer, "{{\"process\":\"{}\",{rest}", self.process),
            None => writer.write_str(&line),
        }
    }
}

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

impl Metrics {
    /// Makes this process record metrics. To be called before anything that records, once.
    pub fn install(process: &str, version: &'static str) -> Result<Self, TelemetryError> {
        let handle = PrometheusBuilder::new().set_buckets(names::SECONDS_BUCKETS)?.install_recorder()?;
        names::describe();
        gauge!(names::BUILD_INFO, "version" => version, "process" => process.to_owned()).set(1.0);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge!(names::PROCESS_START_TIME_SECONDS).set(started.as_secs_f64());
        Ok(Self { handle })
    }

    /// Keeps memory bounded between scrapes.
    pub fn spawn_upkeep(&self, supervisor: &Supervisor) {
        let metrics = self.clone();
        supervisor.spawn(TaskSpec::log_and_end("metrics upkeep").abort_last(), async move {
            let mut ticks = interval(UPKEEP_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                metrics.handle.run_upkeep();
            }
        });
    }

    /// The text for `/metrics`, in Prometheus's format ([`Metrics::CONTENT_TYPE`]).
    pub fn render(&self) -> String {
        let status = ProcessStatus::read();
        status.as_ref().inspect(|status| status.record());
        let mut text = self.handle.render();
        if let Some(status) = status {
            text.push_str(&status.cpu_counter());
        }
        text
    }

    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What Linux says about this process.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ProcessStatus {
    resident_bytes: u64,
    cpu_seconds: f64,
    open_fds: usize,
}

/// `USER_HZ`, which Linux has fixed at 100 for what it shows to programs.
const TICKS_PER_SECOND: f64 = 100.0;

impl ProcessStatus {
    /// `None` outside Linux: these metrics are absent there.
    fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in parentheses, which may itself hold spaces and parentheses; the CPU
        // times are fields 14 and 15, so 12th and 13th after it.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        // Less the descriptor that reads the folder.
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Some(Self { resident_bytes: resident_kib * 1024, cpu_seconds: (user + system) / TICKS_PER_SECOND, open_fds })
    }

    fn record(&self) {
        gauge!(names::PROCESS_RESIDENT_MEMORY_BYTES).set(self.resident_bytes as f64);
        gauge!(names::PROCESS_OPEN_FDS).set(self.open_fds as f64);
    }

    /// A counter as Prometheus knows it; the recorder's counters are whole numbers, and its gauges are gauges.
    fn cpu_counter(&self) -> String {
        let (name, seconds) = (names::PROCESS_CPU_SECONDS_TOTAL, self.cpu_seconds);
        format!("# HELP {name} CPU time of the process, user and system.\n# TYPE {name} counter\n{name} {seconds}\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_memory_cpu_and_files_of_this_process() {
        let before = ProcessStatus::read().unwrap();
        assert!(before.resident_bytes > 100 * 1024, "{before:?}");
        let _file = fs::File::open("/proc/self/status").unwrap();
        assert!(before.open_fds >= 3, "{before:?}");
        let busy_until = std::time::Instant::now() + Duration::from_secs(10);
        while ProcessStatus::read().unwrap().cpu_seconds <= before.cpu_seconds {
            assert!(std::time::Instant::now() < busy_until, "no CPU time was counted in 10 s");
        }
    }

    #[test]
    fn a_scrape_shows_the_process_and_what_was_recorded() {
        let metrics = Metrics::install("node-1", "1.2.3").unwrap();
        metrics::histogram!(names::RPC_CALL_SECONDS, "side" => "client", "kind" => "ping").record(0.002);
        let text = metrics.render();
        for expected in [
            "tertulia_build_info{version=\"1.2.3\",process=\"node-1\"} 1",
            "\nprocess_resident_memory_bytes ",
            "\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total ",
            "\nprocess_open_fds ",
            "tertulia_rpc_call_seconds_bucket{side=\"client\",kind=\"ping\",le=\"0.0025\"} 1",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
        assert_eq!(text.matches("\nprocess_cpu_seconds_total ").count(), 1, "{text}");
    }
}
