//! The log: history for readers, its tail for fan-out, and the look-up of duplicates.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{
    EventKind, EventRecord,
    cluster::{HistoryEvents, HistoryRange, HistoryRead},
    limits::HISTORY_PAGE_BYTES,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Store, StoreError, column, conversation_column, counter, event_column, place_of, places_by_slot, slot_column,
    user_column,
};

/// One snapshot decides all: that the reader's node owns the slot, that the reader is a member, and what there is to see.
/// By primary keys, and the leaf's (conversation_id, seq).
macro_rules! history {
    ($range:literal) => {
        concat!(
            "SELECT head.owner, head.first_seq, head.last_seq, e.id, e.conversation_id, e.seq, e.message_no, e.kind, e.sender_id, \
                    e.created_at_ms, e.temp_id, e.body \
             FROM (SELECT EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 \
                                  AND f.incarnation = $4) AS owner, \
                          m.joined_seq AS first_seq, \
                          least(m.left_seq, (SELECT x.seq FROM event x WHERE x.slot = $1 AND x.conversation_id = $5 \
                                             ORDER BY x.seq DESC LIMIT 1)) AS last_seq \
                   FROM (VALUES (1)) one LEFT JOIN member m \
                       ON m.slot = $1 AND m.conversation_id = $5 AND m.user_id = $6) head \
             LEFT JOIN LATERAL (SELECT * FROM event e WHERE e.slot = $1 AND e.conversation_id = $5 \
                  AND e.seq BETWEEN head.first_seq AND head.last_seq AND ",
            $range,
            " LIMIT $8) e ON true"
        )
    };
}
const HISTORY_AFTER: &str = history!("e.seq > $7 ORDER BY e.seq");
const HISTORY_BEFORE: &str = history!("e.seq < $7 ORDER BY e.seq DESC");

/// By the leaf's (id); the conversation by primary key.
const LOG: &str = "SELECT c.direct_lo, c.direct_hi, e.slot, e.id, e.conversation_id, e.seq, e.message_no, e.kind, e.sender_id, \
            e.created_at_ms, e.temp_id, e.body \
     FROM (SELECT * FROM event x WHERE x.slot = $1 AND x.id > $2 ORDER BY x.id LIMIT $3) e \
     JOIN conversation c ON c.slot = $1 AND c.id = e.conversation_id ORDER BY e.id";

/// Of one slot, by the leaf's (conversation_id, sender_id, temp_id).
const DUPLICATES: &str = "SELECT want.ord, e.id, e.seq, e.message_no, e.created_at_ms, e.payload_hash \
     FROM unnest($2::uuid[], $3::uuid[], $4::text[]) WITH ORDINALITY AS want (conversation, sender, temp_id, ord) \
     JOIN LATERAL (SELECT * FROM event x WHERE x.slot = $1 AND x.conversation_id = want.conversation \
                   AND x.sender_id = want.sender AND x.temp_id = want.temp_id) e ON true";

/// A page of the log is read within this time, or given up.
const LOG_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// An event of the log with what fan-out needs to know of its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub record: EventRecord,
    pub direct: DirectPair,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey<'a> {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub sender: UserId,
    pub temp_id: &'a str,
}

/// What is already committed under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEvent {
    pub id: EventId,
    pub seq: Seq,
    pub message_no: MessageNo,
    pub created_at_ms: i64,
    pub payload_hash: i64,
}

