//! Inbox rows: one per user and conversation, with the rev that delta sync follows.

use futures_util::future::try_join_all;
use tertulia_shard_map::{ConversationId, Epoch, EventId, MessageNo, Rev, Seq, Slot, UserId};
use tertulia_wire::cluster::InboxRow;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Store, StoreError, column, conversation_column, counter, place_of, places_by_slot, slot_column, user_column,
};

macro_rules! row_columns {
    () => {
        "i.conversation_id, i.peer_id, i.last_event_id, i.last_seq, i.last_message_no, i.last_at_ms, i.read_seq, i.read_message_no, i.rev"
    };
}

/// Of one slot, by primary key.
const ROWS: &str = concat!(
    "SELECT want.ord, ",
    row_columns!(),
    " FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS want (user_id, conversation_id, ord) \
     JOIN inbox i ON i.slot = $1 AND i.user_id = want.user_id AND i.conversation_id = want.conversation_id"
);
/// Of one slot, by the primary key's (slot, user_id): reads all rows of the user, once per loaded mailbox.
const REVS: &str = "SELECT want.ord, (SELECT max(x.rev) FROM inbox x WHERE x.slot = $1 AND x.user_id = want.user_id) \
     FROM unnest($2::uuid[]) WITH ORDINALITY AS want (user_id, ord)";
/// One snapshot decides that this node owns the slot and what changed. By the primary key's (slot, user_id).
const SYNC: &str = concat!(
    "SELECT head.owner, head.rev, ",
    row_columns!(),
    " FROM (SELECT EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 AND f.incarnation = $4) AS owner, \
            (SELECT max(x.rev) FROM inbox x WHERE x.slot = $1 AND x.user_id = $5) AS rev) head \
     LEFT JOIN LATERAL (SELECT * FROM inbox x WHERE x.slot = $1 AND x.user_id = $5 AND x.rev > $6 ORDER BY x.rev LIMIT $7) i ON true"
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InboxKey {
    pub slot: Slot,
    pub user: UserId,
    pub conversation: ConversationId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInboxRow {
    pub row: InboxRow,
    pub rev: Rev,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPage {
    /// In ascending order of rev.
    pub rows: Vec<StoredInboxRow>,
    /// The newest rev of the mailbox.
    pub rev: Rev,
    pub has_more: bool,
}

impl Store {
    /// For each key, in order, its row.
    pub async fn load_inbox_rows(&self, keys: &[InboxKey]) -> Result<Vec<Option<StoredInboxRow>>, StoreError> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(ROWS).await?;
        let of_slot = |(slot, places): (Slot, Vec<usize>)| {
            let (client, statement) = (&client, &statement);
            async move {
                let users: Vec<Uuid> = places.iter().map(|&place| user_column(keys[place].user)).collect();
                let conversations: Vec<Uuid> =
                    places.iter().map(|&place| conversation_column(keys[place].conversation)).collect();
                let rows = client.query(statement, &[&slot_column(slot), &users, &conversations]).await?;
                Ok::<_, StoreError>((places, rows))
            }
        };
        let mut found = vec![None; keys.len()];
        for (places, rows) in try_join_all(places_by_slot(keys, |key| key.slot).into_iter().map(of_slot)).await? {
            for row in rows {
                found[place_of(&places, row.try_get(0)?)?] = Some(inbox_row(&row, 1)?);
            }
        }
        Ok(found)
    }

    /// For each user, in order, the newest rev of the mailbox.
    pub async fn load_revs(&self, users: &[(Slot, UserId)]) -> Result<Vec<Rev>, StoreError> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(REVS).await?;
        let of_slot = |(slot, places): (Slot, Vec<usize>)| {
            let (client, statement) = (&client, &statement);
            async move {
                let ids: Vec<Uuid> = places.iter().map(|&place| user_column(users[place].1)).collect();
                let rows = client.query(statement, &[&slot_column(slot), &ids]).await?;
                Ok::<_, StoreError>((places, rows))
            }
        };
        let mut revs = vec![Rev::ZERO; users.len()];
        for (places, rows) in try_join_all(places_by_slot(users, |user| user.0).into_iter().map(of_slot)).await? {
            for row in rows {
                revs[place_of(&places, row.try_get(0)?)?] = rev(row.try_get(1)?);
            }
        }
        Ok(revs)
    }

    /// The rows of a mailbox that changed after `after`, least recently changed first.
    pub async fn sync_page(
        &self,
        slot: Slot,
        epoch: Epoch,
        user: UserId,
        after: Rev,
        limit: u32,
    ) -> Result<SyncPage, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let after = i64::try_from(after.get()).unwrap_or(i64::MAX);
        let client = self.reader().await?;
        let statement = client.prepare_cached(SYNC).await?;
        let found = client
            .query(
                &statement,
                &[
                    &slot_column(slot),
                    &column(epoch.get()),
                    &node,
                    &incarnation,
                    &user_column(user),
                    &after,
                    &(i64::from(limit) + 1),
                ],
            )
            .await?;
        let head = found.first().ok_or(StoreError::Unreadable("sync"))?;
        if !head.try_get::<_, bool>(0)? {
            return Err(StoreError::NotOwner);
        }
        let newest = rev(head.try_get(1)?);
        let mut rows = Vec::with_capacity(found.len());
        for row in &found {
            if row.try_get::<_, Option<Uuid>>(2)?.is_some() {
                rows.push(inbox_row(row, 2)?);
            }
        }
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok(SyncPage { rows, rev: newest, has_more })
    }
}

fn rev(column: Option<i64>) -> Rev {
    Rev::new(counter(column.unwrap_or(0)))
}

/// Reads [`row_columns`] from column `first` on.
fn inbox_row(row: &Row, first: usize) -> Result<StoredInboxRow, StoreError> {
    let number = |place| -> Result<u64, StoreError> { Ok(counter(row.try_get(first + place)?)) };
    Ok(StoredInboxRow {
        row: InboxRow {
            conversation: ConversationId::from_bytes(row.try_get::<_, Uuid>(first)?.into_bytes()),
            peer: row.try_get::<_, Option<Uuid>>(first + 1)?.map(|id| UserId::from_bytes(id.into_bytes())),
            last_event_id: EventId::from_bytes(row.try_get::<_, Uuid>(first + 2)?.into_bytes()),
            last_seq: Seq::new(number(3)?),
            last_message_no: MessageNo::new(number(4)?),
            last_at_ms: row.try_get(first + 5)?,
            read_seq: Seq::new(number(6)?),
            read_message_no: MessageNo::new(number(7)?),
        },
        rev: Rev::new(number(8)?),
    })
}
