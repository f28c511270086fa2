//! `tertuliactl join`, `drain`, `weight` and `remove`: which nodes own slots, and how many. The command says what is wanted; the
//! cluster's controller moves the slots, and the command watches it do so.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tertulia_runtime::config::Config;
use tertulia_shard_map::{Change, NewNode, NodeId, NodeState, ShardMap, Weight, plan};
use tertulia_wire::cluster::MembershipChange;
use tokio::time::{Instant, sleep};

use crate::{nodes::Nodes, output};

const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// `node-2` or `2`.
pub fn parse_node(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix("node-").unwrap_or(text);
    number.parse().map(NodeId::new).map_err(|_| "want a node, as node-2 or 2".to_owned())
}

pub fn parse_weight(text: &str) -> Result<Weight, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Weight::try_from(number).map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
pub struct Watching {
    /// Only say what is wanted: do not wait until the slots have moved
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for that
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait: u64,
}

#[derive(Debug, Args)]
pub struct JoinArgs {
    /// It must be in the configuration, here and of every process, and run
    #[arg(value_parser = parse_node)]
    node: NodeId,
    #[command(flatten)]
    watching: Watching,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// Let it own slots again
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    watching: Watching,
}

#[derive(Debug, Args)]
pub struct WeightArgs {
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// Its share of the slots relative to the other nodes: 0.01 to 16
    #[arg(value_parser = parse_weight)]
    weight: Weight,
    #[command(flatten)]
    watching: Watching,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub async fn join(config: &Config, args: &JoinArgs) -> anyhow::Result<()> {
    let id = args.node;
    let entry = config.nodes.get(&id).with_context(|| format!("the configuration has no [nodes.{id}]"))?;
    let address = entry.cluster_address.to_string();
    with_nodes(config, async |nodes| {
        let map = nodes.newest_map().await?;
        if map.node(id).is_none() {
            let node = NewNode { id, address: address.clone(), home_store: entry.home_store, weight: entry.weight };
            nodes.propose(Change::AddNode(node)).await?;
        }
        // It starts with the first map that it gets, which is by Raft.
        nodes.change_membership(MembershipChange::Add { node: id, address: address.clone() }).await?;
        say(&format!("node-{id} takes part in Raft"));
        until_balanced(nodes, &args.watching, id).await
    })
    .await
}

pub async fn drain(config: &Config, args: &DrainArgs) -> anyhow::Result<()> {
    let state = if args.undo { NodeState::Active } else { NodeState::Draining };
    with_nodes(config, async |nodes| {
        nodes.propose(Change::SetNodeState { node: args.node, state }).await?;
        until_balanced(nodes, &args.watching, args.node).await
    })
    .await
}

pub async fn weigh(config: &Config, args: &WeightArgs) -> anyhow::Result<()> {
    with_nodes(config, async |nodes| {
        nodes.propose(Change::SetNodeWeight { node: args.node, weight: args.weight }).await?;
        until_balanced(nodes, &args.watching, args.node).await
    })
    .await
}

pub async fn remove(config: &Config, args: &RemoveArgs) -> anyhow::Result<()> {
    let id = args.node;
    with_nodes(config, async |nodes| {
        let map = nodes.newest_map().await?;
        ensure!(map.node(id).is_some(), "the cluster has no node-{id}");
        let owned = map.owned_by(id).count();
        ensure!(owned == 0, "node-{id} owns {owned} slots: first tertuliactl drain node-{id}");
        if !args.yes {
            confirm(&format!("node-{id} leaves the cluster for good: its id is never used again."))?;
        }
        nodes.change_membership(MembershipChange::Remove { node: id }).await?;
        nodes.propose(Change::RemoveNode { node: id }).await?;
        output::print(|out| writeln!(out, "node-{id} is removed: stop it, and take it out of the configuration"))
    })
    .await
}

pub async fn with_nodes<T>(config: &Config, work: impl AsyncFnOnce(&Nodes) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let nodes = Nodes::connect(config)?;
    let outcome = work(&nodes).await;
    nodes.close().await;
    outcome
}

/// Watches the controller until every slot has the owner it should have.
async fn until_balanced(nodes: &Nodes, watching: &Watching, node: NodeId) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(watching.wait);
    let mut told = String::new();
    loop {
        let map = nodes.newest_map().await?;
        let progress = progress(&map, node);
        if progress != told {
            say(&progress);
            told = progress;
        }
        // A node that is joining owns nothing before it has started.
        let has_started = map.node(node).is_some_and(|entry| entry.incarnation.get() > 0);
        if watching.no_wait || has_started && plan(&map).owner_changes.is_empty() {
            let owned = map.owned_by(node).count();
            return output::print(|out| writeln!(out, "node-{node} owns {owned} slots"));
        }
        if Instant::now() > deadline {
            bail!("after {} s: {told}; the controller goes on", watching.wait);
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn progress(map: &ShardMap, node: NodeId) -> String {
    let (owned, left) = (map.owned_by(node).count(), plan(map).owner_changes.len());
    format!("node-{node} owns {owned} slots, {left} are still to change hands")
}

/// To whoever watches; the result goes to standard output.
fn say(line: &str) {
    eprintln!("{line}");
}

pub fn confirm(what: &str) -> anyhow::Result<()> {
    ensure!(io::stdin().is_terminal(), "{what} Say --yes where nobody can be asked");
    eprint!("{what} Type yes: ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    ensure!(answer.trim() == "yes", "nothing was changed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_in_full_or_by_its_number() {
        assert_eq!(parse_node("node-2"), Ok(NodeId::new(2)));
        assert_eq!(parse_node("2"), Ok(NodeId::new(2)));
        for bad in ["", "node-", "router-1", "-1", "two"] {
            assert!(parse_node(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_weight_is_within_its_bounds() {
        assert!(parse_weight("0.5").is_ok());
        for bad in ["", "heavy", "0", "-1", "17"] {
            assert!(parse_weight(bad).is_err(), "{bad}");
        }
    }
}
