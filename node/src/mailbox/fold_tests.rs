//! A log, its standings and a mailbox in memory: however the entries come, the row is in the end what the log says.

use bytes::Bytes;
use proptest::prelude::*;
use tertulia_shard_map::{ConversationId, DirectPair, EventId, MessageNo, Seq, UserId};
use tertulia_wire::{
    EventKind, EventRecord,
    cluster::{ConversationView, DeliverStanding, GroupSize, InboxRow, Membership, Standing},
};

use super::fold::*;

const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);
const GROUP: ConversationId = ConversationId::from_u128(77);

fn pair() -> DirectPair {
    DirectPair::new(ANA, BEA)
}

fn direct() -> ConversationView {
    ConversationView::Direct { pair: pair(), blocked: false }
}

fn group(name: &str, size: GroupSize) -> ConversationView {
    ConversationView::Group { name: name.into(), size }
}

fn record(conversation: ConversationId, sender: UserId, seq: u64, message_no: u64) -> EventRecord {
    EventRecord {
        id: EventId::from_u128(u128::from(seq) * 10),
        conversation,
        seq: Seq::new(seq),
        message_no: MessageNo::new(message_no),
        kind: EventKind::Message,
        sender,
        created_at_ms: seq as i64,
        temp_id: seq.to_string(),
        body: Bytes::new(),
        target: None,
        since: None,
    }
}

fn event(view: ConversationView, sender: UserId, seq: u64) -> EventFacts {
    let conversation = if matches!(view, ConversationView::Direct { .. }) { pair().conversation_id() } else { GROUP };
    EventFacts::new(&record(conversation, sender, seq, seq), view)
}

fn folded(row: Option<&InboxRow>, membership: Membership, event: &EventFacts) -> InboxRow {
    match fold(row, ANA, membership, event) {
        Folded::Changed(row) => row,
        other => panic!("{other:?}"),
    }
}

fn standing(user: UserId, read: u64) -> Standing {
    let read_seq = Seq::new(read);
    Standing { user, delivered_seq: read_seq, read_seq, read_message_no: MessageNo::new(read), blocks_peer: false }
}

#[test]
fn unread_is_what_others_wrote_since_one_wrote_or_read() {
    let stays = Membership::Stays;
    let first = folded(None, stays, &event(direct(), BEA, 1));
    assert_eq!((first.unread(), first.peer, first.joined_seq), (1, Some(BEA), Seq::new(1)));
    let second = folded(Some(&first), stays, &event(direct(), BEA, 2));
    assert_eq!(second.unread(), 2);
    let read = stand(&second, ANA, &standing(ANA, 1)).expect("it is news");
    assert_eq!(read.unread(), 1);
    assert_eq!(stand(&read, ANA, &standing(ANA, 1)), None);
    let own = folded(Some(&read), stays, &event(direct(), ANA, 3));
    assert_eq!(own.unread(), 0);
    assert_eq!(folded(Some(&own), stays, &event(direct(), BEA, 4)).unread(), 1);
}

#[test]
fn what_was_seen_changes_nothing_and_a_hole_is_noticed() {
    let stays = Membership::Stays;
    let row = folded(Some(&folded(None, stays, &event(direct(), BEA, 1))), stays, &event(direct(), BEA, 2));
    assert_eq!(fold(Some(&row), ANA, stays, &event(direct(), BEA, 1)), Folded::Unchanged);
    assert_eq!(fold(Some(&row), ANA, stays, &event(direct(), BEA, 2)), Folded::Unchanged);
    assert_eq!(fold(Some(&row), ANA, stays, &event(direct(), BEA, 4)), Folded::Gap { after: Seq::new(2) });
    assert_eq!(fold(None, ANA, stays, &event(direct(), BEA, 2)), Folded::Gap { after: Seq::ZERO });
    let small = || group("us", GroupSize::Small);
    assert_eq!(fold(None, ANA, stays, &event(small(), BEA, 1)), Folded::Gap { after: Seq::ZERO });
}

#[test]
fn a_member_comes_goes_and_comes_back_as_one_who_is_new() {
    let small = || group("us", GroupSize::Small);
    let joined = folded(None, Membership::Joins, &event(small(), BEA, 5));
    assert_eq!((joined.joined_seq, joined.read_seq, joined.unread()), (Seq::new(5), Seq::new(5), 0));
    let heard = folded(Some(&joined), Membership::Stays, &event(small(), BEA, 6));
    assert_eq!(heard.unread(), 1);
    let gone = folded(Some(&heard), Membership::Leaves, &event(small(), BEA, 7));
    assert_eq!((gone.left_seq, gone.last_seq, gone.unread()), (Some(Seq::new(7)), Seq::new(7), 0));
    assert_eq!(fold(Some(&gone), ANA, Membership::Stays, &event(small(), BEA, 8)), Folded::Unchanged);
    let back = folded(Some(&gone), Membership::Joins, &event(small(), BEA, 20));
    assert_eq!((back.joined_seq, back.left_seq, back.read_seq), (Seq::new(20), None, Seq::new(20)));
    assert_eq!(fold(Some(&back), ANA, Membership::Leaves, &event(small(), BEA, 7)), Folded::Unchanged);
}

