//! The client protocol, version 1: what `docs/PROTOCOL.md` describes, as types.
//!
//! A client sends [`Command`]s, each answered by one [`Reply`] with the same `id`, and receives [`Push`]es without one.
//! The same names and payloads are spoken as JSON text frames and as MessagePack binary frames (maps with the same
//! field names; ids are strings in both).

mod codec;
mod conversation;
mod envelope;
mod errors;
mod frame;
mod kinds;
mod mailbox;
mod message;
mod people;
mod session;
#[cfg(test)]
mod tests;
mod validate;
mod version;

pub use codec::{
    DecodedCommand, Format, FrameError, Outbound, decode_commands, decode_outbound, encode_commands, encode_outbound,
    encode_push, encode_reply,
};
pub use conversation::*;
pub use errors::*;
pub use frame::FrameBuilder;
pub use kinds::{Command, Push, Reply};
pub use mailbox::*;
pub use message::*;
pub use people::*;
pub use session::*;
pub use validate::{HistoryPosition, Page, SendTarget, ValidHistory, ValidSend, ValidSync};
pub use version::{ClientVersion, InvalidVersion};
