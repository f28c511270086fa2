//! What every process of the cluster is built on: configuration, telemetry, supervised tasks, TLS identities and RPC
//! over QUIC.
//!
//! Nothing here knows what a message, a slot or a session is; a process hands its meaning in as a
//! [`rpc::Service`] and an [`rpc::Inbox`]. Deliberately absent: HTTP (each process mounts [`telemetry::Metrics`] on its
//! own listener) and databases.

pub mod cli;
pub mod config;
pub mod metrics;
pub mod pki;
pub mod rpc;
pub mod tasks;
pub mod telemetry;
pub mod tls;

mod peer;

pub use peer::{InvalidPeerName, PeerName};
