//! Idle sessions: what each costs in memory, and whether it stays.

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt, stream};
use tertulia_wire::client::{Outbound, Push};

use tertulia_bench::{
    connection::{Session, SignIn},
    processes::{Kind, Processes},
};

use crate::{Options, report::IdleReport};

const OPENING_AT_ONCE: usize = 64;
/// Files that are not sessions.
const FILES_KEPT_FREE: u64 = 64;
/// Memory is read once it has not moved for this long, or after the limit.
const SETTLE: Duration = Duration::from_secs(2);
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// Growth that still counts as settled.
const SETTLED_KIB: u64 = 256;

pub async fn run(options: &Options, sessions: u32) -> anyhow::Result<IdleReport> {
    let limit = open_files_limit()?.saturating_sub(FILES_KEPT_FREE);
    ensure!(
        u64::from(sessions) <= limit,
        "this process may open {limit} sessions only (the limit of open files): raise it with ulimit -n"
    );
    let processes = Processes::find(&options.data)?;
    let routers: &[SocketAddr] = if options.all_routers { &options.routers } else { &options.routers[..1] };
    let run: u32 = rand::random();
    let format = options.format.format();

    let mut sign_in = SignIn::connect(routers[0]).await?;
    let mut users = Vec::new();
    for user in 0..sessions {
        users.push((routers[user as usize % routers.len()], sign_in.sign_in(&format!("idle-{run:08x}-{user}")).await?));
    }
    drop(sign_in);
    let (router_before, node_before) = settled(&processes).await?;

    let connected = Rc::new(Cell::new(0_u32));
    let mut errors = 0;
    let mut opening = stream::iter(&users)
        .map(|(router, user)| Session::open(*router, format, user))
        .buffer_unordered(OPENING_AT_ONCE);
    let began = Instant::now();
    while let Some(session) = opening.next().await {
        match session {
            Ok(session) => {
                connected.set(connected.get() + 1);
                tokio::task::spawn_local(hold(session, connected.clone()));
            }
            Err(error) => {
                errors += 1;
                if errors <= 5 {
                    eprintln!("fault: {error:#}");
                }
            }
        }
    }
    drop(opening);
    let opened_in = began.elapsed();
    let opened = connected.get();
    ensure!(opened > 0, "not one session could be opened");
    let (router_after, node_after) = settled(&processes).await?;
    tokio::time::sleep(options.duration()).await;

    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(opened);
    Ok(IdleReport {
        sessions,
        opened,
        still_connected: connected.get(),
        errors,
        opened_per_s: f64::from(opened) / opened_in.as_secs_f64(),
        router_kb_per_session: each(router_before, router_after),
        node_kb_per_session: each(node_before, node_after),
    })
}

/// Answers pings until the router ends the session.
async fn hold(mut session: Session, connected: Rc<Cell<u32>>) {
    while let Ok(frame) = session.receive().await {
        if frame.iter().any(|outbound| matches!(outbound, Outbound::Push(Push::GoAway(_)))) {
            break;
        }
    }
    connected.set(connected.get() - 1);
}

/// Memory of routers and nodes, in KiB, once it does not move any more.
async fn settled(processes: &Processes) -> anyhow::Result<(u64, u64)> {
    let read = || anyhow::Ok((processes.resident_kib(Kind::Router)?, processes.resident_kib(Kind::Node)?));
    let began = Instant::now();
    let mut last = read()?;
    loop {
        tokio::time::sleep(SETTLE).await;
        let now = read()?;
        let still = now.0.abs_diff(last.0) <= SETTLED_KIB && now.1.abs_diff(last.1) <= SETTLED_KIB;
        if still || began.elapsed() > SETTLE_LIMIT {
            return Ok(now);
        }
        last = now;
    }
}

fn open_files_limit() -> anyhow::Result<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").context("cannot read my own limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit of open files")?;
    let soft = line.split_whitespace().nth(3).unwrap_or("unlimited");
    Ok(soft.parse().unwrap_or(u64::MAX))
}
