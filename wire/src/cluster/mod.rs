//! The cluster protocol, version 1: what routers, nodes and the operator's command say to each other over QUIC.
//!
//! Frames are MessagePack in array form, compact but rigid: a field may be added only together with a new
//! [`VERSION`], which both ends negotiate (ALPN) before the first frame.

mod codec;
mod conversation;
mod delivery;
mod mailbox;
mod moves;
mod rpc;

pub use codec::{CodecError, decode_frame, encode_frame};
pub use conversation::*;
pub use delivery::*;
pub use mailbox::*;
pub use moves::*;
pub use rpc::*;

/// Protocol versions that this build speaks, the newest first, as ALPN names.
pub const ALPN: &[&[u8]] = &[b"tertulia-cluster/1"];
