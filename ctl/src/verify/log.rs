//! What a slot's own tables must be, without a look at any other slot. In SQL: a slot may have millions of events.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use tertulia_shard_map::{DirectPair, SlotCount, StoreId};
use tokio_postgres::Row;

use super::{
    check::{Check, Findings, Violation},
    store::{Snapshot, conversation, number, user},
};

/// What there is to check: conversations, events, those that are messages or about some, reactions, members, cursors.
const COUNTS: &str = "SELECT (SELECT count(*) FROM conversation_s{slot}), e.total, e.contents, \
        (SELECT count(*) FROM reaction_s{slot}), (SELECT count(*) FROM member_s{slot}), \
        (SELECT count(*) FROM slot_cursor WHERE slot = {slot}) \
     FROM (SELECT count(*) AS total, count(*) FILTER (WHERE kind <= 4) AS contents FROM event_s{slot}) e";

/// Each gives the conversation, the user, and what is wrong.
const CHECKS: [(Check, &str); 11] = [
    (Check::TempIds, TEMP_IDS),
    (Check::Seqs, SEQS),
    (Check::Origins, WITHOUT_CONVERSATION),
    (Check::Origins, KINDS),
    (Check::Contents, TARGETS),
    (Check::Contents, MESSAGES),
    (Check::Contents, REACTIONS),
    (Check::Members, MEMBERS),
    (Check::Members, MARKS),
    (Check::Cursors, CURSORS),
    (Check::Strangers, REVS),
];

const TEMP_IDS: &str = "SELECT conversation_id, sender_id, \
        format('%s events have the temp_id %L, seqs %s to %s', count(*), temp_id, min(seq), max(seq)) \
     FROM event_s{slot} GROUP BY conversation_id, sender_id, temp_id HAVING count(*) > 1";

/// Of a hole, only the first event after it counts. Kind 1 is a message.
const SEQS: &str = "SELECT conversation_id, NULL::uuid, CASE \
        WHEN seq <> due THEN format('seq %s where %s is due', seq, due) \
        WHEN id_falls THEN format('the id of seq %s is not above the one before', seq) \
        ELSE format('message_no of seq %s is %s where %s is due', seq, message_no, due_no) END \
     FROM (SELECT conversation_id, seq, message_no, coalesce(lag(seq) OVER w, 0) + 1 AS due, \
                  coalesce(lag(message_no) OVER w, 0) + (kind = 1)::int AS due_no, \
                  coalesce(id <= lag(id) OVER w, false) AS id_falls \
           FROM event_s{slot} WINDOW w AS (PARTITION BY conversation_id ORDER BY seq)) log \
     WHERE seq <> due OR message_no <> due_no OR id_falls";

const WITHOUT_CONVERSATION: &str = "SELECT x.conversation_id, NULL::uuid, format('%s rows of %s, and no conversation', count(*), x.name) \
     FROM (SELECT conversation_id, 'event' AS name FROM event_s{slot} \
           UNION ALL SELECT conversation_id, 'member' FROM member_s{slot} \
           UNION ALL SELECT conversation_id, 'reaction' FROM reaction_s{slot}) x \
     LEFT JOIN conversation_s{slot} c ON c.id = x.conversation_id \
     WHERE c.id IS NULL GROUP BY x.conversation_id, x.name";

/// Kinds from 5 on are changes of groups, 5 is a group's first event. The sender need be no member: the app speaks in
/// anybody's name. But it is a user, whose id has its top bit clear, or the app.
const KINDS: &str = "SELECT e.conversation_id, e.sender_id, \
        format('seq %s has kind %s in a conversation of kind %s', e.seq, e.kind, c.kind) \
     FROM event_s{slot} e JOIN conversation_s{slot} c ON c.id = e.conversation_id \
     WHERE e.kind NOT BETWEEN 1 AND 9 OR get_byte(uuid_send(e.sender_id), 0) >= 128 \
        OR (c.kind = 1 AND e.kind >= 5) OR (c.kind = 2 AND (e.kind = 5) <> (e.seq = 1))";

/// Edits (2), deletions (3) and reactions (4) are about an earlier message, nothing else is about anything. Only messages are
/// edited and deleted.
const TARGETS: &str = "SELECT e.conversation_id, e.sender_id, CASE \
        WHEN e.kind NOT IN (2, 3, 4) THEN format('seq %s, of kind %s, is about another, edited or deleted', e.seq, e.kind) \
        WHEN e.edited_at_ms IS NOT NULL OR e.deleted_at_ms IS NOT NULL \
            THEN format('seq %s, of kind %s, is edited or deleted', e.seq, e.kind) \
        WHEN e.kind = 3 AND length(e.body) > 0 THEN format('seq %s, a deletion, has a content', e.seq) \
        ELSE format('seq %s is about seq %s, which is no earlier message of this id', e.seq, e.target_seq) END \
     FROM event_s{slot} e \
     LEFT JOIN event_s{slot} t ON t.conversation_id = e.conversation_id AND t.seq = e.target_seq \
     WHERE CASE WHEN e.kind IN (2, 3, 4) \
        THEN t.kind IS DISTINCT FROM 1 OR t.id IS DISTINCT FROM e.target_id OR t.seq >= e.seq \
            OR e.edited_at_ms IS NOT NULL OR e.deleted_at_ms IS NOT NULL OR (e.kind = 3 AND length(e.body) > 0) \
        ELSE e.target_seq IS NOT NULL OR e.target_id IS NOT NULL \
            OR (e.kind <> 1 AND (e.edited_at_ms IS NOT NULL OR e.deleted_at_ms IS NOT NULL)) END";

