//! One run: the cluster, the people, the faults, the check.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tertulia_shard_map::{Slot, SlotCount};
use tertulia_soak::{
    chat::Chat,
    check,
    world::{Wait, World},
};
use tertulia_test_invariants::{Invariant, Violations};
use tertulia_test_support::{Cluster, Member, target_folder};
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};

use crate::{
    Options,
    course::Course,
    outage::{SlotWait, Window},
    report::{Happened, Observed, Report},
    schedule::{Effect, Kind, NODES, Need, Planned, ROUTERS, STORES, Schedule},
};

const SLOTS: u32 = 64;
/// I9: everything serves so long after a fault has ended.
const HEAL_LIMIT: Duration = Duration::from_secs(10);
/// Without that, the run goes on for as long as the cluster may still become whole.
const HEAL_PATIENCE: Duration = Duration::from_secs(60);
/// Where everything serves, nobody waits longer for an answer.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);
pub const HEAL_POLL: Duration = Duration::from_millis(20);
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
    let needs = |need| faults.iter().any(|kind| kind.needs() == need);
    let cluster = if needs(Need::Hosts) || needs(Need::Datagrams) { cluster.on_hosts() } else { cluster };
    let cluster = if needs(Need::Disks) { cluster.on_disks() } else { cluster };
    let cluster = cluster.start().await;
    let routers = (1..=ROUTERS).map(|id| cluster.address(Member::Router(id))).collect();
    let chat = Chat::start(&options.crowd, routers, options.time()).await?;
    let world = chat.world.clone();
    let mut run = Run {
        cluster: &cluster,
        world: &world,
        course: Course::new(),
        observed: Observed::default(),
        caused: Vec::new(),
        is_lost: false,
    };
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
        if run.is_lost {
            pacer.abort();
            break;
        }
    }
    let paced = pacer.await;
    ensure!(paced.is_ok() || run.is_lost, "the pacer: {paced:?}");
    run.course.note("nobody begins anything any more".into());
    chat.finish().await?;
    run.course.note(format!("checking {} events", world.said()));
    run.end().await;

    let stores: Vec<String> = (1..=STORES).map(|store| cluster.dsn(store)).collect();
    let mut violations = match check::run(&stores, &world).await {
        Err(error) if run.is_lost => {
            run.observed.complaints.push(format!("the history cannot be read: {error:#}"));
            Violations::default()
        }
        checked => checked?,
    };
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

pub struct Run<'a> {
    pub cluster: &'a Cluster,
    pub world: &'a World,
    pub course: Course,
    pub observed: Observed,
    /// ERROR lines that a fault was to cause.
    pub caused: Vec<String>,
    /// The cluster did not become whole again after a fault.
    is_lost: bool,
}

impl Run<'_> {
    /// From the fault until the cluster is whole again.
    async fn fault(&mut self, planned: Planned) -> anyhow::Result<()> {
        let Planned { kind, victim, store, hold, .. } = planned;
        let take_overs = self.take_overs();
        let slots = match victim {
            _ if kind == Kind::DiskFull => Some(self.slots_in(store).await?),
            Member::Node(id) if kind != Kind::RollingRestart && kind.effect() != Effect::Other => {
                Some(self.slots_of(id).await?)
            }
            _ => None,
        };
        let owned = slots.as_ref().map_or_else(String::new, |slots| format!(" ({} slots)", slots.len()));
        let victim = if kind == Kind::DiskFull { format!("store {store}") } else { victim.to_string() };
        self.course.note(format!("{} {victim}{owned} for {:.2} s", kind.name(), hold.as_secs_f64()));
        let from = Instant::now();
        self.inflict(planned).await?;
        let window = Window { from, to: Instant::now(), slots };
        let healed_in = self.heal().await;
        self.course.note(match healed_in {
            Some(time) => format!("everything serves, {:.2} s after the end of it", time.as_secs_f64()),
            None if self.is_lost => "it does not become whole again".into(),
            None => "everything serves, too late".into(),
        });
        if kind.spoils_network() {
            self.observed.spurious_take_overs += self.take_overs() - take_overs;
        }
        self.observed.faults.push(Happened { kind, window, healed_in });
        Ok(())
    }

    /// How often the controllers took slots from a node, by their logs.
    fn take_overs(&self) -> u64 {
        let nodes = (1..=NODES).map(|id| self.cluster.log(Member::Node(id)));
        let is_take_over = |line: &&str| line.contains("slots have new owners") && line.contains("take-over");
        nodes.map(|log| log.lines().filter(is_take_over).count() as u64).sum()
    }

    /// Waits until everything serves; how long that took, where it was not too long.
    pub async fn heal(&mut self) -> Option<Duration> {
        let start = Instant::now();
        while !self.serves().await {
            if start.elapsed() > HEAL_PATIENCE {
                self.is_lost = true;
                let missing = self.missing().await;
                self.observed.complaints.push(format!("the cluster does not become whole: {missing}"));
                return None;
            }
            for member in self.cluster.members() {
                if !self.cluster.is_running(member) {
                    self.observed.complaints.push(format!("{member} ended by itself"));
                    self.cluster.start(member);
                }
            }
            sleep(HEAL_POLL).await;
        }
        Some(start.elapsed()).filter(|time| *time <= HEAL_LIMIT)
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
    pub async fn slots_of(&self, node: u32) -> anyhow::Result<BTreeSet<Slot>> {
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

    /// The slots whose tables are there.
    async fn slots_in(&self, store: u32) -> anyhow::Result<BTreeSet<Slot>> {
        let rows = self.cluster.sql(store).await.query("SELECT slot FROM slot_fence WHERE node <> 0", &[]).await?;
        rows.iter().map(|row| Ok(Slot::new(u16::try_from(row.try_get::<_, i32>(0)?).context("a slot")?))).collect()
    }

    /// A process takes its counters along.
    pub async fn note_counters(&mut self, member: Member) {
        if let Member::Node(_) = member {
            self.observed.fenced += self.cluster.try_metric(member, FENCED).await.unwrap_or(0.0) as u64;
            self.observed.inbox_gaps += self.cluster.try_metric(member, INBOX_GAPS).await.unwrap_or(0.0) as u64;
        }
    }

    async fn end(&mut self) {
        for node in (1..=NODES).map(Member::Node) {
            self.note_counters(node).await;
        }
        let errors = self.cluster.errors().into_iter();
        self.observed.complaints.extend(errors.filter(|line| !self.caused.contains(line)));
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
