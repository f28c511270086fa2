//! Processor time and memory of the cluster's processes, found through the pid files of `scripts/up`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// Linux counts processor time in hundredths of a second, on every architecture that we run on.
const TICK: Duration = Duration::from_millis(10);

/// The name of the load generator itself.
pub const OWN_NAME: &str = "load";

/// What kind of process, as the report names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Router,
    Node,
    Postgres,
    Redis,
    Bench,
}

pub struct Processes {
    all: Vec<Process>,
}

struct Process {
    kind: Kind,
    /// `router-1`, as its pid file says.
    name: String,
    pid: u32,
}

impl Processes {
    pub fn find(data: &Path) -> anyhow::Result<Self> {
        let folder = data.join("run");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut all = vec![Process { kind: Kind::Bench, name: OWN_NAME.into(), pid: std::process::id() }];
        for entry in entries {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pid")) else { continue };
            let kind = match name.split('-').next() {
                Some("router") => Kind::Router,
                Some("node") => Kind::Node,
                Some("postgres") => Kind::Postgres,
                Some("redis") => Kind::Redis,
                _ => continue,
            };
            let text = fs::read_to_string(&path)?;
            let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
            let pid = pid.with_context(|| format!("{} holds no pid", path.display()))?;
            all.push(Process { kind, name: name.to_owned(), pid });
        }
        ensure!(all.len() > 1, "no pid files in {}: is the cluster up?", folder.display());
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(Self { all })
    }

    /// Processor time used so far, with that of all descendants: Postgres works in its children.
    pub fn cpu(&self) -> anyhow::Result<BTreeMap<Kind, Duration>> {
        let all = all_processes()?;
        let mut sums = BTreeMap::new();
        for &Process { kind, pid, .. } in &self.all {
            let ticks = tree_ticks(pid, &all);
            *sums.entry(kind).or_default() += TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        }
        Ok(sums)
    }

    /// Resident memory of all processes of a kind, in KiB.
    pub fn resident_kib(&self, kind: Kind) -> anyhow::Result<u64> {
        self.all.iter().filter(|it| it.kind == kind).map(|it| status_kib(it.pid, "VmRSS:")).sum()
    }

    /// The memory of each process by name, in KiB; `None` for one that has gone. Resident memory, but for Postgres: there
    /// what its processes have for themselves, without the shared buffers that fill as the data grows.
    pub fn memory_kib(&self) -> anyhow::Result<Vec<(&str, Option<u64>)>> {
        let all = all_processes()?;
        let of = |it: &Process| match it.kind {
            Kind::Postgres => all.contains_key(&it.pid).then(|| {
                // One of its children may have ended meanwhile.
                tree(it.pid, &all).into_iter().filter_map(|pid| status_kib(pid, "RssAnon:").ok()).sum()
            }),
            _ => status_kib(it.pid, "VmRSS:").ok(),
        };
        Ok(self.all.iter().map(|it| (it.name.as_str(), of(it))).collect())
    }
}

fn status_kib(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("process {pid} has ended"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().with_context(|| format!("an odd {field}"))
}

struct Stat {
    parent: u32,
    /// Of the process itself and of its children that have ended.
    ticks: u64,
}

fn all_processes() -> anyhow::Result<HashMap<u32, Stat>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile.
        if let Some(stat) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| parse_stat(&text)) {
            all.insert(pid, stat);
        }
    }
    Ok(all)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { parent: number(1)? as u32, ticks: number(11)? + number(12)? + number(13)? + number(14)? })
}

fn tree_ticks(root: u32, all: &HashMap<u32, Stat>) -> u64 {
    tree(root, all).into_iter().filter_map(|pid| all.get(&pid)).map(|stat| stat.ticks).sum()
}

/// A process and all of its descendants.
fn tree(root: u32, all: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(all.iter().filter(|(pid, stat)| stat.parent == parent && **pid != parent).map(|(pid, _)| *pid));
        next += 1;
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat("12 (a) b) c) S 7 1 1 0 -1 0 1 2 3 4 50 6 7 8 20 0").expect("readable");
        assert_eq!((stat.parent, stat.ticks), (7, 50 + 6 + 7 + 8));
    }

    #[test]
    fn work_of_a_child_counts_for_its_parent() {
        let all = HashMap::from([
            (1, Stat { parent: 0, ticks: 5 }),
            (2, Stat { parent: 1, ticks: 7 }),
            (3, Stat { parent: 2, ticks: 11 }),
            (9, Stat { parent: 0, ticks: 100 }),
        ]);
        assert_eq!(tree_ticks(1, &all), 23);
    }
}