/// A message is what its last edit made of it; deleted, it and its edits are empty.
const MESSAGES: &str = "WITH about AS ( \
        SELECT conversation_id, target_seq, max(created_at_ms) FILTER (WHERE kind = 3) AS deleted_at_ms, \
               max(seq) FILTER (WHERE kind = 2) AS last_edit, bool_or(kind = 2 AND length(body) > 0) AS edit_has_content \
        FROM event_s{slot} WHERE kind IN (2, 3) GROUP BY conversation_id, target_seq), \
     found AS ( \
        SELECT m.conversation_id, m.sender_id, m.seq, CASE \
            WHEN m.deleted_at_ms IS DISTINCT FROM a.deleted_at_ms THEN 'its deletion and the log''s are not the same' \
            WHEN m.deleted_at_ms IS NOT NULL AND length(m.body) > 0 THEN 'it is deleted, and has a content' \
            WHEN m.deleted_at_ms IS NOT NULL AND a.edit_has_content THEN 'it is deleted, and an edit of it has a content' \
            WHEN m.deleted_at_ms IS NOT NULL THEN NULL \
            WHEN length(m.body) = 0 THEN 'it has no content, and is not deleted' \
            WHEN m.edited_at_ms IS DISTINCT FROM e.created_at_ms THEN 'its last edit is not the log''s' \
            WHEN m.body <> e.body THEN 'its content is not its last edit''s' END AS what \
        FROM event_s{slot} m \
        LEFT JOIN about a ON a.conversation_id = m.conversation_id AND a.target_seq = m.seq \
        LEFT JOIN event_s{slot} e ON e.conversation_id = a.conversation_id AND e.seq = a.last_edit \
        WHERE m.kind = 1) \
     SELECT conversation_id, sender_id, format('message at seq %s: %s', seq, what) FROM found WHERE what IS NOT NULL";

const REACTIONS: &str = "WITH found AS ( \
        SELECT r.conversation_id, r.user_id, r.message_seq, CASE \
            WHEN m.kind IS DISTINCT FROM 1 THEN 'there is no message' \
            WHEN m.deleted_at_ms IS NOT NULL THEN 'the message is deleted' \
            WHEN NOT EXISTS (SELECT 1 FROM event_s{slot} e WHERE e.conversation_id = r.conversation_id \
                                AND e.target_seq = r.message_seq AND e.kind = 4 AND e.sender_id = r.user_id) \
                THEN 'the log has none of this user' END AS what \
        FROM reaction_s{slot} r \
        LEFT JOIN event_s{slot} m ON m.conversation_id = r.conversation_id AND m.seq = r.message_seq) \
     SELECT conversation_id, user_id, format('a reaction to seq %s: %s', message_seq, what) FROM found WHERE what IS NOT NULL";

const MEMBERS: &str = "SELECT c.id, NULL::uuid, format('%s members are counted, and %s are there', c.members, \
            count(m.user_id) FILTER (WHERE m.left_seq IS NULL)) \
        FROM conversation_s{slot} c LEFT JOIN member_s{slot} m ON m.conversation_id = c.id \
        GROUP BY c.id, c.members HAVING c.members <> count(m.user_id) FILTER (WHERE m.left_seq IS NULL) \
     UNION ALL SELECT c.id, m.user_id, 'a member who is neither of the two users' \
        FROM conversation_s{slot} c JOIN member_s{slot} m ON m.conversation_id = c.id \
        WHERE c.kind = 1 AND m.user_id NOT IN (c.direct_lo, c.direct_hi)";

/// A direct conversation may have members and no event: one blocks the other.
const MARKS: &str = "WITH newest AS (SELECT conversation_id, max(seq) AS seq FROM event_s{slot} GROUP BY conversation_id), \
     found AS ( \
        SELECT m.conversation_id, m.user_id, CASE \
            WHEN m.joined_seq NOT BETWEEN 1 AND greatest(n.seq, 1) THEN format('joined_seq is %s', m.joined_seq) \
            WHEN m.left_seq NOT BETWEEN m.joined_seq AND coalesce(n.seq, 0) THEN format('left_seq is %s', m.left_seq) \
            WHEN m.delivered_seq > coalesce(n.seq, 0) THEN format('delivered_seq is %s', m.delivered_seq) \
            WHEN m.read_seq > m.delivered_seq THEN format('read_seq is %s, delivered_seq %s', m.read_seq, m.delivered_seq) \
            WHEN m.read_message_no <> CASE m.read_seq WHEN 0 THEN 0 ELSE r.message_no END \
                THEN format('read_message_no is %s at seq %s', m.read_message_no, m.read_seq) END AS what, n.seq AS newest \
        FROM member_s{slot} m LEFT JOIN newest n ON n.conversation_id = m.conversation_id \
        LEFT JOIN event_s{slot} r ON r.conversation_id = m.conversation_id AND r.seq = m.read_seq) \
     SELECT conversation_id, user_id, format('%s, the newest seq %s', what, coalesce(newest, 0)) FROM found WHERE what IS NOT NULL";

