//! I5 between the stores: a slot has rows, and an owner, only in the store that the map names, or in the two of its move.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tertulia_shard_map::{ShardMap, Slot, StoreId};
use tokio::time::sleep;

use super::{
    check::{Check, Findings, Violation},
    cluster::Cluster,
    store::{LEAVES, Store, is_missing, leaf},
};

/// A move begins, ends and is cleaned up while one looks: what is seen at all of these times is none of it.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

const TABLES: &str = "SELECT c.relname::text FROM pg_class c \
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname ~ '^[a-z]+_s[0-9]+$'";
const OWNED: &str = "SELECT slot, node, epoch FROM slot_fence WHERE node > 0";

/// Something of a slot in a store.
type Found = BTreeMap<(StoreId, Slot), String>;

/// Stores that could not be looked at are missing from the result's count.
pub async fn check(
    cluster: &mut Cluster<'_>,
    selected: &BTreeSet<Slot>,
    findings: &mut Findings,
) -> BTreeMap<StoreId, anyhow::Error> {
    let mut left: Option<Found> = None;
    let mut failed = BTreeMap::new();
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        cluster.refresh().await;
        let before = cluster.map.clone();
        let mut found = Found::new();
        for (id, _) in before.stores() {
            let looked = match cluster.connect(id).await {
                Ok(()) => strays(cluster, id, &before, selected, &mut found).await,
                Err(error) => Err(error),
            };
            match looked {
                Ok(tables) if look == 0 => findings.checked(Check::Places, tables),
                Ok(_) => {}
                Err(error) => drop(failed.insert(id, error)),
            }
        }
        cluster.refresh().await;
        found.retain(|(store, slot), _| {
            !belongs(&cluster.map, *store, *slot)
                && left.as_ref().is_none_or(|before| before.contains_key(&(*store, *slot)))
        });
        if found.is_empty() {
            return failed;
        }
        left = Some(found);
    }
    for ((store, slot), what) in left.into_iter().flatten() {
        findings.add(Violation { check: Check::Places, store, slot, conversation: None, user: None, what });
    }
    failed
}

/// Whether the map has a place for anything of the slot in the store.
fn belongs(map: &ShardMap, store: StoreId, slot: Slot) -> bool {
    map.get(slot).is_some_and(|entry| entry.store == store)
        || map.move_of(slot).is_some_and(|(_, entry)| [entry.source, entry.target].contains(&store))
}

/// How many tables there are; what does not belong there goes into `found`.
async fn strays(
    cluster: &Cluster<'_>,
    id: StoreId,
    map: &ShardMap,
    selected: &BTreeSet<Slot>,
    found: &mut Found,
) -> anyhow::Result<u64> {
    let store: &Store = cluster.store(id)?;
    let mut tables = 0;
    for row in store.lookup().query(TABLES, &[]).await? {
        let name: String = row.try_get(0)?;
        let Some(slot) = slot_of(&name) else { continue };
        // One that no cluster of so few slots has is nobody's choice.
        if map.get(slot).is_some() && !selected.contains(&slot) {
            continue;
        }
        tables += 1;
        if belongs(map, id, slot) {
            continue;
        }
        let has_rows = format!("SELECT EXISTS (SELECT 1 FROM {name})");
        match store.lookup().query_one(&has_rows, &[]).await {
            Ok(row) if row.try_get(0)? => {
                found.entry((id, slot)).or_insert_with(|| format!("{name} has rows, and {}", whereabouts(map, slot)));
            }
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let owned = match store.lookup().query(OWNED, &[]).await {
        Err(error) if is_missing(&error) => Vec::new(),
        owned => owned?,
    };
    for row in owned {
        let (slot, node, epoch): (i32, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Ok(slot) = u16::try_from(slot).map(Slot::new) else { continue };
        if selected.contains(&slot) && !belongs(map, id, slot) {
            found.entry((id, slot)).or_insert_with(|| {
                format!("node-{node} owns the slot at epoch {epoch}, and {}", whereabouts(map, slot))
            });
        }
    }
    Ok(tables)
}

fn slot_of(table: &str) -> Option<Slot> {
    let (parent, number) = table.rsplit_once("_s")?;
    let slot = Slot::new(number.parse().ok()?);
    (LEAVES.contains(&parent) && leaf(parent, slot) == table).then_some(slot)
}

fn whereabouts(map: &ShardMap, slot: Slot) -> String {
    match map.get(slot) {
        Some(entry) => format!("the slot is in store {}", entry.store),
        None => "there is no such slot".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{Change, MovingSlot, NewMove, apply};

    use super::*;
    use crate::verify::fixtures::map;

    #[test]
    fn a_slot_belongs_into_its_store_and_into_the_two_of_its_move() {
        let map = map();
        let (slot, source) = (Slot::new(5), map.slot(Slot::new(5)).store);
        let target = StoreId::new(3 - source.get());
        assert_eq!([source, target].map(|store| belongs(&map, store, slot)), [true, false]);
        let slots = vec![MovingSlot { slot, expected_epoch: map.slot(slot).epoch }];
        let map = apply(Some(&map), &Change::BeginMove(NewMove { source, target, slots })).unwrap();
        assert_eq!([source, target].map(|store| belongs(&map, store, slot)), [true, true]);
        assert!(!belongs(&map, source, Slot::new(64)));
    }

    #[test]
    fn a_slots_tables_are_known_by_their_names() {
        assert_eq!(slot_of("event_s17"), Some(Slot::new(17)));
        for other in ["event", "event_s", "event_s017", "other_s17", "event_s99999", "event_s17_id"] {
            assert_eq!(slot_of(other), None, "{other}");
        }
    }
}
