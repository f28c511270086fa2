//! A slot's fence in a store against the map. Pure.
//!
//! The map changes first and the stores follow, so a fence may be behind; and an epoch means one owner, one store and one
//! seal, for ever. So a fence that is ahead of the newest map, or differs from it at the same epoch, has had another author.

use tertulia_shard_map::{Epoch, Incarnation, ShardMap, Slot};

/// As the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredFence {
    pub epoch: Epoch,
    /// 0: nobody.
    pub node: u64,
    pub incarnation: Incarnation,
    pub sealed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As the map says, or not that far yet.
    Fits,
    /// This map is old, or the fence wrong.
    Ahead(String),
}

pub fn compare(fence: &StoredFence, map: &ShardMap, slot: Slot) -> Standing {
    let entry = map.slot(slot);
    let (stored, known) = (fence.epoch, entry.epoch);
    if stored > known {
        return Standing::Ahead(format!("the fence is at epoch {stored}, the map at {known}"));
    }
    if stored < known || stored == Epoch::ZERO {
        return Standing::Fits;
    }
    let is_sealed = entry.sealed_by.is_some();
    if fence.sealed != is_sealed {
        let (in_store, in_map) = (seal(fence.sealed), seal(is_sealed));
        return Standing::Ahead(format!("at epoch {known} the slot is {in_store} in the store, {in_map} in the map"));
    }
    // To seal a slot leaves its owner in the fence as it was.
    let owner = map.owner(slot).map_or((0, Incarnation::ZERO), |owner| (owner.node.get().into(), owner.incarnation));
    if !is_sealed && (fence.node, fence.incarnation) != owner {
        return Standing::Ahead(format!(
            "epoch {known} is of node-{}, start {}, in the store, and of node-{}, start {}, in the map",
            fence.node, fence.incarnation, owner.0, owner.1
        ));
    }
    Standing::Fits
}

const fn seal(is_sealed: bool) -> &'static str {
    if is_sealed { "sealed" } else { "open" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::fixtures::map;

    const SLOT: Slot = Slot::new(3);

    fn fence(map: &ShardMap) -> StoredFence {
        let owner = map.owner(SLOT).unwrap();
        StoredFence { epoch: owner.epoch, node: owner.node.get().into(), incarnation: owner.incarnation, sealed: false }
    }

    #[test]
    fn a_fence_fits_where_it_is_the_maps_or_older() {
        let map = map();
        let fits = fence(&map);
        assert_eq!(compare(&fits, &map, SLOT), Standing::Fits);
        let older = StoredFence { epoch: Epoch::ZERO, node: 7, incarnation: Incarnation::new(9), sealed: true };
        assert_eq!(compare(&older, &map, SLOT), Standing::Fits);
    }

    #[test]
    fn a_fence_is_ahead_where_its_epoch_is_or_means_something_else() {
        let map = map();
        let fits = fence(&map);
        let wrong = [
            StoredFence { epoch: fits.epoch.next(), ..fits },
            StoredFence { node: fits.node + 1, ..fits },
            StoredFence { incarnation: fits.incarnation.next(), ..fits },
            StoredFence { sealed: true, ..fits },
        ];
        for fence in wrong {
            assert!(matches!(compare(&fence, &map, SLOT), Standing::Ahead(_)), "{fence:?}");
        }
    }
}
