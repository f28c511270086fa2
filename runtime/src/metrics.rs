//! Names and descriptions of the metrics that every process has.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const PROCESS_RESIDENT_MEMORY_BYTES: &str = "process_resident_memory_bytes";
/// Rendered by hand, see [`telemetry`](crate::telemetry).
pub const PROCESS_CPU_SECONDS_TOTAL: &str = "process_cpu_seconds_total";
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";
pub const PROCESS_START_TIME_SECONDS: &str = "process_start_time_seconds";
/// Always 1; labels `version`, `process`.
pub const BUILD_INFO: &str = "tertulia_build_info";
/// Labels `side`, `kind`, `outcome`.
pub const RPC_CALLS_TOTAL: &str = "tertulia_rpc_calls_total";
/// Labels `side`, `kind`.
pub const RPC_CALL_SECONDS: &str = "tertulia_rpc_call_seconds";
/// Labels `side`, `class`.
pub const RPC_CONNECTIONS: &str = "tertulia_rpc_connections";
/// Labels `side`, `class`, `outcome`.
pub const RPC_CONNECTS_TOTAL: &str = "tertulia_rpc_connects_total";

/// Upper bounds of the buckets of every histogram in seconds, unless a metric has its own.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0];

pub(crate) fn describe() {
    describe_gauge!(PROCESS_RESIDENT_MEMORY_BYTES, Unit::Bytes, "Resident memory of the process.");
    describe_gauge!(PROCESS_OPEN_FDS, "Open file descriptors of the process.");
    describe_gauge!(PROCESS_START_TIME_SECONDS, "When the process started, in seconds since 1970.");
    describe_gauge!(BUILD_INFO, "Always 1: which build runs here.");
    describe_counter!(RPC_CALLS_TOTAL, "Calls between processes, by how they ended.");
    describe_histogram!(RPC_CALL_SECONDS, Unit::Seconds, "Time from a call to its answer.");
    describe_gauge!(RPC_CONNECTIONS, "Open connections between processes.");
    describe_counter!(RPC_CONNECTS_TOTAL, "Attempts to connect processes, by how they ended.");
}
