//! Sign-in for development and tests: a name is enough. Present only where the configuration names a signing key.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tertulia_shard_map::DevName;

use super::{AUDIENCE, Claims, InvalidKey};

/// How long a development token is good for, in seconds.
const TOKEN_LIFE_S: i64 = 12 * 3600;

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
    fn a_signed_token_verifies() {
        let key = rcgen::KeyPair::generate().unwrap();
        let signer = DevSigner::new(key.serialize_pem().as_bytes(), "tests").unwrap();
        let verifier = Verifier::new(key.public_key_pem().as_bytes(), "tests").unwrap();
        let name: DevName = "bob".parse().unwrap();
        let token = signer.sign(&name, 1_800_000_000_000).unwrap();
        let identity = verifier.verify(&token.token, 1_800_000_000_000).unwrap();
        assert_eq!((identity.user, identity.name.as_deref()), (name.user_id(), Some("bob")));
    }
}
