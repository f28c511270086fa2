//! One run: the cluster, the people, the faults, the check.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tertulia_shard_map::{Slot, SlotCount};
use tertulia_soak::{
    chat::Chat,
    check,
    world::{Wait, World},
};
use tertulia_test_invariants::{Invariant, Violations};
use tertulia_test_support::{Cluster, Hosts, Member, target_folder};
use tokio::{
    task::{spawn_blocking, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    Options,
    course::Course,
    outage::{SlotWait, Window},
    report::{Happened, Observed, Report},
    schedule::{Effect, Kind, NODES, Planned, ROUTERS, Schedule},
};

const STORES: u32 = 2;
const SLOTS: u32 = 64;
/// Of packets, between any two hosts.
const LOSS: f64 = 0.05;
/// I9: everything serves so long after a fault has ended.
const HEAL_LIMIT: Duration = Duration::from_secs(10);
/// Without that, the run goes on for as long as the cluster may still become whole.
const HEAL_PATIENCE: Duration = Duration::from_secs(60);
/// Where everything serves, nobody waits longer for an answer.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);
const HEAL_POLL: Duration = Duration::from_millis(20);
/// A move that is aborted is cleaned up once its stores are back.
const MOVES_PATIENCE: Duration = Duration::from_secs(60);
/// How long a process that was just started or woken may take to answer a probe.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// A node that served all its slots is whole; with so many of them over all nodes the cluster is.
/// Acks that took this long are told of.
const WAIT_TOLD: Duration = Duration::from_millis(500);
const SERVING: &str = "tertulia_node_slots_serving";
const FENCED: &str = "tertulia_node_fenced_batches_total";
const INBOX_GAPS: &str = "tertulia_node_inbox_gaps_total";

pub async fn chaos(options: &Options) -> anyhow::Result<Report> {
    let cluster = Cluster::builder().nodes(NODES).routers(ROUTERS).stores(STORES).slots(SLOTS);
    // They share one machine's cores: with more threads they get in each other's way.
    let cluster = cluster.set("node.worker_threads", 1).set("router.worker_threads", 1);
    let faults = options.faults()?;
    let is_networked = faults.iter().any(|kind| kind.is_of_network());
    let cluster = if is_networked { cluster.on_hosts() } else { cluster }.start().await;
    let routers = (1..=ROUTERS).map(|id| cluster.address(Member::Router(id))).collect();
    let chat = Chat::start(&options.crowd, routers, options.time()).await?;
    let world = chat.world.clone();
    let mut run = Run { cluster: &cluster, world: &world, course: Course::new(), observed: Observed::default() };
    run.course.note(format!(
        "seed {}: {} people, {} events a second, {} minutes",
        options.seed, options.crowd.people, options.rate, options.minutes
    ));

    let (pacing, rate, time) = (world.clone(), options.rate, options.time());
    let pacer = spawn_local(async move { pacing.pace(rate, time).await });
    let over = Instant::now() + time;
    let mut at = Instant::now();
    for planned in Schedule::new(options.seed, &faults, Duration::from_secs_f64(options.every)) {
        at = (at + planned.pause).max(Instant::now());
        // The last one is to be over before the end.
        if at + planned.hold > over {
            break;
        }
        sleep(at - Instant::now()).await;
        run.fault(planned).await?;
    }
    pacer.await.context("the pacer")?;
    run.course.note("nobody begins anything any more".into());
    chat.finish().await?;
    run.course.note(format!("checking {} events", world.said()));
    run.end().await;

    let stores: Vec<String> = (1..=STORES).map(|store| cluster.dsn(store)).collect();
    let mut violations = check::run(&stores, &world).await?;
    run.judge_healing(&mut violations);
    run.observed.waits = slot_waits(&world)?;
    let report = Report::new(options, &world, &run.observed, violations);
    if !report.is_faultless() || options.keep.is_some() {
        run.note_waits();
        let folder = keep(options, &cluster, &world, run.course, &report)?;
        eprintln!("the history, the logs and the course are in {}", folder.display());
    }
    Ok(report)
}

struct Run<'a> {
    cluster: &'a Cluster,
    world: &'a World,
    course: Course,
    observed: Observed,
}

