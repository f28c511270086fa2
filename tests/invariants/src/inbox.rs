//! I7: a user's inbox rows against the logs and the members' standings that they are the fold of; and I1 for standings.

use std::collections::{BTreeSet, HashMap};

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
    /// Of a direct conversation: whether this member blocks the other.
    pub blocks_peer: bool,
}

/// A conversation as its log and its members' standings say, gathered from the rows of the store. Small conversations only:
/// of large ones the row is derived on read.
#[derive(Debug, Clone)]
pub struct Mirror {
    conversation: ConversationId,
    /// Per seq from 1: the event's id and `message_no`.
    events: Vec<(EventId, MessageNo)>,
    /// The newest event of each sender.
    last_own: HashMap<UserId, Seq>,
    members: Vec<MemberRow>,
}

impl Mirror {
    pub fn new(conversation: ConversationId) -> Self {
        Self { conversation, events: Vec::new(), last_own: HashMap::new(), members: Vec::new() }
    }

    /// Events in order of seq, without a hole.
    pub fn event(&mut self, id: EventId, message_no: MessageNo, sender: UserId) {
        self.events.push((id, message_no));
        self.last_own.insert(sender, Seq::new(self.events.len() as u64));
    }

    pub fn member(&mut self, member: MemberRow) {
        self.members.push(member);
    }

    /// What was answered to a member's marks: at least that must be stored.
    pub fn check_marked(&self, user: UserId, delivered: Seq, read: Seq, violations: &mut Violations) {
        let member = self.members.iter().find(|member| member.user == user);
        if member.is_none_or(|member| member.delivered_seq < delivered || member.read_seq < read) {
            violations.add(Invariant::AckedIsDurable, || {
                let stored = member.map(|member| (member.delivered_seq, member.read_seq));
                format!("{}: the marks of {user}, acked as {delivered} and {read}, are {stored:?}", self.conversation)
            });
        }
    }

    /// What the row of each member, and of who has been one, must be.
    pub fn rows(&self) -> impl Iterator<Item = (UserId, ExpectedRow)> {
        self.members.iter().filter_map(|member| Some((member.user, self.row(member)?)))
    }

    fn row(&self, member: &MemberRow) -> Option<ExpectedRow> {
        let is_direct = self.conversation.is_direct();
        let last_seq = member.left_seq.unwrap_or(Seq::new(self.events.len() as u64));
        let (last_event, last_message_no) = self.at(last_seq)?;
        // A new member of a group has read what was before; who writes has read.
        let own = self.last_own.get(&member.user).copied().unwrap_or(Seq::ZERO).min(last_seq);
        let joined = if is_direct { Seq::ZERO } else { member.joined_seq };
        let read_seq = member.read_seq.max(own).max(joined);
        let others = || self.members.iter().filter(|other| other.user != member.user);
        let most = |of: fn(&MemberRow) -> Seq| others().map(of).max().unwrap_or(Seq::ZERO);
        let (delivered, read) = (most(|other| other.delivered_seq), most(|other| other.read_seq));
        // In a group only the senders of recent messages are told; across a block, nobody is.
        let has_block = self.members.iter().any(|member| member.blocks_peer);
        let bound = if is_direct && !has_block { Others::Exactly } else { Others::AtMost };
        Some(ExpectedRow {
            conversation: self.conversation,
            joined_seq: member.joined_seq,
            left_seq: member.left_seq,
            last_seq,
            last_event,
            last_message_no,
            read_seq,
            read_message_no: self.at(read_seq).map_or(MessageNo::ZERO, |(_, message_no)| message_no),
            others_delivered_seq: bound(delivered),
            others_read_seq: bound(read),
        })
    }

    fn at(&self, seq: Seq) -> Option<(EventId, MessageNo)> {
        self.events.get((seq.get() as usize).checked_sub(1)?).copied()
    }
}

/// What a row must be: the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedRow {
    pub conversation: ConversationId,
    joined_seq: Seq,
    left_seq: Option<Seq>,
    last_seq: Seq,
    last_event: EventId,
    last_message_no: MessageNo,
    read_seq: Seq,
    read_message_no: MessageNo,
    others_delivered_seq: Others,
    others_read_seq: Others,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Exactly(Seq),
    AtMost(Seq),
}

