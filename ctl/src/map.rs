//! `tertuliactl map`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;
use tertulia_runtime::config::Config;
use tertulia_shard_map::{NodeId, ShardMap, StoreId};

use crate::{OutputArgs, hot::map_and_rates, nodes::Nodes, output};

#[derive(Debug, Serialize)]
struct SlotLine {
    slot: u16,
    store: StoreId,
    owner: Option<NodeId>,
    epoch: u64,
    /// Absent where no node says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    events_per_s: Option<f64>,
}

pub async fn run(config: &Config, args: &OutputArgs) -> anyhow::Result<()> {
    let nodes = Nodes::connect(config)?;
    let known = map_and_rates(&nodes).await;
    nodes.close().await;
    let (map, rates) = known?;
    let lines: Vec<SlotLine> = map
        .slots()
        .map(|(slot, entry)| SlotLine {
            slot: slot.get(),
            store: entry.store,
            owner: entry.owner,
            epoch: entry.epoch.get(),
            events_per_s: rates.get(&slot).copied().map(output::rounded),
        })
        .collect();
    if args.json {
        let value = serde_json::json!({ "cluster": map.cluster(), "version": map.version(), "slots": lines });
        output::print(|out| writeln!(out, "{value:#}"))
    } else {
        output::print(|out| write_text(out, &map, &lines))
    }
}

fn write_text(out: &mut dyn Write, map: &ShardMap, lines: &[SlotLine]) -> io::Result<()> {
    writeln!(out, "cluster {}   version {}   {} slots", map.cluster(), map.version(), lines.len())?;
    // Neighbours that are alike share a line.
    let mut first = 0;
    for (index, line) in lines.iter().enumerate() {
        let alike = |next: &SlotLine| (next.store, next.owner, next.epoch) == (line.store, line.owner, line.epoch);
        if lines.get(index + 1).is_some_and(alike) {
            continue;
        }
        let range = if first == index { format!("{index}") } else { format!("{first}-{index}") };
        let owner = line.owner.map_or_else(|| "nobody".to_owned(), |node| format!("node-{node}"));
        // Of a range of which nobody says anything nothing is known: that is not 0.
        let known: Vec<f64> = lines[first..=index].iter().filter_map(|line| line.events_per_s).collect();
        let events = if known.is_empty() { "-".to_owned() } else { format!("{:.1}", known.iter().sum::<f64>()) };
        let (store, epoch) = (line.store, line.epoch);
        writeln!(out, "{range:>12}   {owner:<10} store {store:<6} epoch {epoch:<6} {events:>9} events/s")?;
        first = index + 1;
    }
    let mut owned: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
    for line in lines {
        *owned.entry(line.owner).or_default() += 1;
    }
    for (owner, count) in owned {
        let owner = owner.map_or_else(|| "nobody".to_owned(), |node| format!("node-{node}"));
        writeln!(out, "{owner} owns {count}")?;
    }
    Ok(())
}
