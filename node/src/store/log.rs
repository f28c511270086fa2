//! The tail of a slot's log, for fan-out: events, and members' standings as they are now, in the order of their ids.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{
    EventKind, EventRecord, GroupBody, Role,
    cluster::{
        ConversationView, DeliverEntry, DeliverEvent, DeliverStanding, GroupSize, Membership, Recipient, Standing,
    },
    decode_group,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    DIRECT, Store, StoreError, conversation_column, conversation_from,
    conversations::NEWEST_EVENTS,
    counter, event_column, event_from,
    history::size,
    record::{RECORD_COLUMNS, record, record_columns},
    slot_column, user_from,
};
use crate::entry::{LogEntry, Reach, staying};

/// One snapshot of both, so that neither hides an entry of the other: by the leaves' (id) and (standing_id); conversations
/// and blocks by primary key.
const LOG: &str = concat!(
    "SELECT e.standing, e.user_id, e.delivered_seq, e.read_seq, e.read_message_no, e.blocks_peer, \
            c.kind, c.direct_lo, c.direct_hi, c.name, c.large, \
            c.kind = 1 AND EXISTS (SELECT 1 FROM member b WHERE b.slot = $1 AND b.conversation_id = c.id AND b.blocks_peer), \
            c.large AND EXISTS (SELECT 1 FROM member s WHERE s.slot = $1 AND s.conversation_id = c.id AND s.user_id = e.sender_id \
                                AND e.seq BETWEEN s.joined_seq AND coalesce(s.left_seq, e.seq)), ",
    record_columns!(),
    " FROM ((SELECT false AS standing, NULL::uuid AS user_id, 0::bigint AS delivered_seq, 0::bigint AS read_seq, \
                    0::bigint AS read_message_no, false AS blocks_peer, x.id, x.conversation_id, x.seq, x.message_no, x.kind, \
                    x.sender_id, x.created_at_ms, x.temp_id, x.body, x.target_seq, x.target_id, x.edited_at_ms, x.deleted_at_ms \
             FROM event x WHERE x.slot = $1 AND x.id > $2 ORDER BY x.id LIMIT $3) \
            UNION ALL \
            (SELECT true, m.user_id, m.delivered_seq, m.read_seq, m.read_message_no, m.blocks_peer, \
                    m.standing_id, m.conversation_id, 0, 0, 0::smallint, m.user_id, 0, '', ''::bytea, NULL, NULL, NULL, NULL \
             FROM member m WHERE m.slot = $1 AND m.standing_id > $2 ORDER BY m.standing_id LIMIT $3)) e \
     JOIN conversation c ON c.slot = $1 AND c.id = e.conversation_id ORDER BY e.id LIMIT $3"
);
/// Every member that groups have now or had, by primary key.
const MEMBERS: &str = "SELECT m.conversation_id, m.user_id, m.joined_seq, m.left_seq FROM member m \
     WHERE m.slot = $1 AND m.conversation_id = ANY ($2)";
/// Members who wrote in groups lately, by the leaf's (conversation_id, seq) and by primary key.
const SENDERS: &str = "SELECT DISTINCT want.id, e.sender_id FROM unnest($2::uuid[]) AS want (id) \
     CROSS JOIN LATERAL (SELECT x.sender_id, x.kind FROM event x WHERE x.slot = $1 AND x.conversation_id = want.id \
                         ORDER BY x.seq DESC LIMIT $3) e \
     JOIN member m ON m.slot = $1 AND m.conversation_id = want.id AND m.user_id = e.sender_id AND m.left_seq IS NULL \
     WHERE e.kind = 1";

/// A page of the log is read within this time, or given up.
const LOG_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A row of the log, its recipients still open.
struct Found {
    entry: DeliverEntry,
    conversation: ConversationId,
    /// Of an event that changes a group's members.
    change: Option<GroupBody>,
    /// Of an event of a large group, whether its sender is a member (and not the app).
    sender_is_member: bool,
}

