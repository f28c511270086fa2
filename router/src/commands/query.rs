//! Commands that may be carried out in any order: reads, watermarks, profiles, presence, typing.

use tertulia_shard_map::Seq;
use tertulia_wire::{
    client::{
        self, ConversationQuery, ErrorReply, HistoryPosition, HistoryQuery, ListBlocks, MembersQuery, PresenceQuery,
        ProfileChange, ProfileQuery, SetTyping, SyncQuery,
    },
    cluster::{
        BlocksRead, Call, ConversationRead, HistoryRange, HistoryRead, Mark, MembersRead, SetProfile, SyncRead, Typing,
    },
};

use super::{Asked, Caller, Planned, Query, Routed, Work, plan::not_expected};
use crate::routing::Key;

pub(super) fn delivered(caller: &Caller, command: &client::Mark) -> Result<Planned, ErrorReply> {
    mark(caller, command, command.seq, Seq::ZERO)
}

pub(super) fn read(caller: &Caller, command: &client::Mark) -> Result<Planned, ErrorReply> {
    // It raises `delivered` too.
    mark(caller, command, Seq::ZERO, command.seq)
}

fn mark(caller: &Caller, command: &client::Mark, delivered: Seq, read: Seq) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let conversation = command.conversation_id;
    Ok(Planned::Mark(Mark { conversation, user: caller.user, origin: caller.session, delivered, read }))
}

pub(super) fn typing(caller: &Caller, command: &SetTyping) -> Planned {
    let SetTyping { conversation_id: conversation, typing } = *command;
    Planned::Typing(Typing { conversation, user: caller.user, origin: caller.session, typing })
}

pub(super) fn conversation(caller: &Caller, command: &ConversationQuery) -> Planned {
    let conversation = command.conversation_id;
    let read = ConversationRead { conversation, reader: caller.reader() };
    let asked = Asked::Conversation { conversation, reader: caller.user };
    call(Key::Conversation(conversation), Call::Conversation(read), asked)
}

pub(super) fn members(caller: &Caller, command: &MembersQuery) -> Result<Planned, ErrorReply> {
    let page = command.validate()?;
    let conversation = command.conversation_id;
    let read = MembersRead { conversation, reader: caller.reader(), after: page.after, limit: page.limit };
    Ok(call(Key::Conversation(conversation), Call::Members(read), Asked::Members(conversation)))
}

pub(super) fn sync(caller: &Caller, command: &SyncQuery) -> Result<Planned, ErrorReply> {
    let valid = command.validate()?;
    let read = SyncRead { user: caller.user, after: valid.rev, limit: valid.limit };
    Ok(call(Key::User(caller.user), Call::Sync(read), Asked::Sync))
}

pub(super) fn history(caller: &Caller, command: &HistoryQuery) -> Result<Planned, ErrorReply> {
    let valid = command.validate()?;
    let range = match valid.position {
        HistoryPosition::Latest => HistoryRange::Latest,
        HistoryPosition::After(seq) => HistoryRange::After(seq),
        HistoryPosition::Before(seq) => HistoryRange::Before(seq),
    };
    let conversation = valid.conversation_id;
    let read = HistoryRead { conversation, reader: caller.reader(), range, limit: valid.limit };
    Ok(call(Key::Conversation(conversation), Call::History(read), Asked::History(conversation)))
}

pub(super) fn profiles(caller: &Caller, command: ProfileQuery) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let asked = Asked::Profiles { reader: caller.user };
    Ok(Planned::Query(Query { work: Work::Profiles(command.user_ids), asked }))
}

pub(super) fn set_profile(caller: &Caller, command: ProfileChange) -> Result<Planned, ErrorReply> {
    command.validate()?;
    let ProfileChange { name, avatar_url, shares_presence } = command;
    let (user, origin) = (caller.user, caller.session);
    let change = SetProfile { user, origin, name, avatar_url, shares_presence, disabled: None };
    Ok(call(Key::User(user), Call::SetProfile(change), Asked::OwnProfile))
}

pub(super) fn blocks(caller: &Caller, command: &ListBlocks) -> Result<Planned, ErrorReply> {
    let page = command.validate()?;
    let read = BlocksRead { user: caller.user, after: page.after, limit: page.limit };
    Ok(call(Key::User(caller.user), Call::Blocks(read), Asked::Blocks))
}

pub(super) fn subscribe(caller: &Caller, command: PresenceQuery) -> Result<Planned, ErrorReply> {
    command.validate()?;
    in_session(caller)?;
    Ok(Planned::Watch(command.user_ids))
}

pub(super) fn unsubscribe(caller: &Caller, command: PresenceQuery) -> Result<Planned, ErrorReply> {
    command.validate()?;
    in_session(caller)?;
    Ok(Planned::Unwatch(command.user_ids))
}

fn in_session(caller: &Caller) -> Result<(), ErrorReply> {
    caller.session.map(drop).ok_or_else(|| not_expected("subscriptions are a session's: connect first"))
}

fn call(key: Key, call: Call, asked: Asked) -> Planned {
    Planned::Query(Query { work: Work::Call(Routed { key, call }), asked })
}
