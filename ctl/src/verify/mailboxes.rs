//! I7 over all stores: for each member the row, for each row the member. Rows live in the slots of their users and follow the
//! log within moments: see [`super::inbox`]. What differs is kept, and looked at again when everything else is done.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use tertulia_shard_map::{MessageNo, Slot};
use tokio::time::sleep;
use tokio_postgres::{Client, types::ToSql};
use uuid::Uuid;

use super::{
    check::{Check, Findings, Violation},
    cluster::Cluster,
    inbox::{Due, Others, Position, Row, RowKey, Sight, Verdict, judge},
    store::{Snapshot, conversation, event, number, of_slot, seq, user, uuid},
};

/// Rows that are asked for together: many of each slot of their users.
const TOGETHER: usize = 16_384;
/// Rows that are looked at again. Beyond, they count as not checked.
const SUSPECTS_MAX: usize = 100_000;
/// Before each look at what differed; in all, longer than anything may take to heal (I9).
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// What each member's row must be. The rule is that of `node/src/mailbox/fold.rs`, and the tests' of
/// `tests/invariants/src/inbox.rs`: who writes has read, a new member of a group has read what was before, who has left stays
/// where that was. Conversations without an event have no rows. Of the two members of a direct one, the other's marks are the
/// sum's rest; in a group nobody's are above the highest.
macro_rules! dues {
    ($of_events:literal, $of_members:literal) => {
        concat!(
            "WITH newest AS (SELECT e.conversation_id, max(e.seq) AS seq FROM event_s{slot} e WHERE ",
            $of_events,
            " GROUP BY e.conversation_id), \
             own AS (SELECT m.conversation_id, m.user_id, max(e.seq) AS seq FROM member_s{slot} m \
                JOIN event_s{slot} e ON e.conversation_id = m.conversation_id AND e.sender_id = m.user_id \
                    AND e.seq <= coalesce(m.left_seq, e.seq) \
                WHERE m.slot = {slot} AND ",
            $of_members,
            " GROUP BY m.conversation_id, m.user_id), \
             due AS (SELECT m.user_id, m.conversation_id, c.large, m.joined_seq, m.left_seq, \
                    coalesce(m.left_seq, n.seq) AS last_seq, \
                    greatest(m.read_seq, own.seq, CASE c.kind WHEN 2 THEN m.joined_seq END) AS read_seq, \
                    c.kind = 1 AND NOT bool_or(m.blocks_peer) OVER w AS exact, \
                    CASE c.kind WHEN 1 THEN (sum(m.delivered_seq) OVER w)::bigint - m.delivered_seq \
                        ELSE max(m.delivered_seq) OVER w END AS others_delivered_seq, \
                    CASE c.kind WHEN 1 THEN (sum(m.read_seq) OVER w)::bigint - m.read_seq \
                        ELSE max(m.read_seq) OVER w END AS others_read_seq \
                FROM member_s{slot} m \
                JOIN conversation_s{slot} c ON c.slot = {slot} AND c.id = m.conversation_id \
                JOIN newest n ON n.conversation_id = m.conversation_id \
                LEFT JOIN own ON own.conversation_id = m.conversation_id AND own.user_id = m.user_id \
                WHERE m.slot = {slot} AND ",
            $of_members,
            " WINDOW w AS (PARTITION BY m.conversation_id)) \
             SELECT d.user_id, d.conversation_id, d.large, d.joined_seq, d.left_seq, d.last_seq, l.id, l.message_no, \
                    d.read_seq, CASE d.read_seq WHEN 0 THEN 0 ELSE r.message_no END, d.exact, d.others_delivered_seq, \
                    d.others_read_seq \
             FROM due d \
             LEFT JOIN event_s{slot} l ON l.conversation_id = d.conversation_id AND l.seq = d.last_seq \
             LEFT JOIN event_s{slot} r ON r.conversation_id = d.conversation_id AND r.seq = d.read_seq"
        )
    };
}
const DUES: &str = dues!("true", "true");
const DUES_OF: &str = dues!("e.conversation_id = ANY ($1)", "m.conversation_id = ANY ($1)");

const KEYS: &str = "SELECT user_id, conversation_id FROM inbox_s{slot}";
/// By primary key.
const ROWS: &str = "SELECT i.user_id, i.conversation_id, i.large, i.joined_seq, i.left_seq, i.last_seq, i.last_event_id, \
        i.last_message_no, i.read_seq, i.read_message_no, i.others_delivered_seq, i.others_read_seq \
     FROM unnest($1::uuid[], $2::uuid[]) AS want (user_id, conversation_id) \
     JOIN inbox_s{slot} i ON i.slot = {slot} AND i.user_id = want.user_id AND i.conversation_id = want.conversation_id";