impl Store {
    /// Entries of a slot's log after `after`, in order; fewer than `limit` where that is its end. Only for the slot's owner:
    /// where the slot has left the store, its partitions there are empty.
    pub async fn log_page(
        &self,
        slot: Slot,
        epoch: Epoch,
        after: EventId,
        limit: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let reading = async {
            let page = self.read_log(slot, after, limit).await?;
            // After it: who is the owner at this epoch now was it when the page was read.
            if self.owned(&[(slot, epoch)]).await?.is_empty() { Err(StoreError::NotOwner) } else { Ok(page) }
        };
        tokio::time::timeout(LOG_READ_TIMEOUT, reading).await.map_err(|_| StoreError::Unavailable(None))?
    }

    async fn read_log(&self, slot: Slot, after: EventId, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        let client = self.loader().await?;
        let statement = client.prepare_cached(LOG).await?;
        let slot = slot_column(slot);
        let rows = client.query(&statement, &[&slot, &event_column(after), &i64::from(limit)]).await?;
        let found = rows.iter().map(found).collect::<Result<Vec<Found>, StoreError>>()?;

        let groups = |wanted: &dyn Fn(&Found) -> bool| -> Vec<Uuid> {
            let ids: HashSet<ConversationId> = found.iter().filter(|it| wanted(it)).map(|it| it.conversation).collect();
            ids.into_iter().map(conversation_column).collect()
        };
        let to_all = groups(&|it| it.concerns_all_members());
        let to_senders = groups(&|it| it.concerns_senders());
        let mut members: HashMap<ConversationId, Vec<(UserId, Seq, Option<Seq>)>> = HashMap::new();
        let mut senders: HashMap<ConversationId, Vec<UserId>> = HashMap::new();
        if !to_all.is_empty() {
            let statement = client.prepare_cached(MEMBERS).await?;
            for row in client.query(&statement, &[&slot, &to_all]).await? {
                let left = row.try_get::<_, Option<i64>>(3)?.map(|seq| Seq::new(counter(seq)));
                let member = (user_from(row.try_get(1)?), Seq::new(counter(row.try_get(2)?)), left);
                members.entry(conversation_from(row.try_get(0)?)).or_default().push(member);
            }
        }
        if !to_senders.is_empty() {
            let statement = client.prepare_cached(SENDERS).await?;
            for row in client.query(&statement, &[&slot, &to_senders, &(NEWEST_EVENTS as i64)]).await? {
                senders.entry(conversation_from(row.try_get(0)?)).or_default().push(user_from(row.try_get(1)?));
            }
        }
        let of =
            |id| (members.get(&id).map_or(&[][..], Vec::as_slice), senders.get(&id).map_or(&[][..], Vec::as_slice));
        Ok(found.into_iter().map(|found| found.addressed(of)).collect())
    }
}

impl Found {
    fn concerns_all_members(&self) -> bool {
        match &self.entry {
            DeliverEntry::Event(event) => match event.view {
                ConversationView::Direct { .. } => false,
                ConversationView::Group { size: GroupSize::Small, .. } => true,
                ConversationView::Group { size: GroupSize::Large, .. } => {
                    self.change.as_ref().is_some_and(|change| change.became_large)
                }
            },
            DeliverEntry::Standing(_) => false,
        }
    }

    fn concerns_senders(&self) -> bool {
        matches!(
            &self.entry,
            DeliverEntry::Standing(DeliverStanding {
                view: ConversationView::Group { size: GroupSize::Small, .. },
                ..
            })
        )
    }

