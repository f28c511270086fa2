//! What the commands of one batch need to know beyond their conversations: looked up afresh for each batch, since only
//! this lane changes it.

use std::collections::{BTreeSet, HashMap, HashSet};

use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, UserId};
use tertulia_wire::EventKind;

use crate::store::{MemberKey, PositionKey, Senior, StoredTarget, TargetKey};

/// The look-ups that a batch needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub targets: Vec<TargetKey>,
    pub members: Vec<MemberKey>,
    pub positions: Vec<PositionKey>,
}

impl Wanted {
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.members.is_empty() && self.positions.is_empty()
    }

    /// Each once.
    pub fn dedup(&mut self) {
        fn once<T: Eq + std::hash::Hash + Copy>(keys: &mut Vec<T>) {
            let mut seen = HashSet::new();
            keys.retain(|key| seen.insert(*key));
        }
        once(&mut self.targets);
        once(&mut self.members);
        once(&mut self.positions);
    }
}

/// A message that commands are about, as it is at this point of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMessage {
    pub seq: Seq,
    pub kind: EventKind,
    pub sender: UserId,
    pub deleted: bool,
    /// The reactions of those who react in this batch.
    pub reactions: HashMap<UserId, BTreeSet<String>>,
    /// Everybody's, up to one more than there may be.
    pub emojis: BTreeSet<String>,
}

/// What the look-ups found.
#[derive(Debug, Default)]
pub struct Details {
    targets: HashMap<(ConversationId, EventId), TargetMessage>,
    positions: HashMap<(ConversationId, Seq), MessageNo>,
    seniority: HashMap<ConversationId, Vec<Senior>>,
}

impl Details {
    pub fn add_target(&mut self, key: TargetKey, stored: StoredTarget) {
        let StoredTarget { seq, kind, sender, deleted, own_emojis, emojis } = stored;
        let message = self.targets.entry((key.conversation, key.message)).or_insert_with(|| TargetMessage {
            seq,
            kind,
            sender,
            deleted,
            reactions: HashMap::new(),
            emojis: emojis.into_iter().collect(),
        });
        message.reactions.insert(key.user, own_emojis.into_iter().collect());
    }

    pub fn add_position(&mut self, key: PositionKey, message_no: MessageNo) {
        self.positions.insert((key.conversation, key.seq), message_no);
    }

    pub fn add_seniority(&mut self, conversation: ConversationId, members: Vec<Senior>) {
        self.seniority.insert(conversation, members);
    }

    pub fn target(&mut self, conversation: ConversationId, message: EventId) -> Option<&mut TargetMessage> {
        self.targets.get_mut(&(conversation, message))
    }

    pub fn position(&self, conversation: ConversationId, seq: Seq) -> Option<MessageNo> {
        self.positions.get(&(conversation, seq)).copied()
    }

    /// `None` where it is not known, or no longer: it has to be looked up then.
    pub fn seniority(&self, conversation: ConversationId) -> Option<&[Senior]> {
        self.seniority.get(&conversation).map(Vec::as_slice)
    }

    /// The members are others now.
    pub fn forget_seniority(&mut self, conversation: ConversationId) {
        self.seniority.remove(&conversation);
    }
}
