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
    pids: Vec<(Kind, u32)>,
}

impl Processes {
    pub fn find(data: &Path) -> anyhow::Result<Self> {
        let folder = data.join("run");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut pids = vec![(Kind::Bench, std::process::id())];
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
            pids.push((kind, pid.with_context(|| format!("{} holds no pid", path.display()))?));
        }
        ensure!(pids.len() > 1, "no pid files in {}: is the cluster up?", folder.display());
        Ok(Self { pids })
    }

    /// Processor time used so far, with that of all descendants: Postgres works in its children.
    pub fn cpu(&self) -> anyhow::Result<BTreeMap<Kind, Duration>> {
        let all = all_processes()?;
        let mut sums = BTreeMap::new();
        for &(kind, pid) in &self.pids {
            let ticks = tree_ticks(pid, &all);
            *sums.entry(kind).or_default() += TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        }
        Ok(sums)
    }

    /// Resident memory of each process of a kind, in KiB.
    pub fn resident_kib_each(&self, kind: Kind) -> anyhow::Result<Vec<u64>> {
        self.pids.iter().filter(|(other, _)| *other == kind).map(|(_, pid)| resident_kib(*pid)).collect()
    }

    /// Resident memory of all processes of a kind, in KiB.
    pub fn resident_kib(&self, kind: Kind) -> anyhow::Result<u64> {
        Ok(self.resident_kib_each(kind)?.iter().sum())
    }
}

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().context("an odd VmRSS")
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
    let own = all.get(&root).map_or(0, |stat| stat.ticks);
    let children = all.iter().filter(|(pid, stat)| stat.parent == root && **pid != root);
    own + children.map(|(pid, _)| tree_ticks(*pid, all)).sum::<u64>()
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
