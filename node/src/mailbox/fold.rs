//! The fold of the log and of the members' standings into one inbox row. Pure; applying the log from the start gives what
//! applying its news gives, whatever comes twice or again from an earlier place.

use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, UserId};
use tertulia_wire::{
    EventRecord,
    cluster::{ConversationView, DeliverEvent, DeliverStanding, GroupSize, InboxRow, Membership, Standing},
};

/// What a row needs to know of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFacts {
    pub conversation: ConversationId,
    pub sender: UserId,
    pub id: EventId,
    pub seq: Seq,
    pub message_no: MessageNo,
    pub created_at_ms: i64,
    pub view: ConversationView,
}

impl EventFacts {
    pub fn new(record: &EventRecord, view: ConversationView) -> Self {
        Self {
            conversation: record.conversation,
            sender: record.sender,
            id: record.id,
            seq: record.seq,
            message_no: record.message_no,
            created_at_ms: record.created_at_ms,
            view,
        }
    }
}

impl From<&DeliverEvent> for EventFacts {
    fn from(event: &DeliverEvent) -> Self {
        Self::new(&event.record, event.view.clone())
    }
}

/// The other user of a direct conversation.
pub fn peer_of(view: &ConversationView, user: UserId) -> Option<UserId> {
    match view {
        ConversationView::Direct { pair, .. } if pair.lo() == user => Some(pair.hi()),
        ConversationView::Direct { pair, .. } => Some(pair.lo()),
        ConversationView::Group { .. } => None,
    }
}

pub fn size_of(view: &ConversationView) -> GroupSize {
    match view {
        ConversationView::Direct { .. } => GroupSize::Small,
        ConversationView::Group { size, .. } => *size,
    }
}

/// Whether the recipient learns of this standing: of the own one always, of another's unless there is a block between.
pub fn is_told(recipient: UserId, standing: &DeliverStanding) -> bool {
    let blocked = matches!(standing.view, ConversationView::Direct { blocked: true, .. });
    standing.standing.user == recipient || !blocked
}

/// Whether the recipient's sessions are pushed this standing. One without a mark tells of a block only: whoever was never
/// written to, and is unblocked, must not learn of that.
pub fn is_pushed(recipient: UserId, standing: &DeliverStanding) -> bool {
    is_told(recipient, standing) && standing.standing.delivered_seq > Seq::ZERO
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    Changed(InboxRow),
    /// Seen before, or of no concern.
    Unchanged,
    /// Events after this seq are missing in between.
    Gap {
        after: Seq,
    },
}

/// Folds an event into the row of a recipient.
pub fn fold(row: Option<&InboxRow>, user: UserId, membership: Membership, event: &EventFacts) -> Folded {
    if row.is_some_and(|row| event.seq <= row.last_seq) {
        return Folded::Unchanged;
    }
    match (row, membership) {
        (_, Membership::Joins) => Folded::Changed(begin(row, user, event)),
        (Some(row), _) if row.left_seq.is_some() => Folded::Unchanged,
        // Of a large group only what concerns the user comes here.
        (Some(row), _) if size_of(&event.view) == GroupSize::Large || event.seq == row.last_seq.next() => {
            Folded::Changed(advance(row, user, membership, event))
        }
        (None, _) if event.conversation.is_direct() && event.seq == Seq::ZERO.next() => {
            Folded::Changed(begin(None, user, event))
        }
        _ => Folded::Gap { after: row.map_or(Seq::ZERO, |row| row.last_seq) },
    }
}

/// The row once the missing events, as far as they could be had, are in it. All that a row says is absolute: it is right but
/// for the beginning and the reads that events still missing would have told.
pub fn fill(
    row: Option<&InboxRow>,
    user: UserId,
    missing: &[EventRecord],
    view: &ConversationView,
) -> Option<InboxRow> {
    let mut filled = row.cloned();
    for record in missing {
        let event = EventFacts::new(record, view.clone());
        let follows = filled.as_ref().map_or(Seq::ZERO, |row| row.last_seq).next() == event.seq;
        // What a user sees has no hole: where one is, the user was away and came back.
        let membership = match follows && (filled.is_some() || event.conversation.is_direct()) {
            true => Membership::Stays,
            false => Membership::Joins,
        };
        if let Folded::Changed(changed) = fold(filled.as_ref(), user, membership, &event) {
            filled = Some(changed);
        }
    }
    filled
}

/// The row after the event, whatever is missing before.
pub fn apply(row: Option<&InboxRow>, user: UserId, membership: Membership, event: &EventFacts) -> InboxRow {
    match (row, membership) {
        (Some(row), Membership::Stays | Membership::Leaves) => advance(row, user, membership, event),
        (None, Membership::Leaves) => advance(&begin(None, user, event), user, membership, event),
        _ => begin(row, user, event),
    }
}

/// The first event that the user sees: in a group, since the user came (back).
fn begin(row: Option<&InboxRow>, user: UserId, event: &EventFacts) -> InboxRow {
    let (name, is_direct) = match &event.view {
        ConversationView::Direct { .. } => (None, true),
        ConversationView::Group { name, .. } => (Some(name.clone()), false),
    };
    // A new member of a group has read what was before; in a direct conversation there was nothing before.
    let has_read = !is_direct || event.sender == user;
    InboxRow {
        conversation: event.conversation,
        peer: peer_of(&event.view, user),
        name,
        size: size_of(&event.view),
        joined_seq: if is_direct { Seq::ZERO.next() } else { event.seq },
        left_seq: None,
        last_seq: event.seq,
        last_event_id: event.id,
        last_at_ms: event.created_at_ms,
        last_message_no: event.message_no,
        read_seq: if has_read { event.seq } else { Seq::ZERO },
        read_message_no: if has_read { event.message_no } else { MessageNo::ZERO },
        others_delivered_seq: row.map_or(Seq::ZERO, |row| row.others_delivered_seq),
        others_read_seq: row.map_or(Seq::ZERO, |row| row.others_read_seq),
    }
}

fn advance(row: &InboxRow, user: UserId, membership: Membership, event: &EventFacts) -> InboxRow {
    let name = match &event.view {
        ConversationView::Direct { .. } => None,
        // Sent again, the event has the name that the group was given later, of which who left learns nothing.
        ConversationView::Group { .. } if membership == Membership::Leaves => row.name.clone(),
        ConversationView::Group { name, .. } => Some(name.clone()),
    };
    let mut changed = InboxRow {
        name,
        size: size_of(&event.view),
        left_seq: (membership == Membership::Leaves).then_some(event.seq),
        last_seq: event.seq,
        last_event_id: event.id,
        last_at_ms: event.created_at_ms,
        last_message_no: event.message_no,
        ..row.clone()
    };
    // Who writes has read.
    if event.sender == user && event.seq > changed.read_seq {
        changed.read_seq = event.seq;
        changed.read_message_no = event.message_no;
    }
    changed
}

/// The row after a standing; `None` where it changes nothing. Who has left learns no more of others.
pub fn stand(row: &InboxRow, user: UserId, standing: &Standing) -> Option<InboxRow> {
    let mut changed = row.clone();
    if standing.user == user {
        if standing.read_seq > row.read_seq {
            changed.read_seq = standing.read_seq;
            changed.read_message_no = standing.read_message_no;
        }
    } else if row.left_seq.is_none() {
        changed.others_delivered_seq = row.others_delivered_seq.max(standing.delivered_seq);
        changed.others_read_seq = row.others_read_seq.max(standing.read_seq);
    }
    (changed != *row).then_some(changed)
}
