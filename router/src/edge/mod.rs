//! The client port: everything that a client, a browser, a balancer or Prometheus asks for over HTTP.
//!
//! Invariant: nothing here trusts a peer to be quick, small or well-meaning; every wait and size has a bound.

mod accept;
mod admission;
mod handshake;
mod page;
mod web;

pub use accept::{Closing, ConnectionPermit, serve};
pub use admission::{Admission, AdmissionLimits};
pub use handshake::{Handshake, Upgrading, handshake};
pub(crate) use handshake::{Upgrade, stream, trace_of, upgrade};
pub(crate) use page::Asset;
pub use web::{Web, app};