/// An inbox row as the store of the mailbox has it, or as `sync` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRow {
    pub conversation: ConversationId,
    pub joined_seq: Seq,
    pub left_seq: Option<Seq>,
    pub last_seq: Seq,
    pub last_event: EventId,
    pub last_message_no: MessageNo,
    pub read_seq: Seq,
    /// `None` where it cannot be told: `sync` gives `unread`, which is 0 for who has left.
    pub read_message_no: Option<MessageNo>,
    pub others_delivered_seq: Seq,
    pub others_read_seq: Seq,
    /// Stored only.
    pub rev: Option<Rev>,
}

/// Checks one user's rows, all of one source: hand them in, then [`finish`](Self::finish).
#[derive(Debug)]
pub struct MailboxCheck<'a> {
    user: UserId,
    expected: &'a [ExpectedRow],
    found: BTreeSet<ConversationId>,
    revs: BTreeSet<Rev>,
}

impl<'a> MailboxCheck<'a> {
    /// `expected` are the rows of all conversations that the user is, or was, a member of.
    pub fn new(user: UserId, expected: &'a [ExpectedRow]) -> Self {
        Self { user, expected, found: BTreeSet::new(), revs: BTreeSet::new() }
    }

    pub fn row(&mut self, row: &InboxRow, violations: &mut Violations) {
        let (user, conversation) = (self.user, row.conversation);
        let mut wrong = |what: String| {
            violations.add(Invariant::InboxIsTheFold, || format!("row of {user} for {conversation}: {what}"));
        };
        if row.rev.is_some_and(|rev| !self.revs.insert(rev)) {
            wrong("another row has the same rev".into());
        }
        if !self.found.insert(conversation) {
            wrong("there are two".into());
        }
        let Some(expected) = self.expected.iter().find(|expected| expected.conversation == conversation) else {
            return wrong("not a member, or nothing was ever said".into());
        };
        let mut same = |what: &str, found: u64, expected: u64| {
            if found != expected {
                wrong(format!("{what} is {found}, the log says {expected}"));
            }
        };
        same("joined_seq", row.joined_seq.get(), expected.joined_seq.get());
        same("left_seq", row.left_seq.map_or(0, Seq::get), expected.left_seq.map_or(0, Seq::get));
        same("last_seq", row.last_seq.get(), expected.last_seq.get());
        same("last_message_no", row.last_message_no.get(), expected.last_message_no.get());
        same("read_seq", row.read_seq.get(), expected.read_seq.get());
        if let Some(read_message_no) = row.read_message_no {
            same("read_message_no", read_message_no.get(), expected.read_message_no.get());
        }
        let mut others = |what: &str, found: Seq, expected: Others| match expected {
            Others::Exactly(expected) => same(what, found.get(), expected.get()),
            Others::AtMost(most) => same(what, found.max(most).get(), most.get()),
        };
        others("others_delivered_seq", row.others_delivered_seq, expected.others_delivered_seq);
        others("others_read_seq", row.others_read_seq, expected.others_read_seq);
        if row.last_event != expected.last_event {
            wrong(format!("last_event_id is {}, the log says {}", row.last_event, expected.last_event));
        }
    }