impl Run<'_> {
    /// From the fault until the cluster is whole again.
    async fn fault(&mut self, planned: Planned) -> anyhow::Result<()> {
        let Planned { kind, victim, hold, .. } = planned;
        let take_overs = self.take_overs();
        let slots = match victim {
            Member::Node(id) if kind != Kind::RollingRestart && kind.effect() != Effect::Other => {
                Some(self.slots_of(id).await?)
            }
            _ => None,
        };
        let owned = slots.as_ref().map_or_else(String::new, |slots| format!(" ({} slots)", slots.len()));
        self.course.note(format!("{} {victim}{owned} for {:.2} s", kind.name(), hold.as_secs_f64()));
        let from = Instant::now();
        self.inflict(planned).await?;
        let window = Window { from, to: Instant::now(), slots };
        let healed_in = self.heal().await?;
        self.course.note(match healed_in {
            Some(time) => format!("everything serves, {:.2} s after the end of it", time.as_secs_f64()),
            None => "everything serves, too late".into(),
        });
        if kind == Kind::LosePackets {
            self.observed.spurious_take_overs += self.take_overs() - take_overs;
        }
        self.observed.faults.push(Happened { kind, window, healed_in });
        Ok(())
    }

    async fn inflict(&mut self, planned: Planned) -> anyhow::Result<()> {
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
                    self.heal().await?;
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
        }
        Ok(())
    }

    /// The slots of a node begin to move to the store that has fewer.
    async fn begin_move(&self, node: Member) -> anyhow::Result<Child> {
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
    async fn end_move(&self, mut command: Child) -> anyhow::Result<()> {
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
            ensure!(start.elapsed() < MOVES_PATIENCE, "moves do not end: {}", String::from_utf8_lossy(&told.stdout));
            sleep(HEAL_POLL).await;
        }
    }

    /// How often the controllers took slots from a node, by their logs.
    fn take_overs(&self) -> u64 {
        let nodes = (1..=NODES).map(|id| self.cluster.log(Member::Node(id)));
        let is_take_over = |line: &&str| line.contains("slots have new owners") && line.contains("take-over");
        nodes.map(|log| log.lines().filter(is_take_over).count() as u64).sum()
    }

    async fn restart(&mut self, member: Member) {
        self.note_counters(member).await;
        self.cluster.terminate(member).await;
        self.cluster.start(member);
    }

    /// Waits until everything serves; how long that took, where it was not too long.
    async fn heal(&mut self) -> anyhow::Result<Option<Duration>> {
        let start = Instant::now();
        while !self.serves().await {
            ensure!(start.elapsed() < HEAL_PATIENCE, "the cluster does not become whole: {}", self.missing().await);
            for member in self.cluster.members() {
                if !self.cluster.is_running(member) {
                    self.observed.complaints.push(format!("{member} ended by itself"));
                    self.cluster.start(member);
                }
            }
            sleep(HEAL_POLL).await;
        }
        Ok(Some(start.elapsed()).filter(|time| *time <= HEAL_LIMIT))
    }

    async fn serves(&self) -> bool {
        for member in self.cluster.members() {
            if !timeout(PROBE_LIMIT, self.cluster.is_ready(member)).await.unwrap_or(false) {
                return false;
            }
        }
        self.serving().await == f64::from(SLOTS) && self.world.longest_wait() < ANSWERED_WITHIN
    }

    async fn serving(&self) -> f64 {
        let mut serving = 0.0;
        for node in (1..=NODES).map(Member::Node) {
            serving += self.cluster.try_metric(node, SERVING).await.unwrap_or(0.0);
        }
        serving
    }

    /// What does not serve, for people.
    async fn missing(&self) -> String {
        let waiting = self.world.longest_wait().as_secs_f64();
        let mut missing =
            vec![format!("{} of {SLOTS} slots are served, somebody waits for {waiting:.1} s", self.serving().await)];
        for member in self.cluster.members() {
            if !timeout(PROBE_LIMIT, self.cluster.is_ready(member)).await.unwrap_or(false) {
                missing.push(format!("{member} is not ready"));
            }
        }
        missing.join(", ")
    }

    /// The slots that the node owns, as the stores' fences have it.
    async fn slots_of(&self, node: u32) -> anyhow::Result<BTreeSet<Slot>> {
        let mut slots = BTreeSet::new();
        for store in 1..=STORES {
            let rows = self.cluster.sql(store).await;
            let rows = rows.query("SELECT slot FROM slot_fence WHERE node = $1", &[&i64::from(node)]).await?;
            for row in rows {
                slots.insert(Slot::new(u16::try_from(row.try_get::<_, i32>(0)?).context("a slot")?));
            }
        }
        Ok(slots)
    }

    /// The backends in Postgres that write for the node.
    async fn lanes_of(&self, node: Member) -> anyhow::Result<Vec<i32>> {
        let writers = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1";
        let rows = self.cluster.sql(1).await.query(writers, &[&format!("tertulia {node} i% lane %")]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// A process takes its counters along.
    async fn note_counters(&mut self, member: Member) {
        if let Member::Node(_) = member {
            self.observed.fenced += self.cluster.try_metric(member, FENCED).await.unwrap_or(0.0) as u64;
            self.observed.inbox_gaps += self.cluster.try_metric(member, INBOX_GAPS).await.unwrap_or(0.0) as u64;
        }
    }

    async fn end(&mut self) {
        for node in (1..=NODES).map(Member::Node) {
            self.note_counters(node).await;
        }
        self.observed.complaints.extend(self.cluster.errors());
    }

    /// The acks that took longest, where they began.
    fn note_waits(&mut self) {
        for wait in self.observed.waits.iter().filter(|wait| wait.until - wait.since >= WAIT_TOLD) {
            let time = (wait.until - wait.since).as_secs_f64();
            self.course.note_of(wait.since, format!("slot {}: an ack that is to take {time:.2} s", wait.slot));
        }
    }

    fn judge_healing(&self, violations: &mut Violations) {
        for fault in self.observed.faults.iter().filter(|fault| fault.healed_in.is_none()) {
            violations.add(Invariant::ServesAfterFaults, || format!("after {}", fault.kind.name()));
        }
    }
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

fn slot_waits(world: &World) -> anyhow::Result<Vec<SlotWait>> {
    let slots = SlotCount::try_from(SLOTS).context("the number of slots")?;
    let waits = world.waits.borrow();
    let of_slot = |wait: &Wait| {
        let slot = slots.of_conversation(world.conversation(wait.conversation).id);
        SlotWait { slot, since: wait.since, until: wait.until }
    };
    Ok(waits.iter().map(of_slot).collect())
}

fn keep(
    options: &Options,
    cluster: &Cluster,
    world: &Rc<World>,
    course: Course,
    report: &Report,
) -> anyhow::Result<PathBuf> {
    let folder = options.keep.clone().unwrap_or_else(|| target_folder().join("chaos").join(options.seed.to_string()));
    let cannot = || format!("cannot write into {}", folder.display());
    fs::create_dir_all(&folder).with_context(cannot)?;
    cluster.copy_logs(&folder).with_context(cannot)?;
    fs::write(folder.join("course.txt"), course.tell(cluster)).with_context(cannot)?;
    fs::write(folder.join("report.txt"), report.to_string()).with_context(cannot)?;
    let mut history = BufWriter::new(File::create(folder.join("history.jsonl")).with_context(cannot)?);
    for line in world.history() {
        writeln!(history, "{line}").with_context(cannot)?;
    }
    history.flush().with_context(cannot)?;
    Ok(folder)
}
