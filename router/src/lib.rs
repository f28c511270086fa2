//! The edge router: terminates clients' WebSockets and routes each command to the node that owns its slot.
//!
//! - [`edge`]: the client port, from the accept loop to the WebSocket handshake
//! - [`session`]: one client each; a pure core and its driver
//! - [`socketio`]: the same for clients that speak Socket.IO
//! - [`commands`]: what each command means, whichever way it came
//! - `rest`: what of the protocol is not a stream, over HTTP; and what the app's back end may do
//! - [`routing`]: the shard map, connections to nodes, hold and retry
//! - [`limits`]: how much a user may do in a while
//! - [`auth`]: who a client is
//!
//! Invariants: a message is acked only when its owner has said that it is durable; a socket never closes because a node
//! died; everything held for a client is bounded; nothing of a message's content is logged.
//!
//! Deliberately absent: state that outlives the process. A router can be killed at any time and loses nothing.

pub mod auth;
pub mod commands;
pub mod edge;
pub mod limits;
pub mod metrics;
mod process;
mod rest;
pub mod routing;
pub mod session;
mod socketio;

pub use process::{Listening, run, start};
