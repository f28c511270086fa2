//! Decisions about messages, edits, deletions and reactions; and how any event comes into a batch.

use bytes::Bytes;
use tertulia_shard_map::{EventId, UserId};
use tertulia_wire::{
    EventKind, EventRecord, ReactionBody, ReactionChange, Role, Target,
    cluster::{Action, Append, Authority, DeliverEntry, DeliverEvent, Membership, Recipient, Refusal},
    encode_reaction,
    limits::{REACTIONS_PER_MESSAGE_MAX, REACTIONS_PER_USER_MAX},
};

use super::{
    conversation::Existence,
    details::TargetMessage,
    log::{Decision, Due, Scene},
};
use crate::{
    entry::{LogEntry, Reach},
    store::{StoredPosition, WrittenMember, WrittenReaction},
};

/// What is particular to an event.
pub(super) struct NewEvent {
    pub kind: EventKind,
    pub body: Bytes,
    pub target: Option<Target>,
    /// Those whose membership it changes.
    pub changing: Vec<Recipient>,
    /// Whether every member is a recipient, or only those concerned.
    pub audience: Audience,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// As the group's size says.
    Usual,
    /// All of them, although the group is large: it has only just become so.
    Everybody,
}

pub(super) fn decide(scene: &mut Scene<'_, '_>, append: &Append, payload_hash: i64) -> Result<Decision, Refusal> {
    let deletes = matches!(append.action, Action::Delete { .. });
    // One's own words may be taken back from somebody who is blocked.
    if !deletes && append.authority == Authority::Member && scene.conversation.is_blocked() {
        return Err(Refusal::Blocked);
    }
    let new = match &append.action {
        Action::Message { body } => NewEvent {
            kind: EventKind::Message,
            body: body.clone(),
            target: None,
            changing: Vec::new(),
            audience: Audience::Usual,
        },
        Action::Edit { message, body } => {
            let target = target(scene, append, *message)?;
            if append.authority == Authority::Member && target.sender != append.sender {
                return Err(Refusal::NotAllowed("the message is another's".into()));
            }
            about(EventKind::Edit, body.clone(), *message, target)
        }
        Action::Delete { message } => {
            let may_delete_others = append.authority == Authority::App || role(scene, append.sender) >= Role::Admin;
            let target = found(scene, append, *message)?;
            if target.deleted {
                return Err(Refusal::NoChange("the message was deleted before".into()));
            }
            if target.sender != append.sender && !may_delete_others {
                return Err(Refusal::NotAllowed("the message is another's".into()));
            }
            target.deleted = true;
            target.reactions.clear();
            target.emojis.clear();
            let (seq, new) = (target.seq, about(EventKind::Delete, Bytes::new(), *message, target));
            scene.draft.forget_reactions(scene.id, seq);
            new
        }
        Action::React { message, emoji, change } => react(scene, append, *message, emoji, *change)?,
        _ => return Err(Refusal::Internal),
    };
    Ok(commit(scene, append, payload_hash, new))
}

fn react(
    scene: &mut Scene<'_, '_>,
    append: &Append,
    message: EventId,
    emoji: &str,
    change: ReactionChange,
) -> Result<NewEvent, Refusal> {
    let target = target(scene, append, message)?;
    let own = target.reactions.entry(append.sender).or_default();
    match change {
        ReactionChange::Add if own.contains(emoji) => return Err(Refusal::NoChange("the reaction is there".into())),
        ReactionChange::Remove if !own.contains(emoji) => {
            return Err(Refusal::NoChange("there is no such reaction".into()));
        }
        ReactionChange::Add if own.len() >= REACTIONS_PER_USER_MAX as usize => {
            return Err(Refusal::LimitReached("reactions of a user to a message".into()));
        }
        ReactionChange::Add
            if !target.emojis.contains(emoji) && target.emojis.len() >= REACTIONS_PER_MESSAGE_MAX as usize =>
        {
            return Err(Refusal::LimitReached("different reactions to a message".into()));
        }
        ReactionChange::Add => {
            own.insert(emoji.to_owned());
            target.emojis.insert(emoji.to_owned());
        }
        ReactionChange::Remove => drop(own.remove(emoji)),
    }
    let body = encode_reaction(&ReactionBody { emoji: emoji.to_owned(), change });
    let (message_seq, new) = (target.seq, about(EventKind::Reaction, body, message, target));
    scene.draft.reaction(WrittenReaction {
        slot: scene.slot,
        conversation: scene.id,
        message_seq,
        user: append.sender,
        emoji: emoji.to_owned(),
        change,
    });
    Ok(new)
}

