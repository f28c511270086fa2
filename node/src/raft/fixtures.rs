//! What the tests of this module share.

use tertulia_shard_map::{Change, ClusterId, NewNode, NewStore, NodeId, SlotCount, StoreId, Weight};

/// Three nodes on one store. `cluster` tells one genesis from another.
pub(crate) fn genesis(cluster: u128) -> Change {
    let nodes = (1..=3).map(|id| NewNode {
        id: NodeId::new(id),
        address: format!("127.0.0.1:{}", 7100 + id),
        home_store: StoreId::new(1),
        weight: Weight::ONE,
    });
    Change::Genesis {
        cluster: ClusterId::from_u128(cluster),
        slots: SlotCount::try_from(16).unwrap(),
        stores: vec![NewStore { id: StoreId::new(1), name: "a".to_owned(), weight: Weight::ONE }],
        nodes: nodes.collect(),
    }
}
