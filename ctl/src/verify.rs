//! `tertuliactl verify`: whether what the stores hold is what is always to be true of it. Reads only.
//!
//! Slot by slot, each in one snapshot, so nothing is held back from vacuum for long. It may run while everything is served: a
//! slot that changes hands meanwhile is looked at again.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tertulia_runtime::config::Config;
use tertulia_shard_map::{ConversationId, ShardMap, Slot, StoreId, UserId};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::{OutputArgs, membership::with_nodes, moves::parse_slots, nodes::Nodes, output};

/// How many broken things are told of for each slot and rule; all are counted.
const TOLD: i64 = 5;
/// A slot that changes hands that often while it is read is left alone.
const ATTEMPTS: usize = 3;
const SETTINGS: &str =
    "SET default_transaction_read_only = on; SET statement_timeout = '10min'; SET plan_cache_mode = force_custom_plan";
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What is read of a slot: `{s}` is its number. Each gives what is broken, as text, and how often.
const RULES: &[Rule] = &[
    Rule {
        invariant: "I2",
        what: "one event per sender and temp_id",
        broken: "SELECT conversation_id::text || ': ' || sender_id || ' said ' || temp_id || ' ' || count(*) || ' times' \
                 FROM event_s{s} GROUP BY conversation_id, sender_id, temp_id HAVING count(*) > 1",
    },
    Rule {
        invariant: "I3",
        what: "seq is contiguous from 1",
        broken: "SELECT conversation_id::text || ': ' || count(*) || ' events from ' || min(seq) || ' to ' || max(seq) \
                 FROM event_s{s} GROUP BY conversation_id HAVING min(seq) <> 1 OR max(seq) <> count(*)",
    },
    Rule {
        invariant: "I3",
        what: "ids grow with seq",
        broken: "SELECT conversation_id::text || ': the id of ' || seq || ' is not above the one before it' FROM \
                 (SELECT conversation_id, seq, id, lag(id) OVER (PARTITION BY conversation_id ORDER BY seq) AS before \
                  FROM event_s{s}) e WHERE before >= id",
    },
    Rule {
        invariant: "I3",
        what: "message_no counts the messages",
        broken: "SELECT conversation_id::text || ': message_no ' || message_no || ' at ' || seq || ' is not ' || counted FROM \
                 (SELECT conversation_id, seq, message_no, \
                         sum((kind = 1)::int) OVER (PARTITION BY conversation_id ORDER BY seq) AS counted \
                  FROM event_s{s}) e WHERE message_no <> counted",
    },
    Rule {
        invariant: "I4",
        what: "every event and member is of a conversation",
        broken: "SELECT DISTINCT e.conversation_id::text || ': no such conversation' FROM \
                 (SELECT conversation_id FROM event_s{s} UNION SELECT conversation_id FROM member_s{s}) e \
                 WHERE NOT EXISTS (SELECT 1 FROM conversation_s{s} c WHERE c.slot = {s} AND c.id = e.conversation_id)",
    },
    Rule {
        invariant: "I4",
        what: "a group has the members that it counts",
        broken: "SELECT c.id::text || ': counts ' || c.members || ' members and has ' || m.now FROM conversation_s{s} c \
                 CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE left_seq IS NULL) AS now FROM member_s{s} m \
                                     WHERE m.slot = {s} AND m.conversation_id = c.id) m \
                 WHERE c.kind = 2 AND c.members <> m.now",
    },
    Rule {
        invariant: "I3",
        what: "nothing is left of deleted messages",
        broken: "SELECT e.conversation_id::text || ': ' || e.seq || ' is deleted, and not empty' FROM event_s{s} e \
                 WHERE e.deleted_at_ms IS NOT NULL AND (length(e.body) > 0 OR EXISTS \
                     (SELECT 1 FROM reaction_s{s} r WHERE r.slot = {s} AND r.conversation_id = e.conversation_id \
                      AND r.message_seq = e.seq))",
    },
    Rule {
        invariant: "I7",
        what: "fan-out is not ahead of the log",
        broken: "SELECT 'the cursor of ' || k.consumer || ' is beyond the end of the log' FROM slot_cursor k WHERE k.slot = {s} \
                 AND k.event_id > coalesce(greatest((SELECT max(id::text)::uuid FROM event_s{s}), \
                                                    (SELECT max(standing_id::text)::uuid FROM member_s{s})), k.event_id)",
    },
];

