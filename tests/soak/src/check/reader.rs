//! What clients are told at the end, over sessions of their own.

use std::{net::SocketAddr, time::Duration};

use anyhow::bail;
use tertulia_bench::connection::{Session, SignedIn};
use tertulia_shard_map::{ConversationId, MessageNo, Rev, Seq};
use tertulia_test_invariants::InboxRow;
use tertulia_wire::{
    client::{Command, CommandId, ConversationRow, Format, HistoryPage, HistoryQuery, Outbound, Reply, SyncQuery},
    limits::{HISTORY_PAGE_MAX, SYNC_PAGE_MAX},
};
use tokio::time::{Instant, sleep};

/// As long as this an answer may be that it is to be asked again.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
const RETRY_AFTER: Duration = Duration::from_millis(300);

pub struct Reader {
    session: Session,
    last_id: CommandId,
}

impl Reader {
    pub async fn open(router: SocketAddr, signed_in: &SignedIn) -> anyhow::Result<Self> {
        Ok(Self { session: Session::open(router, Format::MessagePack, signed_in).await?, last_id: 1 })
    }

    /// The events that follow this one.
    pub async fn history(&mut self, conversation_id: ConversationId, after: Seq) -> anyhow::Result<HistoryPage> {
        let query =
            HistoryQuery { conversation_id, after_seq: Some(after), before_seq: None, limit: Some(HISTORY_PAGE_MAX) };
        match self.ask(&Command::History(query)).await? {
            Reply::HistoryPage(page) => Ok(page),
            other => bail!("no history, but {other:?}"),
        }
    }

    /// All rows of the user's list.
    pub async fn rows(&mut self) -> anyhow::Result<Vec<InboxRow>> {
        let (mut rows, mut rev) = (Vec::new(), Rev::ZERO);
        loop {
            let page = match self.ask(&Command::Sync(SyncQuery { rev, limit: Some(SYNC_PAGE_MAX) })).await? {
                Reply::SyncPage(page) => page,
                other => bail!("no rows, but {other:?}"),
            };
            rows.extend(page.conversations.iter().map(row));
            rev = page.rev;
            if !page.has_more {
                return Ok(rows);
            }
        }
    }

    async fn ask(&mut self, command: &Command) -> anyhow::Result<Reply> {
        let deadline = Instant::now() + RETRY_LIMIT;
        loop {
            self.last_id += 1;
            self.session.send_as(self.last_id, command).await?;
            match self.reply().await? {
                Reply::Error(error) if error.retryable && Instant::now() < deadline => sleep(RETRY_AFTER).await,
                reply => return Ok(reply),
            }
        }
    }

    async fn reply(&mut self) -> anyhow::Result<Reply> {
        loop {
            for outbound in self.session.receive().await? {
                match outbound {
                    Outbound::Reply { id, reply } if id == Some(self.last_id) => return Ok(reply),
                    _ => {}
                }
            }
        }
    }
}

fn row(row: &ConversationRow) -> InboxRow {
    let read = MessageNo::new(row.last_message_no.get().saturating_sub(row.unread));
    InboxRow {
        conversation: row.conversation_id,
        joined_seq: row.joined_seq,
        left_seq: row.left_seq,
        last_seq: row.last_seq,
        last_event: row.last_event_id,
        last_message_no: row.last_message_no,
        read_seq: row.read_seq,
        read_message_no: row.left_seq.is_none().then_some(read),
        others_delivered_seq: row.others_delivered_seq,
        others_read_seq: row.others_read_seq,
        rev: None,
    }
}
