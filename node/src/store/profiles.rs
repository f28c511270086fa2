//! Profiles: a user's name and avatar, and what others may know of the user.

use tertulia_shard_map::{Epoch, Slot, UserId};
use tertulia_wire::cluster::ProfileRecord;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Store, StoreError, column, look_up::column_of, slot_column, user_column};

macro_rules! profile_columns {
    () => {
        "p.user_id, p.name, p.avatar_url, p.shares_presence, p.disabled"
    };
}

/// One snapshot decides that this node owns the slot and what is stored. By primary key.
const PROFILES: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 \
                    AND f.incarnation = $4) AS owner, ",
    profile_columns!(),
    " FROM (VALUES (1)) one LEFT JOIN profile p ON p.slot = $1 AND p.user_id = ANY ($5)"
);
/// Of one slot, by primary key.
const LOAD: &str = concat!(
    "SELECT want.ord, p.own_name, ",
    profile_columns!(),
    " FROM unnest($2::uuid[]) WITH ORDINALITY AS want (user_id, ord) \
     JOIN profile p ON p.slot = $1 AND p.user_id = want.user_id"
);

/// A profile, with whose word its name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProfile {
    pub record: ProfileRecord,
    pub name_from: NameFrom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFrom {
    /// Follows what the user's tokens say.
    Token,
    /// Set by the user or the app: the token's no longer counts.
    Own,
}

impl Store {
    /// Those of the users that have a profile.
    pub async fn profiles(&self, slot: Slot, epoch: Epoch, users: &[UserId]) -> Result<Vec<ProfileRecord>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let users: Vec<Uuid> = users.iter().copied().map(user_column).collect();
        let client = self.reader().await?;
        let statement = client.prepare_cached(PROFILES).await?;
        let rows =
            client.query(&statement, &[&slot_column(slot), &column(epoch.get()), &node, &incarnation, &users]).await?;
        if !rows.first().ok_or(StoreError::Unreadable("profiles"))?.try_get::<_, bool>(0)? {
            return Err(StoreError::NotOwner);
        }
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<_, Option<Uuid>>(1)?.is_some() {
                found.push(record(row, 1)?);
            }
        }
        Ok(found)
    }

    /// For each user, in order, the profile.
    pub async fn load_profiles(&self, users: &[(Slot, UserId)]) -> Result<Vec<Option<StoredProfile>>, StoreError> {
        let columns = |users: &[&(Slot, UserId)]| vec![column_of(users, |(_, user)| user_column(*user))];
        let read = |row: &Row| {
            let name_from = if row.try_get(1)? { NameFrom::Own } else { NameFrom::Token };
            Ok(StoredProfile { record: record(row, 2)?, name_from })
        };
        self.look_up(LOAD, users, |(slot, _)| *slot, columns, read).await
    }
}

/// Reads [`profile_columns`] from column `first` on.
fn record(row: &Row, first: usize) -> Result<ProfileRecord, StoreError> {
    Ok(ProfileRecord {
        user: UserId::from_bytes(row.try_get::<_, Uuid>(first)?.into_bytes()),
        name: row.try_get(first + 1)?,
        avatar_url: row.try_get(first + 2)?,
        shares_presence: row.try_get(first + 3)?,
        disabled: row.try_get(first + 4)?,
    })
}
