//! Which fault comes when, to whom and for how long: a function of the seed.

use std::{collections::BTreeMap, time::Duration};

use clap::ValueEnum;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tertulia_test_support::{Disks, Hosts, Member, Strace};

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Kind {
    /// SIGKILL of a node; it is started again a little later.
    KillNode,
    /// SIGSTOP of a node, then SIGCONT: long enough that it loses its slots, or not.
    PauseNode,
    /// SIGKILL of a node whose backends in Postgres are frozen, perhaps in the middle of a batch, until it starts again.
    KillNodeFreezeLanes,
    /// SIGTERM of a node, which hands its slots over first; then a start.
    RestartNode,
    /// The same for every node, one after the other.
    RollingRestart,
    KillRouter,
    /// SIGTERM: the router tells its sessions to leave.
    RestartRouter,
    /// SIGQUIT: Postgres loses what it has not written, and recovers from its log.
    CrashPostgres,
    KillRedis,
    FlushRedis,
    /// A node and all others no longer hear each other: nodes, routers, stores.
    CutOffNode,
    /// A node hears nobody, and is heard.
    DeafenNode,
    /// A node hears everybody, and is not heard.
    MuteNode,
    /// Two nodes no longer hear each other; the third one hears both.
    PartNodes,
    /// A router and a node no longer hear each other.
    PartRouter,
    /// A node and the stores no longer hear each other.
    PartStores,
    /// Every host loses a twentieth of what the others send.
    LosePackets,
    /// The slots of a node move to another store, live.
    MoveSlots,
    /// The same, and the node, which may drive the move, is killed meanwhile.
    MoveSlotsKillNode,
    /// The same, and Postgres crashes meanwhile.
    MoveSlotsCrashPostgres,
    /// Every datagram between hosts comes late.
    Delay,
    /// Some datagrams come late, and others overtake them.
    Reorder,
    /// Some datagrams come twice, and some of these late.
    Duplicate,
    /// The disk under the tables of one store takes nothing more; then it has room again.
    DiskFull,
    /// What a node writes down for Raft takes long to be on its disk, while the map changes.
    SlowFsyncNode,
    /// What a node writes down for Raft does not get on its disk: it is to end. It is started again a little later.
    FailingFsyncNode,
    /// What Postgres writes takes long to be on its disk.
    SlowFsyncStore,
    /// What Postgres writes does not get on its disk: it ends all its sessions, and recovers from its log.
    FailingFsyncStore,
}

impl Kind {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it leaves the slots of a node without their owner, or hands them over.
    pub const fn effect(self) -> Effect {
        match self {
            Self::KillNode
            | Self::KillNodeFreezeLanes
            | Self::PauseNode
            | Self::CutOffNode
            | Self::DeafenNode
            | Self::MuteNode
            | Self::PartStores
            | Self::MoveSlotsKillNode => Effect::Outage,
            Self::RestartNode | Self::RollingRestart | Self::MoveSlots => Effect::Stall,
            Self::KillRouter
            | Self::RestartRouter
            | Self::CrashPostgres
            | Self::KillRedis
            | Self::FlushRedis
            | Self::PartNodes
            | Self::PartRouter
            | Self::LosePackets
            | Self::MoveSlotsCrashPostgres
            | Self::Delay
            | Self::Reorder
            | Self::Duplicate
            | Self::DiskFull
            | Self::SlowFsyncNode
            | Self::FailingFsyncNode
            | Self::SlowFsyncStore
            | Self::FailingFsyncStore => Effect::Other,
        }
    }

    /// What it is done with.
    pub const fn needs(self) -> Need {
        match self {
            Self::KillNode
            | Self::PauseNode
            | Self::KillNodeFreezeLanes
            | Self::RestartNode
            | Self::RollingRestart
            | Self::KillRouter
            | Self::RestartRouter
            | Self::CrashPostgres
            | Self::KillRedis
            | Self::FlushRedis
            | Self::MoveSlots
            | Self::MoveSlotsKillNode
            | Self::MoveSlotsCrashPostgres => Need::Nothing,
            Self::CutOffNode
            | Self::DeafenNode
            | Self::MuteNode
            | Self::PartNodes
            | Self::PartRouter
            | Self::PartStores
            | Self::LosePackets => Need::Hosts,
            Self::Delay | Self::Reorder | Self::Duplicate => Need::Datagrams,
            Self::DiskFull => Need::Disks,
            Self::SlowFsyncNode | Self::FailingFsyncNode | Self::SlowFsyncStore | Self::FailingFsyncStore => {
                Need::Strace
            }
        }
    }

