//! I7: an inbox row against what the log and the members' standings say of it. Pure.
//!
//! Nothing stands still meanwhile: the log grows, and the rows follow it. So a row is held between two sights of the log,
//! one from before the row was read, which it has to reach in time, and one from after, which it cannot have passed. What
//! the row says of the event that it has come to must be that event's at any time.

use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, UserId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    pub user: UserId,
    pub conversation: ConversationId,
}

/// Whether the marks of the others are told in full: in direct conversations without a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Exact,
    AtMost,
}

/// What a row must be, as the log and the standings were at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub key: RowKey,
    /// Of a large group the row is told of some events only.
    pub large: bool,
    pub joined_seq: Seq,
    pub left_seq: Option<Seq>,
    pub last: Position,
    pub read: Position,
    pub others: Others,
    pub others_delivered_seq: Seq,
    pub others_read_seq: Seq,
}

/// A place in the log. What is there is absent where the log has a hole, which is not the row's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub seq: Seq,
    pub event: Option<EventId>,
    pub message_no: Option<MessageNo>,
}

/// As the store of the mailbox has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub large: bool,
    pub joined_seq: Seq,
    pub left_seq: Option<Seq>,
    pub last_seq: Seq,
    pub last_event: EventId,
    pub last_message_no: MessageNo,
    pub read_seq: Seq,
    pub read_message_no: MessageNo,
    pub others_delivered_seq: Seq,
    pub others_read_seq: Seq,
}

/// A row, and the log as it was after the row had been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    pub row: Option<Row>,
    pub now: Due,
    /// The events where the row is, and up to where it says that its user has read.
    pub last: Position,
    pub read: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// It has not reached what was due yet.
    Behind(String),
    /// It will not become right by itself.
    Wrong(String),
    /// The user came or went between the two sights: to be looked at again, from the later one.
    Changing,
}

/// Holds a row against the log as it was before (`due`) and after (`sight.now`) the row was read.
pub fn judge(due: &Due, sight: &Sight) -> Verdict {
    let now = &sight.now;
    let Some(row) = &sight.row else { return Verdict::Behind("there is no row".to_owned()) };
    if (due.joined_seq, due.left_seq, due.large) != (now.joined_seq, now.left_seq, now.large) {
        return Verdict::Changing;
    }
    let mut compared = Compared::default();
    compared.equal("joined_seq", row.joined_seq.get(), now.joined_seq.get());
    compared.equal("left_seq", row.left_seq.map_or(0, Seq::get), now.left_seq.map_or(0, Seq::get));
    compared.equal("large", row.large.into(), now.large.into());
    compared.between("last_seq", row.last_seq, due.least_last_seq(), now.last.seq);
    compared.between("read_seq", row.read_seq, due.read.seq, now.read.seq);
    let least = |others: Seq| match (due.others, now.others) {
        (Others::Exact, Others::Exact) => others,
        _ => Seq::ZERO,
    };
    let (delivered, read) = (least(due.others_delivered_seq), least(due.others_read_seq));
    compared.between("others_delivered_seq", row.others_delivered_seq, delivered, now.others_delivered_seq);
    compared.between("others_read_seq", row.others_read_seq, read, now.others_read_seq);
    compared.at("last", row.last_seq, Some(row.last_event), row.last_message_no, sight.last);
    compared.at("read", row.read_seq, None, row.read_message_no, sight.read);
    compared.verdict()
}

impl Due {
    /// Whether the row is this, as it is wherever nothing goes on.
    pub fn is_met_by(&self, row: Option<&Row>) -> bool {
        let sight = Sight { row: row.copied(), now: *self, last: self.last, read: self.read };
        judge(self, &sight) == Verdict::Right
    }

    fn least_last_seq(&self) -> Seq {
        match self.left_seq {
            None if self.large => self.joined_seq,
            _ => self.last.seq,
        }
    }
}

#[derive(Default)]
struct Compared {
    behind: Option<String>,
    wrong: Option<String>,
}

impl Compared {
    /// Either may still become the other.
    fn equal(&mut self, what: &str, found: u64, expected: u64) {
        if found != expected {
            self.behind.get_or_insert_with(|| format!("{what} is {found}, the log says {expected}"));
        }
    }

    fn between(&mut self, what: &str, found: Seq, least: Seq, most: Seq) {
        if found < least {
            self.behind.get_or_insert_with(|| format!("{what} is {found}, the log says {least}"));
        }
        if found > most {
            self.wrong.get_or_insert_with(|| format!("{what} is {found}, above the log's {most}"));
        }
    }

    fn at(&mut self, what: &str, seq: Seq, event: Option<EventId>, message_no: MessageNo, log: Position) {
        if log.seq != seq {
            return;
        }
        if let Some((event, logged)) = event.zip(log.event).filter(|(event, logged)| event != logged) {
            self.wrong.get_or_insert_with(|| format!("{what}_event_id is {event}, the log has {logged} at seq {seq}"));
        }
        if let Some(logged) = log.message_no.filter(|logged| *logged != message_no) {
            self.wrong
                .get_or_insert_with(|| format!("{what}_message_no is {message_no}, the log has {logged} at seq {seq}"));
        }
    }

