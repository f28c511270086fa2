//! Connections to a store for reading, and a slot of it in one snapshot.
//!
//! Read are the slot's own tables (`event_s17`), not their parents: a query through a parent would lock every other slot's.
//! They are locked before the snapshot is taken, so that a move's clean-up, which waits for a moment and comes again,
//! cannot empty them in between.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tertulia_runtime::config::{Config, Unusable};
use tertulia_shard_map::{
    ClusterId, ConversationId, Epoch, EventId, Incarnation, Seq, ShardMap, Slot, StoreId, UserId,
};
use tokio_postgres::{Client, NoTls, Row, RowStream, config::TargetSessionAttrs, error::SqlState, types::ToSql};
use uuid::Uuid;

use super::fence::StoredFence;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A host that is gone is noticed after three of these.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Whoever waits longer for a slot's tables tries again: they are about to go, or to be filled.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Nothing but reading, on one core. A custom plan names the one slot that is asked for.
const SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET jit = off; \
     SET max_parallel_workers_per_gather = 0; SET plan_cache_mode = force_custom_plan";
const IDENTITY: &str = "SELECT cluster_id, store_id, slots FROM store_identity";
/// By primary key.
const FENCE: &str = "SELECT epoch, node, incarnation, sealed FROM slot_fence WHERE slot = $1";

/// A connection string that is understood.
pub struct Dsn(tokio_postgres::Config);

/// Those of all stores of the configuration.
pub fn dsns(config: &Config, statement_timeout: Duration) -> Result<BTreeMap<StoreId, Dsn>, Unusable> {
    let parse = |(&id, store): (&StoreId, &tertulia_runtime::config::StoreConfig)| {
        let parsed: Result<tokio_postgres::Config, _> = store.dsn.expose().parse();
        let mut dsn = parsed.map_err(|error| Unusable::value(format!("stores.{id}.dsn"), error))?;
        dsn.connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE)
            .keepalives_retries(2)
            // A standby may be behind, and then everything looks as if it were wrong.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .application_name("tertuliactl verify")
            .options(format!(
                "-c statement_timeout={} -c lock_timeout={}",
                statement_timeout.as_millis(),
                LOCK_TIMEOUT.as_millis()
            ));
        Ok((id, Dsn(dsn)))
    };
    config.stores.iter().map(parse).collect()
}

/// A store that answers, and is the one that the map means.
pub struct Store {
    /// Has a slot's snapshot open while the others are asked.
    reader: Client,
    /// For single rows.
    lookup: Client,
}

impl Store {
    pub async fn connect(dsn: &Dsn, id: StoreId, map: &ShardMap) -> anyhow::Result<Self> {
        let (reader, lookup) = (connect(dsn).await?, connect(dsn).await?);
        match lookup.query_opt(IDENTITY, &[]).await {
            Ok(Some(row)) => {
                let cluster = ClusterId::from_bytes(row.try_get::<_, Uuid>(0)?.into_bytes());
                let (store, slots): (i64, i32) = (row.try_get(1)?, row.try_get(2)?);
                let fits = (cluster, store, slots) == (map.cluster(), id.get().into(), map.slot_count().get().into());
                ensure!(fits, "it is stamped for cluster {cluster}, store {store}, {slots} slots");
            }
            // No node has been there yet.
            Ok(None) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { reader, lookup })
    }

    pub fn is_closed(&self) -> bool {
        self.reader.is_closed() || self.lookup.is_closed()
    }

    pub fn lookup(&self) -> &Client {
        &self.lookup
    }

    /// Begins to read a slot, all of it.
    pub async fn snapshot(&self, slot: Slot) -> anyhow::Result<Option<Snapshot<'_>>> {
        Snapshot::begin(&self.reader, slot).await
    }

    /// The same for some rows, beside that.
    pub async fn glance(&self, slot: Slot) -> anyhow::Result<Option<Snapshot<'_>>> {
        Snapshot::begin(&self.lookup, slot).await
    }
}

