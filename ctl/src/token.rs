//! `tertuliactl token`: what the router's development sign-in gives, without a router.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tertulia_runtime::config::Config;
use tertulia_shard_map::UserId;

#[derive(Debug, Args)]
pub struct TokenArgs {
    /// 1 to 32 characters of a-z, 0-9, _ and -
    name: String,
    /// How long the token is good for
    #[arg(long, value_name = "SECONDS", default_value_t = 43_200, value_parser = clap::value_parser!(u32).range(1..))]
    ttl: u32,
}

const AUDIENCE: &str = "tertulia";
const NAME_CHARS_MAX: usize = 32;
/// What makes a user's id of a name; the router does the same.
const USER_DOMAIN: &[u8] = b"tertulia/dev-user/v1";

#[derive(Debug, Serialize)]
struct Claims<'a> {
    sub: String,
    name: &'a str,
    iss: &'a str,
    aud: &'a str,
    /// Seconds since 1970.
    iat: u64,
    exp: u64,
}

pub fn mint(config: &Config, args: &TokenArgs) -> anyhow::Result<String> {
    let name = args.name.trim().to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    let length_is_fine = (1..=NAME_CHARS_MAX).contains(&name.len());
    ensure!(
        length_is_fine && name.bytes().all(allowed),
        "a name is 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, _ and -"
    );
    let path = config.auth.dev_signing_key_file.as_ref();
    let path = path.context("auth.dev_signing_key_file is not set: this is no development cluster")?;
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = EncodingKey::from_ec_pem(&pem).with_context(|| format!("{} is no signing key", path.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        sub: user_id(&name).to_string(),
        name: &name,
        iss: &config.auth.issuer,
        aud: AUDIENCE,
        iat: now,
        exp: now + u64::from(args.ttl),
    };
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key)?)
}

/// `SHA-256("tertulia/dev-user/v1" ‖ name)`, first 16 bytes, top bit cleared.
fn user_id(name: &str) -> UserId {
    let digest = Sha256::new().chain_update(USER_DOMAIN).chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[0] &= 0x7f;
    UserId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_always_the_same_valid_user() {
        // Golden: other programs derive the same id.
        let digest = Sha256::digest(b"tertulia/dev-user/v1ana");
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        first[0] &= 0x7f;
        assert_eq!(user_id("ana").to_bytes(), first);
        assert!((0..100).all(|n| user_id(&format!("user-{n}")).is_valid()));
        assert_ne!(user_id("ana"), user_id("bea"));
    }
}
