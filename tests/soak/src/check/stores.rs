//! What the stores hold: the only SQL of the soak.

use anyhow::{Context as _, ensure};
use futures_util::{Stream, TryStreamExt};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Rev, Seq, Slot, SlotCount, UserId};
use tertulia_test_invariants::{InboxRow, MemberRow, Transaction};
use tertulia_wire::{EventKind, decode_message};
use tokio_postgres::{Client, NoTls, Row, types::ToSql};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

const SLOTS: &str = "SELECT slots FROM store_identity";
const OWN_SLOTS: &str = "SELECT slot FROM slot_fence WHERE node > 0";
const EVENTS: &str = "SELECT seq, id, kind, sender_id, temp_id, message_no, target_seq, body FROM event \
     WHERE slot = $1 AND conversation_id = $2 ORDER BY seq";
/// Without rows that were written again: messages that were edited or deleted, and edits of deleted messages.
const TRANSACTIONS: &str = "SELECT id, xmin::text FROM event WHERE slot = $1 AND edited_at_ms IS NULL \
     AND deleted_at_ms IS NULL AND NOT (kind = 2 AND length(body) = 0) ORDER BY id";
const MEMBERS: &str = "SELECT user_id, joined_seq, left_seq, delivered_seq, read_seq, read_message_no, blocks_peer \
     FROM member WHERE slot = $1 AND conversation_id = $2";
const INBOX: &str = "SELECT conversation_id, joined_seq, left_seq, last_seq, last_event_id, last_message_no, read_seq, \
     read_message_no, others_delivered_seq, others_read_seq, rev FROM inbox WHERE slot = $1 AND user_id = $2";

/// All stores, and where in them a key is.
pub struct Stores {
    clients: Vec<Client>,
    slots: SlotCount,
    /// Of each store.
    own: Vec<Vec<Slot>>,
}

/// An event as it is stored.
pub struct Stored {
    pub seq: Seq,
    pub id: EventId,
    pub kind: EventKind,
    pub sender: UserId,
    pub temp_id: String,
    pub message_no: MessageNo,
    pub target: Option<Seq>,
    /// Of a message or an edit that has a content.
    pub content_hash: Option<u64>,
}

