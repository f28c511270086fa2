//! All SQL of the node, one file per family of tables. A [`Store`] is one Postgres database; a [`Lane`] one of its
//! connections that writes, always through a function that checks the fence first (`migrations/V1__core.sql`).
//!
//! Writes go through lanes only. Reads that decide something carry the epoch and check it in their own snapshot; the
//! other reads here are made by an owner about to write, whose write is fenced.

mod blocks;
mod conversations;
mod details;
mod duplicates;
mod fence;
mod history;
mod inbox;
mod lane;
mod log;
mod look_up;
mod moves;
mod profiles;
mod record;
mod schema;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tertulia_shard_map::{ClusterId, ConversationId, EventId, Incarnation, NodeId, Slot, SlotCount, StoreId, UserId};
use tokio_postgres::{
    Client, NoTls,
    error::{Severity, SqlState},
};
use uuid::Uuid;

pub use blocks::{BlockKey, Sight, StoredBlock};
pub use conversations::{ConversationKey, NEWEST_EVENTS, StoredConversation, StoredMember, StoredPosition};
pub use details::{MemberKey, PositionKey, Senior, StoredTarget, TargetKey};
pub use duplicates::{DuplicateKey, StoredEvent};
pub use fence::TakenSlot;
pub use inbox::{HOT_INBOX_STATEMENTS, InboxKey, InboxPage, MailboxHead, StoredInboxRow};
pub use lane::{
    AppendBatch, DIRECT, FoldBatch, GROUP, Lane, LaneId, NewEvent, WrittenConversation, WrittenKind, WrittenMember,
    WrittenReaction, WrittenStanding,
};
pub use log::both;
pub use moves::{Copied, Differing, Drained, Filling, Mark, MoveEnd, Position, ReplicationLag};
pub use profiles::{NameFrom, StoredProfile};

/// A statement that takes longer is cancelled by Postgres; its outcome is then known: not committed.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// No answer for this long: the connection is given up, and the outcome of its statement is unknown.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
/// The store's host has not taken what was sent: the connection is given up. Left to TCP, one that was cut off for some seconds
/// would try again only after as many again.
const UNACKED_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A host that is gone is noticed after three of these.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Connections for what lanes, folders and fan-out read.
const LOADS_POOL_SIZE: usize = 4;
/// How long a read waits for a free connection of the pool.
const POOL_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The lane was opened by a newer incarnation or token: this one never writes again.
    #[error("the lane was opened by another")]
    LaneFenced,
    /// These slots are not, or no longer, ours. Nothing of the batch was written.
    #[error("slots {0:?} are fenced")]
    SlotsFenced(Vec<Slot>),
    /// An event of the batch is a duplicate or its seq stale. Nothing of the batch was written.
    #[error("a duplicate or a stale seq in the batch")]
    Duplicate,
    /// The partitions are another move's, or another filling's, or closed, or somebody's who serves them.
    #[error("the partitions are not this filling's: {0}")]
    FillRefused(String),
    /// The reader is not the owner of the slot at this epoch.
    #[error("not the owner of the slot at this epoch")]
    NotOwner,
    /// The store belongs to another cluster, or is another store, or was made for another number of slots.
    #[error("the store is stamped for {0}")]
    Foreign(String),
    /// No answer: a write may or may not be committed.
    #[error("the store does not answer")]
    Unavailable(#[source] Option<tokio_postgres::Error>),
    #[error("no free connection to the store")]
    Pool(#[source] PoolError),
    #[error("the migrations failed")]
    Migration(#[source] refinery::Error),
    /// The store refused a statement: a defect, or its disk is full.
    #[error("the store refused the statement")]
    Rejected(#[source] tokio_postgres::Error),
    #[error("the store holds a value that this version cannot read: {0}")]
    Unreadable(&'static str),
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else { return Self::Unavailable(Some(error)) };
        // The session has ended with it. A commit that could not be synced may still be found when the store recovers.
        if matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
            return Self::Unavailable(Some(error));
        }
        match db.code().code() {
            "TT001" => Self::LaneFenced,
            "TT002" => Self::Duplicate,
            "TT003" => Self::SlotsFenced(
                db.detail().unwrap_or_default().split(',').filter_map(|s| s.parse().ok().map(Slot::new)).collect(),
            ),
            "TT004" => Self::FillRefused(db.message().to_owned()),
            // Shutdown, crash and recovery of Postgres, and a terminated backend: the outcome is open.
            code if code.starts_with("08") || code.starts_with("57P") || code == "40003" => {
                Self::Unavailable(Some(error))
            }
            _ => Self::Rejected(error),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Self::Pool(other),
        }
    }
}

impl StoreError {
    fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Rejected(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }
}

/// Who a process is to its stores.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

/// What a store is stamped with.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub cluster: ClusterId,
    pub slots: SlotCount,
}

/// One Postgres database and its pool of connections for reads. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    id: StoreId,
    writer: Writer,
    config: tokio_postgres::Config,
    /// For what clients ask.
    pool: Pool,
    /// For what an owner must know before it writes: never waits behind clients.
    loads: Pool,
}

