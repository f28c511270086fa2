//! Reads back everything: from the stores all of it, through the routers what a member of each conversation sees.

use std::{collections::HashMap, pin::pin};

use anyhow::{Context as _, bail};
use futures_util::StreamExt;
use tertulia_bench::connection::{Session, SignIn};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Rev, Seq, UserId};
use tertulia_test_invariants::{
    ConversationCheck, InboxRow, Invariant, MailboxCheck, MemberRow, Mirror, Outcome, Sent, StoredEvent, Violations,
};
use tertulia_wire::{
    client::{Command, Format, HistoryQuery, Outbound, Reply, SyncQuery},
    decode_message,
    limits::HISTORY_PAGE_MAX,
};
use tokio_postgres::{Client, NoTls, types::ToSql};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Options,
    world::{State, World},
};

const EVENTS: &str = "SELECT seq, id, sender_id, temp_id, message_no, kind, body, edited_at_ms IS NULL AND deleted_at_ms IS NULL \
     FROM event WHERE slot = $1 AND conversation_id = $2 ORDER BY seq";
const MEMBERS: &str = "SELECT user_id, joined_seq, left_seq, delivered_seq, read_seq, read_message_no FROM member \
     WHERE slot = $1 AND conversation_id = $2";
const INBOX: &str = "SELECT conversation_id, joined_seq, left_seq, last_seq, last_event_id, last_message_no, read_seq, \
     read_message_no, others_delivered_seq, others_read_seq, rev FROM inbox WHERE user_id = $1";
/// A slot whose commit order is not the order of its ids would have had two writers.
const DISORDER: &str = "SELECT count(*) FROM (SELECT id, lag(id) OVER (PARTITION BY slot, conversation_id ORDER BY seq) AS before \
     FROM event) e WHERE before >= id";
const SLOT_OF: &str = "SELECT slot FROM conversation WHERE id = $1";

pub async fn run(options: &Options, world: &World) -> anyhow::Result<Violations> {
    let mut violations = Violations::default();
    for _ in 0..world.tally.own_reads_missed.get() {
        violations.add(Invariant::OwnWritesAreRead, || "an acked event was not in the history right after".into());
    }
    // What was delivered before a sync is in the rows after it.
    flush_mailboxes(options, world).await?;

    let mut stores = Vec::new();
    for dsn in &options.stores {
        let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.with_context(|| format!("store {dsn}"))?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        stores.push(client);
    }
    let people: HashMap<UserId, usize> = world.users.iter().enumerate().map(|(number, user)| (*user, number)).collect();
    let mut mirrors: HashMap<ConversationId, Mirror> = HashMap::new();
    let mut logs: Vec<Vec<EventId>> = Vec::new();
    for (number, conversation) in world.conversations.iter().enumerate() {
        let (mirror, log) = check_log(&stores, world, &people, number as u32, &mut violations).await?;
        mirrors.insert(conversation.id, mirror);
        logs.push(log);
    }
    for store in &stores {
        let disorder: i64 = store.query_one(DISORDER, &[]).await?.get(0);
        for _ in 0..disorder {
            violations
                .add(Invariant::OneOwnerPerEpoch, || "ids of a slot are not in the order of their commits".into());
        }
    }
    for (person, user) in world.users.iter().enumerate() {
        let mut check = MailboxCheck::new(*user);
        for store in &stores {
            for row in store.query(INBOX, &[&uuid(user.to_bytes())]).await? {
                let row = inbox_row(&row)?;
                check.row(&row, mirrors.get(&row.conversation), &mut violations);
            }
        }
        let expected = world.of_person[person].iter().map(|number| &world.conversations[*number as usize]);
        let expected = expected.filter(|conversation| !logs_is_empty(world, &logs, conversation.id));
        check.finish(expected.map(|conversation| conversation.id), &mut violations);
    }
    check_reads(options, world, &logs, &mut violations).await?;
    Ok(violations)
}

fn logs_is_empty(world: &World, logs: &[Vec<EventId>], id: ConversationId) -> bool {
    world.conversations.iter().position(|it| it.id == id).is_none_or(|number| logs[number].is_empty())
}

