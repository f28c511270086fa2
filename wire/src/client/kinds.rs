//! Every command, reply and push of version 1, each with the `type` that names it in an envelope.
//!
//! The three lists below are the protocol's table of contents: names, decoding and encoding all come from them, and a
//! test holds `docs/PROTOCOL.md` against them.

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Ack, BlockChanged, BlockList, BlockQuery, ConversationInfo, ConversationQuery, CreateConversation, DeleteMessage,
    EditMessage, ErrorReply, EventPush, GoAway, Hello, HistoryPage, HistoryQuery, LeaveConversation, ListBlocks, Mark,
    Marked, MemberPage, MembersChange, MembersQuery, NewMessage, PresenceList, PresenceQuery, PresenceState, Profile,
    ProfileChange, ProfileList, ProfileQuery, ReactToMessage, Receipt, RenameConversation, Resync, RoleChange,
    SendMessage, SetTyping, SyncPage, SyncQuery, TypingState, Welcome,
};

/// Reads the payload that an envelope's `type` asks for.
pub(super) trait ReadPayload {
    type Error;

    /// For a type without fields.
    fn bare(&mut self) -> Result<(), Self::Error>;
    fn payload<T: DeserializeOwned>(&mut self) -> Result<T, Self::Error>;
}

/// Writes an envelope of a type.
pub(super) trait WritePayload {
    /// For a type without fields.
    fn bare(&mut self, kind: &'static str);
    fn payload<T: Serialize>(&mut self, kind: &'static str, payload: &T);
}

macro_rules! kinds {
    (
        $(#[$enum_doc:meta])*
        $enum:ident
        bare { $( $(#[$bare_doc:meta])* $bare:ident = $bare_name:literal, )* }
        data { $( $(#[$doc:meta])* $variant:ident($payload:ty) = $name:literal, )* }
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "the largest are the most frequent: a box would only cost an allocation")]
        pub enum $enum {
            $( $(#[$bare_doc])* $bare, )*
            $( $(#[$doc])* $variant($payload), )*
        }

        impl $enum {
            /// The `type` of each, in the order of the list.
            pub const TYPES: &'static [&'static str] = &[$($bare_name,)* $($name,)*];

            /// The envelope's `type`.
            pub const fn type_name(&self) -> &'static str {
                match self {
                    $( Self::$bare => $bare_name, )*
                    $( Self::$variant(_) => $name, )*
                }
            }

            /// `None` where there is no such type.
            pub(super) fn read<R: ReadPayload>(kind: &str, reader: &mut R) -> Option<Result<Self, R::Error>> {
                Some(match kind {
                    $( $bare_name => reader.bare().map(|()| Self::$bare), )*
                    $( $name => reader.payload().map(Self::$variant), )*
                    _ => return None,
                })
            }

            pub(super) fn write(&self, writer: &mut impl WritePayload) {
                match self {
                    $( Self::$bare => writer.bare($bare_name), )*
                    $( Self::$variant(payload) => writer.payload($name, payload), )*
                }
            }
        }
    };
}

kinds! {
    /// What a client asks for.
    Command
    bare {
        /// Answered with `pong`; for clients that cannot see WebSocket pings.
        Ping = "ping",
    }
    data {
        /// Must be the first command of a session. → `welcome`
        Hello(Hello) = "hello",
        /// → `dm:ack`
        Send(SendMessage) = "dm:send",
        /// → `dm:ack`
        Edit(EditMessage) = "dm:edit",
        /// → `dm:ack`
        Delete(DeleteMessage) = "dm:delete",
        /// → `dm:ack`
        React(ReactToMessage) = "dm:react",
        /// The user's devices have the events up to here. → `dm:marked`
        Delivered(Mark) = "dm:delivered",
        /// The user has seen the events up to here. → `dm:marked`
        Read(Mark) = "dm:read",
        /// → `ok`
        Typing(SetTyping) = "dm:typing",
        /// → `dm:ack`
        Create(CreateConversation) = "conversation:create",
        /// → `dm:ack`
        Rename(RenameConversation) = "conversation:rename",
        /// → `dm:ack`
        AddMembers(MembersChange) = "conversation:add",
        /// → `dm:ack`
        RemoveMembers(MembersChange) = "conversation:remove",
        /// → `dm:ack`
        SetRole(RoleChange) = "conversation:role",
        /// → `dm:ack`
        Leave(LeaveConversation) = "conversation:leave",
        /// → `conversation`
        Conversation(ConversationQuery) = "conversation:get",
        /// → `member:page`
        Members(MembersQuery) = "conversation:members",
        /// → `sync:page`
        Sync(SyncQuery) = "sync",
        /// → `history:page`
        History(HistoryQuery) = "history",
        /// → `profile:list`
        Profiles(ProfileQuery) = "profile:get",
        /// → `profile`
        SetProfile(ProfileChange) = "profile:set",
        /// → `presence:list`
        SubscribePresence(PresenceQuery) = "presence:subscribe",
        /// → `ok`
        UnsubscribePresence(PresenceQuery) = "presence:unsubscribe",
        /// → `ok`
        Block(BlockQuery) = "block",
        /// → `ok`
        Unblock(BlockQuery) = "unblock",
        /// → `block:page`
        Blocks(ListBlocks) = "block:list",
    }
}

kinds! {
    /// The one answer to a command.
    Reply
    bare {
        /// To `ping`.
        Pong = "pong",
        /// Done; there is nothing to tell.
        Ok = "ok",
    }
    data {
        /// To `hello`.
        Welcome(Welcome) = "welcome",
        /// To every command that makes an event: it is durably committed.
        Ack(Ack) = "dm:ack",
        /// To `dm:delivered` and `dm:read`: the user's watermarks, durably committed.
        Marked(Marked) = "dm:marked",
        Conversation(ConversationInfo) = "conversation",
        MemberPage(MemberPage) = "member:page",
        SyncPage(SyncPage) = "sync:page",
        HistoryPage(HistoryPage) = "history:page",
        Profiles(ProfileList) = "profile:list",
        Profile(Profile) = "profile",
        Presence(PresenceList) = "presence:list",
        Blocks(BlockList) = "block:page",
        /// To any command.
        Error(ErrorReply) = "error",
    }
}

kinds! {
    /// What the server says without being asked.
    Push
    bare {}
    data {
        /// A message for this user, by another user or from another session of the same.
        New(NewMessage) = "dm:new",
        /// A message has new content.
        Edited(EventPush) = "dm:edited",
        /// A message lost its content.
        Deleted(EventPush) = "dm:deleted",
        /// A reaction came or went.
        Reacted(EventPush) = "dm:reacted",
        /// A group began, or changed its name or its members.
        ConversationChanged(EventPush) = "conversation:changed",
        /// Watermarks of a member: of another, or one's own from another session.
        Receipt(Receipt) = "dm:receipt",
        /// Ephemeral.
        Typing(TypingState) = "dm:typing",
        /// Ephemeral: of a user that this session has subscribed to.
        Presence(PresenceState) = "presence",
        /// One's own profile, changed by another session or by the app's back end.
        ProfileChanged(Profile) = "profile:changed",
        /// From another session of the same user.
        BlockChanged(BlockChanged) = "block:changed",
        /// The server dropped pushes for this session, or cannot say that it did not: `sync` from the last `rev`.
        Resync(Resync) = "resync",
        /// The router is about to stop: reconnect, after a random wait up to `retry_after_ms`.
        GoAway(GoAway) = "goaway",
    }
}
