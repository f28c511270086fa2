//! The id of a direct conversation is derived from its two users: unique without coordination, and computable offline.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ConversationId, UserId};

const DOMAIN: &[u8] = b"tertulia/direct/v1";

/// The two users of a direct conversation, the lower id first. Both may be the same user: notes to oneself.
///
/// Serialised as the list of the two; decoding puts them in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(UserId, UserId)", into = "(UserId, UserId)")]
pub struct DirectPair {
    lo: UserId,
    hi: UserId,
}

impl DirectPair {
    pub fn new(a: UserId, b: UserId) -> Self {
        Self { lo: a.min(b), hi: a.max(b) }
    }

    pub fn lo(self) -> UserId {
        self.lo
    }

    pub fn hi(self) -> UserId {
        self.hi
    }

    pub fn contains(self, user: UserId) -> bool {
        user == self.lo || user == self.hi
    }

    /// `SHA-256("tertulia/direct/v1" ‖ lo ‖ hi)`, first 16 bytes, top bit set. A group's id has that bit clear, so
    /// nobody can squat a direct id with a group.
    pub fn conversation_id(self) -> ConversationId {
        let digest = Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(self.lo.to_bytes())
            .chain_update(self.hi.to_bytes())
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        ConversationId::with_direct_bit(bytes)
    }
}

impl From<(UserId, UserId)> for DirectPair {
    fn from((a, b): (UserId, UserId)) -> Self {
        Self::new(a, b)
    }
}

impl From<DirectPair> for (UserId, UserId) {
    fn from(pair: DirectPair) -> Self {
        (pair.lo, pair.hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (a user, another, the id), of Python's `hashlib`.
    const GOLDEN: [(&str, &str, &str); 4] = [
        ("00000000000000000000000000", "00000000000000000000000000", "567AHS1SGFEGZTP2XXETRZPX38"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ", "6MNRABV4JAQK84KD7DKFJANS4C"),
        ("3ZZZZZZZZZZZZZZZZZZZZZZZZZ", "00000000000000000000000001", "5J2DP42DSKZPE21DWZXYWQ7NE4"),
        ("01JABCDEFGHJKMNPQRSTVWXYZ0", "01JABCDEFGHJKMNPQRSTVWXYZ1", "7JHH46HNQTECWA83PHET0X7W5F"),
    ];

    #[test]
    fn a_pair_never_changes_its_conversation() {
        for (a, b, want) in GOLDEN {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(DirectPair::new(a, b).conversation_id().to_string(), want);
            assert_eq!(DirectPair::new(b, a).conversation_id().to_string(), want);
        }
    }

    #[test]
    fn a_direct_id_is_told_from_a_real_ulid() {
        let pair = DirectPair::new(UserId::from_u128(1), UserId::from_u128(2));
        assert!(pair.conversation_id().is_direct());
        assert!(!"01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<ConversationId>().unwrap().is_direct());
    }

    #[test]
    fn decoding_puts_the_users_in_order() {
        let (lo, hi) = (UserId::from_u128(1), UserId::from_u128(2));
        let pair = DirectPair::new(lo, hi);
        assert_eq!(serde_json::to_value(pair).unwrap(), serde_json::json!([lo, hi]));
        let swapped = serde_json::to_string(&(hi, lo)).unwrap();
        assert_eq!(serde_json::from_str::<DirectPair>(&swapped).unwrap(), pair);
        let swapped = rmp_serde::to_vec(&(hi, lo)).unwrap();
        assert_eq!(rmp_serde::from_slice::<DirectPair>(&swapped).unwrap(), pair);
    }
}
