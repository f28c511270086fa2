//! Identities and counters as types of their own, so that none can be passed for another.
//!
//! Serialised form: in a human-readable format (JSON, client MessagePack) a ULID is its 26 characters, in a binary one
//! (cluster MessagePack) its 16 bytes. Counters are plain integers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

/// The text or the bytes are not a ULID, or not one of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: want 26 characters of Crockford base32 (a ULID)")]
pub struct InvalidId {
    kind: &'static str,
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// From the 16 big-endian bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }

            /// The 16 big-endian bytes: what is hashed, stored and sent between processes.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            pub const fn from_u128(value: u128) -> Self {
                Self(Ulid(value))
            }

            pub const fn to_u128(self) -> u128 {
                self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = InvalidId { kind: stringify!($name) };
                // 26 characters hold 130 bits: a first character above 7 does not fit into the 128 of a ULID.
                if text.len() != 26 || text.as_bytes()[0] > b'7' {
                    return Err(invalid);
                }
                Ulid::from_string(text).map(Self).map_err(|_| invalid)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    let mut buffer = [0; ulid::ULID_LEN];
                    serializer.serialize_str(self.0.array_to_str(&mut buffer))
                } else {
                    serializer.serialize_bytes(&self.to_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a ULID")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &"16 bytes"))?;
                        Ok($name::from_bytes(bytes))
                    }
                }

                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(Visitor)
                } else {
                    deserializer.deserialize_bytes(Visitor)
                }
            }
        }
    };
}

ulid_id!(
    /// Names one cluster for ever; stamped into every store, so that a node can never write into a foreign one.
    ClusterId
);
ulid_id!(
    /// A conversation. A group's has the top bit clear (a real ULID), a direct one's has it set (see [`DirectPair`](crate::DirectPair)).
    ConversationId
);
ulid_id!(
    /// A user, as named by the `sub` claim of a token.
    UserId
);
ulid_id!(
    /// An event of a conversation's log. Monotonic within a slot: a slot's events in order of id are its commit order.
    EventId
);
ulid_id!(
    /// One client connection on one router.
    SessionId
);

impl ConversationId {
    const DIRECT_BIT: u128 = 1 << 127;

    /// Whether this is the derived id of a direct conversation.
    pub const fn is_direct(self) -> bool {
        self.to_u128() & Self::DIRECT_BIT != 0
    }

    pub(crate) const fn with_direct_bit(bytes: [u8; 16]) -> Self {
        Self::from_u128(u128::from_be_bytes(bytes) | Self::DIRECT_BIT)
    }

    pub(crate) const fn without_direct_bit(bytes: [u8; 16]) -> Self {
        Self::from_u128(u128::from_be_bytes(bytes) & !Self::DIRECT_BIT)
    }
}

impl UserId {
    /// A user's id is a real ULID, whose top bit is clear for the next eight thousand years.
    pub const fn is_valid(self) -> bool {
        self.to_u128() >> 127 == 0
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        number_id!($(#[$doc])* $name, u64);

        impl $name {
            pub const ZERO: Self = Self(0);

            /// The next value. Counters start at 0 and grow by one per event: 2^63 is out of reach.
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

number_id!(
    /// A node. Never reused: a node whose disk was wiped comes back under a new id.
    NodeId, u32
);
number_id!(
    /// A router, for names in logs, certificates and metrics; the map does not list routers.
    RouterId, u32
);
number_id!(
    /// A store: one Postgres database that holds the partitions of some slots.
    StoreId, u32
);
number_id!(
    /// A move of slots between stores: the version of the map that it began with, so never used twice.
    MoveId, u64
);
counter!(
    /// Which start of a node: an owner is (node, incarnation), so a restart is a change of owner.
    Incarnation
);
counter!(
    /// Per slot, grows by one at each change of owner, store or seal; every write is fenced by it.
    Epoch
);
counter!(
    /// Version of the shard map: grows by one with each applied change.
    MapVersion
);
counter!(
    /// Position in a conversation's log: contiguous from 1; 0 is "before the first".
    Seq
);
counter!(
    /// Messages so far in a conversation, up to and including an event; edits, reactions and the like do not count.
    MessageNo
);
counter!(
    /// Per mailbox, grows at each change of any of its rows: the cursor of delta sync; 0 is "nothing yet".
    Rev
);

impl From<MapVersion> for MoveId {
    /// The move that a [`Change::BeginMove`](crate::Change::BeginMove) began, whose version this is.
    fn from(version: MapVersion) -> Self {
        Self(version.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[test]
    fn an_id_is_text_for_people_and_16_bytes_for_machines() {
        let id: EventId = TEXT.parse().unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{TEXT}\""));
        assert_eq!(serde_json::from_str::<EventId>(&format!("\"{TEXT}\"")).unwrap(), id);
        let binary = rmp_serde::to_vec(&id).unwrap();
        assert_eq!(binary.len(), 18);
        assert_eq!(binary[2..], id.to_bytes());
        assert_eq!(rmp_serde::from_slice::<EventId>(&binary).unwrap(), id);
    }

    #[test]
    fn what_is_not_a_ulid_is_refused() {
        for bad in [
            "",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
            "80000000000000000000000000",
            "é1ARZ3NDEKTSV4RRFFQ69G5FA",
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
            assert!(serde_json::from_value::<UserId>(bad.into()).is_err(), "{bad}");
        }
        for bytes in [&[0u8; 15][..], &[0; 17]] {
            let encoded = rmp_serde::to_vec(&serde_bytes_of(bytes)).unwrap();
            assert!(rmp_serde::from_slice::<UserId>(&encoded).is_err());
        }
    }

    fn serde_bytes_of(bytes: &[u8]) -> impl Serialize {
        struct Bytes(Vec<u8>);
        impl Serialize for Bytes {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        Bytes(bytes.to_vec())
    }

    #[test]
    fn a_counter_is_a_plain_number() {
        assert_eq!(serde_json::to_string(&Epoch::ZERO.next()).unwrap(), "1");
        assert_eq!(serde_json::from_str::<NodeId>("7").unwrap(), NodeId::new(7));
    }
}
