//! A lane: one connection that writes, one batch at a time, each in one round trip and one autocommit statement, so that
//! a process that freezes between two of its instructions holds no lock.

mod append;
mod fold;

use tertulia_shard_map::{Epoch, Slot, StoreId};
use tokio_postgres::{Client, Statement, types::ToSql};

use super::{REPLY_TIMEOUT, Store, StoreError, column, slot_column};
pub use append::{
    AppendBatch, DIRECT, GROUP, NewEvent, WrittenConversation, WrittenKind, WrittenMember, WrittenReaction,
    WrittenStanding,
};
pub use fold::FoldBatch;

/// Makes the lane's row where it is missing, in a transaction of its own: a taker that looks for the lanes of an old owner
/// must see every one that could ever have a batch in flight.
const MAKE: &str = "INSERT INTO lane (node, lane, incarnation, token) VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING";
const OPEN: &str = "SELECT open_lane($1, $2, $3, $4)";

/// Which of a node's lanes in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId(i16);

impl LaneId {
    /// Lanes that append events; slots are spread over them.
    pub const fn append(index: u8) -> Self {
        Self(index as i16)
    }

    /// The lane that folds mailboxes.
    pub const FOLD: Self = Self(1000);
}

/// A lane of this process, opened and re-opened under a growing token.
pub struct Lane {
    store: Store,
    id: LaneId,
    token: i64,
    open: Option<Open>,
}

struct Open {
    client: Client,
    append: Statement,
    fold: Statement,
}

impl Lane {
    pub fn new(store: Store, id: LaneId) -> Self {
        Self { store, id, token: 0, open: None }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn store_id(&self) -> StoreId {
        self.store.id
    }

    pub fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.client.is_closed())
    }

    /// Opens the lane under a new token, on a new connection: waits for what the old one has in flight, after which that
    /// one can commit nothing more.
    pub async fn reopen(&mut self) -> Result<(), StoreError> {
        self.open = None;
        self.token += 1;
        let client = self.store.connect(&format!("lane {}", self.id.0)).await?;
        let (node, incarnation) = self.store.writer_columns();
        let opening = async {
            client.execute(MAKE, &[&node, &self.id.0]).await?;
            let row = client.query_one(OPEN, &[&node, &self.id.0, &incarnation, &self.token]).await?;
            if !row.try_get::<_, bool>(0)? {
                return Err(StoreError::LaneFenced);
            }
            Ok((client.prepare(append::STATEMENT).await?, client.prepare(fold::STATEMENT).await?))
        };
        let (append, fold) =
            tokio::time::timeout(REPLY_TIMEOUT, opening).await.map_err(|_| StoreError::Unavailable(None))??;
        self.open = Some(Open { client, append, fold });
        Ok(())
    }

    async fn run(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<(), StoreError> {
        let open = self.open.as_ref().ok_or(StoreError::Unavailable(None))?;
        let query = open.client.execute(statement, params);
        tokio::time::timeout(REPLY_TIMEOUT, query).await.map_err(|_| StoreError::Unavailable(None))??;
        Ok(())
    }
}

fn fence_columns(slots: &[(Slot, Epoch)]) -> (Vec<i32>, Vec<i64>) {
    slots.iter().map(|&(slot, epoch)| (slot_column(slot), column(epoch.get()))).unzip()
}

fn collect<'a, T, C: 'a>(items: &'a [T], part: impl Fn(&'a T) -> C) -> Vec<C> {
    items.iter().map(part).collect()
}
