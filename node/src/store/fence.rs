//! Taking slots over: the only place where a slot's epoch in the store changes.

use std::collections::HashSet;

use tertulia_shard_map::{Epoch, EventId, Slot};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{Store, StoreError, column, slot_column, slot_from_column, writer_pattern};

const TAKE: &str = "SELECT slot FROM take_slots($1, $2, $3, $4)";
/// By primary key of slot_fence.
const OWNED: &str = "SELECT f.slot FROM unnest($3::int[], $4::bigint[]) AS want (slot, epoch) \
     JOIN slot_fence f ON f.slot = want.slot AND f.epoch = want.epoch AND f.node = $1 AND f.incarnation = $2";
/// By primary key of slot_fence.
const OLD_OWNERS: &str = "SELECT DISTINCT node FROM slot_fence WHERE slot = ANY ($1)";
const END_BACKENDS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE application_name LIKE $1 AND application_name LIKE '% lane %' AND pid <> pg_backend_pid() \
       AND datname = current_database()";
/// By the leaves' indexes on (id) and on (standing_id).
const ENDS: &str = "SELECT slot, last_entry, mailbox_cursor FROM slot_ends($1)";

/// A slot that is ours in the store, with where its log ends and where fan-out has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenSlot {
    pub slot: Slot,
    pub epoch: Epoch,
    /// The newest entry of the log, event or standing; zero where it is empty.
    pub last_entry: EventId,
    pub mailbox_cursor: EventId,
}

impl Store {
    /// Makes this node, in this incarnation, the owner of the slots at the given epochs, waiting for whatever the old
    /// owners have in flight. Slots that somebody took at a later epoch are missing from the result.
    pub async fn take_slots(&self, wanted: &[(Slot, Epoch)]) -> Result<Vec<TakenSlot>, StoreError> {
        let slots: Vec<Slot> = wanted.iter().map(|&(slot, _)| slot).collect();
        self.ensure_partitions(&slots).await?;
        // Not one of the pool's: a take-over does not wait behind reads.
        let client = self.connect("take").await?;
        let taken = match self.bump(&client, wanted).await {
            Err(error) if error.is_lock_timeout() => {
                self.end_old_backends(&client, wanted).await?;
                self.bump(&client, wanted).await?
            }
            other => other?,
        };
        // After the commit of the bump: in later snapshots than anything an old owner wrote.
        ends(&client, wanted, &taken).await
    }

    /// Those of the slots that are this owner's at these epochs.
    pub async fn owned(&self, slots: &[(Slot, Epoch)]) -> Result<HashSet<Slot>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let (slots, epochs): (Vec<i32>, Vec<i64>) =
            slots.iter().map(|&(slot, epoch)| (slot_column(slot), column(epoch.get()))).unzip();
        let client = self.loader().await?;
        let statement = client.prepare_cached(OWNED).await?;
        let rows = client.query(&statement, &[&node, &incarnation, &slots, &epochs]).await?;
        rows.iter().map(|row| slot_from_column(row.try_get(0)?)).collect()
    }

    /// In autocommit, one round trip: a taker that freezes holds no lock.
    async fn bump(&self, client: &Client, wanted: &[(Slot, Epoch)]) -> Result<Vec<Slot>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let slots: Vec<i32> = wanted.iter().map(|&(slot, _)| slot_column(slot)).collect();
        let epochs: Vec<i64> = wanted.iter().map(|&(_, epoch)| column(epoch.get())).collect();
        let rows = client.query(TAKE, &[&node, &incarnation, &slots, &epochs]).await?;
        rows.iter().map(|row| slot_from_column(row.try_get(0)?)).collect()
    }

    pub(super) async fn end_old_backends(&self, client: &Client, wanted: &[(Slot, Epoch)]) -> Result<(), StoreError> {
        let slots: Vec<i32> = wanted.iter().map(|&(slot, _)| slot_column(slot)).collect();
        for row in client.query(OLD_OWNERS, &[&slots]).await? {
            let node: i64 = row.try_get(0)?;
            tracing::warn!(node, store = %self.id, "a batch of the old owner holds its fence: ending its backends");
            client.execute(END_BACKENDS, &[&writer_pattern(node)]).await?;
        }
        Ok(())
    }
}

async fn ends(client: &Client, wanted: &[(Slot, Epoch)], taken: &[Slot]) -> Result<Vec<TakenSlot>, StoreError> {
    let columns: Vec<i32> = taken.iter().copied().map(slot_column).collect();
    let rows = client.query(ENDS, &[&columns]).await?;
    let of_slot = |row: &Row| {
        let slot = slot_from_column(row.try_get(0)?)?;
        let position = |column| -> Result<EventId, StoreError> {
            let id: Option<Uuid> = row.try_get(column)?;
            Ok(id.map_or(EventId::from_u128(0), |id| EventId::from_bytes(id.into_bytes())))
        };
        let epoch = wanted.iter().find(|(s, _)| *s == slot).map(|&(_, epoch)| epoch);
        let epoch = epoch.ok_or(StoreError::Unreadable("slot"))?;
        Ok(TakenSlot { slot, epoch, last_entry: position(1)?, mailbox_cursor: position(2)? })
    };
    rows.iter().map(of_slot).collect()
}
