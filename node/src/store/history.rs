//! What readers see of a conversation: its events, itself, its members. Each statement decides in one snapshot that this
//! node owns the slot, that the reader may read, and what there is.

use tertulia_shard_map::{ConversationId, DirectPair, Epoch, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{
    ReactionCount, Role, Since,
    cluster::{
        ConversationRead, ConversationRecord, ConversationView, GroupSize, Head, HistoryEvents, HistoryRange,
        HistoryRead, MemberRecord, MembersPage, MembersRead, Reader,
    },
    limits::HISTORY_PAGE_BYTES,
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    DIRECT, Store, StoreError, column, conversation_column,
    conversations::role,
    counter, event_from,
    record::{RECORD_COLUMNS, record, record_columns},
    slot_column, user_column, user_from,
};

/// Whether this node owns slot `$1` at epoch `$2`. By primary key.
macro_rules! owner {
    () => {
        "EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 AND f.incarnation = $4)"
    };
}

/// By primary keys, and the leaf's (conversation_id, seq). `$7`: see [`reader_columns`].
macro_rules! history {
    ($range:literal) => {
        concat!(
            "SELECT head.owner, head.first_seq, head.last_seq, ",
            record_columns!(),
            ", rx.emojis, rx.counts, rx.mine FROM (SELECT ",
            owner!(),
            " AS owner, CASE WHEN $7 = 2 THEN 1 WHEN $7 = 1 OR m.left_seq IS NULL THEN m.joined_seq END AS first_seq, \
                   least(CASE WHEN $7 < 2 THEN m.left_seq END, \
                         (SELECT x.seq FROM event x WHERE x.slot = $1 AND x.conversation_id = $5 ORDER BY x.seq DESC LIMIT 1)) AS last_seq \
               FROM (VALUES (1)) one LEFT JOIN member m ON m.slot = $1 AND m.conversation_id = $5 AND m.user_id = $6) head \
             LEFT JOIN LATERAL (SELECT * FROM event e WHERE e.slot = $1 AND e.conversation_id = $5 \
                  AND e.seq BETWEEN head.first_seq AND head.last_seq AND ",
            $range,
            " LIMIT $9) e ON true \
             LEFT JOIN LATERAL (SELECT array_agg(g.emoji ORDER BY g.emoji) AS emojis, array_agg(g.n ORDER BY g.emoji) AS counts, \
                                       array_agg(g.mine ORDER BY g.emoji) AS mine \
                  FROM (SELECT r.emoji, count(*) AS n, bool_or(r.user_id = $6) AS mine FROM reaction r \
                        WHERE r.slot = $1 AND r.conversation_id = $5 AND r.message_seq = e.seq GROUP BY r.emoji) g) rx ON e.kind = 1"
        )
    };
}
const HISTORY_AFTER: &str = history!("e.seq > $8 ORDER BY e.seq");
const HISTORY_BEFORE: &str = history!("e.seq < $8 ORDER BY e.seq DESC");

/// By primary keys; the end of the log by the leaf's (conversation_id, seq).
const CONVERSATION: &str = concat!(
    "SELECT ",
    owner!(),
    ", c.kind, c.direct_lo, c.direct_hi, c.name, c.large, c.members, c.created_by, c.created_at_ms, m.role, \
       (SELECT x.seq FROM event x WHERE x.slot = $1 AND x.conversation_id = $5 ORDER BY x.seq DESC LIMIT 1), \
       c.kind = 1 AND EXISTS (SELECT 1 FROM member b WHERE b.slot = $1 AND b.conversation_id = $5 AND b.blocks_peer) \
     FROM (VALUES (1)) one \
     LEFT JOIN member m ON m.slot = $1 AND m.conversation_id = $5 AND m.user_id = $6 AND (m.left_seq IS NULL OR $7 = 1) \
     LEFT JOIN conversation c ON c.slot = $1 AND c.id = $5 AND ($7 = 2 OR m.user_id IS NOT NULL)"
);

/// By primary keys.
const MEMBERS: &str = concat!(
    "SELECT head.owner, head.may, head.hidden, m.user_id, m.role, m.joined_seq, m.delivered_seq, m.read_seq \
     FROM (SELECT ",
    owner!(),
    " AS owner, ($7 = 2 OR EXISTS (SELECT 1 FROM member x WHERE x.slot = $1 AND x.conversation_id = $5 AND x.user_id = $6 \
                                   AND x.left_seq IS NULL)) \
            AND EXISTS (SELECT 1 FROM event x WHERE x.slot = $1 AND x.conversation_id = $5) AS may, \
            $7 < 2 AND EXISTS (SELECT 1 FROM conversation c WHERE c.slot = $1 AND c.id = $5 AND (c.large OR c.kind = 1 \
                AND EXISTS (SELECT 1 FROM member b WHERE b.slot = $1 AND b.conversation_id = $5 AND b.blocks_peer))) AS hidden) head \
     LEFT JOIN LATERAL (SELECT * FROM member x WHERE x.slot = $1 AND x.conversation_id = $5 AND x.user_id > $8 \
                        AND x.left_seq IS NULL ORDER BY x.user_id LIMIT $9) m ON head.may"
);

/// By primary key, the end of each log by the leaf's (conversation_id, seq).
const HEADS: &str = concat!(
    "SELECT want.ord, c.name, e.seq, e.id, e.created_at_ms, e.message_no \
     FROM unnest($5::uuid[]) WITH ORDINALITY AS want (id, ord) \
     JOIN conversation c ON c.slot = $1 AND c.id = want.id AND c.kind = 2 \
     JOIN LATERAL (SELECT * FROM event x WHERE x.slot = $1 AND x.conversation_id = want.id ORDER BY x.seq DESC LIMIT 1) e ON true \
     WHERE ",
    owner!()
);

/// What a reaction adds to a page beyond its emoji, in bytes.
const REACTION_BYTES: usize = 16;

/// The user, and 0: a member now, 1: a mailbox, which also sees what was until the user left, 2: the app, which sees all.
fn reader_columns(reader: Reader) -> (Uuid, i32) {
    match reader {
        Reader::Member(user) => (user_column(user), 0),
        Reader::Mailbox(user) => (user_column(user), 1),
        Reader::App => (Uuid::nil(), 2),
    }
}

impl Store {
    /// A page of a conversation, in ascending order of seq. `None` where the reader may not read, or nothing is there.
    pub async fn history(
        &self,
        slot: Slot,
        epoch: Epoch,
        read: &HistoryRead,
    ) -> Result<Option<HistoryEvents>, StoreError> {
        let (sql, bound) = match read.range {
            HistoryRange::After(seq) => (HISTORY_AFTER, column(seq.get().min(i64::MAX as u64))),
            HistoryRange::Before(seq) => (HISTORY_BEFORE, column(seq.get().min(i64::MAX as u64))),
            HistoryRange::Latest => (HISTORY_BEFORE, i64::MAX),
        };
        let limit = i64::from(read.limit) + 1;
        let rows = self.read_as(sql, (slot, epoch), read.conversation, read.reader, &[&bound, &limit]).await?;
        let head = owned(&rows)?;
        let (Some(_), Some(last_seq)) = (head.try_get::<_, Option<i64>>(1)?, head.try_get::<_, Option<i64>>(2)?) else {
            return Ok(None);
        };
        let mut events = Vec::with_capacity(rows.len().min(read.limit as usize));
        let (mut bytes, mut has_more) = (0, false);
        for row in &rows {
            if row.try_get::<_, Option<Uuid>>(3)?.is_none() {
                break;
            }
            let mut record = record(row, 3)?;
            let reactions = reactions(row, 3 + RECORD_COLUMNS)?;
            bytes += record.body.len();
            bytes += reactions.iter().map(|it| it.emoji.len() + REACTION_BYTES).sum::<usize>();
            if events.len() == read.limit as usize || (bytes > HISTORY_PAGE_BYTES && !events.is_empty()) {
                has_more = true;
                break;
            }
            if !reactions.is_empty() {
                record.since.get_or_insert_with(|| Box::new(Since::default())).reactions = reactions;
            }
            events.push(record);
        }
        if !matches!(read.range, HistoryRange::After(_)) {
            events.reverse();
        }
        Ok(Some(HistoryEvents { events, has_more, last_seq: Seq::new(counter(last_seq)) }))
    }

    /// The conversation as the reader sees it. `None` where the reader may not, or nothing was ever written in it.
    pub async fn conversation(
        &self,
        slot: Slot,
        epoch: Epoch,
        read: &ConversationRead,
    ) -> Result<Option<ConversationRecord>, StoreError> {
        let rows = self.read_as(CONVERSATION, (slot, epoch), read.conversation, read.reader, &[]).await?;
        let row = owned(&rows)?;
        let (Some(kind), Some(last_seq)) = (row.try_get::<_, Option<i16>>(1)?, row.try_get::<_, Option<i64>>(10)?)
        else {
            return Ok(None);
        };
        let user = |column| -> Result<UserId, StoreError> {
            row.try_get::<_, Option<Uuid>>(column)?.map(user_from).ok_or(StoreError::Unreadable("conversation.direct"))
        };
        let view = if kind == DIRECT {
            ConversationView::Direct { pair: DirectPair::new(user(2)?, user(3)?), blocked: row.try_get(11)? }
        } else {
            ConversationView::Group { name: row.try_get(4)?, size: size(row.try_get(5)?) }
        };
        Ok(Some(ConversationRecord {
            view,
            members: counter(row.try_get(6)?),
            created_by: user(7)?,
            created_at_ms: row.try_get(8)?,
            role: row.try_get::<_, Option<i16>>(9)?.map_or(Ok(Role::Owner), role)?,
            last_seq: Seq::new(counter(last_seq)),
        }))
    }

    /// A page of the present members. `None` as for [`conversation`](Self::conversation).
    pub async fn members(
        &self,
        slot: Slot,
        epoch: Epoch,
        read: &MembersRead,
    ) -> Result<Option<MembersPage>, StoreError> {
        let after = read.after.map_or(Uuid::nil(), user_column);
        let limit = i64::from(read.limit) + 1;
        let rows = self.read_as(MEMBERS, (slot, epoch), read.conversation, read.reader, &[&after, &limit]).await?;
        let head = owned(&rows)?;
        if !head.try_get::<_, bool>(1)? {
            return Ok(None);
        }
        let hidden: bool = head.try_get(2)?;
        let own = match read.reader {
            Reader::Member(user) | Reader::Mailbox(user) => Some(user),
            Reader::App => None,
        };
        let mut members = Vec::with_capacity(rows.len());
        for row in &rows {
            let Some(user) = row.try_get::<_, Option<Uuid>>(3)?.map(user_from) else { break };
            let mark = |place| -> Result<Seq, StoreError> {
                let seq = Seq::new(counter(row.try_get(place)?));
                Ok(if hidden && own != Some(user) { Seq::ZERO } else { seq })
            };
            members.push(MemberRecord {
                user,
                role: role(row.try_get(4)?)?,
                joined_seq: Seq::new(counter(row.try_get(5)?)),
                delivered_seq: mark(6)?,
                read_seq: mark(7)?,
            });
        }
        let has_more = members.len() > read.limit as usize;
        members.truncate(read.limit as usize);
        Ok(Some(MembersPage { members, has_more }))
    }

    /// Where groups of one slot are now, in order; `None` where there is no such group, or the slot is another's.
    pub async fn heads(
        &self,
        slot: Slot,
        epoch: Epoch,
        conversations: &[ConversationId],
    ) -> Result<Vec<Option<Head>>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let ids: Vec<Uuid> = conversations.iter().copied().map(conversation_column).collect();
        let client = self.reader().await?;
        let statement = client.prepare_cached(HEADS).await?;
        let rows =
            client.query(&statement, &[&slot_column(slot), &column(epoch.get()), &node, &incarnation, &ids]).await?;
        let mut heads = vec![None; conversations.len()];
        for row in &rows {
            let place = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
            *heads.get_mut(place).ok_or(StoreError::Unreadable("ordinality"))? = Some(Head {
                name: row.try_get(1)?,
                last_seq: Seq::new(counter(row.try_get(2)?)),
                last_event_id: event_from(row.try_get(3)?),
                last_at_ms: row.try_get(4)?,
                last_message_no: MessageNo::new(counter(row.try_get(5)?)),
            });
        }
        Ok(heads)
    }

    /// A statement whose first parameters are slot, epoch, owner, conversation and reader.
    async fn read_as(
        &self,
        sql: &str,
        (slot, epoch): (Slot, Epoch),
        conversation: ConversationId,
        reader: Reader,
        rest: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let (slot, epoch) = (slot_column(slot), column(epoch.get()));
        let (user, kind) = reader_columns(reader);
        let conversation = conversation_column(conversation);
        let mut params: Vec<&(dyn ToSql + Sync)> =
            vec![&slot, &epoch, &node, &incarnation, &conversation, &user, &kind];
        params.extend_from_slice(rest);
        let client = self.reader().await?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.query(&statement, &params).await?)
    }
}

/// The first row, which says whether this node owns the slot.
fn owned(rows: &[Row]) -> Result<&Row, StoreError> {
    let head = rows.first().ok_or(StoreError::Unreadable("head"))?;
    if head.try_get::<_, bool>(0)? { Ok(head) } else { Err(StoreError::NotOwner) }
}

fn reactions(row: &Row, first: usize) -> Result<Vec<ReactionCount>, StoreError> {
    let Some(emojis) = row.try_get::<_, Option<Vec<String>>>(first)? else { return Ok(Vec::new()) };
    let counts: Vec<i64> = row.try_get(first + 1)?;
    let mine: Vec<bool> = row.try_get(first + 2)?;
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let counted = emojis.into_iter().zip(counts).zip(mine);
    Ok(counted.map(|((emoji, n), mine)| ReactionCount { emoji, count: count(n), mine }).collect())
}

pub(super) fn size(large: bool) -> GroupSize {
    if large { GroupSize::Large } else { GroupSize::Small }
}