impl Store {
    /// Connects lazily: a store that is down shows at the first use.
    pub fn new(id: StoreId, dsn: &str, writer: Writer, pool_size: usize) -> Result<Self, InvalidDsn> {
        let mut config: tokio_postgres::Config = dsn.parse().map_err(InvalidDsn)?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(UNACKED_TIMEOUT)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE)
            .keepalives_retries(2)
            .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite)
            // A custom plan names the one partition that is asked for; a generic one would lock them all.
            .options(format!("-c statement_timeout={} -c jit=off", STATEMENT_TIMEOUT.as_millis()));
        let mut reading = config.clone();
        reading.application_name(format!("{} read", writer_name(writer))).options(format!(
            "-c statement_timeout={} -c jit=off -c plan_cache_mode=force_custom_plan -c idle_in_transaction_session_timeout=2000",
            STATEMENT_TIMEOUT.as_millis()
        ));
        let (pool, loads) = (make_pool(reading.clone(), pool_size), make_pool(reading, LOADS_POOL_SIZE));
        Ok(Self { id, writer, config, pool, loads })
    }

    pub fn id(&self) -> StoreId {
        self.id
    }

    /// A connection of its own, which Postgres shows as the writer's, `for_what`.
    async fn connect(&self, for_what: &str) -> Result<Client, StoreError> {
        let mut config = self.config.clone();
        config.application_name(format!("{} {for_what}", writer_name(self.writer)));
        let connecting = tokio::time::timeout(2 * CONNECT_TIMEOUT, config.connect(NoTls)).await;
        let (client, connection) = connecting.map_err(|_| StoreError::Unavailable(None))??;
        // Ends with the client, or with the connection, whichever goes first; the client's calls report either.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the store ended");
            }
        });
        Ok(client)
    }

    async fn reader(&self) -> Result<Object, StoreError> {
        Ok(self.pool.get().await?)
    }

    async fn loader(&self) -> Result<Object, StoreError> {
        Ok(self.loads.get().await?)
    }
}

fn make_pool(config: tokio_postgres::Config, size: usize) -> Pool {
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(POOL_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .build()
        .expect("a runtime is given, which is all that can be missing")
}

#[derive(Debug, thiserror::Error)]
#[error("not a Postgres connection string")]
pub struct InvalidDsn(#[source] tokio_postgres::Error);

/// What Postgres shows as `application_name`: whose backend it is, for an operator and for a taker that must end it.
fn writer_name(writer: Writer) -> String {
    format!("tertulia node-{} i{}", writer.node, writer.incarnation)
}

/// The same, for all incarnations of a node, as a LIKE pattern.
fn writer_pattern(node: i64) -> String {
    format!("tertulia node-{node} i%")
}

fn slot_column(slot: Slot) -> i32 {
    i32::from(slot.get())
}

fn slot_from_column(slot: i32) -> Result<Slot, StoreError> {
    u16::try_from(slot).map(Slot::new).map_err(|_| StoreError::Unreadable("slot"))
}

/// Counters start at 0 and grow by one: they stay far below 2^63.
fn column(counter: u64) -> i64 {
    counter as i64
}

fn counter(column: i64) -> u64 {
    column as u64
}

fn event_column(id: EventId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

fn user_column(id: UserId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

fn conversation_column(id: ConversationId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

fn event_from(id: Uuid) -> EventId {
    EventId::from_bytes(id.into_bytes())
}

fn user_from(id: Uuid) -> UserId {
    UserId::from_bytes(id.into_bytes())
}

fn conversation_from(id: Uuid) -> ConversationId {
    ConversationId::from_bytes(id.into_bytes())
}