impl Stores {
    pub async fn connect(dsns: &[String]) -> anyhow::Result<Self> {
        let (mut clients, mut own, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for dsn in dsns {
            // Without its settings in the message: there may be a password among them.
            let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.context("a store does not answer")?;
            tokio::task::spawn_local(async move { drop(connection.await) });
            counts.push(client.query_one(SLOTS, &[]).await?.try_get::<_, i32>(0)? as u32);
            let rows = client.query(OWN_SLOTS, &[]).await?;
            own.push(
                rows.iter()
                    .map(|row| Ok(Slot::new(row.try_get::<_, i32>(0)? as u16)))
                    .collect::<anyhow::Result<_>>()?,
            );
            clients.push(client);
        }
        let count = *counts.first().context("no stores")?;
        ensure!(counts.iter().all(|other| *other == count), "the stores are not of one cluster");
        Ok(Self { clients, slots: count.try_into()?, own })
    }

    /// The slots of each store that were ever owned by somebody.
    pub fn slots(&self) -> impl Iterator<Item = (usize, Slot)> {
        self.own.iter().enumerate().flat_map(|(store, slots)| slots.iter().map(move |slot| (store, *slot)))
    }

    /// The store of a slot: the only one, as [`slots`](Self::slots) has been checked for.
    fn store_of(&self, slot: Slot) -> anyhow::Result<&Client> {
        let store = self.own.iter().position(|slots| slots.contains(&slot));
        Ok(&self.clients[store.with_context(|| format!("slot {slot} is in none of the stores"))?])
    }

    /// A conversation's events in order of `seq`.
    pub async fn events(&self, id: ConversationId) -> anyhow::Result<impl Stream<Item = anyhow::Result<Stored>>> {
        let slot = self.slots.of_conversation(id);
        let (slot_number, id) = (i32::from(slot.get()), uuid(id.to_bytes()));
        let parameters: [&(dyn ToSql + Sync); 2] = [&slot_number, &id];
        let rows = self.store_of(slot)?.query_raw(EVENTS, parameters).await?;
        Ok(rows.map_err(anyhow::Error::from).and_then(|row| std::future::ready(stored(&row))))
    }

    pub async fn members(&self, id: ConversationId) -> anyhow::Result<Vec<MemberRow>> {
        let slot = self.slots.of_conversation(id);
        let parameters: [&(dyn ToSql + Sync); 2] = [&i32::from(slot.get()), &uuid(id.to_bytes())];
        self.store_of(slot)?.query(MEMBERS, &parameters).await?.iter().map(member).collect()
    }

    pub async fn inbox(&self, user: UserId) -> anyhow::Result<Vec<InboxRow>> {
        let slot = self.slots.of_user(user);
        let parameters: [&(dyn ToSql + Sync); 2] = [&i32::from(slot.get()), &uuid(user.to_bytes())];
        self.store_of(slot)?.query(INBOX, &parameters).await?.iter().map(inbox_row).collect()
    }

    /// A slot's events in order of their ids, and which transactions wrote them.
    pub async fn transactions(
        &self,
        store: usize,
        slot: Slot,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<(EventId, Transaction)>>> {
        let rows = self.clients[store].query_raw(TRANSACTIONS, [&i32::from(slot.get())]).await?;
        Ok(rows.map_err(anyhow::Error::from).and_then(|row| std::future::ready(transaction(&row))))
    }
}

fn stored(row: &Row) -> anyhow::Result<Stored> {
    let kind = EventKind::try_from(row.try_get::<_, i16>(2)? as u8)?;
    let body: &[u8] = row.try_get(7)?;
    let content = match kind {
        EventKind::Message | EventKind::Edit if !body.is_empty() => decode_message(body)?.content,
        _ => None,
    };
    Ok(Stored {
        seq: seq(row.try_get(0)?),
        id: EventId::from_bytes(row.try_get::<_, Uuid>(1)?.into_bytes()),
        kind,
        sender: UserId::from_bytes(row.try_get::<_, Uuid>(3)?.into_bytes()),
        temp_id: row.try_get(4)?,
        message_no: MessageNo::new(row.try_get::<_, i64>(5)? as u64),
        target: row.try_get::<_, Option<i64>>(6)?.map(seq),
        content_hash: content.map(|text| xxh3_64(text.as_bytes())),
    })
}

fn member(row: &Row) -> anyhow::Result<MemberRow> {
    Ok(MemberRow {
        user: UserId::from_bytes(row.try_get::<_, Uuid>(0)?.into_bytes()),
        joined_seq: seq(row.try_get(1)?),
        left_seq: row.try_get::<_, Option<i64>>(2)?.map(seq),
        delivered_seq: seq(row.try_get(3)?),
        read_seq: seq(row.try_get(4)?),
        read_message_no: MessageNo::new(row.try_get::<_, i64>(5)? as u64),
        blocks_peer: row.try_get(6)?,
    })
}

fn inbox_row(row: &Row) -> anyhow::Result<InboxRow> {
    Ok(InboxRow {
        conversation: ConversationId::from_bytes(row.try_get::<_, Uuid>(0)?.into_bytes()),
        joined_seq: seq(row.try_get(1)?),
        left_seq: row.try_get::<_, Option<i64>>(2)?.map(seq),
        last_seq: seq(row.try_get(3)?),
        last_event: EventId::from_bytes(row.try_get::<_, Uuid>(4)?.into_bytes()),
        last_message_no: MessageNo::new(row.try_get::<_, i64>(5)? as u64),
        read_seq: seq(row.try_get(6)?),
        read_message_no: Some(MessageNo::new(row.try_get::<_, i64>(7)? as u64)),
        others_delivered_seq: seq(row.try_get(8)?),
        others_read_seq: seq(row.try_get(9)?),
        rev: Some(Rev::new(row.try_get::<_, i64>(10)? as u64)),
    })
}

fn transaction(row: &Row) -> anyhow::Result<(EventId, Transaction)> {
    let id = EventId::from_bytes(row.try_get::<_, Uuid>(0)?.into_bytes());
    let number = row.try_get::<_, &str>(1)?.parse().context("an odd xmin")?;
    Ok((id, Transaction::new(number)))
}

fn seq(column: i64) -> Seq {
    Seq::new(column as u64)
}

fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}
