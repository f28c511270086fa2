//! Slots: the fixed number of hash partitions of all keys.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{ConversationId, UserId};

/// One hash partition of all keys: `xxh3_64(seed 0, the 16 big-endian bytes of the ULID) mod slots`.
///
/// All bytes are hashed. A ULID begins with its timestamp: hashing or cutting a prefix would send every new
/// conversation to one slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(u16);

impl Slot {
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// 0-based, below the cluster's slot count.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slots = {0} is not allowed: want a power of two from 1 to {max}", max = SlotCount::MAX)]
pub struct InvalidSlotCount(pub u32);

/// How many slots a cluster has: a power of two, fixed when the cluster is initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SlotCount(u16);

impl SlotCount {
    pub const MAX: u32 = 16_384;
    pub const DEFAULT: Self = Self(256);

    pub const fn get(self) -> u16 {
        self.0
    }

    pub fn slots(self) -> impl ExactSizeIterator<Item = Slot> + DoubleEndedIterator {
        (0..self.0).map(Slot)
    }

    pub fn of_conversation(self, id: ConversationId) -> Slot {
        self.of(id.to_bytes())
    }

    pub fn of_user(self, id: UserId) -> Slot {
        self.of(id.to_bytes())
    }

    fn of(self, key: [u8; 16]) -> Slot {
        // The count is a power of two: the mask is the remainder.
        Slot(xxh3_64(&key) as u16 & (self.0 - 1))
    }
}

impl TryFrom<u32> for SlotCount {
    type Error = InvalidSlotCount;

    fn try_from(count: u32) -> Result<Self, InvalidSlotCount> {
        if count.is_power_of_two() && count <= Self::MAX {
            Ok(Self(count as u16))
        } else {
            Err(InvalidSlotCount(count))
        }
    }
}

impl From<SlotCount> for u32 {
    fn from(count: SlotCount) -> u32 {
        count.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (ULID, slot of 256, slot of 16384), of another implementation of xxh3 (Python's `xxhash`).
    const GOLDEN: [(&str, u16, u16); 8] = [
        ("00000000000000000000000000", 104, 2408),
        ("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 19, 13075),
        ("00000000000000000000000001", 187, 5051),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, 14345),
        ("01BX5ZZKBKACTAV9WEVGEMMVRZ", 24, 10776),
        ("01JABCDEFGHJKMNPQRSTVWXYZ0", 21, 6933),
        ("01JABCDEFGHJKMNPQRSTVWXYZ1", 195, 9923),
        ("40000000000000000000000000", 132, 15492),
    ];

    #[test]
    fn a_key_never_changes_its_slot() {
        let most = SlotCount::try_from(SlotCount::MAX).unwrap();
        for (text, of_256, of_16384) in GOLDEN {
            let (conversation, user): (ConversationId, UserId) = (text.parse().unwrap(), text.parse().unwrap());
            assert_eq!(SlotCount::DEFAULT.of_conversation(conversation).get(), of_256, "{text}");
            assert_eq!(SlotCount::DEFAULT.of_user(user).get(), of_256, "{text}");
            assert_eq!(most.of_conversation(conversation).get(), of_16384, "{text}");
        }
    }

    #[test]
    fn ulids_of_one_moment_spread_over_all_slots() {
        let moment = 0x0192_5e7b_0000_u128 << 80;
        let mut counts = [0u32; 256];
        for random in 0..25_600 {
            counts[SlotCount::DEFAULT.of_conversation(ConversationId::from_u128(moment | random)).index()] += 1;
        }
        assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_powers_of_two_up_to_16384_are_slot_counts() {
        for count in (0..=14).map(|bits| 1 << bits) {
            assert_eq!(SlotCount::try_from(count).map(u32::from), Ok(count));
        }
        for count in [0, 3, 255, 16_383, 32_768, u32::MAX] {
            assert_eq!(SlotCount::try_from(count), Err(InvalidSlotCount(count)));
            assert!(serde_json::from_str::<SlotCount>(&count.to_string()).is_err());
        }
    }
}
