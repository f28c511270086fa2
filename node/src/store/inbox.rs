//! Inbox rows: one per user and conversation, with the rev that delta sync follows.
//!
//! The rows of large groups that the user is in are not in the pages of [`Store::sync_page`] and [`Store::inbox_page`]
//! but beside them: what they say of the newest event is old, and the reader derives it anew.

use tertulia_shard_map::{ConversationId, Epoch, EventId, MessageNo, Rev, Seq, Slot, UserId};
use tertulia_wire::cluster::{GroupSize, InboxPosition, InboxRow};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{Store, StoreError, column, conversation_column, counter, look_up::column_of, slot_column, user_column};

macro_rules! row_columns {
    () => {
        "i.conversation_id, i.peer_id, i.name, i.large, i.joined_seq, i.left_seq, i.last_event_id, i.last_seq, \
         i.last_message_no, i.last_at_ms, i.read_seq, i.read_message_no, i.others_delivered_seq, i.others_read_seq, i.rev"
    };
}

/// Of one slot, by primary key.
const ROWS: &str = concat!(
    "SELECT want.ord, ",
    row_columns!(),
    " FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS want (user_id, conversation_id, ord) \
     JOIN inbox i ON i.slot = $1 AND i.user_id = want.user_id AND i.conversation_id = want.conversation_id"
);
/// Of one slot, by the primary key's (slot, user_id): reads all rows of the user, once per loaded mailbox.
const MAILBOXES: &str = "SELECT want.ord, m.rev, m.large, m.joined \
     FROM unnest($2::uuid[]) WITH ORDINALITY AS want (user_id, ord) \
     JOIN LATERAL (SELECT max(x.rev) AS rev, \
                          array_agg(x.conversation_id) FILTER (WHERE x.large AND x.left_seq IS NULL) AS large, \
                          array_agg(x.joined_seq) FILTER (WHERE x.large AND x.left_seq IS NULL) AS joined \
                   FROM inbox x WHERE x.slot = $1 AND x.user_id = want.user_id) m ON true";

/// One snapshot decides that this node owns the slot and what there is. By the primary key's (slot, user_id). The columns
/// before the row's: whether this node is the owner, the mailbox's rev, the messages to read of all rows but those of
/// large groups, and whether the row is one of these.
macro_rules! page {
    ($which:literal) => {
        concat!(
            "SELECT head.owner, head.rev, head.unread, i.of_large, ",
            row_columns!(),
            " FROM (SELECT EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = $1 AND f.epoch = $2 AND f.node = $3 \
                                   AND f.incarnation = $4) AS owner, m.rev, m.unread \
                    FROM (SELECT max(x.rev) AS rev, \
                                 sum(greatest(x.last_message_no - x.read_message_no, 0)) \
                                     FILTER (WHERE x.left_seq IS NULL AND NOT x.large)::bigint AS unread \
                          FROM inbox x WHERE x.slot = $1 AND x.user_id = $5) m) head \
             LEFT JOIN LATERAL ( \
                 (SELECT false AS of_large, x.* FROM inbox x WHERE x.slot = $1 AND x.user_id = $5 \
                  AND NOT (x.large AND x.left_seq IS NULL) AND ",
            $which,
            ") UNION ALL \
                 (SELECT true, x.* FROM inbox x WHERE x.slot = $1 AND x.user_id = $5 AND x.large AND x.left_seq IS NULL) \
             ) i ON true"
        )
    };
}
const SYNC: &str = page!("x.rev > $6 ORDER BY x.rev LIMIT $7");
const INBOX_FROM_TOP: &str = page!("true ORDER BY x.last_at_ms DESC, x.conversation_id DESC LIMIT $6");
const INBOX_BELOW: &str =
    page!("(x.last_at_ms, x.conversation_id) < ($6, $7) ORDER BY x.last_at_ms DESC, x.conversation_id DESC LIMIT $8");