async fn connect(dsn: &Dsn) -> anyhow::Result<Client> {
    let connecting = tokio::time::timeout(2 * CONNECT_TIMEOUT, dsn.0.connect(NoTls)).await;
    let (client, connection) = connecting.context("it does not answer")?.context("it cannot be reached")?;
    // Ends with the client, whose calls report its end.
    tokio::spawn(async move { drop(connection.await) });
    client.batch_execute(SESSION).await?;
    Ok(client)
}

/// A slot's tables in a store, as of one moment, until [`end`](Self::end).
pub struct Snapshot<'a> {
    pub client: &'a Client,
    pub slot: Slot,
    pub fence: StoredFence,
}

impl<'a> Snapshot<'a> {
    /// `None` where the slot is not in this store, or is about to go.
    async fn begin(client: &'a Client, slot: Slot) -> anyhow::Result<Option<Self>> {
        let leaves: Vec<String> = LEAVES.iter().map(|parent| leaf(parent, slot)).collect();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE",
            leaves.join(", ")
        );
        match client.batch_execute(&begin).await {
            Err(error) if is_missing(&error) || error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                client.batch_execute("ROLLBACK").await?;
                return Ok(None);
            }
            locked => locked?,
        }
        match fence(client, slot).await {
            Ok(Some(fence)) => Ok(Some(Self { client, slot, fence })),
            other => {
                client.batch_execute("ROLLBACK").await?;
                other.map(|_| None)
            }
        }
    }

    /// Rows one after the other, however many there are.
    pub async fn rows(&self, statement: &str) -> anyhow::Result<RowStream> {
        let none: [&(dyn ToSql + Sync); 0] = [];
        Ok(self.client.query_raw(&of_slot(statement, self.slot), none).await?)
    }

    pub async fn end(self) -> anyhow::Result<()> {
        Ok(self.client.batch_execute("COMMIT").await?)
    }
}

async fn fence(client: &Client, slot: Slot) -> anyhow::Result<Option<StoredFence>> {
    let Some(row) = client.query_opt(FENCE, &[&i32::from(slot.get())]).await? else { return Ok(None) };
    Ok(Some(StoredFence {
        epoch: Epoch::new(number(&row, 0)?),
        node: number(&row, 1)?,
        incarnation: Incarnation::new(number(&row, 2)?),
        sealed: row.try_get(3)?,
    }))
}

/// The tables that each slot has a part of.
pub const LEAVES: [&str; 7] = ["conversation", "member", "event", "reaction", "inbox", "block", "profile"];

pub fn leaf(parent: &str, slot: Slot) -> String {
    format!("{parent}_s{slot}")
}

/// A statement about one slot, with its number for `{slot}`.
pub fn of_slot(statement: &str, slot: Slot) -> String {
    statement.replace("{slot}", &slot.to_string())
}

/// Whether a table that was asked for is not there.
pub fn is_missing(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

pub fn conversation(row: &Row, column: usize) -> anyhow::Result<ConversationId> {
    Ok(ConversationId::from_bytes(row.try_get::<_, Uuid>(column)?.into_bytes()))
}

pub fn user(row: &Row, column: usize) -> anyhow::Result<UserId> {
    Ok(UserId::from_bytes(row.try_get::<_, Uuid>(column)?.into_bytes()))
}

pub fn event(row: &Row, column: usize) -> anyhow::Result<Option<EventId>> {
    Ok(row.try_get::<_, Option<Uuid>>(column)?.map(|id| EventId::from_bytes(id.into_bytes())))
}

pub fn number(row: &Row, column: usize) -> anyhow::Result<u64> {
    match u64::try_from(row.try_get::<_, i64>(column)?) {
        Ok(number) => Ok(number),
        Err(_) => bail!("a number below 0 in column {column}"),
    }
}

pub fn seq(row: &Row, column: usize) -> anyhow::Result<Seq> {
    number(row, column).map(Seq::new)
}

pub fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}