/// By the leaves' indexes on (id) and on (standing_id).
const CURSORS: &str = "SELECT NULL::uuid, NULL::uuid, format('the cursor of %L is above the newest entry of the log', k.consumer) \
     FROM slot_cursor k WHERE k.slot = {slot} AND k.event_id > coalesce(greatest( \
        (SELECT e.id FROM event_s{slot} e ORDER BY e.id DESC LIMIT 1), \
        (SELECT m.standing_id FROM member_s{slot} m WHERE m.standing_id IS NOT NULL ORDER BY m.standing_id DESC LIMIT 1)), \
        '00000000-0000-0000-0000-000000000000')";

/// Delta sync would miss one of them.
const REVS: &str = "SELECT NULL::uuid, user_id, format('%s of the user''s rows have rev %s', count(*), rev) \
     FROM inbox_s{slot} GROUP BY user_id, rev HAVING count(*) > 1";

const CONVERSATIONS: &str = "SELECT id, direct_lo, direct_hi FROM conversation_s{slot}";
const USERS: &str = "SELECT user_id FROM inbox_s{slot} UNION SELECT user_id FROM block_s{slot} \
     UNION SELECT user_id FROM profile_s{slot}";

/// How much a slot has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    pub conversations: u64,
    pub events: u64,
}

/// Checks what is in a slot.
pub async fn check(
    snapshot: &Snapshot<'_>,
    store: StoreId,
    slots: SlotCount,
    findings: &mut Findings,
) -> anyhow::Result<Volume> {
    let counts = pin!(snapshot.rows(COUNTS).await?).try_next().await?;
    let count = |place| counts.as_ref().map_or(Ok(0), |row| number(row, place));
    let (volume, contents) = (Volume { conversations: count(0)?, events: count(1)? }, count(2)? + count(3)?);
    for (check, checked) in [
        (Check::TempIds, volume.events),
        (Check::Seqs, volume.events),
        (Check::Origins, volume.events),
        (Check::Contents, contents),
        (Check::Members, count(4)?),
        (Check::Cursors, count(5)?),
    ] {
        findings.checked(check, checked);
    }
    for (check, statement) in CHECKS {
        let mut rows = pin!(snapshot.rows(statement).await?);
        while let Some(row) = rows.try_next().await? {
            findings.add(violation(snapshot, store, check, &row)?);
        }
    }
    places(snapshot, store, slots, findings).await?;
    Ok(volume)
}

fn violation(snapshot: &Snapshot<'_>, store: StoreId, check: Check, row: &Row) -> anyhow::Result<Violation> {
    let is_there = |place| -> anyhow::Result<bool> { Ok(row.try_get::<_, Option<uuid::Uuid>>(place)?.is_some()) };
    Ok(Violation {
        check,
        store,
        slot: snapshot.slot,
        conversation: if is_there(0)? { Some(conversation(row, 0)?) } else { None },
        user: if is_there(1)? { Some(user(row, 1)?) } else { None },
        what: row.try_get(2)?,
    })
}

/// Whether the keys are this slot's, and a direct conversation's that of its two users.
async fn places(
    snapshot: &Snapshot<'_>,
    store: StoreId,
    slots: SlotCount,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let slot = snapshot.slot;
    let wrong = |what: String| Violation { check: Check::Places, store, slot, conversation: None, user: None, what };
    let mut rows = pin!(snapshot.rows(CONVERSATIONS).await?);
    while let Some(row) = rows.try_next().await? {
        findings.checked(Check::Places, 1);
        let id = conversation(&row, 0)?;
        let belongs = slots.of_conversation(id);
        if belongs != slot {
            let what = format!("the conversation belongs into slot {belongs}");
            findings.add(Violation { conversation: Some(id), ..wrong(what) });
        }
        let is_direct = row.try_get::<_, Option<uuid::Uuid>>(1)?.is_some();
        if id.is_direct() != is_direct
            || is_direct && DirectPair::new(user(&row, 1)?, user(&row, 2)?).conversation_id() != id
        {
            let what = "the id is not that of a conversation of its two users".to_owned();
            findings.add(Violation { conversation: Some(id), ..wrong(what) });
        }
    }
    let mut rows = pin!(snapshot.rows(USERS).await?);
    while let Some(row) = rows.try_next().await? {
        findings.checked(Check::Places, 1);
        let id = user(&row, 0)?;
        let belongs = slots.of_user(id);
        if belongs != slot {
            let what = format!("the user's mailbox belongs into slot {belongs}");
            findings.add(Violation { user: Some(id), ..wrong(what) });
        }
    }
    Ok(())
}