#[test]
fn of_a_large_group_comes_only_what_concerns_the_user() {
    let joined = folded(None, Membership::Joins, &event(group("us", GroupSize::Small), BEA, 1));
    let crossing = folded(Some(&joined), Membership::Stays, &event(group("us", GroupSize::Large), BEA, 9));
    assert_eq!((crossing.size, crossing.last_seq, crossing.read_seq), (GroupSize::Large, Seq::new(9), Seq::new(1)));
    let own = folded(Some(&crossing), Membership::Stays, &event(group("all", GroupSize::Large), ANA, 40));
    assert_eq!((own.read_seq, own.name.as_deref()), (Seq::new(40), Some("all")));
    let late = event(group("all", GroupSize::Large), BEA, 12);
    assert_eq!(fold(Some(&own), ANA, Membership::Stays, &late), Folded::Unchanged, "never back");
}

#[test]
fn across_a_block_only_ones_own_standing_is_told() {
    let told = |blocked| DeliverStanding {
        id: EventId::from_u128(1),
        conversation: pair().conversation_id(),
        view: ConversationView::Direct { pair: pair(), blocked },
        standing: standing(BEA, 1),
        origin: None,
    };
    assert!(is_told(ANA, &told(false)));
    assert!(!is_told(ANA, &told(true)));
    assert!(is_told(BEA, &told(true)));
    let without_marks = DeliverStanding { standing: standing(BEA, 0), ..told(false) };
    assert!(is_told(ANA, &without_marks) && !is_pushed(ANA, &without_marks), "an unblock is not to be noticed");
    assert!(is_pushed(ANA, &told(false)) && !is_pushed(ANA, &told(true)));
}

#[test]
fn who_left_learns_nothing_of_what_came_later() {
    let joined = folded(None, Membership::Joins, &event(group("us", GroupSize::Small), BEA, 1));
    let gone = folded(Some(&joined), Membership::Leaves, &event(group("named later", GroupSize::Small), BEA, 2));
    assert_eq!(gone.name.as_deref(), Some("us"));
    assert_eq!(stand(&gone, ANA, &standing(BEA, 2)), None);
    assert!(stand(&gone, ANA, &standing(ANA, 2)).is_some(), "her own mark is hers");
    assert!(stand(&joined, ANA, &standing(BEA, 1)).is_some());
}

/// An entry of the log as Ana's mailbox gets it.
#[derive(Debug, Clone)]
enum Entry {
    Event { record: EventRecord, membership: Membership, view: ConversationView },
    Standing(Standing),
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Writes { ana: bool, counts: bool },
    Reads { ana: bool, back: u8 },
    Rename,
    LeaveOrJoin,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (any::<bool>(), any::<bool>()).prop_map(|(ana, counts)| Act::Writes { ana, counts }),
        4 => (any::<bool>(), 0_u8..4).prop_map(|(ana, back)| Act::Reads { ana, back }),
        1 => Just(Act::Rename),
        1 => Just(Act::LeaveOrJoin),
    ]
}

/// What happened, and what Ana's row must be.
struct World {
    entries: Vec<Entry>,
    /// The whole log, for what is missing.
    log: Vec<EventRecord>,
    joined: Seq,
    left: Option<Seq>,
    /// At any time.
    has_left: bool,
    view: ConversationView,
}

impl World {
    fn new(acts: &[Act], is_group: bool) -> Self {
        let view = if is_group { group("0", GroupSize::Small) } else { direct() };
        let mut world =
            Self { entries: Vec::new(), log: Vec::new(), joined: Seq::ZERO, left: None, has_left: false, view };
        let (mut message_no, mut names) = (0, 0);
        let mut is_member = !is_group;
        if is_group {
            world.commit(BEA, 0, Membership::Joins);
            (world.joined, is_member) = (Seq::new(1), true);
        }
        for act in acts {
            let sender = |ana: bool| if ana && is_member { ANA } else { BEA };
            match *act {
                Act::Writes { ana, counts } => {
                    message_no += u64::from(counts || world.log.is_empty());
                    world.event(sender(ana), message_no, Membership::Stays, is_member);
                }
                Act::Reads { ana, back } => {
                    let seq = (world.log.len() as u64).saturating_sub(back.into());
                    if seq > 0 && is_member {
                        let mut it = standing(sender(ana), seq);
                        it.read_message_no = world.log[seq as usize - 1].message_no;
                        world.entries.push(Entry::Standing(it));
                    }
                }
                Act::Rename if is_group => {
                    names += 1;
                    world.view = group(&names.to_string(), GroupSize::Small);
                    world.event(BEA, message_no, Membership::Stays, is_member);
                }
                Act::LeaveOrJoin if is_group && is_member => {
                    world.commit(BEA, message_no, Membership::Leaves);
                    (world.left, is_member) = (Some(Seq::new(world.log.len() as u64)), false);
                    world.has_left = true;
                }
                Act::LeaveOrJoin if is_group => {
                    world.commit(BEA, message_no, Membership::Joins);
                    (world.joined, world.left) = (Seq::new(world.log.len() as u64), None);
                    is_member = true;
                }
                Act::Rename | Act::LeaveOrJoin => {}
            }
        }
        world
    }