    fn addressed<'a>(
        self,
        of: impl Fn(ConversationId) -> (&'a [(UserId, Seq, Option<Seq>)], &'a [UserId]),
    ) -> LogEntry {
        let (members, senders) = of(self.conversation);
        let to_all = self.concerns_all_members();
        let (recipients, reach): (Arc<[Recipient]>, Reach) = match &self.entry {
            DeliverEntry::Event(DeliverEvent { view: ConversationView::Direct { pair, .. }, .. })
            | DeliverEntry::Standing(DeliverStanding { view: ConversationView::Direct { pair, .. }, .. }) => {
                (both(*pair), Reach::Recipients)
            }
            DeliverEntry::Event(event) => {
                let changing = changing(&event.record, self.change.as_ref());
                let now: Vec<UserId> = if to_all {
                    let seq = event.record.seq;
                    let has = |joined: Seq, left: Option<Seq>| joined <= seq && left.is_none_or(|left| seq <= left);
                    members.iter().filter(|(_, joined, left)| has(*joined, *left)).map(|(user, ..)| *user).collect()
                } else {
                    self.sender_is_member.then_some(event.record.sender).into_iter().collect()
                };
                let stays = now.into_iter().filter(|user| !changing.iter().any(|it| it.user == *user));
                let stays = stays.map(|user| Recipient { user, membership: Membership::Stays });
                let reach = match event.view {
                    ConversationView::Group { size: GroupSize::Large, .. } => Reach::Interested,
                    _ => Reach::Recipients,
                };
                (stays.chain(changing.iter().copied()).collect(), reach)
            }
            DeliverEntry::Standing(standing) => {
                let own = standing.standing.user;
                let others = senders.iter().copied().filter(|user| *user != own);
                (staying(std::iter::once(own).chain(others)), Reach::Recipients)
            }
        };
        LogEntry { entry: self.entry, recipients, reach }
    }
}

/// Both users of a direct conversation, once where they are the same.
pub fn both(pair: DirectPair) -> Arc<[Recipient]> {
    let hi = (pair.lo() != pair.hi()).then_some(pair.hi());
    staying(std::iter::once(pair.lo()).chain(hi))
}

/// The users whose membership an event changes.
fn changing(record: &EventRecord, change: Option<&GroupBody>) -> Vec<Recipient> {
    let Some(change) = change else { return Vec::new() };
    let as_membership = |membership| move |user| Recipient { user, membership };
    match record.kind {
        EventKind::Created | EventKind::Joined => {
            change.members.iter().map(|it| it.user).map(as_membership(Membership::Joins)).collect()
        }
        // One who is named with a role has become the owner, and stays.
        EventKind::Left => {
            let gone = change.members.iter().filter(|it| it.role == Role::Member);
            gone.map(|it| it.user).map(as_membership(Membership::Leaves)).collect()
        }
        _ => Vec::new(),
    }
}

fn found(row: &Row) -> Result<Found, StoreError> {
    let view = view(row, 6)?;
    let first = 13;
    if !row.try_get::<_, bool>(0)? {
        let record = record(row, first)?;
        let conversation = record.conversation;
        let change = match record.kind {
            EventKind::Created | EventKind::Joined | EventKind::Left => {
                Some(decode_group(&record.body).map_err(|_| StoreError::Unreadable("event.body"))?)
            }
            _ => None,
        };
        let entry = DeliverEntry::Event(DeliverEvent { record, view, origin: None });
        return Ok(Found { entry, conversation, change, sender_is_member: row.try_get(12)? });
    }
    let conversation = conversation_from(row.try_get(first + 1)?);
    let seq = |place| -> Result<Seq, StoreError> { Ok(Seq::new(counter(row.try_get(place)?))) };
    let standing = DeliverStanding {
        id: event_from(row.try_get(first)?),
        conversation,
        view,
        standing: Standing {
            user: user_from(row.try_get(1)?),
            delivered_seq: seq(2)?,
            read_seq: seq(3)?,
            read_message_no: MessageNo::new(counter(row.try_get(4)?)),
            blocks_peer: row.try_get(5)?,
        },
        origin: None,
    };
    Ok(Found { entry: DeliverEntry::Standing(standing), conversation, change: None, sender_is_member: false })
}

/// Reads the columns from `first` on: kind, direct_lo, direct_hi, name, large, blocked.
fn view(row: &Row, first: usize) -> Result<ConversationView, StoreError> {
    if row.try_get::<_, i16>(first)? == DIRECT {
        let user = |place| -> Result<UserId, StoreError> {
            row.try_get::<_, Option<Uuid>>(place)?.map(user_from).ok_or(StoreError::Unreadable("conversation.direct"))
        };
        let pair = DirectPair::new(user(first + 1)?, user(first + 2)?);
        return Ok(ConversationView::Direct { pair, blocked: row.try_get(first + 5)? });
    }
    Ok(ConversationView::Group { name: row.try_get(first + 3)?, size: size(row.try_get(first + 4)?) })
}

const _: () = assert!(RECORD_COLUMNS == 13, "LOG names the same columns");
