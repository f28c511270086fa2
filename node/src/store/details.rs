//! What an owner looks up for single commands before it decides them: the messages that they are about, members of large
//! groups, positions in the log.

use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{EventKind, Role, limits::REACTIONS_PER_MESSAGE_MAX};
use tokio_postgres::Row;

use super::{
    Store, StoreError, StoredMember, column, conversation_column,
    conversations::{event_kind, member, role},
    counter, event_column,
    look_up::column_of,
    slot_column, user_column, user_from,
};

/// Of one slot: the message by the leaf's (id), reactions to it by primary key.
const TARGETS: &str = "SELECT want.ord, e.seq, e.kind, e.sender_id, e.deleted_at_ms IS NOT NULL, \
            ARRAY(SELECT r.emoji FROM reaction r WHERE r.slot = $1 AND r.conversation_id = want.conversation \
                  AND r.message_seq = e.seq AND r.user_id = want.user_id), \
            ARRAY(SELECT DISTINCT r.emoji FROM reaction r WHERE r.slot = $1 AND r.conversation_id = want.conversation \
                  AND r.message_seq = e.seq LIMIT $5) \
     FROM unnest($2::uuid[], $3::uuid[], $4::uuid[]) WITH ORDINALITY AS want (conversation, message, user_id, ord) \
     JOIN LATERAL (SELECT * FROM event x WHERE x.slot = $1 AND x.id = want.message \
                   AND x.conversation_id = want.conversation) e ON true";
/// Of one slot, present ones, by primary key.
const MEMBERS_OF: &str = "SELECT want.ord, m.user_id, m.role, m.joined_seq, m.delivered_seq, m.read_seq, m.read_message_no, m.blocks_peer \
     FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS want (conversation, user_id, ord) \
     JOIN member m ON m.slot = $1 AND m.conversation_id = want.conversation AND m.user_id = want.user_id AND m.left_seq IS NULL";
/// Of one slot, by the leaf's (conversation_id, seq).
const POSITIONS: &str = "SELECT want.ord, e.message_no FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY AS want (conversation, seq, ord) \
     JOIN LATERAL (SELECT * FROM event x WHERE x.slot = $1 AND x.conversation_id = want.conversation AND x.seq = want.seq) e ON true";
/// By primary key; sorts all members of one group.
const SENIORITY: &str = "SELECT m.user_id, m.role, m.joined_seq FROM member m WHERE m.slot = $1 AND m.conversation_id = $2 AND m.left_seq IS NULL \
     ORDER BY m.role DESC, m.joined_seq, m.user_id LIMIT $3";

/// Members that [`Store::load_seniority`] lists at most: more than one command can remove.
pub const SENIORITY_MAX: i64 = 1_100;

/// A message and the user whose reactions to it are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TargetKey {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub message: EventId,
    pub user: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTarget {
    pub seq: Seq,
    pub kind: EventKind,
    pub sender: UserId,
    pub deleted: bool,
    /// The user's reactions.
    pub own_emojis: Vec<String>,
    /// Everybody's, up to one more than there may be.
    pub emojis: Vec<String>,
}

/// A member of a group, as what makes one senior to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Senior {
    pub user: UserId,
    pub role: Role,
    pub joined_seq: Seq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberKey {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub user: UserId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PositionKey {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub seq: Seq,
}

impl Store {
    /// For each key, in order, the event of that id in that conversation.
    pub async fn load_targets(&self, keys: &[TargetKey]) -> Result<Vec<Option<StoredTarget>>, StoreError> {
        let columns = |keys: &[&TargetKey]| {
            vec![
                column_of(keys, |key| conversation_column(key.conversation)),
                column_of(keys, |key| event_column(key.message)),
                column_of(keys, |key| user_column(key.user)),
                Box::new(i64::from(REACTIONS_PER_MESSAGE_MAX) + 1),
            ]
        };
        let read = |row: &Row| {
            Ok(StoredTarget {
                seq: Seq::new(counter(row.try_get(1)?)),
                kind: event_kind(row.try_get(2)?)?,
                sender: user_from(row.try_get(3)?),
                deleted: row.try_get(4)?,
                own_emojis: row.try_get(5)?,
                emojis: row.try_get(6)?,
            })
        };
        self.look_up(TARGETS, keys, |key| key.slot, columns, read).await
    }

    /// For each key, in order, the present member.
    pub async fn load_members(&self, keys: &[MemberKey]) -> Result<Vec<Option<StoredMember>>, StoreError> {
        let columns = |keys: &[&MemberKey]| {
            vec![
                column_of(keys, |key| conversation_column(key.conversation)),
                column_of(keys, |key| user_column(key.user)),
            ]
        };
        self.look_up(MEMBERS_OF, keys, |key| key.slot, columns, |row| member(row, 1)).await
    }

    /// For each key, in order, `message_no` at that seq.
    pub async fn load_positions(&self, keys: &[PositionKey]) -> Result<Vec<Option<MessageNo>>, StoreError> {
        let columns = |keys: &[&PositionKey]| {
            vec![
                column_of(keys, |key| conversation_column(key.conversation)),
                column_of(keys, |key| column(key.seq.get())),
            ]
        };
        let read = |row: &Row| Ok(MessageNo::new(counter(row.try_get(1)?)));
        self.look_up(POSITIONS, keys, |key| key.slot, columns, read).await
    }

    /// Present members of a group: owners first, then admins, then the others, each by the length of their standing.
    pub async fn load_seniority(&self, slot: Slot, conversation: ConversationId) -> Result<Vec<Senior>, StoreError> {
        let client = self.loader().await?;
        let statement = client.prepare_cached(SENIORITY).await?;
        let rows =
            client.query(&statement, &[&slot_column(slot), &conversation_column(conversation), &SENIORITY_MAX]).await?;
        let senior = |row: &Row| {
            let joined_seq = Seq::new(counter(row.try_get(2)?));
            Ok(Senior { user: user_from(row.try_get(0)?), role: role(row.try_get(1)?)?, joined_seq })
        };
        rows.iter().map(senior).collect()
    }
}
