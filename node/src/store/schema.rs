//! Migrations, the store's stamp, and the partitions of slots.

use tertulia_shard_map::Slot;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Stamp, Store, StoreError, column, slot_column};
use crate::known_faults::{FENCE_BY_JOIN, KnownFault};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Serialises migrations and the making of partitions among all nodes: "tertulia" in ASCII.
const SCHEMA_LOCK: i64 = 0x7465_7274_756c_6961;

/// Others may be at it, and each of their steps takes its time.
const PATIENTLY: &str = "SET statement_timeout = '60s'";
const LOCK: &str = "SELECT pg_advisory_lock($1)";
const STAMP: &str =
    "INSERT INTO store_identity (cluster_id, store_id, slots) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const UNLOCK: &str = "SELECT pg_advisory_unlock($1)";
const READ_STAMP: &str = "SELECT cluster_id, store_id, slots FROM store_identity";
/// By primary key of slot_fence.
const MISSING_SLOTS: &str = "SELECT want.slot FROM unnest($1::int[]) AS want (slot) \
     WHERE NOT EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = want.slot)";
const CREATE_SLOT: &str = "SELECT create_slot($1)";

impl Store {
    /// Brings the schema up to date, and stamps the store for this cluster or refuses it as foreign.
    pub async fn prepare(&self, stamp: Stamp) -> Result<(), StoreError> {
        // The advisory lock lives as long as this connection.
        let mut client = self.connect("schema").await?;
        client.batch_execute(PATIENTLY).await?;
        self.lock_schema(&client).await?;
        embedded::migrations::runner().run_async(&mut client).await.map_err(StoreError::Migration)?;

        if KnownFault::FenceByJoin.is_on() {
            client.batch_execute(FENCE_BY_JOIN).await?;
        }

        let cluster = Uuid::from_bytes(stamp.cluster.to_bytes());
        let (store, slots) = (i64::from(self.id.get()), i32::from(stamp.slots.get()));
        client.execute(STAMP, &[&cluster, &store, &slots]).await?;
        let row = client.query_one(READ_STAMP, &[]).await?;
        let found: (Uuid, i64, i32) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if found == (cluster, store, slots) {
            Ok(())
        } else {
            let cluster = tertulia_shard_map::ClusterId::from_bytes(found.0.into_bytes());
            Err(StoreError::Foreign(format!("cluster {cluster}, store {}, {} slots", found.1, found.2)))
        }
    }

    /// Makes the partitions of these slots where they are missing.
    pub(super) async fn ensure_partitions(&self, slots: &[Slot]) -> Result<(), StoreError> {
        let wanted: Vec<i32> = slots.iter().copied().map(slot_column).collect();
        if self.reader().await?.query(MISSING_SLOTS, &[&wanted]).await?.is_empty() {
            return Ok(());
        }
        let client = self.connect("schema").await?;
        client.batch_execute(PATIENTLY).await?;
        self.lock_schema(&client).await?;
        let create = client.prepare(CREATE_SLOT).await?;
        // Autocommit, one slot each: a crash in between leaves whole slots and missing slots, nothing half-made.
        for row in client.query(MISSING_SLOTS, &[&wanted]).await? {
            client.execute(&create, &[&row.try_get::<_, i32>(0)?]).await?;
        }
        Ok(())
    }

    /// One at a time makes, attaches, detaches or drops partitions. Held by the connection, until it ends or unlocks.
    pub(super) async fn lock_schema(&self, client: &Client) -> Result<(), StoreError> {
        client.execute(LOCK, &[&SCHEMA_LOCK]).await?;
        // One that freezes meanwhile keeps the others waiting for so long, and is cut off then.
        client.batch_execute("SET idle_session_timeout = '15s'").await?;
        Ok(())
    }

    pub(super) async fn unlock_schema(&self, client: &Client) -> Result<(), StoreError> {
        client.execute(UNLOCK, &[&SCHEMA_LOCK]).await?;
        client.batch_execute("SET idle_session_timeout = 0").await?;
        Ok(())
    }

    /// Whether the store answers at all.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.reader().await?.execute("SELECT 1", &[]).await?;
        Ok(())
    }

    pub(super) fn writer_columns(&self) -> (i64, i64) {
        (i64::from(self.writer.node.get()), column(self.writer.incarnation.get()))
    }
}
