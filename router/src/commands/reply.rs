//! From what the cluster answered to what the client is told.

use tertulia_shard_map::{ConversationId, UserId};
use tertulia_wire::{
    client::{
        BlockList, ConversationInfo, ConversationKind, ConversationRow, Event, HistoryPage, Marked, Member, MemberPage,
        PresenceList, PresenceState, Profile, ProfileList, Reply, SyncPage,
    },
    cluster::{
        Answer, ConversationRecord, ConversationView, GroupSize, HistoryEvents, InboxRow, MemberRecord, MembersPage,
        Presence, ProfileRecord, SyncRows,
    },
};

use super::{
    Outcome,
    refusal::{internal, unexpected},
};

/// What was asked for, as the reply needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Mark(ConversationId),
    Conversation { conversation: ConversationId, reader: UserId },
    Members(ConversationId),
    Sync,
    History(ConversationId),
    Profiles { reader: UserId },
    OwnProfile,
    Blocks,
    Presence(Vec<UserId>),
    NoPresence,
}

impl Asked {
    pub fn reply(self, outcome: Outcome) -> Reply {
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            failed @ Outcome::Failed(_) => return unexpected(failed),
        };
        match (self, answer) {
            (Self::Mark(conversation_id), Answer::Mark(marked)) => {
                Reply::Marked(Marked { conversation_id, delivered_seq: marked.delivered, read_seq: marked.read })
            }
            (Self::NoPresence, Answer::UnwatchPresence) => Reply::Ok,
            (Self::Conversation { conversation, reader }, Answer::Conversation(record)) => {
                Reply::Conversation(conversation_info(conversation, reader, record))
            }
            (Self::Members(conversation), Answer::Members(page)) => Reply::MemberPage(member_page(conversation, page)),
            (Self::Sync, Answer::Sync(rows)) => Reply::SyncPage(sync_page(rows)),
            (Self::History(conversation), Answer::History(read)) => history(conversation, read),
            (Self::Profiles { reader }, Answer::Profiles(records)) => {
                let users = records.into_iter().map(|record| profile(record, reader)).collect();
                Reply::Profiles(ProfileList { users })
            }
            (Self::OwnProfile, Answer::SetProfile(record)) => {
                let owner = record.user;
                Reply::Profile(profile(record, owner))
            }
            (Self::Blocks, Answer::Blocks(page)) => {
                Reply::Blocks(BlockList { user_ids: page.users, has_more: page.has_more })
            }
            (Self::Presence(users), Answer::WatchPresence(known)) => Reply::Presence(presence_list(&users, &known)),
            (_, answer) => unexpected(Outcome::Answered(answer)),
        }
    }
}

fn conversation_info(conversation_id: ConversationId, reader: UserId, record: ConversationRecord) -> ConversationInfo {
    let (kind, peer_id, name) = match record.view {
        ConversationView::Direct { pair, .. } => {
            let peer = if pair.lo() == reader { pair.hi() } else { pair.lo() };
            // The app's back end may read what it is no member of.
            (ConversationKind::Direct, pair.contains(reader).then_some(peer), None)
        }
        ConversationView::Group { name, size } => (group_kind(size), None, Some(name)),
    };
    ConversationInfo {
        conversation_id,
        kind,
        peer_id,
        name,
        created_by: record.created_by,
        created_at_ms: record.created_at_ms,
        members: record.members,
        role: record.role.into(),
        last_seq: record.last_seq,
    }
}

fn group_kind(size: GroupSize) -> ConversationKind {
    match size {
        GroupSize::Small => ConversationKind::Group,
        GroupSize::Large => ConversationKind::LargeGroup,
    }
}

fn member_page(conversation_id: ConversationId, page: MembersPage) -> MemberPage {
    let member = |it: MemberRecord| Member {
        user_id: it.user,
        role: it.role.into(),
        joined_seq: it.joined_seq,
        delivered_seq: it.delivered_seq,
        read_seq: it.read_seq,
    };
    MemberPage { conversation_id, members: page.members.into_iter().map(member).collect(), has_more: page.has_more }
}

fn sync_page(rows: SyncRows) -> SyncPage {
    SyncPage {
        conversations: rows.rows.into_iter().map(conversation_row).collect(),
        rev: rows.rev,
        has_more: rows.has_more,
        reset: rows.reset,
        unread_total: rows.unread_total,
    }
}

/// A mailbox's row as clients see it.
pub fn conversation_row(row: InboxRow) -> ConversationRow {
    let kind = if row.peer.is_some() { ConversationKind::Direct } else { group_kind(row.size) };
    ConversationRow {
        unread: row.unread(),
        conversation_id: row.conversation,
        kind,
        peer_id: row.peer,
        name: row.name,
        joined_seq: row.joined_seq,
        left_seq: row.left_seq,
        last_seq: row.last_seq,
        last_event_id: row.last_event_id,
        last_at_ms: row.last_at_ms,
        last_message_no: row.last_message_no,
        read_seq: row.read_seq,
        others_delivered_seq: row.others_delivered_seq,
        others_read_seq: row.others_read_seq,
    }
}

fn history(conversation_id: ConversationId, read: HistoryEvents) -> Reply {
    match read.events.iter().map(Event::from_record).collect::<Result<Vec<_>, _>>() {
        Ok(events) => Reply::HistoryPage(HistoryPage {
            conversation_id,
            events,
            has_more: read.has_more,
            last_seq: read.last_seq,
        }),
        Err(error) => {
            tracing::warn!(%conversation_id, %error, "a stored event cannot be read");
            Reply::Error(internal())
        }
    }
}

/// A profile as `reader` sees it: whether presence is shared is for the user alone.
pub fn profile(record: ProfileRecord, reader: UserId) -> Profile {
    let shares_presence = (record.user == reader).then_some(record.shares_presence);
    Profile { user_id: record.user, name: record.name, avatar_url: record.avatar_url, shares_presence }
}

/// Of every user that was asked for; offline where the owner says nothing.
fn presence_list(users: &[UserId], known: &[Presence]) -> PresenceList {
    let state = |user: &UserId| {
        let found = known.iter().find(|it| it.user == *user);
        found.map_or(PresenceState { user_id: *user, online: false, last_seen_ms: None }, |it| presence_state(*it))
    };
    PresenceList { users: users.iter().map(state).collect() }
}

pub fn presence_state(presence: Presence) -> PresenceState {
    let Presence { user, online, last_seen_ms } = presence;
    PresenceState { user_id: user, online, last_seen_ms: last_seen_ms.filter(|_| !online) }
}