struct Rule {
    invariant: &'static str,
    what: &'static str,
    broken: &'static str,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only these, as 3,17,40-47
    #[arg(long)]
    slots: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Broken {
    invariant: &'static str,
    slot: Slot,
    store: StoreId,
    what: String,
}

#[derive(Debug, Default, Serialize)]
struct Checked {
    slots: usize,
    events: u64,
    conversations: u64,
    /// By rule.
    violations: BTreeMap<String, u64>,
    /// Some of them.
    broken: Vec<Broken>,
    /// Slots that changed hands each time that they were read.
    skipped: Vec<Slot>,
}

/// What became of one attempt to read a slot.
enum Attempt {
    Done,
    /// The map has changed meanwhile.
    Moved,
}

/// Exit code 1 where something is broken.
pub async fn run(config: &Config, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let chosen = args.slots.as_deref().map(parse_slots).transpose()?;
    let checked = with_nodes(config, async |nodes| {
        let map = nodes.newest_map().await?;
        let mut stores = BTreeMap::new();
        for (id, _) in map.stores() {
            let entry = config.stores.get(&id).with_context(|| format!("the configuration has no [stores.{id}]"))?;
            stores.insert(id, connect(entry.dsn.expose()).await.with_context(|| format!("store {id}"))?);
        }
        let slots: Vec<Slot> = map
            .slots()
            .map(|(slot, _)| slot)
            .filter(|slot| chosen.as_ref().is_none_or(|it| it.contains(slot)))
            .collect();
        let mut checked = Checked::default();
        for (done, &slot) in slots.iter().enumerate() {
            progress(done, slots.len())?;
            verify_slot(nodes, &stores, slot, &mut checked).await?;
        }
        progress(slots.len(), slots.len())?;
        Ok(checked)
    })
    .await?;
    let is_well = checked.violations.is_empty();
    if args.output.json {
        let json = serde_json::to_string_pretty(&checked)?;
        output::print(|out| writeln!(out, "{json}"))?;
    } else {
        output::print(|out| write_text(out, &checked))?;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn connect(dsn: &str) -> anyhow::Result<Client> {
    let mut settings: tokio_postgres::Config = dsn.parse().context("not a Postgres connection string")?;
    settings.application_name("tertuliactl verify");
    let (client, connection) = settings.connect(NoTls).await.context("does not answer")?;
    // Ends with the client, whose calls report what went wrong.
    tokio::spawn(connection);
    client.batch_execute(SETTINGS).await?;
    Ok(client)
}

async fn verify_slot(
    nodes: &Nodes,
    stores: &BTreeMap<StoreId, Client>,
    slot: Slot,
    checked: &mut Checked,
) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        let map = nodes.newest_map().await?;
        let home = map.slot(slot).store;
        let client = stores.get(&home).with_context(|| format!("store {home} is new: begin again"))?;
        client.batch_execute(SNAPSHOT).await?;
        let attempt = verify_in(client, &map, slot, checked).await;
        client.batch_execute("ROLLBACK").await?;
        match attempt? {
            Attempt::Done => {
                // In a move both stores have it.
                if map.move_of(slot).is_none() {
                    for (&store, elsewhere) in stores.iter().filter(|(id, _)| **id != home) {
                        not_elsewhere(elsewhere, store, nodes, slot, checked).await?;
                    }
                }
                checked.slots += 1;
                return Ok(());
            }
            Attempt::Moved => {}
        }
    }
    checked.skipped.push(slot);
    Ok(())
}

/// In the snapshot of the store that the map names.
async fn verify_in(client: &Client, map: &ShardMap, slot: Slot, checked: &mut Checked) -> anyhow::Result<Attempt> {
    let (entry, number) = (map.slot(slot), i32::from(slot.get()));
    let fence = client.query_opt("SELECT epoch, node FROM slot_fence WHERE slot = $1", &[&number]).await?;
    // The node that takes it over is not there yet, or has been and gone.
    let Some(fence) = fence else { return Ok(Attempt::Moved) };
    let (epoch, node): (i64, i64) = (fence.try_get(0)?, fence.try_get(1)?);
    let owner = entry.owner.map_or(0, |node| i64::from(node.get()));
    if entry.sealed_by.is_none() && (epoch, node) != (entry.epoch.get() as i64, owner) {
        return Ok(Attempt::Moved);
    }
    let store = entry.store;
    for rule in RULES {
        let broken = rule.broken.replace("{s}", &number.to_string());
        let sql = format!(
            "WITH broken (what) AS ({broken}) SELECT count(*), (SELECT array_agg(what) FROM (SELECT what FROM broken LIMIT {TOLD}) b) FROM broken"
        );
        let row = client.query_one(&sql, &[]).await?;
        let (count, told): (i64, Option<Vec<String>>) = (row.try_get(0)?, row.try_get(1)?);
        checked.add(rule.invariant, rule.what, count as u64, told.unwrap_or_default(), (slot, store));
    }
    let ids = |sql: String| async move {
        let rows = client.query(&sql, &[]).await?;
        rows.iter().map(|row| row.try_get::<_, Uuid>(0)).collect::<Result<Vec<_>, _>>()
    };
    let slots = map.slot_count();
    let conversations = ids(format!("SELECT id FROM conversation_s{number}")).await?;
    checked.conversations += conversations.len() as u64;
    let strays = conversations.iter().map(|id| ConversationId::from_bytes(id.into_bytes()));
    let strays: Vec<String> = strays.filter(|id| slots.of_conversation(*id) != slot).map(|id| id.to_string()).collect();
    checked.add("I5", "keys are in their slots", strays.len() as u64, strays, (slot, store));
    let users =
        ids(format!("SELECT DISTINCT user_id FROM inbox_s{number} UNION SELECT user_id FROM profile_s{number}"))
            .await?;
    let strays = users.iter().map(|id| UserId::from_bytes(id.into_bytes()));
    let strays: Vec<String> = strays.filter(|id| slots.of_user(*id) != slot).map(|id| id.to_string()).collect();
    checked.add("I5", "keys are in their slots", strays.len() as u64, strays, (slot, store));
    let events = client.query_one(&format!("SELECT count(*) FROM event_s{number}"), &[]).await?;
    checked.events += events.try_get::<_, i64>(0)? as u64;
    Ok(Attempt::Done)
}

/// A store that the map does not name for a slot has nothing of it, and nobody owns it there.
async fn not_elsewhere(
    client: &Client,
    store: StoreId,
    nodes: &Nodes,
    slot: Slot,
    checked: &mut Checked,
) -> anyhow::Result<()> {
    let number = i32::from(slot.get());
    let owned = client.query_opt("SELECT node FROM slot_fence WHERE slot = $1 AND node <> 0", &[&number]).await?;
    let leaf: bool =
        client.query_one("SELECT to_regclass('event_s' || $1::int) IS NOT NULL", &[&number]).await?.try_get(0)?;
    let filled = leaf
        && client
            .query_one(&format!("SELECT EXISTS (SELECT 1 FROM event_s{number})"), &[])
            .await?
            .try_get::<_, bool>(0)?;
    if owned.is_none() && !filled {
        return Ok(());
    }
    // Unless it has begun to move, or has moved, since the map was asked for.
    let map = nodes.newest_map().await?;
    if map.move_of(slot).is_none() && map.slot(slot).store != store {
        let what = format!("store {} has it, and this store has something of it too", map.slot(slot).store);
        checked.add("I5", "a slot is in one store", 1, vec![what], (slot, store));
    }
    Ok(())
}

impl Checked {
    fn add(
        &mut self,
        invariant: &'static str,
        rule: &str,
        count: u64,
        told: Vec<String>,
        (slot, store): (Slot, StoreId),
    ) {
        if count == 0 {
            return;
        }
        *self.violations.entry(format!("{invariant} {rule}")).or_default() += count;
        let broken = |what| Broken { invariant, slot, store, what };
        self.broken.extend(told.into_iter().take(TOLD as usize).map(broken));
    }
}

fn write_text(out: &mut dyn Write, checked: &Checked) -> io::Result<()> {
    let Checked { slots, events, conversations, .. } = checked;
    writeln!(out, "{slots} slots read: {conversations} conversations, {events} events")?;
    for slot in &checked.skipped {
        writeln!(out, "slot {slot} changed hands while it was read: not checked")?;
    }
    if checked.violations.is_empty() {
        return writeln!(out, "nothing is broken");
    }
    for (rule, count) in &checked.violations {
        writeln!(out, "{rule}: broken {count} times")?;
    }
    for Broken { invariant, slot, store, what } in &checked.broken {
        writeln!(out, "  {invariant}  slot {slot} in store {store}  {what}")?;
    }
    Ok(())
}

/// To whoever watches on a terminal.
fn progress(done: usize, all: usize) -> io::Result<()> {
    let mut out = io::stderr().lock();
    if !out.is_terminal() {
        return Ok(());
    }
    if done == all {
        write!(out, "\r\x1b[K")?
    } else {
        write!(out, "\r{done} of {all} slots read\x1b[K")?
    }
    out.flush()
}
