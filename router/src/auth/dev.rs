//! Sign-in for development and tests: a name is enough. Present only where the configuration names a signing key.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sha2::{Digest, Sha256};
use tertulia_shard_map::UserId;

use super::{AUDIENCE, Claims, InvalidKey};

const DOMAIN: &[u8] = b"tertulia/dev-user/v1";
const NAME_CHARS_MAX: usize = 32;
/// How long a development token is good for, in seconds.
const TOKEN_LIFE_S: i64 = 12 * 3600;

/// A development user's name: 1 to 32 characters of `a-z`, `0-9`, `_` and `-`, after trimming and lowercasing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevName(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, _ and -")]
pub struct InvalidDevName;

impl DevName {
    pub fn parse(text: &str) -> Result<Self, InvalidDevName> {
        let name = text.trim().to_ascii_lowercase();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(allowed) {
            return Err(InvalidDevName);
        }
        Ok(Self(name))
    }

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

/// A token and the moment it stops working.
pub struct DevToken {
    pub token: String,
    pub expires_at_ms: i64,
}

/// Signs tokens for whoever asks.
pub struct DevSigner {
    key: EncodingKey,
    issuer: String,
}

impl DevSigner {
    pub fn new(private_key_pem: &[u8], issuer: &str) -> Result<Self, InvalidKey> {
        let key = EncodingKey::from_ec_pem(private_key_pem).map_err(InvalidKey)?;
        Ok(Self { key, issuer: issuer.to_owned() })
    }

    pub fn sign(&self, name: &DevName, now_ms: i64) -> Result<DevToken, jsonwebtoken::errors::Error> {
        let iat = now_ms / 1000;
        let exp = iat + TOKEN_LIFE_S;
        let claims = Claims {
            sub: name.user_id().to_string(),
            name: Some(name.as_str().to_owned()),
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            exp,
            iat,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)?;
        Ok(DevToken { token, expires_at_ms: exp * 1000 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Verifier;

    #[test]
    fn names_are_trimmed_lowercased_and_checked() {
        assert_eq!(DevName::parse("  Alice ").unwrap().as_str(), "alice");
        for bad in ["", "   ", "al ice", "élise", "a/b", &"x".repeat(33)] {
            assert_eq!(DevName::parse(bad), Err(InvalidDevName), "{bad:?}");
        }
    }

    #[test]
    fn a_name_always_has_the_same_valid_id() {
        let id = DevName::parse("alice").unwrap().user_id();
        assert_eq!(id, DevName::parse("ALICE").unwrap().user_id());
        assert_ne!(id, DevName::parse("bob").unwrap().user_id());
        for n in 0..100 {
            assert!(DevName::parse(&format!("user-{n}")).unwrap().user_id().is_valid());
        }
    }

    #[test]
    fn a_signed_token_verifies() {
        let key = rcgen::KeyPair::generate().unwrap();
        let signer = DevSigner::new(key.serialize_pem().as_bytes(), "tests").unwrap();
        let verifier = Verifier::new(key.public_key_pem().as_bytes(), "tests").unwrap();
        let name = DevName::parse("bob").unwrap();
        let token = signer.sign(&name, 1_800_000_000_000).unwrap();
        let identity = verifier.verify(&token.token, 1_800_000_000_000).unwrap();
        assert_eq!((identity.user, identity.name.as_deref()), (name.user_id(), Some("bob")));
    }
}