    fn event(&mut self, sender: UserId, message_no: u64, membership: Membership, is_told: bool) {
        self.commit(sender, message_no, membership);
        if !is_told {
            self.entries.pop();
        }
    }

    fn commit(&mut self, sender: UserId, message_no: u64, membership: Membership) {
        let conversation = if self.view == direct() { pair().conversation_id() } else { GROUP };
        let record = record(conversation, sender, self.log.len() as u64 + 1, message_no);
        self.log.push(record.clone());
        self.entries.push(Entry::Event { record, membership, view: self.view.clone() });
    }

    /// What the owner answers to Ana's mailbox.
    fn history(&self, after: Seq) -> Vec<EventRecord> {
        let is_seen = |record: &&EventRecord| {
            record.seq > after && record.seq >= self.joined && self.left.is_none_or(|left| record.seq <= left)
        };
        self.log.iter().filter(is_seen).cloned().collect()
    }

    /// The farthest that Ana has read, joined or written.
    fn read(&self, last: Seq) -> Seq {
        let marks = self.entries.iter().map(|entry| match entry {
            Entry::Standing(standing) if standing.user == ANA => standing.read_seq,
            Entry::Event { record, .. } if record.sender == ANA => record.seq,
            Entry::Standing(_) | Entry::Event { .. } => Seq::ZERO,
        });
        marks.max().unwrap_or(Seq::ZERO).max(self.joined).min(last)
    }

    fn take(&self, row: Option<InboxRow>, entry: &Entry) -> Option<InboxRow> {
        match entry {
            Entry::Standing(standing) => match &row {
                Some(known) => stand(known, ANA, standing).or(row),
                None => None,
            },
            Entry::Event { record, membership, view } => {
                let event = EventFacts::new(record, view.clone());
                match fold(row.as_ref(), ANA, *membership, &event) {
                    Folded::Unchanged => row,
                    Folded::Changed(changed) => Some(changed),
                    Folded::Gap { after } => {
                        let mut missing = self.history(after);
                        missing.retain(|it| it.seq < record.seq);
                        let filled = fill(row.as_ref(), ANA, &missing, view);
                        Some(apply(filled.as_ref(), ANA, *membership, &event))
                    }
                }
            }
        }
    }

    fn in_order(&self, row: Option<InboxRow>) -> Option<InboxRow> {
        self.entries.iter().fold(row, |row, entry| self.take(row, entry))
    }
}

proptest! {
    #[test]
    fn a_log_that_comes_in_pieces_twice_and_from_the_middle_folds_to_the_same_row(
        acts in prop::collection::vec(act(), 1..40),
        is_group in any::<bool>(),
        pieces in prop::collection::vec((0_usize..40, 1_usize..10), 0..12),
    ) {
        let world = World::new(&acts, is_group);
        let expected = world.in_order(None);
        let mut row = None;
        for (start, length) in pieces {
            for entry in world.entries.iter().skip(start).take(length) {
                row = world.take(row, entry);
            }
        }
        // In the end everything is sent again, from the last cursor.
        row = world.in_order(row);
        if world.has_left {
            // A row that was ahead, at a time when she had left, took no standings of others from before.
            let others = |row: &Option<InboxRow>| {
                row.as_ref().map_or((Seq::ZERO, Seq::ZERO), |row| (row.others_delivered_seq, row.others_read_seq))
            };
            let (found, most) = (others(&row), others(&expected));
            prop_assert!(found.0 <= most.0 && found.1 <= most.1);
            if let Some(row) = &mut row {
                (row.others_delivered_seq, row.others_read_seq) = most;
            }
        }
        prop_assert_eq!(&row, &expected);
        if let Some(row) = row {
            let last = world.left.unwrap_or(Seq::new(world.log.len() as u64));
            prop_assert_eq!((row.last_seq, row.joined_seq.max(Seq::new(1))), (last, world.joined.max(Seq::new(1))));
            prop_assert_eq!(row.left_seq, world.left);
            prop_assert_eq!(row.read_seq, world.read(last));
            let at_read = row.read_seq.get().checked_sub(1).map(|place| world.log[place as usize].message_no);
            prop_assert_eq!(row.read_message_no, at_read.unwrap_or(MessageNo::ZERO));
        }
    }
}
