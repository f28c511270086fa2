//! A store as one end of a live move: what `node/src/moves` has done in it, by the functions of `migrations/V2__moves.sql`.
//!
//! Rows are copied by Postgres's own logical replication, between a publication in the source and a subscription in the
//! target. These go on whatever becomes of this process, so each is named after the move and its filling, and whoever
//! goes on finds them by name.

mod clean_up;
mod compare;
mod fill;
mod seal;

use tertulia_shard_map::{ClusterId, MoveId, Slot};
use tokio_postgres::{
    Client, Config,
    config::{Host, TargetSessionAttrs},
};

use super::{Store, StoreError, column, slot_column};

pub use self::{
    compare::{Differing, Position},
    fill::{Copied, Filling, Mark, ReplicationLag},
    seal::Drained,
};

/// Statements of a move may take long, and nobody waits behind them. A commit in the target must be durable: it stands for all
/// that replication brought before it.
const SETTINGS: &str =
    "SET statement_timeout = '10min'; SET synchronous_commit = on; SET plan_cache_mode = force_custom_plan";

/// A store, for one move. It has a connection of its own.
pub struct MoveEnd {
    store: Store,
    client: Client,
    id: MoveId,
    slots: Vec<Slot>,
    /// What the names of all objects of this move begin with.
    prefix: String,
}

impl Store {
    pub async fn move_end(&self, cluster: ClusterId, id: MoveId, slots: Vec<Slot>) -> Result<MoveEnd, StoreError> {
        let client = self.connect("move").await?;
        client.batch_execute(SETTINGS).await?;
        let prefix = format!("{}{id}_", cluster_prefix(cluster));
        Ok(MoveEnd { store: self.clone(), client, id, slots, prefix })
    }
}

impl MoveEnd {
    /// Grows whenever a standby takes over.
    pub async fn timeline(&self) -> Result<i32, StoreError> {
        Ok(self.client.query_one("SELECT timeline()", &[]).await?.try_get(0)?)
    }

    fn id_column(&self) -> i64 {
        column(self.id.get())
    }

    fn slot_columns(&self) -> Vec<i32> {
        columns(&self.slots)
    }
}

/// Replication slots are of a whole Postgres, which may have stores of several clusters.
fn cluster_prefix(cluster: ClusterId) -> String {
    let end = cluster.to_bytes()[12..].iter().fold(0, |bits: u32, byte| (bits << 8) | u32::from(*byte));
    format!("tertulia_move_{end:08x}_")
}

fn columns(slots: &[Slot]) -> Vec<i32> {
    slots.iter().copied().map(slot_column).collect()
}

/// A string within SQL that takes no parameters.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The connection string of a store, for another store's Postgres.
fn conninfo(config: &Config) -> String {
    let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
    let mut words = vec![format!("host={}", value(&hosts.join(",")))];
    if !ports.is_empty() {
        words.push(format!("port={}", value(&ports.join(","))));
    }
    if let Some(user) = config.get_user() {
        words.push(format!("user={}", value(user)));
    }
    if let Some(password) = config.get_password() {
        words.push(format!("password={}", value(&String::from_utf8_lossy(password))));
    }
    if let Some(database) = config.get_dbname() {
        words.push(format!("dbname={}", value(database)));
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
        words.push("target_session_attrs=read-write".to_owned());
    }
    words.push("connect_timeout=5".to_owned());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_postgres_is_told_all_that_it_needs_to_connect() {
        let config: Config = r"postgresql://me:it%27s%20s%5Cecret@one:5432,two:5433/chat".parse().unwrap();
        assert_eq!(
            conninfo(&config),
            r"host='one,two' port='5432,5433' user='me' password='it\'s s\\ecret' dbname='chat' connect_timeout=5"
        );
    }
}
