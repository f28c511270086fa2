//! `tertuliactl nodes`, `stores`, `plan` and `raft`: who there is, what each has, and what should change.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tertulia_runtime::config::Config;
use tertulia_shard_map::{NodeId, NodeState, Plan, ShardMap, StoreId, StoreState, plan};
use tertulia_wire::cluster::{MembershipChange, NodeStatus};

use crate::{
    OutputArgs,
    hot::{BusySlot, hot_slots, map_and_rates},
    membership::{confirm, parse_node, with_nodes},
    nodes::Nodes,
    output,
};

#[derive(Debug, Serialize)]
struct NodeLine {
    node: NodeId,
    address: String,
    state: &'static str,
    weight: f64,
    home_store: StoreId,
    /// Counts its starts; 0 where it has joined and never started.
    incarnation: u64,
    slots_owned: usize,
    /// Whether it answers this command.
    answers: bool,
}

#[derive(Debug, Serialize)]
struct StoreLine {
    store: StoreId,
    name: String,
    state: &'static str,
    weight: f64,
    slots: usize,
    /// The nodes that are at home there.
    nodes: Vec<NodeId>,
}

pub async fn nodes(config: &Config, args: &OutputArgs) -> anyhow::Result<()> {
    let nodes = Nodes::connect(config)?;
    let map = nodes.newest_map().await;
    let statuses = nodes.statuses().await;
    nodes.close().await;
    let map = map?;
    let answers = |node| statuses.iter().any(|(id, status)| *id == node && status.is_ok());
    let line = |(node, entry): (NodeId, &tertulia_shard_map::NodeEntry)| NodeLine {
        node,
        address: entry.address.clone(),
        state: match entry.state {
            NodeState::Active => "active",
            NodeState::Draining => "draining",
        },
        weight: entry.weight.as_f64(),
        home_store: entry.home_store,
        incarnation: entry.incarnation.get(),
        slots_owned: map.owned_by(node).count(),
        answers: answers(node),
    };
    let lines: Vec<NodeLine> = map.nodes().map(line).collect();
    print(args, &lines, |out| {
        writeln!(
            out,
            "{:<6} {:<24} {:<9} {:>6} {:>6} {:>7} {:>6}  answers",
            "node", "address", "state", "weight", "home", "starts", "slots"
        )?;
        lines.iter().try_for_each(|it| {
            writeln!(
                out,
                "{:<6} {:<24} {:<9} {:>6} {:>6} {:>7} {:>6}  {}",
                it.node,
                it.address,
                it.state,
                it.weight,
                it.home_store,
                it.incarnation,
                it.slots_owned,
                if it.answers { "yes" } else { "no" }
            )
        })
    })
}

pub async fn stores(config: &Config, args: &OutputArgs) -> anyhow::Result<()> {
    let map = newest_map(config).await?;
    let line = |(store, entry): (StoreId, &tertulia_shard_map::StoreEntry)| StoreLine {
        store,
        name: entry.name.clone(),
        state: match entry.state {
            StoreState::Active => "active",
            StoreState::Draining => "draining",
        },
        weight: entry.weight.as_f64(),
        slots: map.held_by(store).count(),
        nodes: map.nodes().filter(|(_, node)| node.home_store == store).map(|(id, _)| id).collect(),
    };
    let lines: Vec<StoreLine> = map.stores().map(line).collect();
    print(args, &lines, |out| {
        writeln!(out, "{:<6} {:<16} {:<9} {:>6} {:>6}  nodes", "store", "name", "state", "weight", "slots")?;
        lines.iter().try_for_each(|it| {
            let nodes: Vec<String> = it.nodes.iter().map(ToString::to_string).collect();
            let nodes = nodes.join(", ");
            writeln!(out, "{:<6} {:<16} {:<9} {:>6} {:>6}  {nodes}", it.store, it.name, it.state, it.weight, it.slots)
        })
    })
}

