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
