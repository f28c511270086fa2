//! A lane: one connection that writes, one batch at a time, each in one round trip and one autocommit statement, so that
//! a process that freezes between two of its instructions holds no lock.

use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, Slot, StoreId, UserId};
use tertulia_wire::{EventRecord, cluster::NamedUser};
use tokio_postgres::{Client, Statement, types::ToSql};

use super::{
    REPLY_TIMEOUT, Store, StoreError, StoredInboxRow, column, conversation_column, event_column, slot_column,
    user_column,
};

/// Makes the lane's row where it is missing, in a transaction of its own: a taker that looks for the lanes of an old owner
/// must see every one that could ever have a batch in flight.
const MAKE: &str = "INSERT INTO lane (node, lane, incarnation, token) VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING";
const OPEN: &str = "SELECT open_lane($1, $2, $3, $4)";
const APPEND: &str = "SELECT append_events($1,$2,$3,$4,$5,$6, $7,$8,$9,$10,$11,$12, \
     $13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23, $24,$25,$26)";
const FOLD: &str = "SELECT fold_inbox($1,$2,$3,$4,$5,$6, $7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17, $18,$19,$20)";

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

pub struct NewConversation {
    pub slot: Slot,
    pub id: ConversationId,
    pub pair: DirectPair,
    pub created_by: UserId,
    pub created_at_ms: i64,
}

pub struct NewEvent {
    pub slot: Slot,
    pub record: EventRecord,
    pub payload_hash: i64,
}

/// One group commit of events.
#[derive(Default)]
pub struct AppendBatch {
    /// Every slot that the batch touches, once, with the epoch under which it does.
    pub slots: Vec<(Slot, Epoch)>,
    pub conversations: Vec<NewConversation>,
    pub events: Vec<NewEvent>,
    /// Where consumers of a slot's log have come to.
    pub cursors: Vec<(Slot, &'static str, EventId)>,
}

/// One commit of folded mailboxes.
#[derive(Default)]
pub struct FoldBatch {
    pub slots: Vec<(Slot, Epoch)>,
    pub rows: Vec<(Slot, UserId, StoredInboxRow)>,
    pub profiles: Vec<(Slot, NamedUser)>,
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
            Ok((client.prepare(APPEND).await?, client.prepare(FOLD).await?))
        };
        let (append, fold) =
            tokio::time::timeout(REPLY_TIMEOUT, opening).await.map_err(|_| StoreError::Unavailable(None))??;
        self.open = Some(Open { client, append, fold });
        Ok(())
    }

    pub async fn append(&mut self, batch: &AppendBatch) -> Result<(), StoreError> {
        let (slots, epochs) = fence_columns(&batch.slots);
        let conversations = &batch.conversations;
        let events = &batch.events;
        let cursors = &batch.cursors;
        let (node, incarnation) = self.store.writer_columns();
        let params: [&(dyn ToSql + Sync); 26] = [
            &node,
            &self.id.0,
            &incarnation,
            &self.token,
            &slots,
            &epochs,
            &collect(conversations, |c| slot_column(c.slot)),
            &collect(conversations, |c| conversation_column(c.id)),
            &collect(conversations, |c| user_column(c.pair.lo())),
            &collect(conversations, |c| user_column(c.pair.hi())),
            &collect(conversations, |c| user_column(c.created_by)),
            &collect(conversations, |c| c.created_at_ms),
            &collect(events, |e| slot_column(e.slot)),
            &collect(events, |e| conversation_column(e.record.conversation)),
            &collect(events, |e| column(e.record.seq.get())),
            &collect(events, |e| event_column(e.record.id)),
            &collect(events, |e| column(e.record.message_no.get())),
            &collect(events, |e| i16::from(u8::from(e.record.kind))),
            &collect(events, |e| user_column(e.record.sender)),
            &collect(events, |e| e.record.created_at_ms),
            &collect(events, |e| e.record.temp_id.as_str()),
            &collect(events, |e| e.payload_hash),
            &collect(events, |e| &e.record.body[..]),
            &collect(cursors, |k| slot_column(k.0)),
            &collect(cursors, |k| k.1),
            &collect(cursors, |k| event_column(k.2)),
        ];
        let open = self.open.as_ref().ok_or(StoreError::Unavailable(None))?;
        self.run(&open.append, &params).await
    }

    pub async fn fold(&mut self, batch: &FoldBatch) -> Result<(), StoreError> {
        let (slots, epochs) = fence_columns(&batch.slots);
        let (rows, profiles) = (&batch.rows, &batch.profiles);
        let (node, incarnation) = self.store.writer_columns();
        let params: [&(dyn ToSql + Sync); 20] = [
            &node,
            &self.id.0,
            &incarnation,
            &self.token,
            &slots,
            &epochs,
            &collect(rows, |r| slot_column(r.0)),
            &collect(rows, |r| user_column(r.1)),
            &collect(rows, |r| conversation_column(r.2.row.conversation)),
            &collect(rows, |r| r.2.row.peer.map(user_column)),
            &collect(rows, |r| event_column(r.2.row.last_event_id)),
            &collect(rows, |r| column(r.2.row.last_seq.get())),
            &collect(rows, |r| column(r.2.row.last_message_no.get())),
            &collect(rows, |r| r.2.row.last_at_ms),
            &collect(rows, |r| column(r.2.row.read_seq.get())),
            &collect(rows, |r| column(r.2.row.read_message_no.get())),
            &collect(rows, |r| column(r.2.rev.get())),
            &collect(profiles, |p| slot_column(p.0)),
            &collect(profiles, |p| user_column(p.1.user)),
            &collect(profiles, |p| p.1.name.as_str()),
        ];
        let open = self.open.as_ref().ok_or(StoreError::Unavailable(None))?;
        self.run(&open.fold, &params).await
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
