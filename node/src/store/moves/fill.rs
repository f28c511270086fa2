//! Filling the partitions of a move's slots in the target.

use std::collections::BTreeSet;

use tertulia_shard_map::Slot;
use tokio_postgres::types::ToSql;

use super::{MoveEnd, columns, conninfo, quoted};
use crate::store::{StoreError, counter, slot_from_column};

const FILLING: &str = "SELECT fill, bool_and(filling), min(source_timeline), min(target_timeline), count(*) FROM slot_move \
     WHERE slot = ANY ($1) AND move_id = $2 GROUP BY fill";
const LEAVES: &str = "SELECT string_agg(format('TABLE %I', leaf), ', ') FROM slot_leaves($1) AS leaf";
const SIZE: &str = "SELECT coalesce(sum(pg_relation_size(leaf::regclass)), 0)::bigint, \
            coalesce(sum(pg_stat_get_live_tuples(leaf::regclass)), 0)::bigint FROM slot_leaves($1) AS leaf";
const ANALYZE: &str = "SELECT string_agg(format('%I', leaf), ', ') FROM slot_leaves($1) AS leaf";
const SYNCED: &str = "SELECT count(*) FILTER (WHERE r.srsubstate <> 'r'), bool_or(NOT s.subenabled) \
     FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid WHERE s.subname = $1";
/// Tables that are copied, and still to catch up by a replication slot of their own, which is named in the source as Postgres
/// names it (`ReplicationSlotNameForTablesync` in its tablesync.c).
const CATCHING_UP: &str = "SELECT format('pg_%s_sync_%s_%s', r.srsubid, r.srrelid, c.system_identifier) \
     FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid, pg_control_system() c \
     WHERE s.subname = $1 AND r.srsubstate = 'f'";
const THERE: &str = "SELECT slot_name::text FROM pg_replication_slots WHERE slot_name = ANY ($1)";
const IS_SUBSCRIBED: &str = "SELECT EXISTS (SELECT 1 FROM pg_subscription s JOIN pg_database d \
     ON d.oid = s.subdbid AND d.datname = current_database() WHERE s.subname = $1 AND s.subenabled)";
const IS_PUBLISHED: &str = "SELECT EXISTS (SELECT 1 FROM pg_publication WHERE pubname = $1) \
     AND EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND wal_status <> 'lost')";
/// Whole slots are published, so one of the partitions tells.
const PUBLISHED_SLOTS: &str = "SELECT substr(tablename, length('event_s') + 1)::int FROM pg_publication_tables \
     WHERE pubname = $1 AND starts_with(tablename, 'event_s')";
const RECEIVED: &str = "SELECT pg_wal_lsn_diff(t.received_lsn, '0/0')::bigint FROM pg_stat_subscription t \
     WHERE t.subname = $1 AND t.relid IS NULL AND t.received_lsn IS NOT NULL";
const WRITTEN: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";

/// One filling of the target's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    number: i32,
}

/// What the target knows of the move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub filling: Filling,
    pub is_closed: bool,
    pub source_timeline: i32,
    pub target_timeline: i32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    pub rows: u64,
}

/// Bytes of the source's WAL that have not come to the target.
pub type ReplicationLag = u64;

/// In the target.
impl MoveEnd {
    /// From here on a driver of an earlier filling can do nothing more.
    pub async fn begin_fill(&self, source_timeline: i32) -> Result<Filling, StoreError> {
        let params: [&(dyn ToSql + Sync); 3] = [&self.id_column(), &self.slot_columns(), &source_timeline];
        let row = self.client.query_one("SELECT begin_fill($1, $2, $3)", &params).await?;
        Ok(Filling { number: row.try_get(0)? })
    }

    /// `None` where the slots are not all marked for this move.
    pub async fn mark(&self) -> Result<Option<Mark>, StoreError> {
        let rows = self.client.query(FILLING, &[&self.slot_columns(), &self.id_column()]).await?;
        let [row] = rows.as_slice() else { return Ok(None) };
        if row.try_get::<_, i64>(4)? != self.slots.len() as i64 {
            return Ok(None);
        }
        Ok(Some(Mark {
            filling: Filling { number: row.try_get(0)? },
            is_closed: !row.try_get::<_, bool>(1)?,
            source_timeline: row.try_get(2)?,
            target_timeline: row.try_get(3)?,
        }))
    }

    pub async fn empty_partitions(&self, filling: Filling) -> Result<(), StoreError> {
        self.store.lock_schema(&self.client).await?;
        let emptied = async {
            for slot in self.slot_columns() {
                let params: [&(dyn ToSql + Sync); 3] = [&self.id_column(), &slot, &filling.number];
                self.client.execute("SELECT empty_slot($1, $2, $3)", &params).await?;
            }
            Ok(())
        };
        let emptied = emptied.await;
        self.store.unlock_schema(&self.client).await?;
        emptied
    }

    /// Subscribes to what `source` has published by then, as long as this filling is the newest.
    pub async fn subscribe(&self, filling: Filling, source: &Self) -> Result<(), StoreError> {
        let name = self.name(filling);
        let create = format!(
            "BEGIN; SELECT check_fill({}, ARRAY{:?}, {}); CREATE SUBSCRIPTION {name} CONNECTION {} PUBLICATION {name} \
             WITH (create_slot = false, slot_name = {name}, copy_data = true, disable_on_error = true); COMMIT",
            self.id_column(),
            self.slot_columns(),
            filling.number,
            quoted(&conninfo(&source.store.config)),
        );
        Ok(self.client.batch_execute(&create).await?)
    }

