//! `tertuliactl`: the operator's command.
//!
//! It speaks the cluster protocol as `operator`, so it needs that certificate; development keys and tokens it makes
//! itself. Results go to standard output, complaints to standard error; with `--json`, results are for programs.
//!
//! Exit codes: 0 done, and all is well; 1 failed, or something is not well; 2 wrong arguments or configuration; 3, of `verify`
//! alone, nothing is found wrong, but not everything could be read.

mod api_key;
mod endpoints;
mod hot;
mod init;
mod map;
mod members;
mod membership;
mod moves;
mod nodes;
mod output;
mod progress;
mod status;
mod stores;
mod token;
mod top;
mod verify;

use std::{path::Path, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use tertulia_runtime::{PeerName, cli, cli::ConfigArgs, config::Config, pki::DevPki};

const BINARY: &str = "tertuliactl";
const ABOUT: &str = "Operates a Tertulia cluster";

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a cluster of the configured nodes and stores, once; waits until the nodes can be reached
    Init(init::InitArgs),
    /// What each node says of itself; exit code 1 where something is not well
    Status(OutputArgs),
    /// The cluster as it is, each second: nodes, stores, moves, and the busiest slots
    Top(top::TopArgs),
    /// Which node owns each slot, and which store holds it
    Map(OutputArgs),
    /// The nodes: what each owns, and whether it answers
    Nodes(OutputArgs),
    /// The stores: what each holds, and who is at home there
    Stores(OutputArgs),
    /// Which slots should move or change owner, and why; exit code 1 where some should
    Plan(OutputArgs),
    /// Add a node that is in the configuration and runs, and wait until it has its share of the slots
    Join(membership::JoinArgs),
    /// Take all slots from a node, and give it no others
    Drain(membership::DrainArgs),
    /// Give a node a larger or smaller share of the slots
    Weight(membership::WeightArgs),
    /// Remove a drained node for good
    Remove(membership::RemoveArgs),
    /// Add, drain, weigh or remove a store
    #[command(subcommand)]
    Store(stores::StoreCommand),
    /// Move slots to another store, while they are served; exit code 1 where that was aborted
    Move(moves::MoveArgs),
    /// Move between stores what the plan says, some slots at a time; exit code 1 where that was aborted
    Rebalance(moves::RebalanceArgs),
    /// The moves that are under way, and how far they are
    Moves(OutputArgs),
    /// Abort a move that is not flipped yet: its slots stay where they are
    Abort(moves::AbortArgs),
    /// Hold the invariants against what the stores hold, reading only; exit code 1 where one is violated, 3 where not
    /// everything could be read
    Verify(verify::VerifyArgs),
    /// Who agrees on the shard map
    #[command(subcommand)]
    Raft(members::RaftCommand),
    /// Make a development authority, certificates for every process of the configuration, and token keys
    Pki,
    /// Print a token for a development user
    Token(token::TokenArgs),
    /// Make an API key for the app's back end: prints the key, this once, and the line of configuration that admits it
    ApiKey(api_key::ApiKeyArgs),
    /// Print where every process of the configuration listens, one a line, for scripts
    Endpoints,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = match cli::parse::<Arguments>(BINARY, ABOUT) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    cli::block_on(BINARY, 1, async move {
        let config = arguments.config.load()?;
        run(arguments.command, &config).await
    })
}

async fn run(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init(args) => init::run(config, &args).await?,
        Command::Status(output) => return status::run(config, &output).await,
        Command::Top(args) => top::run(config, &args).await?,
        Command::Map(output) => map::run(config, &output).await?,
        Command::Nodes(output) => members::nodes(config, &output).await?,
        Command::Stores(output) => members::stores(config, &output).await?,
        Command::Plan(output) => return members::plan_of(config, &output).await,
        Command::Join(args) => membership::join(config, &args).await?,
        Command::Drain(args) => membership::drain(config, &args).await?,
        Command::Weight(args) => membership::weigh(config, &args).await?,
        Command::Remove(args) => membership::remove(config, &args).await?,
        Command::Store(command) => stores::run(config, &command).await?,
        Command::Move(args) => return moves::move_slots(config, &args).await,
        Command::Rebalance(args) => return moves::rebalance(config, &args).await,
        Command::Moves(output) => moves::list(config, &output).await?,
        Command::Abort(args) => moves::abort(config, &args).await?,
        Command::Verify(args) => return verify::run(config, &args).await,
        Command::Raft(command) => return members::raft(config, &command).await,
        Command::Pki => make_pki(config)?,
        Command::Token(args) => {
            let token = token::mint(config, &args)?;
            output::print(|out| writeln!(out, "{token}"))?;
        }
        Command::ApiKey(args) => {
            let text = api_key::make(&args);
            output::print(|out| out.write_all(text.as_bytes()))?;
        }
        Command::Endpoints => {
            let text = endpoints::text(config)?;
            output::print(|out| out.write_all(text.as_bytes()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn make_pki(config: &Config) -> anyhow::Result<()> {
    let nodes = config.nodes.keys().map(|id| PeerName::Node(*id));
    let routers = config.routers.keys().map(|id| PeerName::Router(*id));
    let dir: &Path = &config.tls.dir;
    DevPki::create(dir, nodes.chain(routers).chain([PeerName::Operator]))?;
    output::print(|out| writeln!(out, "certificates and keys are in {}", dir.display()))
}
