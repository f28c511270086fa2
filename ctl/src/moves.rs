//! `tertuliactl move`, `rebalance`, `moves` and `abort`: slots between stores. The command begins moves, some at a time, and
//! watches; the nodes carry them out, also where the command is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;
use tertulia_runtime::config::Config;
use tertulia_shard_map::{
    AbortReason, Change, MoveEntry, MoveId, MoveStep, MovingSlot, NewMove, ShardMap, Slot, StoreId, plan,
};
use tertulia_wire::cluster::{MoveProgress, MoveStage};
use tokio::time::{Instant, sleep};

use crate::{
    OutputArgs,
    membership::with_nodes,
    nodes::Nodes,
    output,
    progress::{Progress, bar},
};

const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Moves one after the other that were sealed for too long. After each, the next has half as many slots.
const STALLS_MAX: u32 = 5;

#[derive(Debug, Args)]
pub struct Pace {
    /// Moves that are under way at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    at_most: u16,
    /// Slots of one move: they are sealed, and take no writes for some tens of milliseconds, together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots_per_move: u16,
    /// How long to watch; the moves that have begun go on
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    wait: u64,
}

#[derive(Debug, Args)]
pub struct MoveArgs {
    /// As 3,17,40-47
    slots: String,
    /// The number of the store that they are to be in
    #[arg(long, value_name = "STORE")]
    to: u32,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct RebalanceArgs {
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct AbortArgs {
    /// Its number, as tertuliactl moves tells it
    id: u64,
}

/// How a move has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Moved,
    /// Aborted, because it was sealed for too long: it may be begun again.
    Stalled,
    /// For another reason, or for one that was not seen.
    Aborted,
}

#[derive(Debug, Serialize)]
struct EndedMove {
    #[serde(rename = "move")]
    id: MoveId,
    source: StoreId,
    target: StoreId,
    slots: usize,
    ended: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Exit code 1 where a move was aborted.
pub async fn move_slots(config: &Config, args: &MoveArgs) -> anyhow::Result<ExitCode> {
    let (wanted, target) = (parse_slots(&args.slots)?, StoreId::new(args.to));
    with_nodes(config, async |nodes| {
        let map = nodes.newest_map().await?;
        ensure!(map.store(target).is_some(), "the cluster has no store {target}");
        if let Some(slot) = wanted.iter().find(|slot| map.get(**slot).is_none()) {
            bail!("the cluster has no slot {slot}: they are 0 to {}", map.slots().len() - 1);
        }
        let mut left = wanted.clone();
        carry_out(nodes, &args.pace, &args.output, |map, slots_max| {
            left.retain(|slot| map.slot(*slot).store != target);
            // Those that are in a move already are none of this command's business.
            next_move(map, &left, target, slots_max)
        })
        .await
    })
    .await
}

/// The first of these that share a store and are in no move.
fn next_move(map: &ShardMap, wanted: &BTreeSet<Slot>, target: StoreId, slots_max: usize) -> Option<NewMove> {
    let mut free = wanted.iter().filter(|slot| map.move_of(**slot).is_none()).peekable();
    let source = map.slot(**free.peek()?).store;
    let slots = free
        .filter(|slot| map.slot(**slot).store == source)
        .take(slots_max)
        .map(|&slot| MovingSlot { slot, expected_epoch: map.slot(slot).epoch })
        .collect();
    Some(NewMove { source, target, slots })
}

/// Carries out what the plan says of stores, planning again before every move. Exit code 1 where a move was aborted.
pub async fn rebalance(config: &Config, args: &RebalanceArgs) -> anyhow::Result<ExitCode> {
    with_nodes(config, async |nodes| {
        let next = |map: &ShardMap, slots_max| plan(map).new_moves(slots_max).into_iter().next();
        carry_out(nodes, &args.pace, &args.output, next).await
    })
    .await
}

/// Begins what `next` says for a map and a number of slots, as long as it says something and nothing was aborted, and
/// watches until all has ended. What was sealed for too long is begun again with fewer slots.
async fn carry_out(
    nodes: &Nodes,
    pace: &Pace,
    output: &OutputArgs,
    mut next: impl FnMut(&ShardMap, usize) -> Option<NewMove>,
) -> anyhow::Result<ExitCode> {
    let deadline = Instant::now() + Duration::from_secs(pace.wait);
    let mut told = Progress::new();
    let mut under_way: BTreeMap<MoveId, MoveEntry> = BTreeMap::new();
    let mut ended: Vec<EndedMove> = Vec::new();
    let (mut slots_max, mut stalls) = (usize::from(pace.slots_per_move), 0);
    let mut checked: BTreeSet<StoreId> = BTreeSet::new();
    loop {
        let map = nodes.newest_map().await?;
        for (id, entry) in &mut under_way {
            if let Some(now) = map.move_entry(*id) {
                *entry = now.clone();
            } else {
                let end = ending(&map, *id, entry);
                match end.ended {
                    Ending::Stalled => (slots_max, stalls) = (slots_max.div_ceil(2), stalls + 1),
                    Ending::Moved | Ending::Aborted => stalls = 0,
                }
                told.line(&format!("move {id}: {end}"))?;
                ended.push(end);
            }
        }
        under_way.retain(|id, _| map.move_entry(*id).is_some());
        let has_failed = stalls >= STALLS_MAX || ended.iter().any(|it| it.ended == Ending::Aborted);
        if under_way.len() < usize::from(pace.at_most) && !has_failed {
            match next(&map, slots_max) {
                Some(new) => {
                    if checked.insert(new.target) {
                        all_know_the_store(nodes, &map, new.target).await?;
                    }
                    if let Some((id, entry)) = begin(nodes, new).await? {
                        under_way.insert(id, entry);
                    }
                    continue;
                }
                None if under_way.is_empty() => break,
                None => {}
            }
        }
        if under_way.is_empty() {
            break;
        }
        let progress = nodes.moves().await.unwrap_or_default();
        told.show(under_way.iter().map(|(id, entry)| {
            let of_move = progress.iter().find(|it| it.id == *id);
            status_line(*id, entry, of_move)
        }))?;
        if Instant::now() > deadline {
            bail!("after {} s moves are under way still: they go on, see tertuliactl moves", pace.wait);
        }
        sleep(POLL_INTERVAL).await;
    }
    told.clear()?;
    let slots: usize = ended.iter().filter(|it| it.ended == Ending::Moved).map(|it| it.slots).sum();
    // One that stalled was begun again, unless that was the last of too many.
    let failed = ended.iter().filter(|it| it.ended == Ending::Aborted).count() + usize::from(stalls > 0);
    if output.json {
        let json = serde_json::to_string_pretty(&ended)?;
        output::print(|out| writeln!(out, "{json}"))?;
    } else {
        output::print(|out| match (slots, failed) {
            (0, 0) => writeln!(out, "nothing to move"),
            (_, 0) => writeln!(out, "{slots} slots have moved"),
            (_, aborted) => {
                writeln!(out, "{slots} slots have moved; {aborted} moves were aborted, and no more were begun")
            }
        })?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a node has no connection to the target, it could not serve what it owns there.
pub async fn all_know_the_store(nodes: &Nodes, map: &ShardMap, store: StoreId) -> anyhow::Result<()> {
    let loads = nodes.loads().await;
    for (node, _) in map.nodes() {
        let Some((_, load)) = loads.iter().find(|(id, _)| *id == node) else {
            bail!("node-{node} does not answer, so whether it knows store {store} is open: nothing was begun")
        };
        ensure!(
            load.stores.iter().any(|it| it.store == store),
            "node-{node} runs with a configuration that has no [stores.{store}]: restart it with one that has"
        );
    }
    Ok(())
}

/// `None` where the map has changed meanwhile.
async fn begin(nodes: &Nodes, new: NewMove) -> anyhow::Result<Option<(MoveId, MoveEntry)>> {
    let first = new.slots.first().map(|it| it.slot);
    let proposed = nodes.propose(Change::BeginMove(new)).await;
    let map = nodes.newest_map().await?;
    let begun = first.and_then(|slot| map.move_of(slot)).map(|(id, entry)| (id, entry.clone()));
    match (proposed, begun) {
        // Where its answer was lost, it may have begun all the same.
        (_, Some(begun)) => Ok(Some(begun)),
        (Ok(()), None) => Ok(None),
        (Err(error), None) => Err(error),
    }
}

/// What became of a move that is gone from the map.
fn ending(map: &ShardMap, id: MoveId, last: &MoveEntry) -> EndedMove {
    let moved = last.slots.iter().all(|slot| map.slot(*slot).store == last.target);
    let reason = match last.step {
        MoveStep::Aborted(reason) => Some(reason.to_string()),
        _ => None,
    };
    EndedMove {
        id,
        source: last.source,
        target: last.target,
        slots: last.slots.len(),
        ended: match last.step {
            _ if moved => Ending::Moved,
            MoveStep::Aborted(AbortReason::Stalled) => Ending::Stalled,
            _ => Ending::Aborted,
        },
        reason,
    }
}

impl std::fmt::Display for EndedMove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, target, slots, .. } = self;
        match (self.ended, &self.reason) {
            (Ending::Moved, _) => write!(f, "{slots} slots are in store {target}"),
            (Ending::Stalled | Ending::Aborted, Some(reason)) => {
                write!(f, "{slots} slots stay in store {source}: {reason}")
            }
            (Ending::Stalled | Ending::Aborted, None) => write!(f, "{slots} slots stay in store {source}"),
        }
    }
}

#[derive(Debug, Serialize)]
struct MoveLine {
    #[serde(rename = "move")]
    id: MoveId,
    source: StoreId,
    target: StoreId,
    slots: usize,
    step: String,
    /// Absent where the leader does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<MoveProgress>,
}

/// The moves that are under way.
pub async fn list(config: &Config, args: &OutputArgs) -> anyhow::Result<()> {
    let (map, progress) =
        with_nodes(config, async |nodes| Ok((nodes.newest_map().await?, nodes.moves().await.unwrap_or_default())))
            .await?;
    let of_move = |id: MoveId| progress.iter().find(|it| it.id == id);
    if args.json {
        let lines: Vec<MoveLine> = map
            .moves()
            .map(|(id, entry)| MoveLine {
                id,
                source: entry.source,
                target: entry.target,
                slots: entry.slots.len(),
                step: entry.step.to_string(),
                progress: of_move(id).cloned(),
            })
            .collect();
        let json = serde_json::to_string_pretty(&lines)?;
        return output::print(|out| writeln!(out, "{json}"));
    }
    output::print(|out| {
        if map.moves().len() == 0 {
            return writeln!(out, "no slots are moving");
        }
        map.moves().try_for_each(|(id, entry)| writeln!(out, "{}", status_line(id, entry, of_move(id))))
    })
}

pub async fn abort(config: &Config, args: &AbortArgs) -> anyhow::Result<()> {
    let id = MoveId::new(args.id);
    with_nodes(config, async |nodes| {
        nodes.propose(Change::AbortMove { id, reason: AbortReason::Operator }).await?;
        output::print(|out| writeln!(out, "move {id} is aborted: what was made in its target is removed"))
    })
    .await
}

fn status_line(id: MoveId, entry: &MoveEntry, progress: Option<&MoveProgress>) -> String {
    let head = format!("move {id}  store {} to {}  {} slots", entry.source, entry.target, entry.slots.len());
    let Some(it) = progress else { return format!("{head}  {}", entry.step) };
    let mut line = match it.stage {
        MoveStage::Copying => {
            let part = it.bytes as f64 / it.bytes_total.max(1) as f64;
            let left = it.left_ms.map_or_else(String::new, |ms| format!("  {} left", seconds(ms)));
            let (done, all) = (size(it.bytes), size(it.bytes_total));
            format!("{head}  {} {done} of {all}, {} rows{left}", bar(part), it.rows)
        }
        MoveStage::CatchingUp => {
            let lag = it.lag_bytes.map_or_else(|| "unknown".to_owned(), size);
            format!("{head}  {} catching up, lag {lag}", bar(1.0))
        }
        MoveStage::Comparing => format!("{head}  {} comparing, {} slots done", bar(1.0), it.slots_compared),
        stage => format!("{head}  {stage}"),
    };
    line.push_str(&format!("  {}", seconds(it.elapsed_ms)));
    if let Some(error) = &it.error {
        line.push_str(&format!("  ! {error}"));
    }
    line
}

fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e6 => format!("{:.0} kB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.2} GB", bytes / 1e9),
    }
}