/// By primary key.
const MEMBERS: &str = "SELECT m.user_id, m.conversation_id FROM unnest($1::uuid[], $2::uuid[]) AS want (user_id, conversation_id) \
     JOIN member_s{slot} m ON m.slot = {slot} AND m.conversation_id = want.conversation_id AND m.user_id = want.user_id";
/// By the leaf's (conversation_id, seq).
const POSITIONS: &str = "SELECT want.place, e.id, e.message_no \
     FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS want (conversation_id, seq, place) \
     JOIN event_s{slot} e ON e.conversation_id = want.conversation_id AND e.seq = want.seq";

/// A row that was not what was due.
struct Suspect {
    due: Due,
    /// As it was seen last; `None` where it could not be looked at.
    verdict: Option<Verdict>,
}

/// How it went with the rows that differed at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Lagging {
    /// At the first look: behind, or ahead of what had been read of the log.
    pub rows: u64,
    /// Of those, the ones that could not be looked at to the end.
    pub not_checked: u64,
}

#[derive(Default)]
pub struct Mailboxes {
    dues: Vec<Due>,
    keys: Vec<RowKey>,
    suspects: Vec<Suspect>,
    strangers: Vec<RowKey>,
    lagging: Lagging,
}

impl Mailboxes {
    /// Takes in what a slot says of rows, its own and those of its conversations' members.
    pub async fn read(
        &mut self,
        snapshot: &Snapshot<'_>,
        cluster: &Cluster<'_>,
        findings: &mut Findings,
    ) -> anyhow::Result<()> {
        let mut rows = pin!(snapshot.rows(DUES).await?);
        while let Some(row) = rows.try_next().await? {
            self.dues.push(due(&row)?);
            if self.dues.len() >= TOGETHER {
                self.compare(cluster, findings).await;
            }
        }
        let mut rows = pin!(snapshot.rows(KEYS).await?);
        while let Some(row) = rows.try_next().await? {
            self.keys.push(key(&row)?);
            if self.keys.len() >= TOGETHER {
                self.find_members(cluster, findings).await;
            }
        }
        Ok(())
    }

    /// The first look: most rows are what they must be.
    async fn compare(&mut self, cluster: &Cluster<'_>, findings: &mut Findings) {
        findings.checked(Check::Inboxes, self.dues.len() as u64);
        let dues = std::mem::take(&mut self.dues);
        for (slot, dues) in by_slot(dues, |due| cluster.map.slot_of_user(due.key.user)) {
            let keys: Vec<RowKey> = dues.iter().map(|due| due.key).collect();
            let rows = self::rows(cluster, slot, &keys).await.unwrap_or_default();
            let differing = dues.into_iter().filter(|due| !due.is_met_by(rows.get(&due.key)));
            for due in differing {
                self.lagging.rows += 1;
                if self.suspects.len() < SUSPECTS_MAX {
                    self.suspects.push(Suspect { due, verdict: None });
                } else {
                    self.lagging.not_checked += 1;
                }
            }
        }
    }

    async fn find_members(&mut self, cluster: &Cluster<'_>, findings: &mut Findings) {
        findings.checked(Check::Strangers, self.keys.len() as u64);
        let keys = std::mem::take(&mut self.keys);
        for (slot, keys) in by_slot(keys, |key| cluster.map.slot_of_conversation(key.conversation)) {
            let found = match cluster.store_of(slot) {
                Ok(store) => members(store.lookup(), slot, &keys).await.unwrap_or_default(),
                Err(_) => HashSet::new(),
            };
            for key in keys.into_iter().filter(|key| !found.contains(key)) {
                if self.strangers.len() < SUSPECTS_MAX {
                    self.strangers.push(key);
                } else {
                    self.lagging.not_checked += 1;
                }
            }
        }
    }

    /// Everything is read: looks again at what differed, until it does not, or has for too long.
    pub async fn settle(&mut self, cluster: &mut Cluster<'_>, findings: &mut Findings) -> Lagging {
        self.compare(cluster, findings).await;
        self.find_members(cluster, findings).await;
        for pause in PAUSES {
            if self.suspects.is_empty() && self.strangers.is_empty() {
                break;
            }
            sleep(pause).await;
            cluster.refresh().await;
            cluster.connect_all().await;
            self.look_again(cluster, findings).await;
            self.look_for_members(cluster, findings).await;
        }
        for suspect in self.suspects.drain(..) {
            match suspect.verdict {
                Some(Verdict::Behind(what)) => findings.add(violation(cluster, Check::Inboxes, suspect.due.key, what)),
                // Who comes and goes all the time is followed by a row that does.
                Some(_) => {}
                None => self.lagging.not_checked += 1,
            }
        }
        self.lagging.not_checked += self.strangers.drain(..).count() as u64;
        self.lagging
    }