    fn verdict(self) -> Verdict {
        match (self.wrong, self.behind) {
            (Some(wrong), _) => Verdict::Wrong(wrong),
            (None, Some(behind)) => Verdict::Behind(behind),
            (None, None) => Verdict::Right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Position {
        let event = (seq > 0).then(|| EventId::from_u128(seq.into()));
        Position { seq: Seq::new(seq), event, message_no: Some(MessageNo::new(seq)) }
    }

    /// A direct conversation of so many messages, of which one is read.
    fn due(last: u64) -> Due {
        Due {
            key: RowKey { user: UserId::from_u128(1), conversation: ConversationId::from_u128(2) },
            large: false,
            joined_seq: Seq::new(1),
            left_seq: None,
            last: at(last),
            read: at(1),
            others: Others::Exact,
            others_delivered_seq: Seq::new(1),
            others_read_seq: Seq::ZERO,
        }
    }

    fn row(last: u64) -> Row {
        Row {
            large: false,
            joined_seq: Seq::new(1),
            left_seq: None,
            last_seq: Seq::new(last),
            last_event: EventId::from_u128(last.into()),
            last_message_no: MessageNo::new(last),
            read_seq: Seq::new(1),
            read_message_no: MessageNo::new(1),
            others_delivered_seq: Seq::new(1),
            others_read_seq: Seq::ZERO,
        }
    }

    fn judged(due: &Due, row: Row, now: Due) -> Verdict {
        let (last, read) = (at(row.last_seq.get()), at(row.read_seq.get()));
        judge(due, &Sight { row: Some(row), now, last, read })
    }

    #[test]
    fn a_row_between_two_sights_of_a_growing_log_is_right() {
        for last in 3..=5 {
            assert_eq!(judged(&due(3), row(last), due(5)), Verdict::Right, "{last}");
        }
        assert!(matches!(judged(&due(3), row(2), due(5)), Verdict::Behind(_)));
        assert!(matches!(judged(&due(3), row(6), due(5)), Verdict::Wrong(_)));
    }

    #[test]
    fn a_row_that_is_missing_may_come_and_one_of_who_comes_or_goes_is_looked_at_again() {
        let sight = Sight { row: None, now: due(3), last: at(3), read: at(1) };
        assert!(matches!(judge(&due(3), &sight), Verdict::Behind(_)));
        let left = Due { left_seq: Some(Seq::new(3)), ..due(3) };
        assert_eq!(judged(&due(3), row(3), left), Verdict::Changing);
        assert!(matches!(judged(&left, row(3), left), Verdict::Behind(_)));
        assert_eq!(judged(&left, Row { left_seq: Some(Seq::new(3)), ..row(3) }, left), Verdict::Right);
    }

    #[test]
    fn what_a_row_says_of_an_event_is_that_events() {
        let behind = [
            Row { joined_seq: Seq::new(2), ..row(3) },
            Row { read_seq: Seq::ZERO, read_message_no: MessageNo::ZERO, ..row(3) },
            Row { others_delivered_seq: Seq::ZERO, ..row(3) },
        ];
        for row in behind {
            assert!(matches!(judged(&due(3), row, due(3)), Verdict::Behind(_)), "{row:?}");
        }
        let wrong = [
            Row { last_event: EventId::from_u128(9), ..row(3) },
            Row { last_message_no: MessageNo::new(2), ..row(3) },
            Row { read_message_no: MessageNo::new(2), ..row(3) },
            Row { read_seq: Seq::new(2), read_message_no: MessageNo::new(2), ..row(3) },
            Row { others_read_seq: Seq::new(1), ..row(3) },
        ];
        for row in wrong {
            assert!(matches!(judged(&due(3), row, due(3)), Verdict::Wrong(_)), "{row:?}");
        }
    }

    #[test]
    fn where_not_all_marks_are_told_a_row_may_have_less_and_not_more() {
        let told = Due { others: Others::AtMost, ..due(3) };
        assert_eq!(judged(&told, Row { others_delivered_seq: Seq::ZERO, ..row(3) }, told), Verdict::Right);
        let more = Row { others_delivered_seq: Seq::new(2), ..row(3) };
        assert!(matches!(judged(&told, more, told), Verdict::Wrong(_)));
    }

    #[test]
    fn of_a_large_group_a_row_may_stay_at_what_came_to_it() {
        let large = Due { large: true, others: Others::AtMost, ..due(9) };
        let told = Row { large: true, ..row(4) };
        assert_eq!(judged(&large, told, large), Verdict::Right);
        assert!(matches!(judged(&large, Row { large: false, ..told }, large), Verdict::Behind(_)));
        assert!(matches!(judged(&large, Row { large: true, ..row(10) }, large), Verdict::Wrong(_)));
    }

    #[test]
    fn a_hole_in_the_log_is_not_held_against_the_row() {
        let hole = Position { event: None, message_no: None, ..at(3) };
        let other = Row { last_event: EventId::from_u128(9), ..row(3) };
        let sight = Sight { row: Some(other), now: due(3), last: hole, read: at(1) };
        assert_eq!(judge(&due(3), &sight), Verdict::Right);
    }
}
