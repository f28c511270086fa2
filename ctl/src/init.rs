//! `tertuliactl init`: the explicit, once-only step that makes a cluster of freshly started nodes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use tertulia_runtime::{config::Config, rpc::CallError};
use tertulia_shard_map::{ClusterId, NodeId};
use tertulia_wire::cluster::{Answer, Call, NodeStatus};

use crate::{nodes::Nodes, output};

#[derive(Debug, Args)]
pub struct InitArgs {
    /// How long to wait for the nodes
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

/// The call waits for an election and for the first map to be applied.
const INITIALISE_LIMIT: Duration = Duration::from_secs(15);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(config: &Config, args: &InitArgs) -> anyhow::Result<()> {
    let nodes = Nodes::connect(config)?;
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let outcome = initialise(&nodes, deadline).await;
    nodes.close().await;
    let outcome = outcome?;
    output::print(|out| match outcome {
        Outcome::Made(cluster) => writeln!(out, "made cluster {cluster}"),
        Outcome::Existed(cluster) => writeln!(out, "already initialised, as cluster {cluster}: nothing to do"),
    })
}

enum Outcome {
    Made(ClusterId),
    Existed(ClusterId),
}

async fn initialise(nodes: &Nodes, deadline: Instant) -> anyhow::Result<Outcome> {
    let first = nodes.ids().next().context("the configuration has no nodes")?;
    let mut asked = false;
    loop {
        let problem = match survey(nodes).await {
            Survey::Initialised(cluster) if asked => return Ok(Outcome::Made(cluster)),
            Survey::Initialised(cluster) => return Ok(Outcome::Existed(cluster)),
            Survey::Away(node, error) => format!("node-{node}: {error}"),
            Survey::Empty => {
                asked = true;
                // Always the same node: two nodes asked at once could make two clusters.
                match nodes.call(first, Call::Initialise, INITIALISE_LIMIT).await {
                    Ok(Answer::Initialise { cluster }) => return Ok(Outcome::Made(cluster)),
                    Ok(_) => bail!("node-{first} gives an answer that is not one"),
                    Err(CallError::Refused(refusal)) if !refusal.is_transient() => {
                        bail!("node-{first} refuses: {refusal}")
                    }
                    Err(error) => format!("node-{first}: {error}"),
                }
            }
        };
        if Instant::now() >= deadline {
            bail!("gave up waiting: {problem}");
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

enum Survey {
    Initialised(ClusterId),
    /// Every node answers, and none has a cluster.
    Empty,
    /// A node does not answer. It could know of a cluster: none may be made without having asked it.
    Away(NodeId, CallError),
}

async fn survey(nodes: &Nodes) -> Survey {
    let statuses = nodes.statuses().await;
    let known =
        statuses.iter().find_map(|(_, status)| status.as_ref().ok().and_then(|status: &NodeStatus| status.cluster));
    if let Some(cluster) = known {
        return Survey::Initialised(cluster);
    }
    match statuses.into_iter().find_map(|(id, status)| Some((id, status.err()?))) {
        Some((id, error)) => Survey::Away(id, error),
        None => Survey::Empty,
    }
}
