//! Sealing a move's slots in the source, and what is left to do in the target once they are.

use std::collections::HashSet;

use tertulia_shard_map::{Epoch, Slot};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Filling, MoveEnd};
use crate::store::{StoreError, column, slot_column, slot_from_column};

/// The marker, by the subscription of this filling, which has none of its tables still to copy.
const DRAINED: &str = "SELECT EXISTS (SELECT 1 FROM move_marker WHERE move_id = $2) \
     AND coalesce((SELECT bool_and(r.srsubstate = 'r') FROM pg_subscription s \
                   JOIN pg_subscription_rel r ON r.srsubid = s.oid WHERE s.subname = $1), false)";
const CURSORS: &str = "SELECT slot, consumer, event_id FROM slot_cursor WHERE slot = ANY ($1)";
const SET_CURSORS: &str = "INSERT INTO slot_cursor AS k (slot, consumer, event_id) \
     SELECT * FROM unnest($1::int[], $2::text[], $3::uuid[]) \
     ON CONFLICT (slot, consumer) DO UPDATE SET event_id = excluded.event_id WHERE k.event_id < excluded.event_id";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    Yes,
    NotYet,
}

impl MoveEnd {
    /// In the source: nobody writes the slots any more. Returns those that are sealed at these epochs: where the map has
    /// newer ones by now, some are not.
    pub async fn seal(&self, wanted: &[(Slot, Epoch)]) -> Result<HashSet<Slot>, StoreError> {
        match self.seal_once(wanted).await {
            Err(error) if error.is_lock_timeout() => {
                self.store.end_old_backends(&self.client, wanted).await?;
                self.seal_once(wanted).await
            }
            other => other,
        }
    }

    async fn seal_once(&self, wanted: &[(Slot, Epoch)]) -> Result<HashSet<Slot>, StoreError> {
        let slots: Vec<i32> = wanted.iter().map(|&(slot, _)| slot_column(slot)).collect();
        let epochs: Vec<i64> = wanted.iter().map(|&(_, epoch)| column(epoch.get())).collect();
        let params: [&(dyn ToSql + Sync); 3] = [&self.id_column(), &slots, &epochs];
        let rows = self.client.query("SELECT slot FROM seal_slots($1, $2, $3)", &params).await?;
        rows.iter().map(|row| slot_from_column(row.try_get(0)?)).collect()
    }

    /// In the target: whether all is here that the source had when it was sealed.
    pub async fn is_drained(&self, filling: Filling) -> Result<Drained, StoreError> {
        let row = self.client.query_one(DRAINED, &[&self.name(filling), &self.id_column()]).await?;
        Ok(if row.try_get(0)? { Drained::Yes } else { Drained::NotYet })
    }

    /// In the target, sealed: the cursors of the source. They are no rows of the slot's partitions.
    pub async fn copy_cursors(&self, source: &Self) -> Result<(), StoreError> {
        let (mut slots, mut consumers, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for row in source.client.query(CURSORS, &[&self.slot_columns()]).await? {
            slots.push(row.try_get::<_, i32>(0)?);
            consumers.push(row.try_get::<_, String>(1)?);
            events.push(row.try_get::<_, Uuid>(2)?);
        }
        self.client.execute(SET_CURSORS, &[&slots, &consumers, &events]).await?;
        Ok(())
    }
}
