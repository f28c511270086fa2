//! Display names, as the users' tokens last said.

use tertulia_shard_map::{Epoch, Slot, UserId};
use tertulia_wire::cluster::NamedUser;
use uuid::Uuid;

use super::{Store, StoreError, column, slot_column, user_column};

/// One snapshot decides that this node owns the slot and what is stored. By primary key.
const PROFILES: &str = "SELECT EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 \
                           AND f.incarnation = $4) AS owner, p.user_id, p.name \
     FROM (VALUES (1)) one LEFT JOIN profile p ON p.slot = $1 AND p.user_id = ANY ($5)";

impl Store {
    /// Those of the users that have a name.
    pub async fn profiles(&self, slot: Slot, epoch: Epoch, users: &[UserId]) -> Result<Vec<NamedUser>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let users: Vec<Uuid> = users.iter().copied().map(user_column).collect();
        let client = self.reader().await?;
        let statement = client.prepare_cached(PROFILES).await?;
        let rows =
            client.query(&statement, &[&slot_column(slot), &column(epoch.get()), &node, &incarnation, &users]).await?;
        if !rows.first().ok_or(StoreError::Unreadable("profiles"))?.try_get::<_, bool>(0)? {
            return Err(StoreError::NotOwner);
        }
        let mut named = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(user) = row.try_get::<_, Option<Uuid>>(1)? {
                named.push(NamedUser { user: UserId::from_bytes(user.into_bytes()), name: row.try_get(2)? });
            }
        }
        Ok(named)
    }
}
