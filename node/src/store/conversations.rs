//! Conversations as an owner loads them before its first write to one.

use futures_util::future::try_join_all;
use tertulia_shard_map::{ConversationId, DirectPair, MessageNo, Seq, Slot, UserId};
use uuid::Uuid;

use super::{Store, StoreError, conversation_column, counter, places_by_slot, slot_column};

/// Conversations of one slot by primary key, their logs' ends by the leaf's (conversation_id, seq).
const LOAD: &str = "SELECT c.id, c.direct_lo, c.direct_hi, newest.seq, newest.message_no FROM conversation c \
     LEFT JOIN LATERAL (SELECT e.seq, e.message_no FROM event e \
                        WHERE e.slot = $1 AND e.conversation_id = c.id ORDER BY e.seq DESC LIMIT 1) newest ON true \
     WHERE c.slot = $1 AND c.id = ANY ($2)";

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
        let client = self.reader().await?;
        let statement = client.prepare_cached(LOAD).await?;
        let of_slot = |(slot, places): (Slot, Vec<usize>)| {
            let (client, statement) = (&client, &statement);
            async move {
                let ids: Vec<Uuid> = places.iter().map(|&place| conversation_column(keys[place].id)).collect();
                client.query(statement, &[&slot_column(slot), &ids]).await
            }
        };
        let rows = try_join_all(places_by_slot(keys, |key| key.slot).into_iter().map(of_slot)).await?;
        rows.iter()
            .flatten()
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
