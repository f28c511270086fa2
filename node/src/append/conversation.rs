//! A conversation as its lane remembers it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tertulia_shard_map::{ConversationId, DirectPair, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{
    Role,
    cluster::{Appended, ConversationView, GroupSize, Recipient, Standing},
};

use crate::{
    entry::staying,
    store::{NEWEST_EVENTS, StoredConversation, StoredMember, StoredPosition, WrittenConversation, WrittenKind, both},
};

/// Positions at the end of a direct conversation's log that are remembered; of a group's, all that are loaded.
const DIRECT_NEWEST: usize = 4;
/// Newest commits of a conversation that are remembered, so that the retry of a lost ack needs no look into the store.
const RECENT: usize = 4;
/// Largest body of an event that is remembered for that.
const RECENT_BYTES_MAX: usize = 1024;
/// Members of a large group that are remembered at once, found or not.
const LARGE_MEMBERS_KNOWN_MAX: usize = 4096;
/// So many members weigh as much in the cache as a conversation without any.
const MEMBERS_PER_WEIGHT: usize = 4;

pub struct Conversation {
    pub slot: Slot,
    pub kind: Kind,
    pub created_by: UserId,
    pub created_at_ms: i64,
    pub member_count: u64,
    pub last_seq: Seq,
    pub message_no: MessageNo,
    pub existence: Existence,
    /// Present members, and who is known to be none.
    members: HashMap<UserId, Option<Member>>,
    completeness: Completeness,
    /// All present members; made when it is first needed after a change.
    everybody: Option<Arc<[Recipient]>>,
    /// The end of the log, oldest first.
    newest: VecDeque<StoredPosition>,
    recent: VecDeque<Recent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Direct(DirectPair),
    Group { name: String, size: GroupSize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// In memory only: the next batch creates it.
    Imagined,
    Stored,
}

/// Whether every present member is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completeness {
    Complete,
    /// Of a large group: those who were asked for.
    Partial,
}

/// A present member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub role: Role,
    pub joined_seq: Seq,
    pub standing: Standing,
}

/// A commit that may be retried.
pub struct Recent {
    pub sender: UserId,
    pub temp_id: String,
    pub payload_hash: i64,
    pub appended: Appended,
}

impl Conversation {
    /// One that does not exist yet.
    pub fn imagined(slot: Slot, kind: Kind, created_by: UserId, created_at_ms: i64) -> Self {
        let mut conversation = Self {
            slot,
            kind,
            created_by,
            created_at_ms,
            member_count: 0,
            last_seq: Seq::ZERO,
            message_no: MessageNo::ZERO,
            existence: Existence::Imagined,
            members: HashMap::new(),
            completeness: Completeness::Complete,
            everybody: None,
            newest: VecDeque::new(),
            recent: VecDeque::new(),
        };
        if let Kind::Direct(pair) = conversation.kind {
            for user in [pair.lo(), pair.hi()] {
                conversation.set_member(user, Some(Member::new(user, Role::Member, Seq::new(1))));
            }
            conversation.member_count = conversation.members.len() as u64;
        }
        conversation
    }

    pub fn stored(slot: Slot, stored: StoredConversation) -> Self {
        let StoredConversation { kind, member_count, created_by, created_at_ms, newest, members, .. } = stored;
        let kind = match kind {
            WrittenKind::Direct(pair) => Kind::Direct(pair),
            WrittenKind::Group { name, large } => {
                Kind::Group { name, size: if large { GroupSize::Large } else { GroupSize::Small } }
            }
        };
        let end = newest.first().copied();
        let remembered = newest_max(&kind);
        let large = matches!(kind, Kind::Group { size: GroupSize::Large, .. });
        let completeness = if large { Completeness::Partial } else { Completeness::Complete };
        Self {
            slot,
            kind,
            created_by,
            created_at_ms,
            member_count,
            last_seq: end.map_or(Seq::ZERO, |end| end.seq),
            message_no: end.map_or(MessageNo::ZERO, |end| end.message_no),
            existence: Existence::Stored,
            members: members.into_iter().map(|member| (member.user, Some(member.into()))).collect(),
            completeness,
            everybody: None,
            newest: newest.into_iter().take(remembered).rev().collect(),
            recent: VecDeque::new(),
        }
    }

    /// For the bound on what is remembered in all.
    pub fn weight(&self) -> usize {
        1 + self.members.len() / MEMBERS_PER_WEIGHT
    }

    pub fn written(&self, id: ConversationId) -> WrittenConversation {
        let kind = match &self.kind {
            Kind::Direct(pair) => WrittenKind::Direct(*pair),
            Kind::Group { name, size } => WrittenKind::Group { name: name.clone(), large: *size == GroupSize::Large },
        };
        let (slot, members) = (self.slot, self.member_count);
        WrittenConversation { slot, id, kind, members, created_by: self.created_by, created_at_ms: self.created_at_ms }
    }

    pub fn is_large(&self) -> bool {
        matches!(self.kind, Kind::Group { size: GroupSize::Large, .. })
    }

    // --- members ---

    /// Whether all present members are remembered.
    pub fn is_complete(&self) -> bool {
        self.completeness == Completeness::Complete
    }

    /// A present member. Where not all are remembered: call [`learn`](Self::learn) about the user first.
    pub fn member(&self, user: UserId) -> Option<&Member> {
        self.members.get(&user)?.as_ref()
    }

