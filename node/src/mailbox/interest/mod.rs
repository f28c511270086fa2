//! The large groups of the users that are attached here, and how far their events have come here. Pure; [`driver`] beside it
//! tells the owners, and asks them.
//!
//! What is known of a user's groups comes on two ways: from the rows, at attach, and from the user's own stream and what is
//! announced, at once. So everything has a seq, and the higher one counts.

mod driver;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tertulia_shard_map::{ConversationId, Seq, UserId};
use tertulia_wire::cluster::Head;

pub(super) use driver::{InterestHandle, run};

/// An event that is so much older than the interest in its group was sent before it, whatever the clocks say.
const CLOCKS_DIFFER_MS: i64 = 5_000;

#[derive(Default)]
pub(super) struct Interest {
    groups: HashMap<ConversationId, Group>,
    users: HashMap<UserId, HashMap<ConversationId, Place>>,
}

struct Group {
    /// Since which event.
    members: HashMap<UserId, Seq>,
    /// The newest event that was announced here. `None` until the owner has said where the group is.
    announced: Option<Seq>,
    new_at_ms: i64,
    fetching: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Member,
    /// Kept while the user is attached: the rows may not say so yet.
    Gone {
        at: Seq,
    },
}

impl Interest {
    pub fn attached(&mut self, user: UserId) {
        self.users.entry(user).or_default();
    }

    /// What the rows say. The groups that nobody here was in before.
    pub fn loaded(&mut self, user: UserId, groups: Vec<(ConversationId, Seq)>, now_ms: i64) -> Vec<ConversationId> {
        groups
            .into_iter()
            .filter(|&(conversation, since)| self.enter(user, conversation, since, now_ms))
            .map(|(c, _)| c)
            .collect()
    }

    /// The user's stream brought an event of a group that the user is in.
    pub fn joins(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
        now_ms: i64,
    ) -> Option<ConversationId> {
        self.enter(user, conversation, seq, now_ms).then_some(conversation)
    }

    /// Whether the group is new here.
    fn enter(&mut self, user: UserId, conversation: ConversationId, since: Seq, now_ms: i64) -> bool {
        let Some(places) = self.users.get_mut(&user) else { return false };
        match places.get(&conversation) {
            Some(Place::Member) => return false,
            Some(Place::Gone { at }) if *at >= since => return false,
            Some(Place::Gone { .. }) | None => {}
        }
        places.insert(conversation, Place::Member);
        let is_new = !self.groups.contains_key(&conversation);
        let group = self.groups.entry(conversation).or_insert_with(|| Group {
            members: HashMap::new(),
            announced: None,
            new_at_ms: now_ms,
            fetching: false,
        });
        group.members.insert(user, since);
        is_new
    }

    /// The group, where nobody here is in it any more.
    pub fn leaves(&mut self, user: UserId, conversation: ConversationId, seq: Seq) -> Option<ConversationId> {
        let places = self.users.get_mut(&user)?;
        let since = self.groups.get(&conversation).and_then(|group| group.members.get(&user));
        if since.is_some_and(|since| *since > seq) {
            return None;
        }
        let at = match places.get(&conversation) {
            Some(Place::Gone { at }) => seq.max(*at),
            Some(Place::Member) | None => seq,
        };
        places.insert(conversation, Place::Gone { at });
        self.remove(user, conversation)
    }

    /// The user's last session ended. The groups that nobody here is in any more.
    pub fn left(&mut self, user: UserId) -> Vec<ConversationId> {
        let places = self.users.remove(&user).unwrap_or_default();
        places.into_keys().filter_map(|conversation| self.remove(user, conversation)).collect()
    }

    fn remove(&mut self, user: UserId, conversation: ConversationId) -> Option<ConversationId> {
        let group = self.groups.get_mut(&conversation)?;
        group.members.remove(&user);
        if !group.members.is_empty() {
            return None;
        }
        self.groups.remove(&conversation);
        Some(conversation)
    }

    /// The attached users who may see this event.
    pub fn members(&self, conversation: ConversationId, seq: Seq) -> impl Iterator<Item = UserId> + '_ {
        let members = self.groups.get(&conversation).into_iter().flat_map(|group| &group.members);
        members.filter(move |(_, since)| **since <= seq).map(|(user, _)| *user)
    }

    pub fn announced(&mut self, conversation: ConversationId, seq: Seq) {
        if let Some(group) = self.groups.get_mut(&conversation) {
            group.announced = group.announced.max(Some(seq));
        }
    }

    /// Whether the newest event should be fetched, because it was not announced here.
    pub fn is_behind(&mut self, conversation: ConversationId, head: &Head) -> bool {
        let Some(group) = self.groups.get_mut(&conversation) else { return false };
        let announced = *group.announced.get_or_insert_with(|| {
            // What came between the reading of the rows and the interest was announced to nobody.
            let is_recent = head.last_at_ms + CLOCKS_DIFFER_MS >= group.new_at_ms;
            if is_recent { Seq::new(head.last_seq.get().saturating_sub(1)) } else { head.last_seq }
        });
        let behind = announced < head.last_seq && !group.fetching;
        group.fetching |= behind;
        behind
    }

    /// What was fetched: whether members are still to be told of it.
    pub fn fetched(&mut self, conversation: ConversationId, seq: Option<Seq>) -> bool {
        let Some(group) = self.groups.get_mut(&conversation) else { return false };
        group.fetching = false;
        let is_news = seq > group.announced;
        group.announced = group.announced.max(seq);
        is_news
    }
}