fn about(kind: EventKind, body: Bytes, id: EventId, message: &TargetMessage) -> NewEvent {
    let target = Some(Target { id, seq: message.seq });
    NewEvent { kind, body, target, changing: Vec::new(), audience: Audience::Usual }
}

fn role(scene: &Scene<'_, '_>, user: UserId) -> Role {
    scene.conversation.member(user).map_or(Role::Member, |member| member.role)
}

/// A message of this conversation that the sender may read and that is not deleted.
fn target<'a>(
    scene: &'a mut Scene<'_, '_>,
    append: &Append,
    message: EventId,
) -> Result<&'a mut TargetMessage, Refusal> {
    let found = found(scene, append, message)?;
    if found.deleted { Err(Refusal::NotFound) } else { Ok(found) }
}

fn found<'a>(
    scene: &'a mut Scene<'_, '_>,
    append: &Append,
    message: EventId,
) -> Result<&'a mut TargetMessage, Refusal> {
    let joined = scene.conversation.member(append.sender).map(|member| member.joined_seq);
    let found = scene.details.target(scene.id, message).ok_or(Refusal::NotFound)?;
    let is_visible = append.authority == Authority::App || joined.is_some_and(|joined| joined <= found.seq);
    if is_visible && found.kind == EventKind::Message { Ok(found) } else { Err(Refusal::NotFound) }
}

/// Takes the next seq for an event, and drafts it.
pub(super) fn commit(scene: &mut Scene<'_, '_>, append: &Append, payload_hash: i64, new: NewEvent) -> Decision {
    let id = scene.next_id();
    if scene.id.is_direct() && scene.conversation.last_seq.get() == 0 {
        (scene.conversation.created_by, scene.conversation.created_at_ms) = (append.sender, scene.moment.now_ms);
        if scene.conversation.existence == Existence::Stored || scene.draft.creates(scene.id) {
            scene.draft.conversation(scene.conversation.written(scene.id));
        }
    }
    begin(scene);
    let NewEvent { kind, body, target, changing, audience } = new;
    let conversation = &mut *scene.conversation;
    let seq = conversation.last_seq.next();
    let message_no = if kind.counts_as_message() { conversation.message_no.next() } else { conversation.message_no };
    conversation.appended(StoredPosition { seq, message_no, kind, sender: append.sender });
    let record = EventRecord {
        id,
        conversation: scene.id,
        seq,
        message_no,
        kind,
        sender: append.sender,
        created_at_ms: scene.moment.now_ms,
        temp_id: append.temp_id.clone(),
        body,
        target,
        since: None,
    };
    let large = conversation.is_large();
    let recipients = if changing.is_empty() && !large {
        conversation.everybody()
    } else {
        let stays: Vec<UserId> = if !large || audience == Audience::Everybody {
            conversation.present().map(|(user, _)| user).collect()
        } else {
            conversation.member(append.sender).map(|_| append.sender).into_iter().collect()
        };
        let stays = stays.into_iter().filter(|user| !changing.iter().any(|it| it.user == *user));
        let stays = stays.map(|user| Recipient { user, membership: Membership::Stays });
        stays.chain(changing.iter().copied()).collect()
    };
    let event = DeliverEvent { record: record.clone(), view: conversation.view(), origin: append.origin };
    let reach = if large { Reach::Interested } else { Reach::Recipients };
    let entry = LogEntry { entry: DeliverEntry::Event(event), recipients, reach };
    scene.draft.event(scene.slot, record, payload_hash, entry);
    Decision::Commit(Due::Event(scene.draft.batch.events.len() - 1))
}

/// Has a direct conversation that exists only in memory created with the batch. That one was there before its first event,
/// because of a block, leaves no trace.
pub(super) fn begin(scene: &mut Scene<'_, '_>) {
    if scene.conversation.existence == Existence::Stored || !scene.id.is_direct() || scene.draft.creates(scene.id) {
        return;
    }
    scene.draft.conversation(scene.conversation.written(scene.id));
    for (user, member) in scene.conversation.present() {
        scene.draft.member(WrittenMember {
            slot: scene.slot,
            conversation: scene.id,
            user,
            role: member.role,
            joined_seq: member.joined_seq,
            left_seq: None,
        });
    }
}
