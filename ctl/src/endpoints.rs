//! `tertuliactl endpoints`: where everything listens, for shell scripts, which should not have to read TOML.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use tertulia_runtime::config::{Config, Unusable};

/// Lines of `node ID ADMIN`, `router ID CLIENT`, `store ID HOST PORT USER DATABASE` and `redis HOST:PORT`.
pub fn text(config: &Config) -> anyhow::Result<String> {
    let mut text = String::new();
    for (id, node) in &config.nodes {
        writeln!(text, "node {id} {}", node.admin_address)?;
    }
    for (id, router) in &config.routers {
        writeln!(text, "router {id} {}", router.client_address)?;
    }
    for (id, store) in &config.stores {
        let dsn = Dsn::parse(store.dsn.expose()).map_err(|error| Unusable::value(format!("stores.{id}.dsn"), error))?;
        writeln!(text, "store {id} {} {} {} {}", dsn.host, dsn.port, dsn.user, dsn.database)?;
    }
    let redis = redis_address(config.redis.url.expose()).map_err(|error| Unusable::value("redis.url", error))?;
    writeln!(text, "redis {redis}")?;
    Ok(text)
}

#[derive(Debug, PartialEq, Eq)]
struct Dsn {
    host: String,
    port: u16,
    user: String,
    database: String,
}

impl Dsn {
    /// The plain keyword form, which development configurations use. Not for passwords: they are not printed.
    fn parse(dsn: &str) -> anyhow::Result<Self> {
        let value = |key: &str| {
            let mut pairs = dsn.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs
                .find_map(|(name, value)| (name == key).then(|| value.to_owned()))
                .with_context(|| format!("no {key}="))
        };
        if dsn.contains("://") || dsn.contains('\'') {
            bail!("want host= port= user= dbname=, without quotes");
        }
        let port = value("port").map_or(Ok(5432), |port| port.parse()).context("port=")?;
        Ok(Self { host: value("host")?, port, user: value("user")?, database: value("dbname")? })
    }
}

fn redis_address(url: &str) -> anyhow::Result<&str> {
    let rest = url.strip_prefix("redis://").context("want redis://host:port/database")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Ok(authority.rsplit_once('@').map_or(authority, |(_, address)| address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_dsn_is_taken_apart() {
        let dsn = Dsn::parse("host=127.0.0.1 port=5433 user=tertulia dbname=store_a").unwrap();
        assert_eq!(
            dsn,
            Dsn { host: "127.0.0.1".into(), port: 5433, user: "tertulia".into(), database: "store_a".into() }
        );
        assert!(Dsn::parse("postgresql://x/y").is_err());
        assert!(Dsn::parse("host=a user=b").is_err());
    }

    #[test]
    fn a_redis_url_gives_its_address() {
        assert_eq!(redis_address("redis://127.0.0.1:6380/0").unwrap(), "127.0.0.1:6380");
        assert_eq!(redis_address("redis://user:secret@cache:6379").unwrap(), "cache:6379");
        assert!(redis_address("rediss://cache").is_err());
    }
}