/// What mailboxes ask with every delivery, sign-in and sync, by name: a test explains each.
pub const HOT_INBOX_STATEMENTS: [(&str, &str); 5] = [
    ("rows", ROWS),
    ("mailboxes", MAILBOXES),
    ("sync", SYNC),
    ("inbox from the top", INBOX_FROM_TOP),
    ("inbox below", INBOX_BELOW),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InboxKey {
    pub slot: Slot,
    pub user: UserId,
    pub conversation: ConversationId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInboxRow {
    pub row: InboxRow,
    pub rev: Rev,
}

/// What a mailbox's owner keeps in mind of all its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailboxHead {
    pub rev: Rev,
    /// The large groups that the user is in, and since which event.
    pub large: Vec<(ConversationId, Seq)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPage {
    /// As asked for, without those of large groups that the user is in.
    pub rows: Vec<StoredInboxRow>,
    /// More than `rows` as asked for.
    pub has_more: bool,
    /// All those of large groups that the user is in, in no order.
    pub large: Vec<InboxRow>,
    /// The newest rev of the mailbox.
    pub rev: Rev,
    /// Of all rows but the large ones.
    pub unread: u64,
}

impl Store {
    /// For each key, in order, its row.
    pub async fn load_inbox_rows(&self, keys: &[InboxKey]) -> Result<Vec<Option<StoredInboxRow>>, StoreError> {
        let columns = |keys: &[&InboxKey]| {
            vec![
                column_of(keys, |key| user_column(key.user)),
                column_of(keys, |key| conversation_column(key.conversation)),
            ]
        };
        self.look_up(ROWS, keys, |key| key.slot, columns, |row| inbox_row(row, 1)).await
    }

    /// For each user, in order, the head of the mailbox.
    pub async fn load_mailboxes(&self, users: &[(Slot, UserId)]) -> Result<Vec<MailboxHead>, StoreError> {
        let columns = |users: &[&(Slot, UserId)]| vec![column_of(users, |(_, user)| user_column(*user))];
        let read = |row: &Row| {
            let large: Option<Vec<Uuid>> = row.try_get(2)?;
            let joined: Option<Vec<i64>> = row.try_get(3)?;
            let large = large.unwrap_or_default().into_iter().zip(joined.unwrap_or_default());
            Ok(MailboxHead {
                rev: rev(row.try_get(1)?),
                large: large.map(|(id, seq)| (conversation(id), Seq::new(counter(seq)))).collect(),
            })
        };
        let found = self.look_up(MAILBOXES, users, |(slot, _)| *slot, columns, read).await?;
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The rows of a mailbox that changed after `after`, least recently changed first.
    pub async fn sync_page(
        &self,
        slot: Slot,
        epoch: Epoch,
        user: UserId,
        after: Rev,
        limit: u32,
    ) -> Result<InboxPage, StoreError> {
        let after = i64::try_from(after.get()).unwrap_or(i64::MAX);
        self.inbox_rows(SYNC, slot, epoch, user, &[&after, &(i64::from(limit) + 1)], limit).await
    }

    /// The rows of a mailbox below `before`, in order of the newest event, the newest first.
    pub async fn inbox_page(
        &self,
        slot: Slot,
        epoch: Epoch,
        user: UserId,
        before: Option<InboxPosition>,
        limit: u32,
    ) -> Result<InboxPage, StoreError> {
        let fetch = i64::from(limit) + 1;
        match before {
            None => self.inbox_rows(INBOX_FROM_TOP, slot, epoch, user, &[&fetch], limit).await,
            Some(InboxPosition { last_at_ms, conversation }) => {
                let params: [&(dyn ToSql + Sync); 3] = [&last_at_ms, &conversation_column(conversation), &fetch];
                self.inbox_rows(INBOX_BELOW, slot, epoch, user, &params, limit).await
            }
        }
    }

    async fn inbox_rows(
        &self,
        sql: &'static str,
        slot: Slot,
        epoch: Epoch,
        user: UserId,
        which: &[&(dyn ToSql + Sync)],
        limit: u32,
    ) -> Result<InboxPage, StoreError> {
        let (node, incarnation) = self.writer_columns();
        let (slot, epoch, user) = (slot_column(slot), column(epoch.get()), user_column(user));
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&slot, &epoch, &node, &incarnation, &user];
        params.extend(which);
        let client = self.reader().await?;
        let statement = client.prepare_cached(sql).await?;
        let found = client.query(&statement, &params).await?;
        let head = found.first().ok_or(StoreError::Unreadable("inbox"))?;
        if !head.try_get::<_, bool>(0)? {
            return Err(StoreError::NotOwner);
        }
        let unread = counter(head.try_get::<_, Option<i64>>(2)?.unwrap_or(0));
        let newest = rev(head.try_get(1)?);
        let (mut rows, mut large) = (Vec::with_capacity(found.len()), Vec::new());
        for row in &found {
            match row.try_get::<_, Option<bool>>(3)? {
                Some(false) => rows.push(inbox_row(row, 4)?),
                Some(true) => large.push(inbox_row(row, 4)?.row),
                None => {}
            }
        }
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok(InboxPage { rows, has_more, large, rev: newest, unread })
    }
}

fn rev(column: Option<i64>) -> Rev {
    Rev::new(counter(column.unwrap_or(0)))
}

fn conversation(id: Uuid) -> ConversationId {
    ConversationId::from_bytes(id.into_bytes())
}

/// Reads [`row_columns`] from column `first` on.
fn inbox_row(row: &Row, first: usize) -> Result<StoredInboxRow, StoreError> {
    let number = |place| -> Result<u64, StoreError> { Ok(counter(row.try_get(first + place)?)) };
    let seq = |place| number(place).map(Seq::new);
    let left: Option<i64> = row.try_get(first + 5)?;
    Ok(StoredInboxRow {
        row: InboxRow {
            conversation: conversation(row.try_get(first)?),
            peer: row.try_get::<_, Option<Uuid>>(first + 1)?.map(|id| UserId::from_bytes(id.into_bytes())),
            name: row.try_get(first + 2)?,
            size: if row.try_get(first + 3)? { GroupSize::Large } else { GroupSize::Small },
            joined_seq: seq(4)?,
            left_seq: left.map(|left| Seq::new(counter(left))),
            last_event_id: EventId::from_bytes(row.try_get::<_, Uuid>(first + 6)?.into_bytes()),
            last_seq: seq(7)?,
            last_message_no: MessageNo::new(number(8)?),
            last_at_ms: row.try_get(first + 9)?,
            read_seq: seq(10)?,
            read_message_no: MessageNo::new(number(11)?),
            others_delivered_seq: seq(12)?,
            others_read_seq: seq(13)?,
        },
        rev: Rev::new(number(14)?),
    })
}