    /// All rows are in.
    pub fn finish(self, violations: &mut Violations) {
        for expected in self.expected {
            if !self.found.contains(&expected.conversation) {
                violations.add(Invariant::InboxIsTheFold, || {
                    format!("{} has no row for {}", self.user, expected.conversation)
                });
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
    const GROUP: ConversationId = ConversationId::from_u128(3);

    fn member(user: UserId, joined: u64, left: Option<u64>, read: u64) -> MemberRow {
        MemberRow {
            user,
            joined_seq: Seq::new(joined),
            left_seq: left.map(Seq::new),
            delivered_seq: Seq::new(read),
            read_seq: Seq::new(read),
            read_message_no: MessageNo::new(read),
            blocks_peer: false,
        }
    }

    /// Messages of Bea's.
    fn mirror(conversation: ConversationId, messages: u64, members: [MemberRow; 2]) -> Mirror {
        let mut mirror = Mirror::new(conversation);
        (1..=messages).for_each(|number| mirror.event(EventId::from_u128(number.into()), MessageNo::new(number), BEA));
        members.into_iter().for_each(|it| mirror.member(it));
        mirror
    }

    /// Two of them, of which Ana has read one.
    fn direct() -> Mirror {
        let id = DirectPair::new(ANA, BEA).conversation_id();
        mirror(id, 2, [member(ANA, 1, None, 1), member(BEA, 1, None, 0)])
    }

    fn expected(mirror: &Mirror) -> Vec<ExpectedRow> {
        mirror.rows().filter(|(user, _)| *user == ANA).map(|(_, row)| row).collect()
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
            read_message_no: Some(MessageNo::new(1)),
            others_delivered_seq: Seq::ZERO,
            others_read_seq: Seq::ZERO,
            rev: Some(Rev::new(5)),
        }
    }

    fn violations(mirror: &Mirror, row: &InboxRow) -> u64 {
        let (expected, mut violations) = (expected(mirror), Violations::default());
        let mut check = MailboxCheck::new(ANA, &expected);
        check.row(row, &mut violations);
        check.finish(&mut violations);
        violations.count(Invariant::InboxIsTheFold)
    }

    #[test]
    fn the_fold_is_found_faultless_and_anything_else_is_not() {
        let direct = direct();
        assert_eq!(violations(&direct, &row()), 0);
        assert_eq!(violations(&direct, &InboxRow { rev: None, read_message_no: None, ..row() }), 0);
        assert_eq!(violations(&direct, &InboxRow { joined_seq: Seq::new(2), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { left_seq: Some(Seq::new(2)), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { last_seq: Seq::new(1), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { last_message_no: MessageNo::new(1), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { read_seq: Seq::new(2), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { read_message_no: Some(MessageNo::ZERO), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { others_read_seq: Seq::new(1), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { others_delivered_seq: Seq::new(1), ..row() }), 1);
        assert_eq!(violations(&direct, &InboxRow { last_event: EventId::from_u128(1), ..row() }), 1);
    }

    #[test]
    fn across_a_block_the_others_marks_may_be_behind_and_nothing_else() {
        let id = DirectPair::new(ANA, BEA).conversation_id();
        let bea = MemberRow { delivered_seq: Seq::new(2), ..member(BEA, 1, None, 0) };
        for (ana_blocks, bea_blocks) in [(true, false), (false, true)] {
            let ana = MemberRow { blocks_peer: ana_blocks, ..member(ANA, 1, None, 1) };
            let blocked = mirror(id, 2, [ana, MemberRow { blocks_peer: bea_blocks, ..bea }]);
            assert_eq!(violations(&blocked, &row()), 0);
            assert_eq!(violations(&blocked, &InboxRow { others_delivered_seq: Seq::new(3), ..row() }), 1);
            assert_eq!(violations(&blocked, &InboxRow { last_seq: Seq::new(1), ..row() }), 1);
        }
        let open = mirror(id, 2, [member(ANA, 1, None, 1), bea]);
        assert_eq!(violations(&open, &row()), 1);
    }

    #[test]
    fn a_missing_row_one_too_many_and_a_doubled_rev_are_found() {
        let (expected, mut found) = (expected(&direct()), Violations::default());
        MailboxCheck::new(ANA, &expected).finish(&mut found);
        assert_eq!(found.count(Invariant::InboxIsTheFold), 1);
        let mut check = MailboxCheck::new(ANA, &expected);
        check.row(&row(), &mut found);
        check.row(&InboxRow { conversation: GROUP, ..row() }, &mut found);
        check.finish(&mut found);
        assert_eq!(found.count(Invariant::InboxIsTheFold), 3);
    }

    #[test]
    fn who_came_later_has_read_what_was_before_and_who_left_stays_there() {
        let group = mirror(GROUP, 9, [member(ANA, 4, Some(7), 2), member(BEA, 1, None, 9)]);
        let gone = InboxRow {
            conversation: GROUP,
            joined_seq: Seq::new(4),
            left_seq: Some(Seq::new(7)),
            last_seq: Seq::new(7),
            last_event: EventId::from_u128(7),
            last_message_no: MessageNo::new(7),
            read_seq: Seq::new(4),
            read_message_no: Some(MessageNo::new(4)),
            others_read_seq: Seq::new(6),
            ..row()
        };
        assert_eq!(violations(&group, &gone), 0);
        assert_eq!(violations(&group, &InboxRow { others_read_seq: Seq::new(10), ..gone }), 1, "more than there is");
        assert_eq!(violations(&group, &InboxRow { last_seq: Seq::new(9), ..gone }), 1);
    }

    #[test]
    fn a_mark_that_was_acked_and_is_not_stored_is_found() {
        let (direct, mut found) = (direct(), Violations::default());
        direct.check_marked(ANA, Seq::new(1), Seq::new(1), &mut found);
        assert!(found.is_empty());
        direct.check_marked(ANA, Seq::new(2), Seq::new(1), &mut found);
        direct.check_marked(ANA, Seq::new(1), Seq::new(2), &mut found);
        direct.check_marked(UserId::from_u128(9), Seq::new(1), Seq::ZERO, &mut found);
        assert_eq!(found.count(Invariant::AckedIsDurable), 3);
    }
}
