//! What an owner looks up for single commands before it decides them: the messages that they are about, members of large
//! groups, positions in the log.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{EventKind, Role, limits::REACTIONS_PER_MESSAGE_MAX};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    Store, StoreError, StoredMember, column, conversation_column,
    conversations::{event_kind, member, role},
    counter, event_column, place_of, places_by_slot, slot_column, user_column, user_from,
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
        let columns = |places: &[usize]| -> Vec<Box<dyn ToSql + Sync + Send>> {
            let of = |part: fn(&TargetKey) -> Uuid| places.iter().map(|&place| part(&keys[place])).collect::<Vec<_>>();
            vec![
                Box::new(of(|key| conversation_column(key.conversation))),
                Box::new(of(|key| event_column(key.message))),
                Box::new(of(|key| user_column(key.user))),
                Box::new(i64::from(REACTIONS_PER_MESSAGE_MAX) + 1),
            ]
        };
        self.look_up(TARGETS, places_by_slot(keys, |key| key.slot), keys.len(), columns, |row| {
            Ok(StoredTarget {
                seq: Seq::new(counter(row.try_get(1)?)),
                kind: event_kind(row.try_get(2)?)?,
                sender: user_from(row.try_get(3)?),
                deleted: row.try_get(4)?,
                own_emojis: row.try_get(5)?,
                emojis: row.try_get(6)?,
            })
        })
        .await
    }

    /// For each key, in order, the present member.
    pub async fn load_members(&self, keys: &[MemberKey]) -> Result<Vec<Option<StoredMember>>, StoreError> {
        let columns = |places: &[usize]| -> Vec<Box<dyn ToSql + Sync + Send>> {
            let of = |part: fn(&MemberKey) -> Uuid| places.iter().map(|&place| part(&keys[place])).collect::<Vec<_>>();
            vec![Box::new(of(|key| conversation_column(key.conversation))), Box::new(of(|key| user_column(key.user)))]
        };
        self.look_up(MEMBERS_OF, places_by_slot(keys, |key| key.slot), keys.len(), columns, |row| member(row, 1)).await
    }

    /// For each key, in order, `message_no` at that seq.
    pub async fn load_positions(&self, keys: &[PositionKey]) -> Result<Vec<Option<MessageNo>>, StoreError> {
        let columns = |places: &[usize]| -> Vec<Box<dyn ToSql + Sync + Send>> {
            let conversations: Vec<Uuid> =
                places.iter().map(|&place| conversation_column(keys[place].conversation)).collect();
            let seqs: Vec<i64> = places.iter().map(|&place| column(keys[place].seq.get())).collect();
            vec![Box::new(conversations), Box::new(seqs)]
        };
        let read = |row: &Row| Ok(MessageNo::new(counter(row.try_get(1)?)));
        self.look_up(POSITIONS, places_by_slot(keys, |key| key.slot), keys.len(), columns, read).await
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

    /// Runs a look-up slot by slot, in one pipeline. The statement takes the slot, then these columns, and answers
    /// rows that begin with the ordinality of what was wanted.
    pub(super) async fn look_up<T: Clone>(
        &self,
        sql: &str,
        slots: BTreeMap<Slot, Vec<usize>>,
        wanted: usize,
        columns: impl Fn(&[usize]) -> Vec<Box<dyn ToSql + Sync + Send>>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let mut found = vec![None; wanted];
        if wanted == 0 {
            return Ok(found);
        }
        let client = self.loader().await?;
        let statement = client.prepare_cached(sql).await?;
        let of_slot = |(slot, places): (Slot, Vec<usize>)| {
            let (client, statement, columns) = (&client, &statement, columns(&places));
            async move {
                let slot = slot_column(slot);
                let mut params: Vec<&(dyn ToSql + Sync)> = vec![&slot];
                params.extend(columns.iter().map(|column| &**column as &(dyn ToSql + Sync)));
                let rows = client.query(statement, &params).await?;
                Ok::<_, StoreError>((places, rows))
            }
        };
        for (places, rows) in try_join_all(slots.into_iter().map(of_slot)).await? {
            for row in &rows {
                found[place_of(&places, row.try_get(0)?)?] = Some(read(row)?);
            }
        }
        Ok(found)
    }
}
