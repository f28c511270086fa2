//! From a command to what is to be done: validated, with the call it takes and the key that says who is called.

use tertulia_shard_map::UserId;
use tertulia_wire::{
    client::{Command, ErrorCode, ErrorReply},
    cluster::{Call, Mark, Typing},
};

use super::{Asked, Caller, Ordered, event, query};
use crate::routing::Key;

/// What a command asks for, by how it may be carried out.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "the largest is the most frequent: a box would only cost an allocation")]
pub enum Planned {
    /// In order with the others of its conversation; idempotent, so that an unknown outcome is tried again.
    Ordered(Ordered),
    /// Watermarks: in any order, and several may be merged. The answer is for [`Asked::Mark`].
    Mark(Mark),
    /// Promises nothing, and is answered `ok` whatever becomes of it.
    Typing(Typing),
    /// Tells the session when these users come and go, from now on, and what they are now.
    Watch(Vec<UserId>),
    Unwatch(Vec<UserId>),
    /// On its own, in any order.
    Query(Query),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub work: Work,
    pub asked: Asked,
}

/// A call, and whose owner is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Routed {
    pub key: Key,
    pub call: Call,
}

/// Something for the cluster to do, by one owner or by several.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    Call(Routed),
    /// Of users in any slots. Answered as one `Answer::Profiles`.
    Profiles(Vec<UserId>),
}

/// What a validated command asks of the cluster. Pure. `hello` and `ping` ask nothing of it: they are the session's.
pub fn plan(caller: &Caller, command: Command) -> Result<Planned, ErrorReply> {
    match command {
        Command::Send(it) => event::send(caller, it),
        Command::Edit(it) => event::edit(caller, it),
        Command::Delete(it) => event::delete(caller, it),
        Command::React(it) => event::react(caller, it),
        Command::Create(it) => event::create(caller, it),
        Command::Rename(it) => event::rename(caller, it),
        Command::AddMembers(it) => event::add(caller, it),
        Command::RemoveMembers(it) => event::remove(caller, it),
        Command::SetRole(it) => event::set_role(caller, it),
        Command::Leave(it) => event::leave(caller, it),
        Command::Block(it) => event::block(caller, &it),
        Command::Unblock(it) => event::unblock(caller, &it),
        Command::Delivered(it) => query::delivered(caller, &it),
        Command::Read(it) => query::read(caller, &it),
        Command::Typing(it) => Ok(query::typing(caller, &it)),
        Command::Conversation(it) => Ok(query::conversation(caller, &it)),
        Command::Members(it) => query::members(caller, &it),
        Command::Sync(it) => query::sync(caller, &it),
        Command::History(it) => query::history(caller, &it),
        Command::Profiles(it) => query::profiles(caller, it),
        Command::SetProfile(it) => query::set_profile(caller, it),
        Command::Blocks(it) => query::blocks(caller, &it),
        Command::SubscribePresence(it) => query::subscribe(caller, it),
        Command::UnsubscribePresence(it) => query::unsubscribe(caller, it),
        Command::Hello(_) | Command::Ping => Err(not_expected("`hello` and `ping` are a session's")),
    }
}

pub(super) fn not_expected(message: &str) -> ErrorReply {
    ErrorReply::new(ErrorCode::NotExpected, message)
}