fn seconds(ms: u64) -> String {
    match ms / 1_000 {
        s if s < 120 => format!("{s} s"),
        s => format!("{} min {:02} s", s / 60, s % 60),
    }
}

/// `3,17,40-47`
pub fn parse_slots(text: &str) -> anyhow::Result<BTreeSet<Slot>> {
    let number = |text: &str| -> anyhow::Result<u16> {
        text.trim().parse().map_err(|_| anyhow::anyhow!("{text:?} is no slot: want them as 3,17,40-47"))
    };
    let mut slots = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        ensure!(first <= last, "{part:?} is no range of slots");
        slots.extend((first..=last).map(Slot::new));
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_named_one_by_one_and_in_ranges() {
        let numbers =
            |text: &str| parse_slots(text).map(|slots| slots.iter().map(|slot| slot.get()).collect::<Vec<_>>());
        assert_eq!(numbers("3, 17,40-42,41").unwrap(), [3, 17, 40, 41, 42]);
        for bad in ["", "a", "3,", "5-3", "1-", "70000"] {
            assert!(numbers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_copy_is_shown_with_its_part_and_its_pace() {
        let mut progress = MoveProgress::new(MoveId::new(7));
        (progress.stage, progress.bytes, progress.bytes_total) = (MoveStage::Copying, 3_000_000, 12_000_000);
        (progress.rows, progress.elapsed_ms, progress.left_ms) = (20_000, 2_000, Some(6_000));
        let entry = MoveEntry {
            source: StoreId::new(1),
            target: StoreId::new(2),
            slots: [Slot::new(3)].into(),
            step: MoveStep::Copying,
        };
        assert_eq!(
            status_line(MoveId::new(7), &entry, Some(&progress)),
            "move 7  store 1 to 2  1 slots  [######..................] 3.0 MB of 12.0 MB, 20000 rows  6 s left  2 s"
        );
    }
}