/// What should change; exit code 1 where something should.
pub async fn plan_of(config: &Config, args: &OutputArgs) -> anyhow::Result<ExitCode> {
    let nodes = Nodes::connect(config)?;
    let known = map_and_rates(&nodes).await;
    nodes.close().await;
    let (map, rates) = known?;
    let (planned, hot) = (plan(&map), hot_slots(&map, &rates));
    print(args, &as_json(&planned, &hot), |out| {
        writeln!(out, "{planned}")?;
        // The plan counts slots, not what goes on in them.
        hot.iter().try_for_each(|slot| writeln!(out, "{slot}"))
    })?;
    Ok(if planned.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(plan: &Plan, hot: &[BusySlot]) -> serde_json::Value {
    let moves = plan
        .store_moves
        .iter()
        .map(|it| json!({ "slot": it.slot, "from_store": it.from, "to_store": it.to, "then_owner": it.then_owner }));
    let changes = plan.owner_changes.iter().map(
        |it| json!({ "slot": it.change.slot, "from_node": it.from, "to_node": it.change.to, "why": it.to_string() }),
    );
    json!({
        "version": plan.version,
        "store_moves": moves.collect::<Vec<_>>(),
        "owner_changes": changes.collect::<Vec<_>>(),
        "hot_slots": hot,
    })
}

#[derive(Debug, Subcommand)]
pub enum RaftCommand {
    /// Who takes part, and how far each is; exit code 1 where a voter does not answer
    Members(OutputArgs),
    /// Give a node of the configuration a vote, which tertuliactl join does as well
    Add(RaftNodeArgs),
    /// Take its vote from a node, which tertuliactl remove does as well
    Remove(RaftRemoveArgs),
    /// Have the leader write a snapshot now
    Snapshot,
}

#[derive(Debug, Args)]
pub struct RaftNodeArgs {
    #[arg(value_parser = parse_node)]
    node: NodeId,
}

#[derive(Debug, Args)]
pub struct RaftRemoveArgs {
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct RaftLine {
    node: NodeId,
    address: String,
    votes: bool,
    leads: bool,
    /// Index of the last log entry that its map reflects; absent where it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<u64>,
}

pub async fn raft(config: &Config, command: &RaftCommand) -> anyhow::Result<ExitCode> {
    let (change, done) = match command {
        RaftCommand::Members(args) => return raft_members(config, args).await,
        RaftCommand::Add(RaftNodeArgs { node }) => {
            let entry = config.nodes.get(node).with_context(|| format!("the configuration has no [nodes.{node}]"))?;
            let address = entry.cluster_address.to_string();
            (MembershipChange::Add { node: *node, address }, format!("node-{node} has a vote"))
        }
        RaftCommand::Remove(RaftRemoveArgs { node, yes }) => {
            if !yes {
                confirm(&format!(
                    "node-{node} no longer votes: one node less has to be lost before nothing is agreed on."
                ))?;
            }
            (MembershipChange::Remove { node: *node }, format!("node-{node} has no vote"))
        }
        RaftCommand::Snapshot => (MembershipChange::Snapshot, "the leader writes a snapshot".to_owned()),
    };
    with_nodes(config, async |nodes| nodes.change_membership(change).await).await?;
    output::print(|out| writeln!(out, "{done}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn raft_members(config: &Config, args: &OutputArgs) -> anyhow::Result<ExitCode> {
    let nodes = Nodes::connect(config)?;
    let statuses = nodes.statuses().await;
    nodes.close().await;
    let answered: Vec<NodeStatus> = statuses.into_iter().filter_map(|(_, status)| status.ok()).collect();
    // Whoever has applied most knows the members best.
    let best = answered.iter().max_by_key(|status| status.raft_applied).context("no node answers")?;
    let lines: Vec<RaftLine> = best
        .raft_members
        .iter()
        .map(|member| RaftLine {
            node: member.node,
            address: member.address.clone(),
            votes: member.is_voter,
            leads: best.raft_leader == Some(member.node),
            applied: answered.iter().find(|status| status.node == member.node).map(|status| status.raft_applied),
        })
        .collect();
    print(args, &lines, |out| {
        writeln!(out, "{:<6} {:<24} {:<8} applied", "node", "address", "role")?;
        lines.iter().try_for_each(|it| {
            let role = match (it.leads, it.votes) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            let applied = it.applied.map_or_else(|| "does not answer".to_owned(), |index| index.to_string());
            writeln!(out, "{:<6} {:<24} {role:<8} {applied}", it.node, it.address)
        })
    })?;
    let is_well = lines.iter().all(|line| !line.votes || line.applied.is_some());
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn newest_map(config: &Config) -> anyhow::Result<Box<ShardMap>> {
    let nodes = Nodes::connect(config)?;
    let map = nodes.newest_map().await;
    nodes.close().await;
    map
}

fn print(
    args: &OutputArgs,
    value: &impl Serialize,
    text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    if args.json {
        let json = serde_json::to_string_pretty(value)?;
        output::print(|out| writeln!(out, "{json}"))
    } else {
        output::print(text)
    }
}
