//! Everything that crosses a process boundary, as types: the client protocol (`docs/PROTOCOL.md`) and the cluster
//! protocol between routers, nodes and the operator's command.
//!
//! Pure: bytes in, values out. No socket, no clock. Every decoder has a hard size limit and refuses trailing bytes.

pub mod client;
pub mod cluster;
mod event;
mod invariant;
pub mod limits;
mod trace;

pub use event::{
    Attachment, BodyError, Encrypted, EventKind, EventRecord, GroupBody, GroupMember, MessageBody, ReactionBody,
    ReactionChange, ReactionCount, Role, Since, Target, decode_group, decode_message, decode_reaction, encode_group,
    encode_message, encode_reaction,
};
pub use invariant::Invariant;
pub use trace::{InvalidTraceId, TraceId};
