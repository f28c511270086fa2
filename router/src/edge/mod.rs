//! The client port: everything that a client, a browser, a balancer or Prometheus asks for over HTTP.
//!
//! Invariant: nothing here trusts a peer to be quick, small or well-meaning; every wait and size has a bound.

mod accept;
mod handshake;
mod page;
mod web;

pub use accept::{ConnectionPermit, serve};
pub(crate) use handshake::{Upgrade, stream, upgrade};
pub use web::{Web, app};
