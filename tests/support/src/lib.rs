//! Real clusters for tests: the real binaries, with a Postgres and a Redis of their own, on free ports, in a temporary
//! folder; and a client for them.
//!
//! Several clusters may run at once, in one process or in many. Nothing stays behind, not even after the test process
//! was killed: a watchdog of its own outlives it and cleans up (see [`watchdog`]).
//!
//! Everything here panics where it fails, with the reason: a test has nothing better to do, and unwinding is what keeps
//! the logs of a failed test (under `target/test-logs`).
//!
//! Deliberately absent: anything that reaches into a process. Tests see what clients, operators and the database see.

pub mod actor;
pub mod browser;
pub mod client;
mod cluster;
mod config;
mod datagrams;
pub mod device;
mod devtools;
mod disks;
mod hosts;
mod http;
mod member;
mod ports;
mod postgres;
mod strace;
mod wait;
mod watchdog;

pub use client::Client;
pub use cluster::{Builder, Cluster, Login};
pub use datagrams::{HeldBack, HoldBack};
pub use device::Device;
pub use disks::Disks;
pub use hosts::Hosts;
pub use http::HttpResponse;
pub use member::{Member, binary, target_folder};
pub use strace::{Strace, Sync};
pub use wait::{DEADLINE, eventually, within};
