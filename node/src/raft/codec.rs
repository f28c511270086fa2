//! Bytes of everything that Raft stores or sends: a version byte, then MessagePack with named fields.
//!
//! Named fields let a later version add one without breaking this one; the version byte is for changes that named
//! fields cannot absorb. Trailing bytes are refused: MessagePack would ignore them silently.

use serde::{Serialize, de::DeserializeOwned};

/// The only format so far, on disk and between nodes.
pub(super) const FORMAT_VERSION: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("no bytes at all")]
    Empty,
    #[error("format version {found}, this build reads version {FORMAT_VERSION}")]
    ForeignVersion { found: u8 },
    #[error("malformed MessagePack")]
    Malformed(#[source] rmp_serde::decode::Error),
    #[error("{count} bytes too many after the value")]
    Trailing { count: usize },
    #[error("cannot be written as MessagePack")]
    Unencodable(#[source] rmp_serde::encode::Error),
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![FORMAT_VERSION];
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    value.serialize(&mut serializer).map_err(CodecError::Unencodable)?;
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&found, mut rest) = bytes.split_first().ok_or(CodecError::Empty)?;
    if found != FORMAT_VERSION {
        return Err(CodecError::ForeignVersion { found });
    }
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(CodecError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing { count: rest.len() }) }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::Arc,
    };

    use openraft::{BasicNode, EntryPayload, StoredMembership, testing::log_id};
    use tertulia_shard_map::{
        AbortReason, Change, ClusterId, Epoch, Incarnation, MoveId, MovingSlot, NewMove, NewNode, NewStore, NodeId,
        NodeState, OwnerChange, Slot, SlotCount, StoreId, StoreState, Weight, apply,
    };

    use super::*;
    use crate::raft::{
        disk::StoredSnapshot,
        types::{Entry, SnapshotMeta, State, Vote},
    };

    const NODE: NodeId = NodeId::new(1);
    const STORE: StoreId = StoreId::new(1);
    const OTHER_STORE: StoreId = StoreId::new(2);
    const MOVE: MoveId = MoveId::new(3);

    /// These bytes are in the files of nodes that run: neither may ever change.
    fn is_stored_as<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, golden: &[&[u8]]) {
        let golden = golden.concat();
        let encoded = encode(value).unwrap();
        assert_eq!(encoded.escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(decode::<T>(&golden).unwrap(), *value);
    }

    fn new_node(id: NodeId) -> NewNode {
        NewNode { id, address: "127.0.0.1:7101".to_owned(), home_store: STORE, weight: Weight::ONE }
    }

    fn genesis() -> Change {
        Change::Genesis {
            cluster: ClusterId::from_u128(7),
            slots: SlotCount::try_from(16).unwrap(),
            stores: vec![NewStore { id: STORE, name: "a".to_owned(), weight: Weight::ONE }],
            nodes: vec![new_node(NODE)],
        }
    }

    fn new_move(slot: Slot, expected_epoch: Epoch) -> NewMove {
        NewMove { source: STORE, target: OTHER_STORE, slots: vec![MovingSlot { slot, expected_epoch }] }
    }

    fn membership() -> openraft::Membership<u64, BasicNode> {
        let nodes = BTreeMap::from([(1, BasicNode::new("127.0.0.1:7101"))]);
        openraft::Membership::new(vec![BTreeSet::from([1])], nodes)
    }

    const LOG_ID: &[u8] = b"\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x01\xa5index\xcd\x01\x02";
    const MEMBERSHIP: &[u8] = b"\x82\xa7configs\x91\x91\x01\xa5nodes\x81\x01\x81\xa4addr\xae127.0.0.1:7101";
    const CLUSTER: &[u8] = b"\xa7cluster\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07";

    #[test]
    fn a_log_entry_of_every_change_is_stored_like_this() {
        let changes: [(Change, &[&[u8]]); 17] = [
            (
                genesis(),
                &[
                    b"\xa7Genesis\x84",
                    CLUSTER,
                    b"\xa5slots\x10\xa6stores\x91\x83\xa2id\x01\xa4name\xa1a\xa6weight\xcd\x03\xe8",
                    b"\xa5nodes\x91\x84\xa2id\x01\xa7address\xae127.0.0.1:7101\xaahome_store\x01\xa6weight\xcd\x03\xe8",
                ],
            ),
            (
                Change::NodeStarted { node: NODE, incarnation: Incarnation::new(5), address: "[::1]:7101".to_owned() },
                &[b"\xabNodeStarted\x83\xa4node\x01\xabincarnation\x05\xa7address\xaa[::1]:7101"],
            ),
            (
                Change::AddNode(new_node(NodeId::new(300))),
                &[
                    b"\xa7AddNode\x84\xa2id\xcd\x01\x2c\xa7address\xae127.0.0.1:7101",
                    b"\xaahome_store\x01\xa6weight\xcd\x03\xe8",
                ],
            ),
            (Change::RemoveNode { node: NODE }, &[b"\xaaRemoveNode\x81\xa4node\x01"]),
            (
                Change::AddStore(NewStore { id: StoreId::new(2), name: "b".to_owned(), weight: Weight::ONE }),
                &[b"\xa8AddStore\x83\xa2id\x02\xa4name\xa1b\xa6weight\xcd\x03\xe8"],
            ),
            (Change::RemoveStore { store: STORE }, &[b"\xabRemoveStore\x81\xa5store\x01"]),
            (
                Change::SetNodeWeight { node: NODE, weight: Weight::try_from(0.5).unwrap() },
                &[b"\xadSetNodeWeight\x82\xa4node\x01\xa6weight\xcd\x01\xf4"],
            ),
            (Change::SetNodeHome { node: NODE, store: STORE }, &[b"\xabSetNodeHome\x82\xa4node\x01\xa5store\x01"]),
            (
                Change::SetNodeState { node: NODE, state: NodeState::Draining },
                &[b"\xacSetNodeState\x82\xa4node\x01\xa5state\xa8Draining"],
            ),
            (
                Change::SetStoreWeight { store: STORE, weight: Weight::ONE },
                &[b"\xaeSetStoreWeight\x82\xa5store\x01\xa6weight\xcd\x03\xe8"],
            ),
            (
                Change::SetStoreState { store: STORE, state: StoreState::Active },
                &[b"\xadSetStoreState\x82\xa5store\x01\xa5state\xa6Active"],
            ),
            (
                Change::Reassign {
                    slots: vec![OwnerChange { slot: Slot::new(255), expected_epoch: Epoch::new(2), to: NODE }],
                },
                &[b"\xa8Reassign\x81\xa5slots\x91\x83\xa4slot\xcc\xff\xaeexpected_epoch\x02\xa2to\x01"],
            ),
            (
                Change::BeginMove(new_move(Slot::new(255), Epoch::new(2))),
                &[
                    b"\xa9BeginMove\x83\xa6source\x01\xa6target\x02",
                    b"\xa5slots\x91\x82\xa4slot\xcc\xff\xaeexpected_epoch\x02",
                ],
            ),
            (Change::SealMove { id: MOVE }, &[b"\xa8SealMove\x81\xa2id\x03"]),
            (Change::FlipMove { id: MOVE }, &[b"\xa8FlipMove\x81\xa2id\x03"]),
            (
                Change::AbortMove { id: MOVE, reason: AbortReason::Operator },
                &[b"\xa9AbortMove\x82\xa2id\x03\xa6reason\xa8Operator"],
            ),
            (Change::EndMove { id: MOVE }, &[b"\xa7EndMove\x81\xa2id\x03"]),
        ];
        for (change, golden) in changes {
            let entry = Entry { log_id: log_id(3, 1, 258), payload: EntryPayload::Normal(change) };
            let golden = [&[b"\x01\x82\xa6log_id", LOG_ID, b"\xa7payload\x81\xa6Normal\x81"], golden].concat();
            is_stored_as(&entry, &golden);
        }
    }

    #[test]
    fn a_log_entry_without_a_change_is_stored_like_this() {
        let entry = |payload| Entry { log_id: log_id(3, 1, 258), payload };
        is_stored_as(&entry(EntryPayload::Blank), &[b"\x01\x82\xa6log_id", LOG_ID, b"\xa7payload\xa5Blank"]);
        is_stored_as(
            &entry(EntryPayload::Membership(membership())),
            &[b"\x01\x82\xa6log_id", LOG_ID, b"\xa7payload\x81\xaaMembership", MEMBERSHIP],
        );
    }

    #[test]
    fn a_vote_and_a_position_in_the_log_are_stored_like_this() {
        let vote = Vote::new_committed(3, 1);
        is_stored_as(&vote, &[b"\x01\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x01\xa9committed\xc3"]);
        is_stored_as(&log_id(3, 1, 258), &[b"\x01", LOG_ID]);
    }

    #[test]
    fn a_snapshot_is_stored_like_this() {
        let map = apply(None, &genesis()).unwrap();
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(3, 1, 258)),
            last_membership: StoredMembership::new(Some(log_id(3, 1, 258)), membership()),
            snapshot_id: "3-258".to_owned(),
        };
        let snapshot = StoredSnapshot { meta, state: State { map: Some(Arc::new(map)) } };
        let slots = b"\x83\xa5store\x01\xa5owner\x01\xa5epoch\x01".repeat(16);
        is_stored_as(
            &snapshot,
            &[
                b"\x01\x82\xa4meta\x83\xablast_log_id",
                LOG_ID,
                b"\xaflast_membership\x82\xa6log_id",
                LOG_ID,
                b"\xaamembership",
                MEMBERSHIP,
                b"\xabsnapshot_id\xa53-258\xa5state\x81\xa3map\x88",
                CLUSTER,
                b"\xa7version\x01\xaaslot_count\x10",
                b"\xa6stores\x81\x01\x83\xa4name\xa1a\xa6weight\xcd\x03\xe8\xa5state\xa6Active",
                b"\xa5nodes\x81\x01\x85\xa7address\xae127.0.0.1:7101\xabincarnation\0\xa6weight\xcd\x03\xe8",
                b"\xaahome_store\x01\xa5state\xa6Active\xa5slots\xdc\0\x10",
                &slots,
                b"\xaeretired_stores\x90\xadretired_nodes\x90",
            ],
        );
    }

    #[test]
    fn the_state_with_a_sealed_move_is_stored_like_this() {
        let changes = [
            Change::AddStore(NewStore { id: OTHER_STORE, name: "b".to_owned(), weight: Weight::ONE }),
            Change::BeginMove(new_move(Slot::new(15), Epoch::new(1))),
            Change::SealMove { id: MOVE },
        ];
        let map = apply(None, &genesis()).unwrap();
        let map = changes.iter().fold(map, |map, change| apply(Some(&map), change).unwrap());
        let state = State { map: Some(Arc::new(map)) };
        let slots = b"\x83\xa5store\x01\xa5owner\x01\xa5epoch\x01".repeat(15);
        is_stored_as(
            &state,
            &[
                b"\x01\x81\xa3map\x89",
                CLUSTER,
                b"\xa7version\x04\xaaslot_count\x10",
                b"\xa6stores\x82\x01\x83\xa4name\xa1a\xa6weight\xcd\x03\xe8\xa5state\xa6Active",
                b"\x02\x83\xa4name\xa1b\xa6weight\xcd\x03\xe8\xa5state\xa6Active",
                b"\xa5nodes\x81\x01\x85\xa7address\xae127.0.0.1:7101\xabincarnation\0\xa6weight\xcd\x03\xe8",
                b"\xaahome_store\x01\xa5state\xa6Active\xa5slots\xdc\0\x10",
                &slots,
                b"\x84\xa5store\x01\xa5owner\x01\xa5epoch\x02\xa9sealed_by\x03",
                b"\xaeretired_stores\x90\xadretired_nodes\x90",
                b"\xa5moves\x81\x03\x84\xa6source\x01\xa6target\x02\xa5slots\x91\x0f\xa4step\xa6Sealed",
            ],
        );
    }

    #[test]
    fn foreign_torn_and_padded_bytes_are_told_apart() {
        let bytes = encode(&("slot", 7_u64)).unwrap();
        assert_eq!(decode::<(String, u64)>(&bytes).unwrap(), ("slot".to_owned(), 7));

        assert!(matches!(decode::<(String, u64)>(&[]), Err(CodecError::Empty)));
        assert!(matches!(decode::<(String, u64)>(&bytes[..bytes.len() - 1]), Err(CodecError::Malformed(_))));

        let mut padded = bytes.clone();
        padded.push(0);
        assert!(matches!(decode::<(String, u64)>(&padded), Err(CodecError::Trailing { count: 1 })));

        let mut foreign = bytes;
        foreign[0] = 9;
        let error = decode::<(String, u64)>(&foreign).unwrap_err();
        assert_eq!(error.to_string(), "format version 9, this build reads version 1");
    }
}
