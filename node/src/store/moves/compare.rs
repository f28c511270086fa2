//! Comparing the rows of a move's slots in both stores, while the source is written and after.

use std::collections::{HashMap, HashSet};

use tertulia_shard_map::Slot;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{MoveEnd, columns};
use crate::store::{StoreError, slot_column};

const ALL: &str = "SELECT parent, slot, key, block, rows, hash::text FROM all_units($1)";
const SOME: &str = "SELECT parent, slot, key, block, rows, hash::text FROM some_units($1, $2, $3, $4)";
const CHANGED: &str = "SELECT parent, slot, key, block FROM changed_units($1, $2, $3)";
const POSITIONS: &str = "SELECT slot, event, xid FROM slot_positions($1)";

/// The rows of one table, slot and key; of events and reactions, of one block of 256 seqs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unit {
    parent: String,
    slot: i32,
    key: Uuid,
    block: i64,
}

/// How many rows, and the sum of their hashes.
type Digest = (i64, String);

/// Where a slot's data stood.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    slot: i32,
    event: Uuid,
    xid: i64,
}

/// Units that were not the same in both stores when they were read, one store after the other: what was on its way then
/// differs as well.
pub type Differing = HashSet<Unit>;

/// In the source, with the target to compare with.
impl MoveEnd {
    pub async fn positions(&self, slots: &[Slot]) -> Result<Vec<Position>, StoreError> {
        let rows = self.client.query(POSITIONS, &[&columns(slots)]).await?;
        let position = |row: &Row| Ok(Position { slot: row.try_get(0)?, event: row.try_get(1)?, xid: row.try_get(2)? });
        rows.iter().map(position).collect()
    }

    /// All of one slot.
    pub async fn compare_all(&self, target: &Self, slot: Slot) -> Result<Differing, StoreError> {
        let slots = vec![slot_column(slot)];
        let here = digests(&self.client.query(ALL, &[&slots]).await?)?;
        let there = digests(&target.client.query(ALL, &[&slots]).await?)?;
        Ok(differing(here, there))
    }

    /// Some units.
    pub async fn compare_some(&self, target: &Self, units: &Differing) -> Result<Differing, StoreError> {
        if units.is_empty() {
            return Ok(Differing::new());
        }
        let parents: Vec<&str> = units.iter().map(|unit| unit.parent.as_str()).collect();
        let slots: Vec<i32> = units.iter().map(|unit| unit.slot).collect();
        let keys: Vec<Uuid> = units.iter().map(|unit| unit.key).collect();
        let blocks: Vec<i64> = units.iter().map(|unit| unit.block).collect();
        let params: [&(dyn ToSql + Sync); 4] = [&parents, &slots, &keys, &blocks];
        let here = digests(&self.client.query(SOME, &params).await?)?;
        let there = digests(&target.client.query(SOME, &params).await?)?;
        Ok(differing(here, there))
    }

    /// The units that may have changed since.
    pub async fn changed_since(&self, positions: &[Position]) -> Result<Differing, StoreError> {
        let slots: Vec<i32> = positions.iter().map(|it| it.slot).collect();
        let events: Vec<Uuid> = positions.iter().map(|it| it.event).collect();
        let xids: Vec<i64> = positions.iter().map(|it| it.xid).collect();
        let rows = self.client.query(CHANGED, &[&slots, &events, &xids]).await?;
        rows.iter().map(unit).collect()
    }
}

fn unit(row: &Row) -> Result<Unit, StoreError> {
    Ok(Unit { parent: row.try_get(0)?, slot: row.try_get(1)?, key: row.try_get(2)?, block: row.try_get(3)? })
}

fn digests(rows: &[Row]) -> Result<HashMap<Unit, Digest>, StoreError> {
    rows.iter().map(|row| Ok((unit(row)?, (row.try_get(4)?, row.try_get(5)?)))).collect()
}

fn differing(here: HashMap<Unit, Digest>, mut there: HashMap<Unit, Digest>) -> Differing {
    let mut differing: Differing = here
        .into_iter()
        .filter(|(unit, digest)| there.remove(unit).as_ref() != Some(digest))
        .map(|(unit, _)| unit)
        .collect();
    differing.extend(there.into_keys());
    differing
}
