//! API keys: by which the app's back end shows who it is. The configuration has their hashes only, so that whoever reads
//! it cannot use them.
//!
//! A key is 32 random bytes, so a plain hash of it cannot be guessed back; a password would need a slow one.

use std::hint::black_box;

use sha2::{Digest, Sha256};

/// Longer ones are nobody's.
const KEY_BYTES_MAX: usize = 256;

type Hash = [u8; 32];

/// The keys that may be shown, by name.
#[derive(Debug, Default)]
pub struct ApiKeys {
    keys: Vec<(Box<str>, Hash)>,
}

impl ApiKeys {
    /// From names and SHA-256 hashes.
    pub fn new(keys: impl IntoIterator<Item = (String, Hash)>) -> Self {
        Self { keys: keys.into_iter().map(|(name, hash)| (name.into(), hash)).collect() }
    }

    /// The place of the key, and its name. Looks at every hash whole, whichever it is: time tells nothing.
    pub fn find(&self, key: &str) -> Option<(usize, &str)> {
        if key.len() > KEY_BYTES_MAX {
            return None;
        }
        let shown: Hash = Sha256::digest(key.as_bytes()).into();
        let mut found = None;
        for (place, (name, hash)) in self.keys.iter().enumerate() {
            if are_equal(&shown, hash) {
                found = Some((place, &**name));
            }
        }
        found
    }
}

fn are_equal(a: &Hash, b: &Hash) -> bool {
    black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ApiKeys {
        ApiKeys::new(["one", "two"].map(|key| (format!("{key}'s name"), Sha256::digest(key).into())))
    }

    #[test]
    fn a_key_is_known_by_its_hash() {
        assert_eq!(keys().find("one"), Some((0, "one's name")));
        assert_eq!(keys().find("two"), Some((1, "two's name")));
    }

    #[test]
    fn anything_else_is_nobodys() {
        for key in ["", "three", "onf", "One", "one ", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(keys().find(key), None, "{key}");
        }
        // What the configuration shows is no key.
        let hash: String = Sha256::digest("one").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(keys().find(&hash), None);
        assert_eq!(ApiKeys::default().find(""), None);
    }
}