async fn check_log(
    stores: &[Client],
    world: &World,
    people: &HashMap<UserId, usize>,
    number: u32,
    violations: &mut Violations,
) -> anyhow::Result<(Mirror, Vec<EventId>)> {
    let conversation = &world.conversations[number as usize];
    let id = uuid(conversation.id.to_bytes());
    let (mut mirror, mut log) = (Mirror::default(), Vec::new());
    let mut check = ConversationCheck::new(conversation.id);
    for store in stores {
        let Some(slot) = store.query_opt(SLOT_OF, &[&id]).await? else { continue };
        let slot: i32 = slot.get(0);
        let params: [&(dyn ToSql + Sync); 2] = [&slot, &id];
        let rows = store.query_raw(EVENTS, params).await?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.next().await {
            let row = row?;
            let sender = UserId::from_bytes(row.try_get::<_, Uuid>(2)?.into_bytes());
            let (temp_id, kind): (&str, i16) = (row.try_get(3)?, row.try_get(5)?);
            let event_id = EventId::from_bytes(row.try_get::<_, Uuid>(1)?.into_bytes());
            let body: &[u8] = row.try_get(6)?;
            let unchanged: bool = row.try_get(7)?;
            let content_hash = match kind {
                1 if unchanged => {
                    decode_message(body).ok().and_then(|body| body.content).map(|it| xxh3_64(it.as_bytes()))
                }
                _ => None,
            };
            let event = StoredEvent { seq: seq(row.try_get(0)?), id: event_id, sender, temp_id, content_hash };
            let sent = people.get(&sender).zip(world.number_of(temp_id)).and_then(|(&person, place)| {
                let record = *world.records[person].borrow().get(place)?;
                // A record of another conversation is not this event's.
                (record.conversation == number)
                    .then(|| Sent { outcome: outcome(record.state), content_hash: world.content_hash(person, place) })
            });
            check.event(&event, sent.as_ref(), violations);
            mirror.event(event_id, MessageNo::new(row.try_get::<_, i64>(4)? as u64), sender);
            log.push(event_id);
        }
        for row in store.query(MEMBERS, &[&slot, &id]).await? {
            mirror.member(MemberRow {
                user: UserId::from_bytes(row.try_get::<_, Uuid>(0)?.into_bytes()),
                joined_seq: seq(row.try_get(1)?),
                left_seq: row.try_get::<_, Option<i64>>(2)?.map(seq),
                delivered_seq: seq(row.try_get(3)?),
                read_seq: seq(row.try_get(4)?),
                read_message_no: MessageNo::new(row.try_get::<_, i64>(5)? as u64),
            });
        }
    }
    let mut acked = Vec::new();
    for &member in &conversation.members {
        for (place, record) in world.records[member].borrow().iter().enumerate() {
            if record.conversation == number && matches!(record.state, State::Acked { .. }) {
                let sent = Sent { outcome: outcome(record.state), content_hash: 0 };
                acked.push((world.users[member], world.temp_id(place), sent));
            }
        }
    }
    check.finish(acked.iter().map(|(user, temp_id, sent)| (*user, temp_id.as_str(), sent)), violations);
    Ok((mirror, log))
}

/// A member of each conversation reads it through a router, from the first event to the last.
async fn check_reads(
    options: &Options,
    world: &World,
    logs: &[Vec<EventId>],
    violations: &mut Violations,
) -> anyhow::Result<()> {
    for (number, conversation) in world.conversations.iter().enumerate() {
        let reader = conversation.members[number % conversation.members.len()];
        let router = options.routers[number % options.routers.len()];
        let mut session = open(world, reader, router).await?;
        let (mut next, mut after) = (0_usize, Seq::ZERO);
        loop {
            let query = HistoryQuery {
                conversation_id: conversation.id,
                after_seq: Some(after),
                before_seq: None,
                limit: Some(HISTORY_PAGE_MAX),
            };
            let page = match call(&mut session, &Command::History(query)).await? {
                Reply::HistoryPage(page) => page,
                Reply::Error(error) if logs[number].is_empty() => {
                    drop(error);
                    break;
                }
                other => bail!("no history, but {other:?}"),
            };
            for event in &page.events {
                if logs[number].get(next) != Some(&event.id) || event.seq.get() != next as u64 + 1 {
                    violations.add(Invariant::SeqIsContiguous, || {
                        format!("{}: a reader sees {} at {}", conversation.id, event.id, event.seq)
                    });
                }
                next += 1;
                after = event.seq;
            }
            if !page.has_more {
                break;
            }
        }
        if next < logs[number].len() {
            violations.add(Invariant::AckedIsDurable, || {
                format!("{}: a reader sees {next} events of {}", conversation.id, logs[number].len())
            });
        }
    }
    Ok(())
}

async fn flush_mailboxes(options: &Options, world: &World) -> anyhow::Result<()> {
    // Twice: the first waits until what was committed is delivered, by asking what takes longer than a delivery.
    for round in 0..2 {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        for person in 0..world.users.len() {
            let mut session = open(world, person, options.routers[(person + round) % options.routers.len()]).await?;
            call(&mut session, &Command::Sync(SyncQuery { rev: Rev::ZERO, limit: Some(1) })).await?;
        }
    }
    Ok(())
}

async fn open(world: &World, person: usize, router: std::net::SocketAddr) -> anyhow::Result<Session> {
    let mut sign_in = SignIn::connect(router).await?;
    let signed_in = sign_in.sign_in(&format!("soak-{:08x}-{person}", world.run)).await?;
    Session::open(router, Format::MessagePack, &signed_in).await
}

async fn call(session: &mut Session, command: &Command) -> anyhow::Result<Reply> {
    session.send(command).await?;
    loop {
        for outbound in session.receive().await? {
            if let Outbound::Reply { reply, .. } = outbound {
                return Ok(reply);
            }
        }
    }
}

fn outcome(state: State) -> Outcome {
    match state {
        State::Open => Outcome::Unknown,
        State::Acked { id, seq } => Outcome::Acked { id, seq },
        State::Refused => Outcome::Refused,
    }
}

fn inbox_row(row: &tokio_postgres::Row) -> anyhow::Result<InboxRow> {
    Ok(InboxRow {
        conversation: ConversationId::from_bytes(row.try_get::<_, Uuid>(0)?.into_bytes()),
        joined_seq: seq(row.try_get(1)?),
        left_seq: row.try_get::<_, Option<i64>>(2)?.map(seq),
        last_seq: seq(row.try_get(3)?),
        last_event: EventId::from_bytes(row.try_get::<_, Uuid>(4)?.into_bytes()),
        last_message_no: MessageNo::new(row.try_get::<_, i64>(5)? as u64),
        read_seq: seq(row.try_get(6)?),
        read_message_no: MessageNo::new(row.try_get::<_, i64>(7)? as u64),
        others_delivered_seq: seq(row.try_get(8)?),
        others_read_seq: seq(row.try_get(9)?),
        rev: Rev::new(row.try_get::<_, i64>(10)? as u64),
    })
}

fn seq(column: i64) -> Seq {
    Seq::new(column as u64)
}

fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}
