//! Users of the development sign-in: a name is enough, and the id is derived from it. Routers that sign them in and the
//! operator's command derive the same id.

use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::UserId;

const DOMAIN: &[u8] = b"tertulia/dev-user/v1";
const NAME_CHARS_MAX: usize = 32;

/// A development user's name: 1 to 32 characters of `a-z`, `0-9`, `_` and `-`, after trimming and lowercasing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevName(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, _ and -")]
pub struct InvalidDevName;

impl DevName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same id for the same name, everywhere: `SHA-256("tertulia/dev-user/v1" ‖ name)`, first 16 bytes, top bit
    /// cleared.
    pub fn user_id(&self) -> UserId {
        let digest = Sha256::new().chain_update(DOMAIN).chain_update(&self.0).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[0] &= 0x7f;
        UserId::from_bytes(bytes)
    }
}

impl FromStr for DevName {
    type Err = InvalidDevName;

    fn from_str(text: &str) -> Result<Self, InvalidDevName> {
        let name = text.trim().to_ascii_lowercase();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        let length_fits = (1..=NAME_CHARS_MAX).contains(&name.len());
        if length_fits && name.bytes().all(allowed) { Ok(Self(name)) } else { Err(InvalidDevName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (a name, its id), of Python's `hashlib`.
    const GOLDEN: [(&str, &str); 5] = [
        ("ana", "0AERF7Y7V8R09YGJEB2ZHFBWWQ"),
        ("alice", "2WSNG1JF0RZ757447VH7RGRGP6"),
        ("0", "3ECPWVKDVM5B3V474YPGYHC4NV"),
        ("a_b-c", "2BQ12KB5HJPZT0NXAG4MJXGB1Z"),
        ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "099YW9GY8DD3PKP4RA763JYKW0"),
    ];

    fn name(text: &str) -> DevName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_trimmed_lowercased_and_checked() {
        assert_eq!(name("  Alice ").as_str(), "alice");
        for bad in ["", "   ", "al ice", "élise", "a/b", &"x".repeat(33)] {
            assert_eq!(bad.parse::<DevName>(), Err(InvalidDevName), "{bad:?}");
        }
    }

    #[test]
    fn a_name_never_changes_its_user() {
        for (text, id) in GOLDEN {
            assert_eq!(name(text).user_id().to_string(), id, "{text}");
            assert_eq!(name(&text.to_uppercase()).user_id(), name(text).user_id());
        }
        assert!((0..100).all(|n| name(&format!("user-{n}")).user_id().is_valid()));
    }
}
