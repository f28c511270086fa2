//! Conversations as their owner loads them before it writes: the conversation, the end of its log, its members.
//!
//! Reads of an owner about to write: what they say may be stale, and then the write is fenced.

use futures_util::future::{try_join, try_join_all, try_join3};
use tertulia_shard_map::{ConversationId, DirectPair, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{EventKind, Role};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    DIRECT, GROUP, Store, StoreError, WrittenKind, conversation_column, conversation_from, counter,
    look_up::places_by_slot, slot_column, user_from,
};

/// Conversations of one slot by primary key.
const LOAD: &str = "SELECT c.id, c.kind, c.direct_lo, c.direct_hi, c.name, c.large, c.members, c.created_by, c.created_at_ms \
     FROM conversation c WHERE c.slot = $1 AND c.id = ANY ($2)";
/// The ends of their logs, newest first, by the leaf's (conversation_id, seq).
const NEWEST: &str = "SELECT want.id, e.seq, e.message_no, e.kind, e.sender_id FROM unnest($2::uuid[]) AS want (id) \
     CROSS JOIN LATERAL (SELECT * FROM event x WHERE x.slot = $1 AND x.conversation_id = want.id \
                         ORDER BY x.seq DESC LIMIT $3) e";
/// All present members of those that are not large, by primary key.
const MEMBERS: &str = "SELECT m.conversation_id, m.user_id, m.role, m.joined_seq, m.delivered_seq, m.read_seq, m.read_message_no, \
            m.blocks_peer \
     FROM conversation c JOIN member m ON m.slot = $1 AND m.conversation_id = c.id AND m.left_seq IS NULL \
     WHERE c.slot = $1 AND c.id = ANY ($2) AND NOT c.large";

/// Events at the end of a log that are loaded with its conversation.
pub const NEWEST_EVENTS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConversationKey {
    pub slot: Slot,
    pub id: ConversationId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConversation {
    pub id: ConversationId,
    pub kind: WrittenKind,
    pub member_count: u64,
    pub created_by: UserId,
    pub created_at_ms: i64,
    /// Up to [`NEWEST_EVENTS`], newest first.
    pub newest: Vec<StoredPosition>,
    /// All present members; none of a large group.
    pub members: Vec<StoredMember>,
}

/// An event's place, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPosition {
    pub seq: Seq,
    pub message_no: MessageNo,
    pub kind: EventKind,
    pub sender: UserId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMember {
    pub user: UserId,
    pub role: Role,
    pub joined_seq: Seq,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
    pub read_message_no: MessageNo,
    pub blocks_peer: bool,
}

impl Store {
    /// Those of the conversations that exist.
    pub async fn load_conversations(&self, keys: &[ConversationKey]) -> Result<Vec<StoredConversation>, StoreError> {
        let client = self.loader().await?;
        let preparing =
            try_join3(client.prepare_cached(LOAD), client.prepare_cached(NEWEST), client.prepare_cached(MEMBERS));
        let (load, newest, members) = preparing.await?;
        let of_slot = |(slot, places): (Slot, Vec<usize>)| {
            let (client, load, newest, members) = (&client, &load, &newest, &members);
            async move {
                let ids: Vec<Uuid> = places.iter().map(|&place| conversation_column(keys[place].id)).collect();
                let (slot, limit) = (slot_column(slot), NEWEST_EVENTS as i64);
                let of_ids: [&(dyn ToSql + Sync); 2] = [&slot, &ids];
                let of_ends: [&(dyn ToSql + Sync); 3] = [&slot, &ids, &limit];
                let rest = try_join(client.query(newest, &of_ends), client.query(members, &of_ids));
                try_join(client.query(load, &of_ids), rest).await
            }
        };
        let mut found = Vec::with_capacity(keys.len());
        for (rows, (newest, members)) in
            try_join_all(places_by_slot(keys, |key| key.slot).into_iter().map(of_slot)).await?
        {
            let first = found.len();
            for row in &rows {
                found.push(conversation(row)?);
            }
            let of_slot: &mut [StoredConversation] = &mut found[first..];
            for row in &newest {
                let id = conversation_from(row.try_get(0)?);
                if let Some(conversation) = of_slot.iter_mut().find(|it| it.id == id) {
                    conversation.newest.push(position(row, 1)?);
                }
            }
            for row in &members {
                let id = conversation_from(row.try_get(0)?);
                if let Some(conversation) = of_slot.iter_mut().find(|it| it.id == id) {
                    conversation.members.push(member(row, 1)?);
                }
            }
        }
        Ok(found)
    }
}

fn conversation(row: &Row) -> Result<StoredConversation, StoreError> {
    let kind = match row.try_get::<_, i16>(1)? {
        DIRECT => {
            let user = |column| -> Result<UserId, StoreError> {
                row.try_get::<_, Option<Uuid>>(column)?
                    .map(user_from)
                    .ok_or(StoreError::Unreadable("conversation.direct"))
            };
            WrittenKind::Direct(DirectPair::new(user(2)?, user(3)?))
        }
        GROUP => WrittenKind::Group { name: row.try_get(4)?, large: row.try_get(5)? },
        _ => return Err(StoreError::Unreadable("conversation.kind")),
    };
    Ok(StoredConversation {
        id: conversation_from(row.try_get(0)?),
        kind,
        member_count: counter(row.try_get(6)?),
        created_by: user_from(row.try_get(7)?),
        created_at_ms: row.try_get(8)?,
        newest: Vec::new(),
        members: Vec::new(),
    })
}

/// Reads the columns from `first` on: seq, message_no, kind, sender_id.
fn position(row: &Row, first: usize) -> Result<StoredPosition, StoreError> {
    Ok(StoredPosition {
        seq: Seq::new(counter(row.try_get(first)?)),
        message_no: MessageNo::new(counter(row.try_get(first + 1)?)),
        kind: event_kind(row.try_get(first + 2)?)?,
        sender: user_from(row.try_get(first + 3)?),
    })
}

/// Reads the columns from `first` on: user_id, role, joined_seq, delivered_seq, read_seq, read_message_no, blocks_peer.
pub(super) fn member(row: &Row, first: usize) -> Result<StoredMember, StoreError> {
    Ok(StoredMember {
        user: user_from(row.try_get(first)?),
        role: role(row.try_get(first + 1)?)?,
        joined_seq: Seq::new(counter(row.try_get(first + 2)?)),
        delivered_seq: Seq::new(counter(row.try_get(first + 3)?)),
        read_seq: Seq::new(counter(row.try_get(first + 4)?)),
        read_message_no: MessageNo::new(counter(row.try_get(first + 5)?)),
        blocks_peer: row.try_get(first + 6)?,
    })
}

pub(super) fn role(column: i16) -> Result<Role, StoreError> {
    u8::try_from(column).ok().and_then(|role| Role::try_from(role).ok()).ok_or(StoreError::Unreadable("member.role"))
}

pub(super) fn event_kind(column: i16) -> Result<EventKind, StoreError> {
    u8::try_from(column)
        .ok()
        .and_then(|kind| EventKind::try_from(kind).ok())
        .ok_or(StoreError::Unreadable("event.kind"))
}
