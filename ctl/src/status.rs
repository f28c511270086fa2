//! `tertuliactl status`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use tertulia_runtime::config::Config;
use tertulia_shard_map::{ClusterId, NodeId};
use tertulia_wire::cluster::NodeStatus;

use crate::{OutputArgs, nodes::Nodes, output};

#[derive(Debug, Serialize)]
struct Report {
    healthy: bool,
    cluster: Option<ClusterId>,
    nodes: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    node: NodeId,
    /// Why the node did not answer; the rest is absent then.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    state: Option<State>,
}

#[derive(Debug, Serialize)]
struct State {
    role: &'static str,
    term: u64,
    map_version: u64,
    slots_owned: u32,
    slots_serving: u32,
    sessions: u64,
}

pub async fn run(config: &Config, args: &OutputArgs) -> anyhow::Result<ExitCode> {
    let nodes = Nodes::connect(config)?;
    let statuses = nodes.statuses().await;
    nodes.close().await;

    let cluster = statuses.iter().find_map(|(_, status)| status.as_ref().ok()?.cluster);
    let healthy = statuses.iter().all(|(_, status)| status.as_ref().is_ok_and(is_healthy));
    let lines = statuses.into_iter().map(|(node, status)| match status {
        Ok(status) => Line { node, error: None, state: Some(state(&status)) },
        Err(error) => Line { node, error: Some(error.to_string()), state: None },
    });
    let report = Report { healthy, cluster, nodes: lines.collect() };
    if args.json {
        let text = serde_json::to_string_pretty(&report)?;
        output::print(|out| writeln!(out, "{text}"))?;
    } else {
        output::print(|out| write_text(out, &report))?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Part of a cluster that has a leader, and serving all that it owns.
fn is_healthy(status: &NodeStatus) -> bool {
    status.cluster.is_some() && status.raft_leader.is_some() && status.slots_serving == status.slots_owned
}

fn state(status: &NodeStatus) -> State {
    let role = match (status.cluster, status.raft_leader) {
        (None, _) => "uninitialised",
        (_, None) => "no leader",
        (_, Some(leader)) if leader == status.node => "leader",
        (_, Some(_)) => "follower",
    };
    State {
        role,
        term: status.raft_term,
        map_version: status.map_version.get(),
        slots_owned: status.slots_owned,
        slots_serving: status.slots_serving,
        sessions: status.sessions,
    }
}

fn write_text(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    match report.cluster {
        Some(cluster) => writeln!(out, "cluster {cluster}")?,
        None => writeln!(out, "not initialised")?,
    }
    writeln!(
        out,
        "{:<8} {:<14} {:>6} {:>6} {:>6} {:>8} {:>9}",
        "node", "role", "term", "map", "owned", "serving", "sessions"
    )?;
    for line in &report.nodes {
        match (&line.state, &line.error) {
            (Some(state), _) => writeln!(
                out,
                "{:<8} {:<14} {:>6} {:>6} {:>6} {:>8} {:>9}",
                line.node,
                state.role,
                state.term,
                state.map_version,
                state.slots_owned,
                state.slots_serving,
                state.sessions
            )?,
            (None, error) => writeln!(out, "{:<8} {}", line.node, error.as_deref().unwrap_or("unknown"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::MapVersion;

    use super::*;

    fn status() -> NodeStatus {
        NodeStatus {
            node: NodeId::new(1),
            cluster: Some(ClusterId::from_u128(7)),
            raft_leader: Some(NodeId::new(1)),
            raft_term: 3,
            raft_applied: 9,
            raft_members: Vec::new(),
            map_version: MapVersion::new(4),
            slots_owned: 10,
            slots_serving: 10,
            sessions: 0,
        }
    }

    #[test]
    fn a_node_is_healthy_where_it_has_a_leader_and_serves_what_it_owns() {
        assert!(is_healthy(&status()));
        assert!(!is_healthy(&NodeStatus { cluster: None, ..status() }));
        assert!(!is_healthy(&NodeStatus { raft_leader: None, ..status() }));
        assert!(!is_healthy(&NodeStatus { slots_serving: 9, ..status() }));
    }

    #[test]
    fn json_of_a_node_that_is_away_has_an_error_and_no_state() {
        let away = Line { node: NodeId::new(2), error: Some("gone".into()), state: None };
        assert_eq!(serde_json::to_string(&away).unwrap(), r#"{"node":2,"error":"gone"}"#);
        let there = Line { node: NodeId::new(1), error: None, state: Some(state(&status())) };
        assert_eq!(
            serde_json::to_string(&there).unwrap(),
            r#"{"node":1,"role":"leader","term":3,"map_version":4,"slots_owned":10,"slots_serving":10,"sessions":0}"#
        );
    }
}
