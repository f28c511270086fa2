//! What the sessions are told by the other parts of the mailboxes.

use tertulia_shard_map::{ConversationId, Epoch, Seq, SessionId, Slot, UserId};
use tertulia_wire::{
    EventRecord,
    cluster::{BlockChange, Head, ProfileRecord},
};

pub(super) enum News {
    /// The session's attachment is answered. `large`: the large groups that the user is in, and since which event.
    Attached { slot: Slot, epoch: Epoch, user: UserId, session: SessionId, large: Vec<(ConversationId, Seq)> },
    /// The session's attachment was refused for good.
    Refused { slot: Slot, user: UserId, session: SessionId },
    /// Committed: `user` blocks `other`, or no longer does.
    Blocked { slot: Slot, user: UserId, other: UserId, change: BlockChange, origin: Option<SessionId> },
    /// Committed.
    Profile { slot: Slot, record: ProfileRecord, origin: Option<SessionId> },
    /// What the owners of large groups last said of them; `None` where one said nothing.
    Heads(Vec<(ConversationId, Option<Head>)>),
    /// The newest event of a large group of which one was missed, or none could be had.
    Newest(ConversationId, Option<Box<EventRecord>>),
}