    /// Whether it is known if the user is a member.
    pub fn knows(&self, user: UserId) -> bool {
        self.is_complete() || self.members.contains_key(&user)
    }

    /// Forgets members of a large group where too many are remembered. Before the look-ups for a batch, never between.
    pub fn make_room(&mut self) {
        if self.is_large() && self.members.len() >= LARGE_MEMBERS_KNOWN_MAX {
            self.members.clear();
            self.completeness = Completeness::Partial;
        }
    }

    /// Forgets positions beyond those that are to be remembered. Between batches, never within.
    pub fn trim(&mut self) {
        let excess = self.newest.len().saturating_sub(newest_max(&self.kind));
        self.newest.drain(..excess);
    }

    /// What the store says of a user of a large group.
    pub fn learn(&mut self, user: UserId, found: Option<StoredMember>) {
        self.members.insert(user, found.map(Member::from));
    }

    /// `None`: no longer a member.
    pub fn set_member(&mut self, user: UserId, member: Option<Member>) {
        self.everybody = None;
        if member.is_none() && self.is_complete() {
            self.members.remove(&user);
        } else {
            self.members.insert(user, member);
        }
    }

    /// Without a change of who is a member.
    pub fn set_standing(&mut self, standing: Standing) {
        if let Some(Some(member)) = self.members.get_mut(&standing.user) {
            member.standing = standing;
        }
    }

    pub fn set_role(&mut self, user: UserId, role: Role) {
        if let Some(Some(member)) = self.members.get_mut(&user) {
            member.role = role;
        }
    }

    /// All members are still remembered, until there are too many.
    pub fn become_large(&mut self) {
        if let Kind::Group { size, .. } = &mut self.kind {
            *size = GroupSize::Large;
        }
    }

    /// The known present members.
    pub fn present(&self) -> impl Iterator<Item = (UserId, &Member)> {
        self.members.iter().filter_map(|(user, member)| Some((*user, member.as_ref()?)))
    }

    /// All members of a conversation that is not large.
    pub fn everybody(&mut self) -> Arc<[Recipient]> {
        if let Some(everybody) = &self.everybody {
            return everybody.clone();
        }
        let everybody = match self.kind {
            Kind::Direct(pair) => both(pair),
            Kind::Group { .. } => staying(self.present().map(|(user, _)| user)),
        };
        self.everybody = Some(everybody.clone());
        everybody
    }

    // --- direct conversations ---

    /// Whether one of the two users of a direct conversation blocks the other.
    pub fn is_blocked(&self) -> bool {
        matches!(self.kind, Kind::Direct(_)) && self.present().any(|(_, member)| member.standing.blocks_peer)
    }

    pub fn view(&self) -> ConversationView {
        match &self.kind {
            Kind::Direct(pair) => ConversationView::Direct { pair: *pair, blocked: self.is_blocked() },
            Kind::Group { name, size } => ConversationView::Group { name: name.clone(), size: *size },
        }
    }

    // --- the end of the log ---

    pub fn appended(&mut self, position: StoredPosition) {
        self.last_seq = position.seq;
        self.message_no = position.message_no;
        self.newest.push_back(position);
    }

    /// `message_no` at a seq, where that is remembered.
    pub fn message_no_at(&self, seq: Seq) -> Option<MessageNo> {
        if seq == Seq::ZERO {
            return Some(MessageNo::ZERO);
        }
        if seq == self.last_seq {
            return Some(self.message_no);
        }
        self.newest.iter().find(|position| position.seq == seq).map(|position| position.message_no)
    }

    /// Who wrote a message after `seq`, as far as is remembered; each once.
    pub fn senders_after(&self, seq: Seq) -> Vec<UserId> {
        let mut senders: Vec<UserId> = self
            .newest
            .iter()
            .filter(|position| position.seq > seq && position.kind.counts_as_message())
            .map(|position| position.sender)
            .collect();
        senders.sort_unstable();
        senders.dedup();
        senders
    }

    /// The store answers retries of what is too large to be remembered.
    pub fn remember(&mut self, recent: Recent) {
        if recent.appended.record.as_ref().is_some_and(|record| record.body.len() > RECENT_BYTES_MAX) {
            return;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(recent);
    }

    pub fn recent(&self, sender: UserId, temp_id: &str) -> Option<&Recent> {
        self.recent.iter().find(|recent| recent.sender == sender && recent.temp_id == temp_id)
    }
}

const fn newest_max(kind: &Kind) -> usize {
    match kind {
        Kind::Direct(_) => DIRECT_NEWEST,
        Kind::Group { .. } => NEWEST_EVENTS,
    }
}

impl Member {
    pub fn new(user: UserId, role: Role, joined_seq: Seq) -> Self {
        let standing = Standing {
            user,
            delivered_seq: Seq::ZERO,
            read_seq: Seq::ZERO,
            read_message_no: MessageNo::ZERO,
            blocks_peer: false,
        };
        Self { role, joined_seq, standing }
    }
}

impl From<StoredMember> for Member {
    fn from(stored: StoredMember) -> Self {
        let StoredMember { user, role, joined_seq, delivered_seq, read_seq, read_message_no, blocks_peer } = stored;
        let standing = Standing { user, delivered_seq, read_seq, read_message_no, blocks_peer };
        Self { role, joined_seq, standing }
    }
}
