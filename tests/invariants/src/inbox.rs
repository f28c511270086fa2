//! I7: a user's inbox rows against the logs and the members' standings that they are the fold of.

use std::collections::{BTreeMap, HashMap};

use tertulia_shard_map::{ConversationId, EventId, MessageNo, Rev, Seq, UserId};

use crate::{Invariant, Violations};

/// A member of a conversation, as the store of the conversation has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRow {
    pub user: UserId,
    pub joined_seq: Seq,
    pub left_seq: Option<Seq>,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
    pub read_message_no: MessageNo,
}

/// A conversation as its log and its members' standings say, gathered from the rows of the store.
#[derive(Debug, Clone, Default)]
pub struct Mirror {
    /// Per seq from 1: the event's id and `message_no`.
    events: Vec<(EventId, MessageNo)>,
    /// The newest event of each sender.
    last_own: HashMap<UserId, Seq>,
    members: Vec<MemberRow>,
}

impl Mirror {
    /// Events in order of seq, without a hole.
    pub fn event(&mut self, id: EventId, message_no: MessageNo, sender: UserId) {
        self.events.push((id, message_no));
        self.last_own.insert(sender, Seq::new(self.events.len() as u64));
    }

    pub fn member(&mut self, member: MemberRow) {
        self.members.push(member);
    }

    fn at(&self, seq: Seq) -> Option<(EventId, MessageNo)> {
        self.events.get((seq.get() as usize).checked_sub(1)?).copied()
    }
}

/// An inbox row as the store of the mailbox has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRow {
    pub conversation: ConversationId,
    pub joined_seq: Seq,
    pub left_seq: Option<Seq>,
    pub last_seq: Seq,
    pub last_event: EventId,
    pub last_message_no: MessageNo,
    pub read_seq: Seq,
    pub read_message_no: MessageNo,
    pub others_delivered_seq: Seq,
    pub others_read_seq: Seq,
    pub rev: Rev,
}

/// Checks one user's rows against the mirrors of the user's conversations. Small conversations only: of large ones the
/// row is derived on read.
pub struct MailboxCheck {
    pub user: UserId,
    revs: BTreeMap<Rev, ConversationId>,
}

impl MailboxCheck {
    pub fn new(user: UserId) -> Self {
        Self { user, revs: BTreeMap::new() }
    }

    pub fn row(&mut self, row: &InboxRow, mirror: Option<&Mirror>, violations: &mut Violations) {
        let (user, conversation) = (self.user, row.conversation);
        let mut wrong = |what: String| {
            violations.add(Invariant::InboxIsTheFold, || format!("row of {user} for {conversation}: {what}"));
        };
        if let Some(other) = self.revs.insert(row.rev, conversation) {
            wrong(format!("rev {} is also that of {other}", row.rev));
        }
        let Some(mirror) = mirror else { return wrong("there is no such conversation".into()) };
        let Some(member) = mirror.members.iter().find(|member| member.user == user) else {
            return wrong("not a member".into());
        };
        let newest = Seq::new(mirror.events.len() as u64);
        let last = member.left_seq.unwrap_or(newest);
        let mut same = |what: &str, found: u64, expected: u64| {
            if found != expected {
                wrong(format!("{what} is {found}, the log says {expected}"));
            }
        };
        same("last_seq", row.last_seq.get(), last.get());
        same("joined_seq", row.joined_seq.get(), member.joined_seq.get());
        same("left_seq", row.left_seq.map_or(0, Seq::get), member.left_seq.map_or(0, Seq::get));
        if let Some((id, message_no)) = mirror.at(last) {
            same("last_message_no", row.last_message_no.get(), message_no.get());
            if row.last_event != id {
                wrong(format!("last_event_id is {}, the log says {id}", row.last_event));
                return;
            }
        }
        let mut same = |what: &str, found: Seq, expected: Seq| {
            if found != expected {
                wrong(format!("{what} is {found}, the log says {expected}"));
            }
        };
        // A new member of a group has read what was before; who writes has read.
        let own = mirror.last_own.get(&user).copied().unwrap_or(Seq::ZERO).min(last);
        let joined =
            if member.joined_seq > Seq::new(1) || !conversation.is_direct() { member.joined_seq } else { Seq::ZERO };
        let read = member.read_seq.max(own).max(joined);
        same("read_seq", row.read_seq, read);
        let others = || mirror.members.iter().filter(|member| member.user != user);
        let most = |of: fn(&MemberRow) -> Seq| others().map(of).max().unwrap_or(Seq::ZERO);
        if conversation.is_direct() {
            same("others_delivered_seq", row.others_delivered_seq, most(|member| member.delivered_seq));
            same("others_read_seq", row.others_read_seq, most(|member| member.read_seq));
        } else if row.others_read_seq > most(|member| member.read_seq) {
            // In a group only the senders of recent messages are told: never more than there is.
            same("others_read_seq", row.others_read_seq, most(|member| member.read_seq));
        }
        let expected = mirror.at(read).map_or(MessageNo::ZERO, |(_, message_no)| message_no);
        if row.read_message_no != expected {
            wrong(format!("read_message_no is {}, the log says {expected}", row.read_message_no));
        }
    }

