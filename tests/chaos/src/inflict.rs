//! The faults themselves: each from its beginning to its end.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tertulia_test_support::{HoldBack, Hosts, Member, Sync};
use tokio::time::sleep;

use crate::{
    run::{HEAL_POLL, Run},
    schedule::{Kind, NODES, Planned},
};

/// Of packets, between any two hosts.
const LOSS: f64 = 0.05;
/// Of datagrams: those that others overtake, and those that come twice.
const OVERTAKEN: f64 = 0.2;
const DOUBLED: f64 = 0.1;
/// How late a datagram is.
const DELAY_MIN: Duration = Duration::from_millis(10);
const DELAY_MAX: Duration = Duration::from_millis(150);
const OVERTAKEN_MAX: Duration = Duration::from_millis(50);
/// How long a slow disk takes to sync. A node's log waits for each by itself, the commits of a store for several.
const NODE_SYNC_MIN: Duration = Duration::from_millis(50);
const NODE_SYNC_MAX: Duration = Duration::from_millis(1000);
const STORE_SYNC_MIN: Duration = Duration::from_millis(10);
const STORE_SYNC_MAX: Duration = Duration::from_millis(300);
/// From one change of the map to the next, while a disk is slow.
const MAP_CHANGE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a process goes on at most that was refused by its disk: a node drains what it serves.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);
/// In its log, of the task that has failed then.
const RAFT_FAILED: &str = r#""task":"raft""#;

