//! The blocks that concern a user, mirrored from direct conversations, and what they decide: who sees whom.

use tertulia_shard_map::{DirectPair, Epoch, Slot, UserId};
use tertulia_wire::cluster::BlocksPage;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Store, StoreError, column, conversation_column,
    look_up::{column_of, wanted_at},
    slot_column, user_column,
};

/// Of one slot, by primary key.
const LOAD: &str = "SELECT want.ord, b.by_user, b.by_other \
     FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS want (user_id, other_id, ord) \
     JOIN block b ON b.slot = $1 AND b.user_id = want.user_id AND b.other_id = want.other_id";
/// One snapshot decides that this node owns the slot and what is stored. By the primary key's (slot, user_id).
const PAGE: &str = "SELECT EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 \
                           AND f.incarnation = $4) AS owner, b.other_id \
     FROM (VALUES (1)) one LEFT JOIN LATERAL \
         (SELECT x.other_id FROM block x WHERE x.slot = $1 AND x.user_id = $5 AND x.by_user \
          AND ($6::uuid IS NULL OR x.other_id > $6) ORDER BY x.other_id LIMIT $7) b ON true";
/// One snapshot decides that this node owns the slot and who sees whom. By primary keys.
const SEEN: &str = "SELECT want.ord, \
            EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 AND f.incarnation = $4), \
            EXISTS (SELECT 1 FROM inbox i WHERE i.slot = $1 AND i.user_id = want.user_id \
                    AND i.conversation_id = want.conversation_id) \
            AND NOT EXISTS (SELECT 1 FROM block b WHERE b.slot = $1 AND b.user_id = want.user_id \
                            AND b.other_id = want.watcher_id AND (b.by_user OR b.by_other)) \
            AND NOT EXISTS (SELECT 1 FROM profile p WHERE p.slot = $1 AND p.user_id = want.user_id \
                            AND NOT p.shares_presence) \
     FROM unnest($5::uuid[], $6::uuid[], $7::uuid[]) WITH ORDINALITY AS want (user_id, watcher_id, conversation_id, ord)";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    pub slot: Slot,
    pub user: UserId,
    pub other: UserId,
}

/// Who of two users blocks the other, as the mailbox of `user` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredBlock {
    pub by_user: bool,
    pub by_other: bool,
}

/// Whether `watcher` may see when `user` comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sight {
    pub user: UserId,
    pub watcher: UserId,
}

impl Store {
    /// For each key, in order, what is stored.
    pub async fn load_blocks(&self, keys: &[BlockKey]) -> Result<Vec<StoredBlock>, StoreError> {
        let columns = |keys: &[&BlockKey]| {
            vec![column_of(keys, |key| user_column(key.user)), column_of(keys, |key| user_column(key.other))]
        };
        let read = |row: &Row| Ok(StoredBlock { by_user: row.try_get(1)?, by_other: row.try_get(2)? });
        let found = self.look_up(LOAD, keys, |key| key.slot, columns, read).await?;
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Whom the user has blocked, in order of the ids, those above `after`.
    pub async fn blocks_page(
        &self,
        slot: Slot,
        epoch: Epoch,
        user: UserId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<BlocksPage, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let client = self.reader().await?;
        let statement = client.prepare_cached(PAGE).await?;
        let rows = client
            .query(
                &statement,
                &[
                    &slot_column(slot),
                    &column(epoch.get()),
                    &node,
                    &incarnation,
                    &user_column(user),
                    &after.map(user_column),
                    &(i64::from(limit) + 1),
                ],
            )
            .await?;
        if !rows.first().ok_or(StoreError::Unreadable("blocks"))?.try_get::<_, bool>(0)? {
            return Err(StoreError::NotOwner);
        }
        let mut users = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(other) = row.try_get::<_, Option<Uuid>>(1)? {
                users.push(UserId::from_bytes(other.into_bytes()));
            }
        }
        let has_more = users.len() > limit as usize;
        users.truncate(limit as usize);
        Ok(BlocksPage { users, has_more })
    }

    /// For each pair, in order: whether the two share a direct conversation, neither blocks the other, and the user shares
    /// presence at all. All users are of the slot.
    pub async fn presence_is_shared(
        &self,
        slot: Slot,
        epoch: Epoch,
        sights: &[Sight],
    ) -> Result<Vec<bool>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let users: Vec<Uuid> = sights.iter().map(|sight| user_column(sight.user)).collect();
        let watchers: Vec<Uuid> = sights.iter().map(|sight| user_column(sight.watcher)).collect();
        let conversations: Vec<Uuid> = sights
            .iter()
            .map(|sight| conversation_column(DirectPair::new(sight.user, sight.watcher).conversation_id()))
            .collect();
        let client = self.loader().await?;
        let statement = client.prepare_cached(SEEN).await?;
        let rows = client
            .query(
                &statement,
                &[&slot_column(slot), &column(epoch.get()), &node, &incarnation, &users, &watchers, &conversations],
            )
            .await?;
        let places: Vec<usize> = (0..sights.len()).collect();
        let mut shared = vec![false; sights.len()];
        for row in &rows {
            if !row.try_get::<_, bool>(1)? {
                return Err(StoreError::NotOwner);
            }
            shared[wanted_at(&places, row.try_get(0)?)?] = row.try_get(2)?;
        }
        Ok(shared)
    }
}