    async fn look_again(&mut self, cluster: &Cluster<'_>, findings: &mut Findings) {
        let mut found: HashMap<RowKey, Option<Row>> = HashMap::new();
        let suspects = std::mem::take(&mut self.suspects);
        let keys = suspects.iter().map(|suspect| suspect.due.key);
        for (slot, keys) in by_slot(keys, |key| cluster.map.slot_of_user(key.user)) {
            if let Ok(rows) = rows(cluster, slot, &keys).await {
                found.extend(keys.into_iter().map(|key| (key, rows.get(&key).copied())));
            }
        }
        // After the rows: nothing is in a row that is not in the log.
        for (slot, suspects) in by_slot(suspects, |it| cluster.map.slot_of_conversation(it.due.key.conversation)) {
            let rows: Vec<(RowKey, Option<Row>)> =
                suspects.iter().filter_map(|it| Some((it.due.key, *found.get(&it.due.key)?))).collect();
            let sights = match cluster.glance(slot).await {
                Some(snapshot) => {
                    let sights = sights(&snapshot, &rows).await;
                    drop(snapshot.end().await);
                    sights.unwrap_or_default()
                }
                None => HashMap::new(),
            };
            for mut suspect in suspects {
                let key = suspect.due.key;
                let Some(sight) = sights.get(&key) else {
                    suspect.verdict = None;
                    self.suspects.push(suspect);
                    continue;
                };
                match judge(&suspect.due, sight) {
                    Verdict::Right => {}
                    Verdict::Wrong(what) => findings.add(violation(cluster, Check::Inboxes, key, what)),
                    behind @ Verdict::Behind(_) => {
                        suspect.verdict = Some(behind);
                        self.suspects.push(suspect);
                    }
                    Verdict::Changing => {
                        self.suspects.push(Suspect { due: sight.now, verdict: Some(Verdict::Changing) });
                    }
                }
            }
        }
    }

    async fn look_for_members(&mut self, cluster: &Cluster<'_>, findings: &mut Findings) {
        let strangers = std::mem::take(&mut self.strangers);
        for (slot, keys) in by_slot(strangers, |key| cluster.map.slot_of_conversation(key.conversation)) {
            let found = match cluster.glance(slot).await {
                Some(snapshot) => {
                    let found = members(snapshot.client, slot, &keys).await;
                    drop(snapshot.end().await);
                    found.ok()
                }
                None => None,
            };
            match found {
                Some(found) => {
                    for key in keys.into_iter().filter(|key| !found.contains(key)) {
                        let what = "the user is no member, and never was".to_owned();
                        findings.add(violation(cluster, Check::Strangers, key, what));
                    }
                }
                None => self.strangers.extend(keys),
            }
        }
    }
}

fn violation(cluster: &Cluster<'_>, check: Check, key: RowKey, what: String) -> Violation {
    let slot = cluster.map.slot_of_user(key.user);
    let store = cluster.map.slot(slot).store;
    Violation { check, store, slot, conversation: Some(key.conversation), user: Some(key.user), what }
}

fn by_slot<T>(items: impl IntoIterator<Item = T>, slot: impl Fn(&T) -> Slot) -> BTreeMap<Slot, Vec<T>> {
    let mut by_slot: BTreeMap<Slot, Vec<T>> = BTreeMap::new();
    for item in items {
        by_slot.entry(slot(&item)).or_default().push(item);
    }
    by_slot
}

/// The rows that are there.
async fn rows(cluster: &Cluster<'_>, slot: Slot, keys: &[RowKey]) -> anyhow::Result<HashMap<RowKey, Row>> {
    let (users, conversations) = columns(keys);
    let client = cluster.store_of(slot)?.lookup();
    let found = client.query(&of_slot(ROWS, slot), &[&users, &conversations]).await?;
    let row = |row: &tokio_postgres::Row| {
        let of_row = Row {
            large: row.try_get(2)?,
            joined_seq: seq(row, 3)?,
            left_seq: row.try_get::<_, Option<i64>>(4)?.map(|_| seq(row, 4)).transpose()?,
            last_seq: seq(row, 5)?,
            last_event: event(row, 6)?.unwrap_or(tertulia_shard_map::EventId::from_u128(0)),
            last_message_no: number(row, 7).map(MessageNo::new)?,
            read_seq: seq(row, 8)?,
            read_message_no: number(row, 9).map(MessageNo::new)?,
            others_delivered_seq: seq(row, 10)?,
            others_read_seq: seq(row, 11)?,
        };
        Ok((key(row)?, of_row))
    };
    found.iter().map(row).collect()
}

