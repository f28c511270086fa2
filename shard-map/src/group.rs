//! The id of a group whose creator named none is derived from the creator and the command's `temp_id`: a retry names the
//! same group.

use sha2::{Digest, Sha256};

use crate::{ConversationId, UserId};

const DOMAIN: &[u8] = b"tertulia/group/v1";

/// `SHA-256("tertulia/group/v1" ‖ user ‖ temp_id)`, first 16 bytes, top bit cleared: never the id of a direct conversation.
pub fn derived_group_id(creator: UserId, temp_id: &str) -> ConversationId {
    let digest =
        Sha256::new().chain_update(DOMAIN).chain_update(creator.to_bytes()).chain_update(temp_id.as_bytes()).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    ConversationId::without_direct_bit(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (the creator, `temp_id`, the id), of Python's `hashlib`.
    const GOLDEN: [(&str, &str, &str); 4] = [
        ("00000000000000000000000000", "x", "0495ZQ6H7Q2HHH0WCS832RGMT6"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "t1", "2J8MTEBM4SVJ5ZN7HWZVMQYH0F"),
        ("3ZZZZZZZZZZZZZZZZZZZZZZZZZ", "¿Qué?", "24FY94TZ63C2J8XMEWEMJ5610N"),
        ("01JABCDEFGHJKMNPQRSTVWXYZ0", "01K8ZN2B7E9T5R1M0V3A6S8XQD", "2MHYA6Y1TC3NTHC4Z3MNXGQ5CJ"),
    ];

    #[test]
    fn the_same_command_always_makes_the_same_group() {
        for (creator, temp_id, want) in GOLDEN {
            let id = derived_group_id(creator.parse().unwrap(), temp_id);
            assert_eq!(id.to_string(), want);
            assert!(!id.is_direct());
        }
    }
}
