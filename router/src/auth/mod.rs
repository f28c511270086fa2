//! Who a client is: verification of its token. Only the public key is here; the development sign-in, which has the
//! private one, is a module of its own and absent in production.

pub mod dev;
mod keys;

pub use keys::ApiKeys;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use tertulia_shard_map::UserId;
use tertulia_wire::limits::{NAME_BYTES, TOKEN_BYTES};

/// The `aud` that every token must name.
pub const AUDIENCE: &str = "tertulia";
/// Tolerated difference between the issuer's clock and ours.
pub const LEEWAY_MS: i64 = 5_000;

/// What a token says, in the issuer's words.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    pub sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub iss: String,
    pub aud: String,
    /// Seconds since 1970.
    pub exp: i64,
    #[serde(default)]
    pub iat: i64,
}

/// The part of [`Claims`] that is looked at here; issuer and audience are checked by the validation.
#[derive(Deserialize)]
struct Subject {
    sub: String,
    #[serde(default)]
    name: Option<String>,
    exp: i64,
}

/// A verified user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: UserId,
    pub name: Option<String>,
    /// When the session must end, leeway included; milliseconds since 1970.
    pub expires_at_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token has expired")]
    Expired,
    #[error("the token is not a JWT")]
    Malformed,
    #[error("the token's signature or algorithm is wrong")]
    Signature,
    #[error("the token is of another issuer or for another audience")]
    Foreign,
    #[error("a claim of the token is missing or malformed")]
    Claim,
}

#[derive(Debug, thiserror::Error)]
#[error("not a public EC key in PEM form")]
pub struct InvalidKey(#[source] jsonwebtoken::errors::Error);

/// Verifies ES256 tokens. The algorithm is pinned: a token cannot choose its own.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    pub fn new(public_key_pem: &[u8], issuer: &str) -> Result<Self, InvalidKey> {
        let key = DecodingKey::from_ec_pem(public_key_pem).map_err(InvalidKey)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[AUDIENCE]);
        // Checked below against the caller's clock.
        validation.validate_exp = false;
        Ok(Self { key, validation })
    }

    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Identity, TokenError> {
        if token.len() > TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let claims = jsonwebtoken::decode::<Subject>(token, &self.key, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => TokenError::Foreign,
                ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => TokenError::Claim,
                _ => TokenError::Malformed,
            })?
            .claims;
        let user: UserId = claims.sub.parse().map_err(|_| TokenError::Claim)?;
        let name = claims.name.filter(|name| !name.is_empty());
        if !user.is_valid() || name.as_ref().is_some_and(|name| name.len() > NAME_BYTES) {
            return Err(TokenError::Claim);
        }
        let expires_at_ms = claims.exp.saturating_mul(1000).saturating_add(LEEWAY_MS);
        if expires_at_ms <= now_ms {
            return Err(TokenError::Expired);
        }
        Ok(Identity { user, name, expires_at_ms })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::KeyPair;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const ALICE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn claims() -> Claims {
        Claims {
            sub: ALICE.into(),
            name: Some("Alice".into()),
            iss: "tests".into(),
            aud: AUDIENCE.into(),
            exp: NOW_MS / 1000 + 60,
            iat: NOW_MS / 1000,
        }
    }

    static ISSUER_KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());

    fn sign_with(claims: &Claims, key: &KeyPair) -> String {
        let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &key).unwrap()
    }

    fn sign(claims: &Claims) -> String {
        sign_with(claims, &ISSUER_KEY)
    }

    fn verify(token: &str) -> Result<Identity, TokenError> {
        Verifier::new(ISSUER_KEY.public_key_pem().as_bytes(), "tests").unwrap().verify(token, NOW_MS)
    }

    #[test]
    fn a_good_token_names_its_user() {
        let identity = verify(&sign(&claims())).unwrap();
        assert_eq!(identity.user.to_string(), ALICE);
        assert_eq!(identity.name.as_deref(), Some("Alice"));
        assert_eq!(identity.expires_at_ms, NOW_MS + 60_000 + LEEWAY_MS);
    }

    #[test]
    fn an_expired_token_is_told_apart_from_a_wrong_one() {
        let expired = Claims { exp: (NOW_MS - LEEWAY_MS) / 1000, ..claims() };
        assert_eq!(verify(&sign(&expired)), Err(TokenError::Expired));
        let just_in_time = Claims { exp: NOW_MS / 1000 - 1, ..claims() };
        assert!(verify(&sign(&just_in_time)).is_ok(), "the leeway covers a second of clock difference");
    }

    #[test]
    fn a_token_signed_by_another_key_is_refused() {
        assert_eq!(verify(&sign_with(&claims(), &KeyPair::generate().unwrap())), Err(TokenError::Signature));
    }

    #[test]
    fn a_token_cannot_choose_its_algorithm() {
        let public_key_as_secret = EncodingKey::from_secret(ISSUER_KEY.public_key_pem().as_bytes());
        let with_public_key_as_secret =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &public_key_as_secret).unwrap();
        assert_eq!(verify(&with_public_key_as_secret), Err(TokenError::Signature));
        // {"alg":"none"} with the claims of a good token and no signature
        let good = sign(&claims());
        let body = good.split('.').nth(1).unwrap();
        assert!(verify(&format!("eyJhbGciOiJub25lIn0.{body}.")).is_err());
    }

    #[test]
    fn another_issuer_or_audience_is_refused() {
        assert_eq!(verify(&sign(&Claims { iss: "else".into(), ..claims() })), Err(TokenError::Foreign));
        assert_eq!(verify(&sign(&Claims { aud: "else".into(), ..claims() })), Err(TokenError::Foreign));
    }

    #[test]
    fn a_subject_that_is_no_user_is_refused() {
        for sub in ["", "alice", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
            assert_eq!(verify(&sign(&Claims { sub: sub.into(), ..claims() })), Err(TokenError::Claim), "{sub:?}");
        }
    }

    #[test]
    fn a_name_beyond_the_limit_is_refused() {
        let long = Claims { name: Some("x".repeat(NAME_BYTES + 1)), ..claims() };
        assert_eq!(verify(&sign(&long)), Err(TokenError::Claim));
    }

    #[test]
    fn garbage_and_huge_tokens_are_refused() {
        for token in ["", ".", "a.b.c", &"x".repeat(TOKEN_BYTES + 1)] {
            assert_eq!(verify(token), Err(TokenError::Malformed));
        }
    }
}
