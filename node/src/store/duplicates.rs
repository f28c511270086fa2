//! The look-up of what is committed under a key already.

use tertulia_shard_map::{ConversationId, Slot, UserId};
use tertulia_wire::EventRecord;
use tokio_postgres::Row;

use super::{
    Store, StoreError, conversation_column,
    look_up::column_of,
    record::{RECORD_COLUMNS, record, record_columns},
    user_column,
};

/// Of one slot, by the leaf's (conversation_id, sender_id, temp_id).
const DUPLICATES: &str = concat!(
    "SELECT want.ord, ",
    record_columns!(),
    ", e.payload_hash \
     FROM unnest($2::uuid[], $3::uuid[], $4::text[]) WITH ORDINALITY AS want (conversation, sender, temp_id, ord) \
     JOIN LATERAL (SELECT * FROM event x WHERE x.slot = $1 AND x.conversation_id = want.conversation \
                   AND x.sender_id = want.sender AND x.temp_id = want.temp_id) e ON true"
);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey<'a> {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub sender: UserId,
    pub temp_id: &'a str,
}

/// What is already committed under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub record: EventRecord,
    pub payload_hash: i64,
}

impl Store {
    /// For each key, in order, the event that is committed under it.
    pub async fn find_duplicates(&self, keys: &[DuplicateKey<'_>]) -> Result<Vec<Option<StoredEvent>>, StoreError> {
        let columns = |keys: &[&DuplicateKey<'_>]| {
            vec![
                column_of(keys, |key| conversation_column(key.conversation)),
                column_of(keys, |key| user_column(key.sender)),
                column_of(keys, |key| key.temp_id.to_owned()),
            ]
        };
        let read =
            |row: &Row| Ok(StoredEvent { record: record(row, 1)?, payload_hash: row.try_get(1 + RECORD_COLUMNS)? });
        self.look_up(DUPLICATES, keys, |key| key.slot, columns, read).await
    }
}