    /// Whether what is between the processes works, but badly: no node should lose its slots for that.
    pub const fn spoils_network(self) -> bool {
        matches!(self, Self::LosePackets | Self::Delay | Self::Reorder | Self::Duplicate)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// But signals.
    Nothing,
    /// Each process on a host of its own.
    Hosts,
    /// The same, with a hand on every datagram.
    Datagrams,
    /// Each store's tables on a disk of its own.
    Disks,
    Strace,
}

impl Need {
    /// Why it cannot be had here, in words.
    pub fn unavailable(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Hosts => Hosts::unavailable(),
            Self::Datagrams => Hosts::unavailable_for_datagrams(),
            Self::Disks => Disks::unavailable(),
            Self::Strace => Strace::unavailable(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The owner of slots is gone without a word.
    Outage,
    /// Slots change hands in order.
    Stall,
    Other,
}

/// One fault to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    pub kind: Kind,
    pub victim: Member,
    /// The node that it is parted from.
    pub other: Member,
    /// Whose disk it is.
    pub store: u32,
    /// How bad it is, where there are degrees: 0 to 1.
    pub severity: f64,
    /// For what is by chance in it.
    pub seed: u64,
    /// From the fault until its end: the start of what was killed, SIGCONT of what was stopped.
    pub hold: Duration,
    /// Until the next one, from when this one began, unless the cluster needs longer.
    pub pause: Duration,
}

pub const NODES: u32 = 3;
pub const ROUTERS: u32 = 2;
pub const STORES: u32 = 2;
/// The longest that a process is stopped.
const PAUSE_MAX: Duration = Duration::from_secs(30);
const DOWN_MAX: Duration = Duration::from_secs(3);
const PARTED_MAX: Duration = Duration::from_secs(8);
/// Long enough for every slot to want another page.
const FULL_MAX: Duration = Duration::from_secs(15);

/// Faults without an end. Each kind comes as often as any other; the same seed and kinds make the same ones.
pub struct Schedule {
    dice: StdRng,
    kinds: Vec<Kind>,
    /// Dealt out before any of them comes again.
    left: Vec<Kind>,
    every: Duration,
}

impl Schedule {
    /// `kinds`: at least one.
    pub fn new(seed: u64, kinds: &[Kind], every: Duration) -> Self {
        let mut kinds = kinds.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        Self { dice: StdRng::seed_from_u64(seed), kinds, left: Vec::new(), every }
    }

    fn deal(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
        }
        let place = self.dice.random_range(0..self.left.len());
        self.left.swap_remove(place)
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let kind = self.deal();
        let dice = &mut self.dice;
        let id = dice.random_range(1..=NODES);
        let (node, other) = (Member::Node(id), Member::Node(id % NODES + 1));
        let router = Member::Router(dice.random_range(1..=ROUTERS));
        let parted = PARTED_MAX.mul_f64(dice.random_range(0.1..=1.0));
        let down = DOWN_MAX.mul_f64(dice.random());
        // Most pauses are short: those around the time after which a node counts as dead are the interesting ones.
        let stopped = [1.0, 2.0, 4.0, 30.0].choose(dice).copied().unwrap_or(1.0);
        let stopped = Duration::from_secs(1).mul_f64(dice.random_range(0.5..=stopped)).min(PAUSE_MAX);
        let (store, severity, seed) = (dice.random_range(1..=STORES), dice.random(), dice.random());
        let (victim, hold) = match kind {
            Kind::KillNode | Kind::KillNodeFreezeLanes => (node, down),
            Kind::PauseNode => (node, stopped),
            Kind::RestartNode | Kind::RollingRestart => (node, Duration::ZERO),
            Kind::KillRouter => (router, down),
            Kind::RestartRouter => (router, Duration::ZERO),
            Kind::CrashPostgres => (Member::Postgres, down / 3),
            Kind::KillRedis | Kind::FlushRedis => (Member::Redis, down),
            Kind::CutOffNode | Kind::DeafenNode | Kind::MuteNode | Kind::PartNodes | Kind::PartStores => (node, parted),
            Kind::PartRouter => (router, parted),
            Kind::LosePackets | Kind::Delay | Kind::Reorder | Kind::Duplicate => (node, PARTED_MAX),
            Kind::MoveSlots => (node, Duration::ZERO),
            // A move of some slots takes about that long.
            Kind::MoveSlotsKillNode | Kind::MoveSlotsCrashPostgres => (node, down),
            Kind::DiskFull => (Member::Postgres, FULL_MAX.mul_f64(0.3 + 0.7 * severity)),
            Kind::SlowFsyncNode => (node, parted),
            Kind::FailingFsyncNode => (node, down),
            Kind::SlowFsyncStore => (Member::Postgres, parted),
            Kind::FailingFsyncStore => (Member::Postgres, Duration::ZERO),
        };
        Some(Planned { kind, victim, other, store, severity, seed, hold, pause: self.every })
    }
}

/// How often each kind came.
pub fn counts(faults: impl IntoIterator<Item = Kind>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for kind in faults {
        *counts.entry(kind.name()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    fn planned(seed: u64, kinds: &[Kind]) -> Vec<Planned> {
        Schedule::new(seed, kinds, EVERY).take(10 * kinds.len()).collect()
    }

    #[test]
    fn a_seed_makes_the_same_faults_again_and_another_one_others() {
        let kinds = Kind::value_variants();
        assert_eq!(planned(7, kinds), planned(7, kinds));
        assert_ne!(planned(7, kinds), planned(8, kinds));
        let reversed: Vec<Kind> = kinds.iter().rev().copied().collect();
        assert_eq!(planned(7, kinds), planned(7, &reversed), "the order in which kinds are named is of no matter");
    }

    #[test]
    fn every_kind_comes_as_often_as_any_other() {
        let counts = counts(planned(7, Kind::value_variants()).into_iter().map(|it| it.kind));
        assert_eq!(counts.len(), Kind::value_variants().len());
        assert!(counts.values().all(|count| *count == 10), "{counts:?}");
    }

    #[test]
    fn every_node_and_router_has_its_turn() {
        let victims =
            |kind| planned(1, &[kind]).into_iter().map(|it| it.victim).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(victims(Kind::KillNode).len(), NODES as usize);
        assert_eq!(victims(Kind::KillRouter).len(), ROUTERS as usize);
        assert_eq!(victims(Kind::CrashPostgres).len(), 1);
        let stores = planned(1, &[Kind::DiskFull]).into_iter().map(|it| it.store);
        assert_eq!(stores.collect::<std::collections::BTreeSet<_>>().len(), STORES as usize);
    }
}
