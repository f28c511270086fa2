//! Moves of slots between stores, which faults meet.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tertulia_test_support::Member;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    run::{HEAL_POLL, Run},
    schedule::STORES,
};

/// A move that is aborted is cleaned up once its stores are back.
const MOVES_PATIENCE: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// The slots of a node begin to move to the store that has fewer.
    pub async fn begin_move(&self, node: Member) -> anyhow::Result<Child> {
        let Member::Node(id) = node else { bail!("{node} has no slots") };
        let slots: Vec<String> = self.slots_of(id).await?.iter().map(ToString::to_string).collect();
        let mut held = Vec::new();
        for store in 1..=STORES {
            let rows = self.cluster.sql(store).await;
            let count = rows.query_one("SELECT count(*) FROM slot_fence WHERE node <> 0", &[]).await?;
            held.push((count.try_get::<_, i64>(0)?, store));
        }
        let to = held.iter().min().map_or(1, |(_, store)| *store).to_string();
        let mut command = self.cluster.binary("tertuliactl");
        // One that has none has nothing to move.
        let slots = if slots.is_empty() { "0".to_owned() } else { slots.join(",") };
        command.args(["move", &slots, "--to", &to, "--wait", "60"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("tertuliactl starts")
    }

    /// Waits until the move has ended, however: it may have been aborted, and the command may have found nobody to ask.
    pub async fn end_move(&mut self, mut command: Child) -> anyhow::Result<()> {
        while command.try_wait().context("tertuliactl")?.is_none() {
            sleep(HEAL_POLL).await;
        }
        let start = Instant::now();
        loop {
            let mut asked = self.cluster.binary("tertuliactl");
            asked.args(["moves", "--json"]).stderr(Stdio::null());
            // Not here: the people would wait.
            let told = spawn_blocking(move || asked.output()).await?.context("tertuliactl starts")?;
            if told.status.success() && serde_json::from_slice::<Vec<serde_json::Value>>(&told.stdout)?.is_empty() {
                return Ok(());
            }
            if start.elapsed() > MOVES_PATIENCE {
                let left = String::from_utf8_lossy(&told.stdout);
                self.observed.complaints.push(format!("moves do not end: {left}"));
                return Ok(());
            }
            sleep(HEAL_POLL).await;
        }
    }
}
