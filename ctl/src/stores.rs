//! `tertuliactl store`: which stores take part, and how many slots each should have. The command says what is wanted;
//! `tertuliactl rebalance` moves the slots.

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use tertulia_runtime::config::Config;
use tertulia_shard_map::{Change, NewStore, StoreId, StoreState, Weight};

use crate::{
    membership::{confirm, parse_weight, with_nodes},
    moves::all_know_the_store,
    output,
};

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Add a store that is in the configuration of every process; it gets slots by tertuliactl rebalance
    Add(StoreArgs),
    /// Give a store no more slots; tertuliactl rebalance then empties it
    Drain(DrainArgs),
    /// Give a store a larger or smaller share of the slots
    Weight(WeightArgs),
    /// Remove an empty store for good
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Its number
    store: u32,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Its number
    store: u32,
    /// Let it have slots again
    #[arg(long)]
    undo: bool,
}

#[derive(Debug, Args)]
pub struct WeightArgs {
    /// Its number
    store: u32,
    /// Its share of the slots relative to the other stores: 0.01 to 16
    #[arg(value_parser = parse_weight)]
    weight: Weight,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Its number
    store: u32,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub async fn run(config: &Config, command: &StoreCommand) -> anyhow::Result<()> {
    with_nodes(config, async |nodes| match command {
        StoreCommand::Add(args) => {
            let id = StoreId::new(args.store);
            let entry = config.stores.get(&id).with_context(|| format!("the configuration has no [stores.{id}]"))?;
            all_know_the_store(nodes, &*nodes.newest_map().await?, id).await?;
            let store = NewStore { id, name: entry.name.clone(), weight: entry.weight };
            nodes.propose(Change::AddStore(store)).await?;
            done(&format!("store {id} takes part; tertuliactl rebalance gives it its share of the slots"))
        }
        StoreCommand::Drain(args) => {
            let id = StoreId::new(args.store);
            let state = if args.undo { StoreState::Active } else { StoreState::Draining };
            nodes.propose(Change::SetStoreState { store: id, state }).await?;
            let held = nodes.newest_map().await?.held_by(id).count();
            done(&match state {
                StoreState::Active => format!("store {id} has {held} slots, and may get more"),
                StoreState::Draining => format!("store {id} has {held} slots; tertuliactl rebalance moves them away"),
            })
        }
        StoreCommand::Weight(args) => {
            let id = StoreId::new(args.store);
            nodes.propose(Change::SetStoreWeight { store: id, weight: args.weight }).await?;
            done("see tertuliactl plan; tertuliactl rebalance moves the slots")
        }
        StoreCommand::Remove(args) => {
            let id = StoreId::new(args.store);
            let map = nodes.newest_map().await?;
            ensure!(map.store(id).is_some(), "the cluster has no store {id}");
            let held = map.held_by(id).count();
            ensure!(held == 0, "store {id} has {held} slots: first tertuliactl store drain {id}, then rebalance");
            if !args.yes {
                confirm(&format!("Store {id} leaves the cluster for good: its id is never used again."))?;
            }
            nodes.propose(Change::RemoveStore { store: id }).await?;
            done(&format!("store {id} is removed: take it out of the configuration, then stop it"))
        }
    })
    .await
}

fn done(line: &str) -> anyhow::Result<()> {
    output::print(|out| writeln!(out, "{line}"))
}
