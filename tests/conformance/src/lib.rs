//! Holds the router's WebSockets against RFC 6455, case by case, as the Autobahn test suite does.
//!
//! The suite itself runs on Python 2 only, so its cases are rewritten here, under its own numbers: [`cases`] says what is sent
//! and what is to come back, as bytes on a TCP connection ([`frame`]); [`run`] runs one. They run against two servers:
//!
//! - [`Server::Session`]: a real router with its real sessions. A session does not echo; where the suite wants its message back, a
//!   reply is wanted here (the payloads are no envelopes: each is answered `bad_frame`).
//! - [`Server::Echo`]: the router's accept loop, handshake and WebSocket, with an echo in place of the session, so that
//!   payloads can be compared too. The binary `conformance-echo` is the same, for the original suite.
//!
//! Deliberately absent: sections 9 (messages up to 16 MiB, where a client's frame here has at most 64 KiB) and 12 and 13
//! (compression, which is not offered).

pub mod case;
pub mod cases;
pub mod echo;
pub mod frame;
pub mod router;
pub mod run;

/// What a case runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Session,
    Echo,
}