impl Store {
    /// A page of a conversation, in ascending order of seq. `None` where the reader is not a member, or nothing is there.
    pub async fn history(
        &self,
        slot: Slot,
        epoch: Epoch,
        read: &HistoryRead,
    ) -> Result<Option<HistoryEvents>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let (sql, bound) = match read.range {
            HistoryRange::After(seq) => (HISTORY_AFTER, column(seq.get().min(i64::MAX as u64))),
            HistoryRange::Before(seq) => (HISTORY_BEFORE, column(seq.get().min(i64::MAX as u64))),
            HistoryRange::Latest => (HISTORY_BEFORE, i64::MAX),
        };
        let limit = i64::from(read.limit);
        let client = self.reader().await?;
        let statement = client.prepare_cached(sql).await?;
        let rows = client
            .query(
                &statement,
                &[
                    &slot_column(slot),
                    &column(epoch.get()),
                    &node,
                    &incarnation,
                    &conversation_column(read.conversation),
                    &user_column(read.reader),
                    &bound,
                    &(limit + 1),
                ],
            )
            .await?;
        let head = rows.first().ok_or(StoreError::Unreadable("history"))?;
        if !head.try_get::<_, bool>(0)? {
            return Err(StoreError::NotOwner);
        }
        let (Some(_), Some(last_seq)) = (head.try_get::<_, Option<i64>>(1)?, head.try_get::<_, Option<i64>>(2)?) else {
            return Ok(None);
        };
        let mut events = Vec::with_capacity(rows.len().min(read.limit as usize));
        let (mut bytes, mut has_more) = (0, false);
        for row in &rows {
            if row.try_get::<_, Option<Uuid>>(3)?.is_none() {
                break;
            }
            let record = record(row, 3)?;
            bytes += record.body.len();
            if events.len() == read.limit as usize || (bytes > HISTORY_PAGE_BYTES && !events.is_empty()) {
                has_more = true;
                break;
            }
            events.push(record);
        }
        if !matches!(read.range, HistoryRange::After(_)) {
            events.reverse();
        }
        Ok(Some(HistoryEvents { events, has_more, last_seq: Seq::new(counter(last_seq)) }))
    }

    /// Events of a slot after `after`, in commit order.
    pub async fn log_page(&self, slot: Slot, after: EventId, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(LOG).await?;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&slot_column(slot), &event_column(after), &i64::from(limit)];
        let query = client.query(&statement, &params);
        let rows = tokio::time::timeout(LOG_READ_TIMEOUT, query).await.map_err(|_| StoreError::Unavailable(None))??;
        rows.iter()
            .map(|row| {
                let user = |column| -> Result<UserId, StoreError> {
                    let id: Option<Uuid> = row.try_get(column)?;
                    Ok(UserId::from_bytes(id.ok_or(StoreError::Unreadable("conversation.kind"))?.into_bytes()))
                };
                Ok(LogEntry { direct: DirectPair::new(user(0)?, user(1)?), record: record(row, 3)? })
            })
            .collect()
    }

    /// For each key, in order, the event that is committed under it.
    pub async fn find_duplicates(&self, keys: &[DuplicateKey<'_>]) -> Result<Vec<Option<StoredEvent>>, StoreError> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(DUPLICATES).await?;
        let of_slot = |(slot, places): (Slot, Vec<usize>)| {
            let (client, statement) = (&client, &statement);
            async move {
                let of_key = |&place: &usize| &keys[place];
                let wanted = || places.iter().map(of_key);
                let conversations: Vec<Uuid> = wanted().map(|key| conversation_column(key.conversation)).collect();
                let senders: Vec<Uuid> = wanted().map(|key| user_column(key.sender)).collect();
                let temp_ids: Vec<&str> = wanted().map(|key| key.temp_id).collect();
                let rows = client.query(statement, &[&slot_column(slot), &conversations, &senders, &temp_ids]).await?;
                Ok::<_, StoreError>((places, rows))
            }
        };
        let mut found = vec![None; keys.len()];
        for (places, rows) in try_join_all(places_by_slot(keys, |key| key.slot).into_iter().map(of_slot)).await? {
            for row in rows {
                let place = place_of(&places, row.try_get(0)?)?;
                found[place] = Some(StoredEvent {
                    id: EventId::from_bytes(row.try_get::<_, Uuid>(1)?.into_bytes()),
                    seq: Seq::new(counter(row.try_get(2)?)),
                    message_no: MessageNo::new(counter(row.try_get(3)?)),
                    created_at_ms: row.try_get(4)?,
                    payload_hash: row.try_get(5)?,
                });
            }
        }
        Ok(found)
    }
}

/// Reads the columns from `first` on: id, conversation_id, seq, message_no, kind, sender_id, created_at_ms, temp_id, body.
fn record(row: &Row, first: usize) -> Result<EventRecord, StoreError> {
    let kind: i16 = row.try_get(first + 4)?;
    let kind = u8::try_from(kind).ok().and_then(|kind| EventKind::try_from(kind).ok());
    Ok(EventRecord {
        id: EventId::from_bytes(row.try_get::<_, Uuid>(first)?.into_bytes()),
        conversation: ConversationId::from_bytes(row.try_get::<_, Uuid>(first + 1)?.into_bytes()),
        seq: Seq::new(counter(row.try_get(first + 2)?)),
        message_no: MessageNo::new(counter(row.try_get(first + 3)?)),
        kind: kind.ok_or(StoreError::Unreadable("event.kind"))?,
        sender: UserId::from_bytes(row.try_get::<_, Uuid>(first + 5)?.into_bytes()),
        created_at_ms: row.try_get(first + 6)?,
        temp_id: row.try_get(first + 7)?,
        body: Bytes::copy_from_slice(row.try_get(first + 8)?),
    })
}