impl Run<'_> {
    pub async fn inflict(&mut self, planned: Planned) -> anyhow::Result<()> {
        let Planned { kind, victim, other, hold, .. } = planned;
        let cluster = self.cluster;
        match kind {
            Kind::KillNode | Kind::KillRouter | Kind::KillRedis => {
                self.note_counters(victim).await;
                cluster.kill(victim);
                sleep(hold).await;
                cluster.start(victim);
            }
            Kind::KillNodeFreezeLanes => {
                self.note_counters(victim).await;
                let backends = self.lanes_of(victim).await?;
                signal("STOP", &backends);
                cluster.kill(victim);
                sleep(hold).await;
                signal("CONT", &backends);
                cluster.start(victim);
            }
            Kind::PauseNode => {
                cluster.pause(victim);
                sleep(hold).await;
                cluster.resume(victim);
            }
            Kind::RestartNode | Kind::RestartRouter => self.restart(victim).await,
            Kind::RollingRestart => {
                for node in (1..=NODES).map(Member::Node) {
                    self.restart(node).await;
                    self.heal().await;
                }
            }
            Kind::CrashPostgres => {
                cluster.crash(victim).await;
                sleep(hold).await;
                cluster.start(victim);
            }
            Kind::FlushRedis => cluster.flush_redis().await.context("Redis")?,
            Kind::CutOffNode
            | Kind::DeafenNode
            | Kind::MuteNode
            | Kind::PartNodes
            | Kind::PartRouter
            | Kind::PartStores
            | Kind::LosePackets => {
                let hosts = cluster.hosts().context("this fault wants each process on a host of its own")?;
                spoil(hosts, &cluster.members(), kind, victim, other);
                sleep(hold).await;
                hosts.mend();
            }
            Kind::MoveSlots => self.end_move(self.begin_move(victim).await?).await?,
            Kind::MoveSlotsKillNode => {
                let moving = self.begin_move(victim).await?;
                sleep(hold).await;
                self.note_counters(victim).await;
                cluster.kill(victim);
                sleep(hold).await;
                cluster.start(victim);
                self.end_move(moving).await?;
            }
            Kind::MoveSlotsCrashPostgres => {
                let moving = self.begin_move(victim).await?;
                sleep(hold).await;
                cluster.crash(Member::Postgres).await;
                cluster.start(Member::Postgres);
                self.end_move(moving).await?;
            }
            Kind::Delay | Kind::Reorder | Kind::Duplicate => self.hold_datagrams_back(planned).await?,
            Kind::DiskFull => {
                let disks = cluster.disks().context("this fault wants a disk for each store")?;
                disks.fill(planned.store);
                sleep(hold).await;
                disks.free(planned.store);
            }
            Kind::SlowFsyncNode => {
                let time = between(NODE_SYNC_MIN, NODE_SYNC_MAX, planned.severity);
                self.course.note(format!("each fsync takes {} ms more", time.as_millis()));
                let start = Instant::now();
                let strace = cluster.spoil_syncs(victim, Sync::Slow(time));
                while start.elapsed() < hold {
                    self.change_map(other).await;
                    sleep(MAP_CHANGE_INTERVAL).await;
                }
                drop(strace);
            }
            Kind::SlowFsyncStore => {
                let time = between(STORE_SYNC_MIN, STORE_SYNC_MAX, planned.severity);
                self.course.note(format!("each fsync takes {} ms more", time.as_millis()));
                let strace = cluster.spoil_syncs(victim, Sync::Slow(time));
                sleep(hold).await;
                drop(strace);
            }
            Kind::FailingFsyncNode => self.fail_syncs_of_node(planned).await,
            Kind::FailingFsyncStore => self.fail_syncs_of_postgres(victim).await,
        }
        Ok(())
    }

    async fn hold_datagrams_back(&mut self, planned: Planned) -> anyhow::Result<()> {
        let hosts = self.cluster.hosts().context("this fault wants each process on a host of its own")?;
        let late = between(DELAY_MIN, DELAY_MAX, planned.severity);
        let some = |share| HoldBack { share, least: Duration::ZERO, most: late.min(OVERTAKEN_MAX) };
        let how = match planned.kind {
            Kind::Delay => HoldBack::all(late),
            // What comes twice is held back, too: one of the two may be overtaken by what was sent after it.
            Kind::Duplicate => some(DOUBLED),
            _ => some(OVERTAKEN),
        };
        self.course.note(format!("{:.0} % of datagrams are up to {} ms late", 100.0 * how.share, how.most.as_millis()));
        let held = hosts.hold_back(how, planned.seed).context("the datagrams cannot be held back")?;
        if planned.kind == Kind::Duplicate {
            hosts.double(DOUBLED);
        }
        sleep(planned.hold).await;
        hosts.mend();
        drop(held);
        Ok(())
    }

    /// Until the node has ended by itself, as it must: what it has agreed to might be gone after a crash.
    async fn fail_syncs_of_node(&mut self, planned: Planned) {
        let (cluster, node) = (self.cluster, planned.victim);
        self.note_counters(node).await;
        let strace = cluster.spoil_syncs(node, Sync::Failing);
        let start = Instant::now();
        while cluster.is_running(node) && start.elapsed() < ENDS_WITHIN {
            if strace.spoilt() == 0 {
                self.change_map(planned.other).await;
            }
            sleep(HEAL_POLL).await;
        }
        let spoilt = strace.spoilt();
        drop(strace);
        if cluster.is_running(node) {
            self.observed.complaints.push(format!("{node} goes on, though its log failed to sync {spoilt} times"));
            cluster.kill(node);
        } else {
            self.course.note(format!("{node} has ended, {:.2} s after the fault", start.elapsed().as_secs_f64()));
        }
        let own = format!("{node}: ");
        let is_caused = |line: &String| line.starts_with(&own) && line.contains(RAFT_FAILED);
        self.caused.extend(cluster.errors().into_iter().filter(is_caused));
        sleep(planned.hold).await;
        cluster.start(node);
    }

    /// Until those who failed to sync have ended, and the server has recovered by itself.
    async fn fail_syncs_of_postgres(&mut self, postgres: Member) {
        let mut strace = self.cluster.spoil_syncs(postgres, Sync::Failing);
        let start = Instant::now();
        while !strace.has_ended() && start.elapsed() < ENDS_WITHIN {
            sleep(HEAL_POLL).await;
        }
        if !strace.has_ended() {
            let spoilt = strace.spoilt();
            self.observed.complaints.push(format!("{postgres} goes on, though it failed to sync {spoilt} times"));
        }
        drop(strace);
        // That is the disk's speed, for it syncs all its files first.
        let start = Instant::now();
        while !self.cluster.is_ready(postgres).await && start.elapsed() < RECOVERS_WITHIN {
            sleep(HEAL_POLL).await;
        }
        self.course.note(format!("{postgres} has recovered, {:.2} s later", start.elapsed().as_secs_f64()));
    }

    /// Has every node write to its log. The change is none, so that nothing moves.
    async fn change_map(&self, node: Member) {
        let mut ctl = self.cluster.binary("tertuliactl");
        ctl.args(["weight", &node.to_string(), "1", "--no-wait"]);
        // It may fail, as what it asks for meets the fault.
        let _ = tokio::task::spawn_blocking(move || ctl.output()).await;
    }

    async fn restart(&mut self, member: Member) {
        self.note_counters(member).await;
        if self.cluster.terminate_or_kill(member).await.is_none() {
            self.course.note(format!("{member} had to be killed"));
            self.observed.complaints.push(format!("{member} did not stop when it was asked to"));
        }
        self.cluster.start(member);
    }

    /// The backends in Postgres that write for the node.
    async fn lanes_of(&self, node: Member) -> anyhow::Result<Vec<i32>> {
        let writers = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1";
        let rows = self.cluster.sql(1).await.query(writers, &[&format!("tertulia {node} i% lane %")]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

fn between(least: Duration, most: Duration, severity: f64) -> Duration {
    least + (most - least).mul_f64(severity)
}

/// To processes that may have ended by then.
fn signal(name: &str, pids: &[i32]) {
    let mut command = Command::new("sh");
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    command.args(["-c", &format!("kill -{name} {}", pids.join(" "))]);
    let _ = command.stderr(Stdio::null()).status();
}

/// Has the network do what the fault is, until it is mended.
fn spoil(hosts: &Hosts, members: &[Member], kind: Kind, victim: Member, other: Member) {
    let others = || members.iter().copied().filter(|member| *member != victim);
    let part = |one, another| {
        hosts.cut(one, another);
        hosts.cut(another, one);
    };
    match kind {
        Kind::CutOffNode => others().for_each(|it| part(victim, it)),
        Kind::DeafenNode => others().for_each(|it| hosts.cut(it, victim)),
        Kind::MuteNode => others().for_each(|it| hosts.cut(victim, it)),
        Kind::PartNodes | Kind::PartRouter => part(victim, other),
        Kind::PartStores => part(victim, Member::Postgres),
        Kind::LosePackets => members.iter().for_each(|it| hosts.lose(*it, LOSS)),
        _ => {}
    }
}
