//! `tertuliactl top`: the cluster as it is, each second: on a terminal, or as JSON for programs.

mod draw;
mod observe;
mod screen;

use std::{
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    time::Duration,
};

use clap::Args;
use tertulia_runtime::config::Config;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use self::{
    draw::{Paper, draw},
    observe::{View, observe},
    screen::Screen,
};
use crate::{nodes::Nodes, output};

const REFRESH: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print it once; so it is where standard output is no terminal
    #[arg(long)]
    once: bool,
    /// For programs: one JSON object a second, each on a line of its own
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Config, args: &TopArgs) -> anyhow::Result<()> {
    let nodes = Nodes::connect(config)?;
    let is_live = !args.once && (args.json || io::stdout().is_terminal());
    let outcome = if is_live { refresh(&nodes, args).await } else { once(&nodes, args).await };
    nodes.close().await;
    outcome
}

async fn once(nodes: &Nodes, args: &TopArgs) -> anyhow::Result<()> {
    let view = observe(nodes).await?;
    if args.json {
        return print_json(&view).map(drop);
    }
    let lines = draw(&view, Paper::Endless);
    output::print(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
}

/// Until a signal ends it, or the reader has seen enough.
async fn refresh(nodes: &Nodes, args: &TopArgs) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate, mut hang_up) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let showing = async {
        // Left when this ends, and where it is dropped.
        let screen = if args.json { None } else { Some(Screen::enter()?) };
        let mut tick = interval(REFRESH);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // A cluster that does not answer is one to go on looking at.
            let seen = observe(nodes).await;
            let went_on = match (&screen, seen) {
                (Some(screen), Ok(view)) => {
                    screen.show(&draw(&view, Paper::Screen { lines: screen.lines() })).map(ControlFlow::Continue)?
                }
                (Some(screen), Err(error)) => screen.show(&[format!("{error:#}")]).map(ControlFlow::Continue)?,
                (None, Ok(view)) => print_json(&view)?,
                (None, Err(error)) => {
                    eprintln!("{error:#}");
                    ControlFlow::Continue(())
                }
            };
            if went_on.is_break() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = showing => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    }
}

fn print_json(view: &View) -> anyhow::Result<ControlFlow<()>> {
    let json = serde_json::to_string(view)?;
    output::print_on(|out| writeln!(out, "{json}"))
}