/// Those of the users that are members, or have been.
async fn members(client: &Client, slot: Slot, keys: &[RowKey]) -> anyhow::Result<HashSet<RowKey>> {
    let (users, conversations) = columns(keys);
    let found = client.query(&of_slot(MEMBERS, slot), &[&users, &conversations]).await?;
    found.iter().map(key).collect()
}

/// The log of a slot, as far as these rows are about it.
async fn sights(snapshot: &Snapshot<'_>, rows: &[(RowKey, Option<Row>)]) -> anyhow::Result<HashMap<RowKey, Sight>> {
    let (_, conversations) = columns(&rows.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    let distinct: Vec<Uuid> = conversations.iter().copied().collect::<HashSet<_>>().into_iter().collect();
    let mut nows: HashMap<RowKey, Due> = HashMap::new();
    let wanted: HashMap<RowKey, Option<Row>> = rows.iter().copied().collect();
    let parameters: [&(dyn ToSql + Sync); 1] = [&distinct];
    let mut dues = pin!(snapshot.client.query_raw(&of_slot(DUES_OF, snapshot.slot), parameters).await?);
    while let Some(row) = dues.try_next().await? {
        let now = due(&row)?;
        if wanted.contains_key(&now.key) {
            nows.insert(now.key, now);
        }
    }
    // Where each row is in the log, then how far its user has read.
    let place = |of: fn(&Row) -> i64| rows.iter().map(move |(_, row)| row.as_ref().map_or(0, of));
    let seqs: Vec<i64> = place(|row| row.last_seq.get() as i64).chain(place(|row| row.read_seq.get() as i64)).collect();
    let twice = [conversations.as_slice(), conversations.as_slice()].concat();
    let mut positions: Vec<Position> = seqs
        .iter()
        .map(|&seq| Position {
            seq: tertulia_shard_map::Seq::new(seq as u64),
            event: None,
            message_no: (seq == 0).then_some(MessageNo::ZERO),
        })
        .collect();
    for row in snapshot.client.query(&of_slot(POSITIONS, snapshot.slot), &[&twice, &seqs]).await? {
        if let Some(position) = positions.get_mut(number(&row, 0)? as usize - 1) {
            (position.event, position.message_no) = (event(&row, 1)?, Some(MessageNo::new(number(&row, 2)?)));
        }
    }
    let (lasts, reads) = positions.split_at(rows.len());
    let sight = |((key, row), (last, read)): (&(RowKey, Option<Row>), (&Position, &Position))| {
        let now = *nows.get(key)?;
        Some((*key, Sight { row: *row, now, last: *last, read: *read }))
    };
    Ok(rows.iter().zip(lasts.iter().zip(reads)).filter_map(sight).collect())
}

fn columns(keys: &[RowKey]) -> (Vec<Uuid>, Vec<Uuid>) {
    keys.iter().map(|key| (uuid(key.user.to_bytes()), uuid(key.conversation.to_bytes()))).unzip()
}

fn key(row: &tokio_postgres::Row) -> anyhow::Result<RowKey> {
    Ok(RowKey { user: user(row, 0)?, conversation: conversation(row, 1)? })
}

fn due(row: &tokio_postgres::Row) -> anyhow::Result<Due> {
    let message_no = |place| -> anyhow::Result<Option<MessageNo>> {
        let found: Option<i64> = row.try_get(place)?;
        Ok(found.map(|number| MessageNo::new(number as u64)))
    };
    Ok(Due {
        key: key(row)?,
        large: row.try_get(2)?,
        joined_seq: seq(row, 3)?,
        left_seq: row.try_get::<_, Option<i64>>(4)?.map(|_| seq(row, 4)).transpose()?,
        last: Position { seq: seq(row, 5)?, event: event(row, 6)?, message_no: message_no(7)? },
        read: Position { seq: seq(row, 8)?, event: None, message_no: message_no(9)? },
        others: if row.try_get(10)? { Others::Exact } else { Others::AtMost },
        others_delivered_seq: seq(row, 11)?,
        others_read_seq: seq(row, 12)?,
    })
}
