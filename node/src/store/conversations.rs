//! Conversations as an owner loads them before its first write to one.

use tertulia_shard_map::{ConversationId, DirectPair, MessageNo, Seq, Slot, UserId};
use uuid::Uuid;

use super::{Store, StoreError, conversation_column, counter, slot_column};

/// Conversation by primary key, the log's end by the leaf's (conversation_id, seq). Partitions are pruned per row.
const LOAD: &str = "SELECT want.id, c.direct_lo, c.direct_hi, newest.seq, newest.message_no \
     FROM unnest($1::int[], $2::uuid[]) AS want (slot, id) \
     JOIN LATERAL (SELECT x.direct_lo, x.direct_hi FROM conversation x WHERE x.slot = want.slot AND x.id = want.id) c ON true \
     LEFT JOIN LATERAL (SELECT e.seq, e.message_no FROM event e \
                        WHERE e.slot = want.slot AND e.conversation_id = want.id ORDER BY e.seq DESC LIMIT 1) newest ON true";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConversationKey {
    pub slot: Slot,
    pub id: ConversationId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredConversation {
    pub id: ConversationId,
    pub pair: DirectPair,
    pub last_seq: Seq,
    pub message_no: MessageNo,
}

impl Store {
    /// Those of the conversations that exist.
    pub async fn load_conversations(&self, keys: &[ConversationKey]) -> Result<Vec<StoredConversation>, StoreError> {
        let slots: Vec<i32> = keys.iter().map(|key| slot_column(key.slot)).collect();
        let ids: Vec<Uuid> = keys.iter().map(|key| conversation_column(key.id)).collect();
        let client = self.reader().await?;
        let statement = client.prepare_cached(LOAD).await?;
        let rows = client.query(&statement, &[&slots, &ids]).await?;
        rows.iter()
            .map(|row| {
                let user = |column| -> Result<UserId, StoreError> {
                    let id: Option<Uuid> = row.try_get(column)?;
                    Ok(UserId::from_bytes(id.ok_or(StoreError::Unreadable("conversation.kind"))?.into_bytes()))
                };
                Ok(StoredConversation {
                    id: ConversationId::from_bytes(row.try_get::<_, Uuid>(0)?.into_bytes()),
                    pair: DirectPair::new(user(1)?, user(2)?),
                    last_seq: Seq::new(counter(row.try_get::<_, Option<i64>>(3)?.unwrap_or(0))),
                    message_no: MessageNo::new(counter(row.try_get::<_, Option<i64>>(4)?.unwrap_or(0))),
                })
            })
            .collect()
    }
}
