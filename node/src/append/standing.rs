//! Decisions about members' standings: watermarks and blocks; and whom to tell that somebody is typing.

use std::sync::Arc;

use tertulia_shard_map::SessionId;
use tertulia_wire::cluster::{
    Answer, Block, BlockChange, DeliverEntry, DeliverStanding, DeliverTyping, Mark, Marked, Recipient, Refusal,
    Standing, Typing,
};

use super::{
    conversation::Kind,
    event::begin,
    log::{Decision, Due, Scene},
};
use crate::entry::{LogEntry, Reach, staying};

pub(super) fn mark(scene: &mut Scene<'_, '_>, mark: &Mark) -> Result<Decision, Refusal> {
    let conversation = &mut *scene.conversation;
    let old = conversation.member(mark.user).ok_or(Refusal::NotFound)?.standing;
    // That it exists because of a block is nobody's business.
    if conversation.last_seq.get() == 0 {
        return Err(Refusal::NotFound);
    }
    if mark.delivered.max(mark.read) > conversation.last_seq {
        return Err(Refusal::Invalid(format!("`seq` is above the newest event, {}", conversation.last_seq)));
    }
    let mut new = old;
    if mark.read > old.read_seq {
        new.read_seq = mark.read;
        let remembered = conversation.message_no_at(mark.read);
        new.read_message_no =
            remembered.or_else(|| scene.details.position(scene.id, mark.read)).ok_or(Refusal::Internal)?;
    }
    new.delivered_seq = old.delivered_seq.max(mark.delivered).max(new.read_seq);
    let answer = Answer::Mark(Marked { delivered: new.delivered_seq, read: new.read_seq });
    if new == old {
        return Ok(Decision::Known(answer));
    }
    let news_after = if new.read_seq > old.read_seq { old.read_seq } else { old.delivered_seq };
    let recipients = match &conversation.kind {
        Kind::Direct(_) => conversation.everybody(),
        Kind::Group { .. } if conversation.is_large() => staying([mark.user]),
        Kind::Group { .. } => {
            let others = conversation.senders_after(news_after).into_iter().filter(|user| *user != mark.user);
            let others = others.filter(|user| conversation.member(*user).is_some());
            staying(std::iter::once(mark.user).chain(others))
        }
    };
    stamp(scene, new, recipients, mark.origin);
    Ok(Decision::Commit(Due::Answer(answer)))
}

pub(super) fn block(scene: &mut Scene<'_, '_>, block: &Block) -> Result<Decision, Refusal> {
    let is_pair = matches!(scene.conversation.kind, Kind::Direct(pair)
        if pair.contains(block.user) && pair.contains(block.peer) && block.user != block.peer);
    if !is_pair {
        return Err(Refusal::Invalid("not the direct conversation of these two users".into()));
    }
    let standing = |user| scene.conversation.member(user).map(|member| member.standing).ok_or(Refusal::Internal);
    let (mut own, peer) = (standing(block.user)?, standing(block.peer)?);
    let blocks = block.change == BlockChange::Block;
    if own.blocks_peer == blocks {
        // True only as long as this is the owner: the commit says so.
        scene.touch();
        return Ok(Decision::Commit(Due::Answer(Answer::Block)));
    }
    own.blocks_peer = blocks;
    scene.conversation.set_standing(own);
    let both = scene.conversation.everybody();
    stamp(scene, own, both, block.origin);
    if !blocks {
        // What was hidden meanwhile is told now. The peer knows its own, and is not told that anything happened.
        stamp(scene, peer, staying([block.user]), None);
    }
    begin(scene);
    Ok(Decision::Commit(Due::Answer(Answer::Block)))
}

/// Drafts a member's standing as it is from now on, and remembers it.
fn stamp(scene: &mut Scene<'_, '_>, standing: Standing, recipients: Arc<[Recipient]>, origin: Option<SessionId>) {
    scene.conversation.set_standing(standing);
    let id = scene.next_id();
    let view = scene.conversation.view();
    let entry = DeliverEntry::Standing(DeliverStanding { id, conversation: scene.id, view, standing, origin });
    scene.draft.standing(scene.slot, LogEntry { entry, recipients, reach: Reach::Recipients });
}

/// Told to the other members of a conversation that is neither blocked nor large.
pub(super) fn typing(scene: &mut Scene<'_, '_>, typing: &Typing) -> Decision {
    let conversation = &mut *scene.conversation;
    let is_told = conversation.last_seq.get() > 0
        && !conversation.is_large()
        && !conversation.is_blocked()
        && conversation.member(typing.user).is_some();
    if !is_told {
        return Decision::Known(Answer::Typing);
    }
    let others = conversation.present().map(|(user, _)| user).filter(|user| *user != typing.user);
    Decision::Tell(DeliverTyping { typing: typing.clone(), recipients: others.collect() })
}