    /// All rows are in: `expected` are the conversations that the user is, or was, a member of.
    pub fn finish(self, expected: impl IntoIterator<Item = ConversationId>, violations: &mut Violations) {
        let found: Vec<ConversationId> = self.revs.into_values().collect();
        for conversation in expected {
            if !found.contains(&conversation) {
                violations.add(Invariant::InboxIsTheFold, || format!("{} has no row for {conversation}", self.user));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::DirectPair;

    use super::*;

    const ANA: UserId = UserId::from_u128(1);
    const BEA: UserId = UserId::from_u128(2);

    /// Two messages of Bea's, the first of which Ana has read.
    fn mirror() -> Mirror {
        let mut mirror = Mirror::default();
        for number in 1..=2_u64 {
            mirror.event(EventId::from_u128(number.into()), MessageNo::new(number), BEA);
        }
        let member = |user, read: u64| MemberRow {
            user,
            joined_seq: Seq::new(1),
            left_seq: None,
            delivered_seq: Seq::new(read),
            read_seq: Seq::new(read),
            read_message_no: MessageNo::new(read),
        };
        mirror.member(member(ANA, 1));
        mirror.member(member(BEA, 0));
        mirror
    }

    fn row() -> InboxRow {
        InboxRow {
            conversation: DirectPair::new(ANA, BEA).conversation_id(),
            joined_seq: Seq::new(1),
            left_seq: None,
            last_seq: Seq::new(2),
            last_event: EventId::from_u128(2),
            last_message_no: MessageNo::new(2),
            read_seq: Seq::new(1),
            read_message_no: MessageNo::new(1),
            others_delivered_seq: Seq::ZERO,
            others_read_seq: Seq::ZERO,
            rev: Rev::new(5),
        }
    }

    fn violations(row: &InboxRow) -> u64 {
        let (mut check, mut violations) = (MailboxCheck::new(ANA), Violations::default());
        check.row(row, Some(&mirror()), &mut violations);
        check.finish([row.conversation], &mut violations);
        violations.count(Invariant::InboxIsTheFold)
    }

    #[test]
    fn the_fold_is_found_faultless_and_anything_else_is_not() {
        assert_eq!(violations(&row()), 0);
        assert_eq!(violations(&InboxRow { last_seq: Seq::new(1), ..row() }), 1);
        assert_eq!(violations(&InboxRow { read_seq: Seq::new(2), ..row() }), 1);
        assert_eq!(violations(&InboxRow { read_message_no: MessageNo::ZERO, ..row() }), 1);
        assert_eq!(violations(&InboxRow { others_read_seq: Seq::new(1), ..row() }), 1);
        assert_eq!(violations(&InboxRow { last_event: EventId::from_u128(1), ..row() }), 1);
    }

    #[test]
    fn a_missing_row_and_a_doubled_rev_are_found() {
        let (mut check, mut found) = (MailboxCheck::new(ANA), Violations::default());
        check.row(&row(), Some(&mirror()), &mut found);
        check.row(&row(), Some(&mirror()), &mut found);
        check.finish([row().conversation, ConversationId::from_u128(3)], &mut found);
        assert_eq!(found.count(Invariant::InboxIsTheFold), 2);
    }
}
