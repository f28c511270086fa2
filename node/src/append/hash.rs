//! What makes two commands the same: the hash of a payload, and what no store could hold.

use tertulia_shard_map::DirectPair;
use tertulia_wire::{
    EventKind, ReactionChange,
    cluster::{Action, Append, Refusal},
    limits::{GROUP_CHANGE_USERS_MAX, TEMP_ID_BYTES},
};
use xxhash_rust::xxh3::Xxh3;

/// Stored with the event, for ever: a retry under the same `temp_id` is one only with the same payload.
pub fn payload_hash(append: &Append) -> i64 {
    let mut hash = Xxh3::new();
    let action = &append.action;
    hash.update(&[u8::from(action.kind())]);
    match action {
        Action::Message { body } => hash.update(body),
        Action::Edit { message, body } => {
            hash.update(&message.to_bytes());
            hash.update(body);
        }
        Action::Delete { message } => hash.update(&message.to_bytes()),
        Action::React { message, emoji, change } => {
            hash.update(&message.to_bytes());
            hash.update(&[match change {
                ReactionChange::Add => 1,
                ReactionChange::Remove => 2,
            }]);
            hash.update(emoji.as_bytes());
        }
        Action::Create { name, users } => {
            users.iter().for_each(|user| hash.update(&user.to_bytes()));
            hash.update(name.as_bytes());
        }
        Action::Rename { name } => hash.update(name.as_bytes()),
        Action::Add { users } | Action::Remove { users } => {
            users.iter().for_each(|user| hash.update(&user.to_bytes()));
        }
        Action::SetRole { user, role } => {
            hash.update(&user.to_bytes());
            hash.update(&[u8::from(*role)]);
        }
        // A removal of nobody does not pass the check below.
        Action::Leave => {}
    }
    hash.digest() as i64
}

/// What the store could not hold, or no router would send, is refused before it reaches a batch, where it would fail its
/// neighbours.
pub fn check(append: &Append) -> Result<(), Refusal> {
    let invalid = |what: &str| Err(Refusal::Invalid(what.to_owned()));
    if append.temp_id.is_empty() || append.temp_id.len() > TEMP_ID_BYTES {
        return invalid("temp_id must have 1 to 64 bytes");
    }
    if append.temp_id.contains('\0') {
        return invalid("temp_id must not contain a NUL character");
    }
    if let Some(peer) = append.direct_peer {
        if append.action.kind() != EventKind::Message {
            return invalid("only a message begins a direct conversation");
        }
        if !peer.is_valid() || !append.sender.is_valid() {
            return invalid("not the id of a user");
        }
        if DirectPair::new(append.sender, peer).conversation_id() != append.conversation {
            return invalid("the conversation is not the direct one of these two users");
        }
    }
    match &append.action {
        Action::Create { .. } if append.conversation.is_direct() => invalid("the id of a direct conversation"),
        Action::Create { name, .. } | Action::Rename { name } if name.contains('\0') => {
            invalid("a name must not contain a NUL character")
        }
        Action::React { emoji, .. } if emoji.contains('\0') => invalid("an emoji must not contain a NUL character"),
        Action::Create { users, .. } | Action::Add { users } | Action::Remove { users }
            if users.len() > GROUP_CHANGE_USERS_MAX || users.iter().any(|user| !user.is_valid()) =>
        {
            invalid("too many users, or not the id of a user")
        }
        Action::Add { users } | Action::Remove { users } if users.is_empty() => invalid("no users"),
        _ => Ok(()),
    }
}
