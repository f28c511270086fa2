//! The Socket.IO skin: apps that speak Socket.IO v4 connect to `/socket.io/` unchanged, over WebSocket.
//!
//! The same session as of the native protocol, [`Core`](crate::session) and all, with the same names and payloads; only the
//! clothes differ. The crate `socketioxide` speaks Engine.IO and Socket.IO. It was made for servers whose handlers own
//! everything, so three things are added around it:
//!
//! - [`transport`]: the TCP stream that the library gets is ours, and counts what went out, holds reads back, and can be
//!   closed. The library can do none of these for one connection.
//! - [`link`]: what passes between that stream, the library's handlers and the session, bounded in bytes.
//! - [`driver`]: one future per session, the counterpart of the native one.
//!
//! Invariants: commands reach the core in the order in which they came; what waits for a client is bounded in bytes, and
//! where it is full nothing more is read from the client; the library's queue, which is bounded in packets and whose
//! overflow would end the connection at the next ping, is never filled.
//!
//! Deliberately absent: HTTP long-polling (it would need every request of a client to reach the same router), Engine.IO 3
//! (Socket.IO 2 clients), namespaces other than `/`, rooms, binary attachments.

mod driver;
mod envelope;
mod frames;
mod handshake;
mod incoming;
mod link;
mod service;
mod session;
mod transport;

pub(crate) use self::{handshake::connect, service::Skin};