    /// Has Postgres copy what was published since.
    pub async fn copy_published(&self, filling: Filling) -> Result<(), StoreError> {
        let refresh = format!("ALTER SUBSCRIPTION {} REFRESH PUBLICATION", self.name(filling));
        Ok(self.client.batch_execute(&refresh).await?)
    }

    /// Tables that are not copied and caught up yet.
    pub async fn tables_to_copy(&self, filling: Filling) -> Result<u64, StoreError> {
        let row = self.client.query_one(SYNCED, &[&self.name(filling)]).await?;
        match row.try_get::<_, Option<bool>>(1)? {
            Some(false) => Ok(counter(row.try_get(0)?)),
            Some(true) => {
                Err(StoreError::Unreadable("a subscription of a move that met an error: see the store's log"))
            }
            None => Err(StoreError::Unreadable("no subscription of the move")),
        }
    }

    /// Whether a table can never catch up. Postgres drops a table's replication slot in the source once it has noted in the
    /// target that the table has caught up, which it does not make durable first: a crash of the target loses the note, and
    /// whatever looks for the slot then fails for ever.
    pub async fn is_stranded(&self, filling: Filling, source: &Self) -> Result<bool, StoreError> {
        let before = self.catching_up(filling).await?;
        if before.is_empty() {
            return Ok(false);
        }
        let there: Vec<String> =
            source.client.query(THERE, &[&before]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        // Asked again, because a note that is made is there before the slot is gone.
        let after = self.catching_up(filling).await?;
        Ok(before.iter().any(|slot| !there.contains(slot) && after.contains(slot)))
    }

    async fn catching_up(&self, filling: Filling) -> Result<Vec<String>, StoreError> {
        let rows = self.client.query(CATCHING_UP, &[&self.name(filling)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// New tables have no statistics, and so no good plans.
    pub async fn analyze(&self, slots: &[Slot]) -> Result<(), StoreError> {
        let leaves: String = self.client.query_one(ANALYZE, &[&columns(slots)]).await?.try_get(0)?;
        Ok(self.client.batch_execute(&format!("ANALYZE {leaves}")).await?)
    }

    pub async fn close_fill(&self, filling: Filling) -> Result<(), StoreError> {
        let params: [&(dyn ToSql + Sync); 3] = [&self.id_column(), &self.slot_columns(), &filling.number];
        self.client.execute("SELECT close_fill($1, $2, $3)", &params).await?;
        Ok(())
    }

    pub async fn is_subscribed(&self, filling: Filling) -> Result<bool, StoreError> {
        Ok(self.client.query_one(IS_SUBSCRIBED, &[&self.name(filling)]).await?.try_get(0)?)
    }

    /// `None` where nothing arrives.
    pub async fn lag(&self, filling: Filling, source: &Self) -> Result<Option<ReplicationLag>, StoreError> {
        // In this order: what arrives meanwhile makes the lag look longer, never shorter.
        let Some(received) = self.client.query_opt(RECEIVED, &[&self.name(filling)]).await? else { return Ok(None) };
        let received: i64 = received.try_get(0)?;
        let written: i64 = source.client.query_one(WRITTEN, &[]).await?.try_get(0)?;
        Ok(Some(counter(written.saturating_sub(received).max(0))))
    }
}

/// In the source.
impl MoveEnd {
    /// Publishes the move's marker, and keeps from now on what is written, until it has arrived.
    pub async fn publish(&self, filling: Filling) -> Result<(), StoreError> {
        let (name, id) = (self.name(filling), self.id_column());
        let publication = format!(
            "CREATE PUBLICATION {name} FOR TABLE move_marker WHERE (move_id = {id}) WITH (publish = 'insert, update, delete')"
        );
        self.client.batch_execute(&publication).await?;
        self.client.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&name]).await?;
        Ok(())
    }

    /// Whether both are there that [`MoveEnd::publish`] makes.
    pub async fn is_published(&self, filling: Filling) -> Result<bool, StoreError> {
        Ok(self.client.query_one(IS_PUBLISHED, &[&self.name(filling)]).await?.try_get(0)?)
    }

    pub async fn published_slots(&self, filling: Filling) -> Result<BTreeSet<Slot>, StoreError> {
        let rows = self.client.query(PUBLISHED_SLOTS, &[&self.name(filling)]).await?;
        rows.iter().map(|row| slot_from_column(row.try_get(0)?)).collect()
    }

    /// Publishes some of the slots. Whole slots, so that a row and what it refers to go together.
    pub async fn publish_slots(&self, filling: Filling, slots: &[Slot]) -> Result<(), StoreError> {
        let leaves: String = self.client.query_one(LEAVES, &[&columns(slots)]).await?.try_get(0)?;
        let add = format!("ALTER PUBLICATION {} ADD {leaves}", self.name(filling));
        Ok(self.client.batch_execute(&add).await?)
    }

    /// As Postgres estimates it.
    pub async fn size(&self, slots: &[Slot]) -> Result<Copied, StoreError> {
        let row = self.client.query_one(SIZE, &[&columns(slots)]).await?;
        Ok(Copied { bytes: counter(row.try_get(0)?), rows: counter(row.try_get(1)?) })
    }
}

impl MoveEnd {
    pub(super) fn name(&self, filling: Filling) -> String {
        format!("{}{}", self.prefix, filling.number)
    }
}
