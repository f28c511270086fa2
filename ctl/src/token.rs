//! `tertuliactl token`: what the router's development sign-in gives, without a router.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use tertulia_runtime::config::{Config, Unusable};
use tertulia_shard_map::DevName;

#[derive(Debug, Args)]
pub struct TokenArgs {
    /// 1 to 32 characters of a-z, 0-9, _ and -
    name: DevName,
    /// How long the token is good for
    #[arg(long, value_name = "SECONDS", default_value_t = 43_200, value_parser = clap::value_parser!(u32).range(1..))]
    ttl: u32,
}

const AUDIENCE: &str = "tertulia";
const KEY: &str = "auth.dev_signing_key_file";

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
    let Some(path) = &config.auth.dev_signing_key_file else {
        return Err(Unusable::value(KEY, "it is not set: this is no development cluster").into());
    };
    let pem = std::fs::read(path).map_err(|error| Unusable::file(KEY, path, error))?;
    let key = EncodingKey::from_ec_pem(&pem).map_err(|error| Unusable::file(KEY, path, error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        sub: args.name.user_id().to_string(),
        name: args.name.as_str(),
        iss: &config.auth.issuer,
        aud: AUDIENCE,
        iat: now,
        exp: now + u64::from(args.ttl),
    };
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key)?)
}
