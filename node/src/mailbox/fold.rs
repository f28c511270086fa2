//! The fold of one event into one inbox row. Pure; applying the log from the start gives what applying its news gives.

use tertulia_shard_map::{ConversationId, DirectPair, EventId, MessageNo, Seq, UserId};
use tertulia_wire::cluster::{DeliverEvent, InboxRow};

/// What a row needs to know of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldItem {
    pub user: UserId,
    pub conversation: ConversationId,
    pub peer: Option<UserId>,
    pub sender: UserId,
    pub id: EventId,
    pub seq: Seq,
    pub message_no: MessageNo,
    pub created_at_ms: i64,
}

impl FoldItem {
    pub fn new(user: UserId, event: &DeliverEvent) -> Self {
        let record = &event.record;
        Self {
            user,
            conversation: record.conversation,
            peer: event.direct.map(|pair| peer_of(pair, user)),
            sender: record.sender,
            id: record.id,
            seq: record.seq,
            message_no: record.message_no,
            created_at_ms: record.created_at_ms,
        }
    }
}

fn peer_of(pair: DirectPair, user: UserId) -> UserId {
    if pair.lo() == user { pair.hi() } else { pair.lo() }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    Changed(InboxRow),
    /// Seen before.
    Duplicate,
    /// Events after this seq are missing in between.
    Gap {
        after: Seq,
    },
}

pub fn fold(row: Option<&InboxRow>, item: &FoldItem) -> Folded {
    let last = row.map_or(Seq::ZERO, |row| row.last_seq);
    if item.seq <= last {
        return Folded::Duplicate;
    }
    if item.seq > last.next() {
        return Folded::Gap { after: last };
    }
    Folded::Changed(apply(row, item))
}

/// The row after the event, whatever was before: all that a row says is absolute, so it is right but for reads that the
/// user's own missing events would have marked.
pub fn apply(row: Option<&InboxRow>, item: &FoldItem) -> InboxRow {
    let mut changed = InboxRow {
        conversation: item.conversation,
        peer: item.peer,
        last_seq: item.seq,
        last_event_id: item.id,
        last_at_ms: item.created_at_ms,
        last_message_no: item.message_no,
        read_seq: row.map_or(Seq::ZERO, |row| row.read_seq),
        read_message_no: row.map_or(MessageNo::ZERO, |row| row.read_message_no),
    };
    // Who writes has read.
    if item.sender == item.user {
        changed.read_seq = item.seq;
        changed.read_message_no = item.message_no;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_u128(1);
    const BEA: UserId = UserId::from_u128(2);

    fn item(user: UserId, sender: UserId, seq: u64) -> FoldItem {
        FoldItem {
            user,
            conversation: DirectPair::new(ANA, BEA).conversation_id(),
            peer: Some(peer_of(DirectPair::new(ANA, BEA), user)),
            sender,
            id: EventId::from_u128(seq.into()),
            seq: Seq::new(seq),
            message_no: MessageNo::new(seq),
            created_at_ms: seq as i64,
        }
    }

    fn folded(row: Option<&InboxRow>, item: &FoldItem) -> InboxRow {
        match fold(row, item) {
            Folded::Changed(row) => row,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unread_is_what_others_wrote_since_one_wrote_oneself() {
        let first = folded(None, &item(ANA, BEA, 1));
        assert_eq!((first.unread(), first.peer), (1, Some(BEA)));
        let second = folded(Some(&first), &item(ANA, BEA, 2));
        assert_eq!(second.unread(), 2);
        let own = folded(Some(&second), &item(ANA, ANA, 3));
        assert_eq!(own.unread(), 0);
        assert_eq!(folded(Some(&own), &item(ANA, BEA, 4)).unread(), 1);
    }

    #[test]
    fn what_was_seen_changes_nothing_and_a_hole_is_noticed() {
        let row = folded(Some(&folded(None, &item(ANA, BEA, 1))), &item(ANA, BEA, 2));
        assert_eq!(fold(Some(&row), &item(ANA, BEA, 1)), Folded::Duplicate);
        assert_eq!(fold(Some(&row), &item(ANA, BEA, 2)), Folded::Duplicate);
        assert_eq!(fold(Some(&row), &item(ANA, BEA, 4)), Folded::Gap { after: Seq::new(2) });
        assert_eq!(fold(None, &item(ANA, BEA, 2)), Folded::Gap { after: Seq::ZERO });
    }
}
