//! Look-ups of many keys at once: one statement for each slot, all of them in one pipeline.
//!
//! A statement names one slot, by which Postgres prunes the partitions when it plans; over several slots it would plan,
//! and lock, all of them.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tertulia_shard_map::Slot;
use tokio_postgres::{Row, types::ToSql};

use super::{Store, StoreError, slot_column};

pub(super) type Column = Box<dyn ToSql + Sync + Send>;

/// One column of these keys.
pub(super) fn column_of<K, C>(keys: &[&K], of: impl Fn(&K) -> C) -> Column
where
    Vec<C>: ToSql + Sync + Send + 'static,
{
    Box::new(keys.iter().map(|key| of(key)).collect::<Vec<C>>())
}

/// The places of the keys in the list, slot by slot.
pub(super) fn places_by_slot<K>(keys: &[K], slot: impl Fn(&K) -> Slot) -> BTreeMap<Slot, Vec<usize>> {
    let mut places: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
    for (place, key) in keys.iter().enumerate() {
        places.entry(slot(key)).or_default().push(place);
    }
    places
}

/// Which of the wanted an ordinality (from 1) in a row means.
pub(super) fn wanted_at<T: Copy>(wanted: &[T], ordinality: i64) -> Result<T, StoreError> {
    let place = usize::try_from(ordinality - 1).ok().and_then(|at| wanted.get(at));
    place.copied().ok_or(StoreError::Unreadable("ordinality"))
}

impl Store {
    /// For each key, in order, what the statement finds. It takes the slot, then these columns, and answers rows that
    /// begin with the ordinality of a key.
    pub(super) async fn look_up<K, T: Clone>(
        &self,
        sql: &str,
        keys: &[K],
        slot: impl Fn(&K) -> Slot,
        columns: impl Fn(&[&K]) -> Vec<Column>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let mut found = vec![None; keys.len()];
        if keys.is_empty() {
            return Ok(found);
        }
        let client = self.loader().await?;
        let statement = client.prepare_cached(sql).await?;
        let of_slot = |(slot, places): (Slot, Vec<usize>)| {
            let wanted: Vec<&K> = places.iter().map(|&place| &keys[place]).collect();
            let (client, statement, columns) = (&client, &statement, columns(&wanted));
            async move {
                let slot = slot_column(slot);
                let mut params: Vec<&(dyn ToSql + Sync)> = vec![&slot];
                params.extend(columns.iter().map(|column| &**column as &(dyn ToSql + Sync)));
                let rows = client.query(statement, &params).await?;
                Ok::<_, StoreError>((places, rows))
            }
        };
        for (places, rows) in try_join_all(places_by_slot(keys, slot).into_iter().map(of_slot)).await? {
            for row in &rows {
                found[wanted_at(&places, row.try_get(0)?)?] = Some(read(row)?);
            }
        }
        Ok(found)
    }
}
