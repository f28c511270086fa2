//! Removing what a move made, and what it leaves behind.

use tertulia_shard_map::{ClusterId, MoveId, Slot};
use tokio_postgres::{Row, types::ToSql};

use super::{MoveEnd, cluster_prefix, columns};
use crate::store::{Store, StoreError, slot_column, slot_from_column};

const SUBSCRIPTIONS: &str = "SELECT s.subname::text FROM pg_subscription s \
     JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database() WHERE starts_with(s.subname, $1)";
const PUBLICATIONS: &str = "SELECT pubname::text FROM pg_publication WHERE starts_with(pubname, $1)";
const REPLICATION_SLOTS: &str = "SELECT slot_name::text, active_pid FROM pg_replication_slots \
     WHERE database = current_database() AND starts_with(slot_name, $1)";
/// A detachment that was interrupted blocks every other of the same parent.
const HALF_DETACHED: &str = "SELECT p.relname::text, c.relname::text FROM pg_inherits i \
     JOIN pg_class p ON p.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhdetachpending";
const ATTACHED: &str = "SELECT p.relname::text FROM pg_inherits i \
     JOIN pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = to_regclass($1)";
const LEAVES: &str = "SELECT leaf FROM slot_leaves($1) AS leaf WHERE to_regclass(leaf) IS NOT NULL";
const IS_GIVEN_UP: &str = "SELECT 1 FROM slot_move WHERE slot = $1 AND move_id = $2 AND NOT filling";
/// Of whatever kind they are: the name is the only thing that tells.
const LEFT_BEHIND: &str = "SELECT DISTINCT split_part(name, '_', 4) FROM (\
         SELECT slot_name::text AS name FROM pg_replication_slots WHERE database = current_database() \
         UNION ALL SELECT pubname::text FROM pg_publication \
         UNION ALL SELECT s.subname::text FROM pg_subscription s \
             JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()) o WHERE starts_with(name, $1)";
/// Unlike the store's owners, nobody waits for this: better late than in the way.
const LOCK_GENTLY: &str = "SET lock_timeout = '2s'";

impl Store {
    /// The moves that have replication objects here.
    pub async fn moves_with_objects(&self, cluster: ClusterId) -> Result<Vec<MoveId>, StoreError> {
        let client = self.connect("sweep").await?;
        let rows = client.query(LEFT_BEHIND, &[&cluster_prefix(cluster)]).await?;
        let id = |row: &Row| {
            let number: String = row.try_get(0)?;
            number.parse().map(MoveId::new).map_err(|_| StoreError::Unreadable("the name of a replication object"))
        };
        rows.iter().map(id).collect()
    }
}

impl MoveEnd {
    /// In the target: ends all replication of this move, also where the source does not answer.
    pub async fn unsubscribe(&self) -> Result<(), StoreError> {
        for row in self.client.query(SUBSCRIPTIONS, &[&self.prefix]).await? {
            let name: String = row.try_get(0)?;
            self.client.batch_execute(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await?;
            self.client.batch_execute(&format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")).await?;
            self.client.batch_execute(&format!("DROP SUBSCRIPTION {name}")).await?;
        }
        Ok(())
    }

    /// In the source: keeps nothing for the target any more.
    pub async fn unpublish(&self) -> Result<(), StoreError> {
        for row in self.client.query(REPLICATION_SLOTS, &[&self.prefix]).await? {
            let (name, pid): (String, Option<i32>) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(pid) = pid {
                self.client.execute("SELECT pg_terminate_backend($1, 2000)", &[&pid]).await?;
            }
            self.client.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await?;
        }
        for row in self.client.query(PUBLICATIONS, &[&self.prefix]).await? {
            let name: String = row.try_get(0)?;
            self.client.batch_execute(&format!("DROP PUBLICATION {name}")).await?;
        }
        Ok(())
    }

    /// In the store that the slots are not in: nobody owns them here any more, and no driver fills them again. Returns those
    /// whose partitions are to be dropped.
    pub async fn give_up(&self) -> Result<Vec<Slot>, StoreError> {
        let params: [&(dyn ToSql + Sync); 2] = [&self.id_column(), &self.slot_columns()];
        let rows = self.client.query("SELECT slot FROM give_up_slots($1, $2)", &params).await?;
        rows.iter().map(|row| slot_from_column(row.try_get(0)?)).collect()
    }

    /// Forgets the move's marker.
    pub async fn forget_marker(&self) -> Result<(), StoreError> {
        self.client.execute("DELETE FROM move_marker WHERE move_id = $1", &[&self.id_column()]).await?;
        Ok(())
    }

    /// Drops the partitions of a slot that was given up. Detached first, and concurrently: to drop what is attached locks
    /// the parent, and with it every other slot.
    pub async fn drop_partitions(&self, slot: Slot) -> Result<(), StoreError> {
        self.store.lock_schema(&self.client).await?;
        let dropped = self.drop_locked(slot).await;
        self.store.unlock_schema(&self.client).await?;
        dropped
    }

    async fn drop_locked(&self, slot: Slot) -> Result<(), StoreError> {
        // Under the lock, which who makes partitions for a newer move wants too: this driver may be late.
        if self.client.query_opt(IS_GIVEN_UP, &[&slot_column(slot), &self.id_column()]).await?.is_none() {
            return Ok(());
        }
        self.client.batch_execute(LOCK_GENTLY).await?;
        for row in self.client.query(HALF_DETACHED, &[]).await? {
            let (parent, leaf): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            self.client.batch_execute(&format!("ALTER TABLE {parent} DETACH PARTITION {leaf} FINALIZE")).await?;
        }
        for row in self.client.query(LEAVES, &[&columns(&[slot])]).await? {
            let leaf: String = row.try_get(0)?;
            if let Some(row) = self.client.query_opt(ATTACHED, &[&leaf]).await? {
                let parent: String = row.try_get(0)?;
                self.client
                    .batch_execute(&format!("ALTER TABLE {parent} DETACH PARTITION {leaf} CONCURRENTLY"))
                    .await?;
            }
            self.client.batch_execute(&format!("DROP TABLE {leaf}")).await?;
        }
        Ok(())
    }
}
