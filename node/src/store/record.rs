//! Reading an event's row.

use bytes::Bytes;
use tertulia_shard_map::{MessageNo, Seq};
use tertulia_wire::{EventRecord, Since, Target};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{StoreError, conversation_from, conversations::event_kind, counter, event_from, user_from};

/// The columns that [`record`] reads, of a row named `e`.
macro_rules! record_columns {
    () => {
        "e.id, e.conversation_id, e.seq, e.message_no, e.kind, e.sender_id, e.created_at_ms, e.temp_id, e.body, \
         e.target_seq, e.target_id, e.edited_at_ms, e.deleted_at_ms"
    };
}
pub(super) use record_columns;

/// How many columns that is.
pub(super) const RECORD_COLUMNS: usize = 13;

/// Reads [`record_columns`] from column `first` on. Without reactions.
pub(super) fn record(row: &Row, first: usize) -> Result<EventRecord, StoreError> {
    let target_seq: Option<i64> = row.try_get(first + 9)?;
    let target_id: Option<Uuid> = row.try_get(first + 10)?;
    let edited_at_ms: Option<i64> = row.try_get(first + 11)?;
    let deleted_at_ms: Option<i64> = row.try_get(first + 12)?;
    let changed = edited_at_ms.is_some() || deleted_at_ms.is_some();
    Ok(EventRecord {
        id: event_from(row.try_get(first)?),
        conversation: conversation_from(row.try_get(first + 1)?),
        seq: Seq::new(counter(row.try_get(first + 2)?)),
        message_no: MessageNo::new(counter(row.try_get(first + 3)?)),
        kind: event_kind(row.try_get(first + 4)?)?,
        sender: user_from(row.try_get(first + 5)?),
        created_at_ms: row.try_get(first + 6)?,
        temp_id: row.try_get(first + 7)?,
        body: Bytes::copy_from_slice(row.try_get(first + 8)?),
        target: target_id.zip(target_seq).map(|(id, seq)| Target { id: event_from(id), seq: Seq::new(counter(seq)) }),
        since: changed.then(|| Box::new(Since { edited_at_ms, deleted_at_ms, reactions: Vec::new() })),
    })
}
