//! Agreement on the shard map: a replicated log of [`Change`]s, by openraft on redb.
//!
//! This module is the only one that knows openraft: its types appear nowhere in the public interface, so that it can be
//! replaced or upgraded here alone.
//!
//! Invariants
//! - What a node promised (its vote, its log) is fsynced before it answers.
//! - The applied state is a function of the log: [`tertulia_shard_map::apply`] decides, identically on every node, and a
//!   change it refuses is an ordinary outcome.
//! - A node answers Raft requests only for the peer that its certificate names.
//! - When openraft stops for a reason other than [`Raft::shutdown`], the process ends.
//!
//! Deliberately absent: what should change and when (the controller), who may ask (the service), and leases: decisions
//! read through [`Raft::read_linearizable`].

mod codec;
mod disk;
mod inbound;
mod incarnation;
mod initialise;
mod log;
mod machine;
mod membership;
mod network;
mod peers;
mod propose;
mod rpc;
mod status;
mod types;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod test_cluster;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context;
use openraft::SnapshotPolicy;
use tertulia_runtime::{
    rpc::CallOptions,
    tasks::{Supervisor, TaskSpec},
};
use tertulia_shard_map::{NodeId, ShardMap};
use tertulia_wire::cluster::Call;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use self::{disk::Disk, log::LogStore, machine::Machine, network::Network, peers::Peers, types::Types};
pub use self::{
    incarnation::next_incarnation,
    peers::MakeClient,
    propose::ProposeError,
    status::{Leadership, Member, RaftStatus, Role, Voting},
};

/// A snapshot is taken after so many log entries…
const SNAPSHOT_EVERY_ENTRIES: u64 = 1000;
/// …and so many stay behind it, for followers that lag a little.
const ENTRIES_KEPT_BEHIND_SNAPSHOT: u64 = 500;
/// Most entries in one request to a follower.
const REQUEST_ENTRIES_MAX: u64 = 256;
/// Sending, storing and installing a whole snapshot.
const SNAPSHOT_TIMEOUT_MS: u64 = 5000;
/// How long [`Raft::shutdown`] waits for openraft's tasks to let go of the disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const CLOSE_POLL_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Debug, Clone)]
pub struct RaftConfig {
    pub node: NodeId,
    /// The node's data folder; made where it is missing.
    pub dir: PathBuf,
    pub heartbeat: Duration,
    /// A follower that hears nothing stands for election after a random time between these two.
    pub election_min: Duration,
    pub election_max: Duration,
}

/// This node's part in Raft. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Raft {
    inner: Arc<Inner>,
}

struct Inner {
    raft: openraft::Raft<Types>,
    map: watch::Receiver<Option<Arc<ShardMap>>>,
    leadership: watch::Receiver<Leadership>,
    /// So that who follows these does not end before it is told to: that Raft has failed is for Raft's own task to say.
    _kept_open: (watch::Sender<Option<Arc<ShardMap>>>, watch::Sender<Leadership>),
    peers: Arc<Peers>,
    /// Requests of other members that are being answered.
    inbound: TaskTracker,
    disk: Weak<Disk>,
}

impl Raft {
    /// Opens the node's log, and takes part again in the cluster that it knows of. A new node waits for a leader to
    /// add it, or for [`Raft::initialise`].
    pub async fn start(config: RaftConfig, make_client: MakeClient, supervisor: &Supervisor) -> anyhow::Result<Self> {
        let RaftConfig { node, dir, .. } = config.clone();
        let file = dir.join(disk::FILE_NAME);
        let opened = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&dir)?;
            let disk = Arc::new(Disk::open(&dir, node)?);
            let machine = Machine::load(Arc::clone(&disk))?;
            anyhow::Ok((disk, machine))
        });
        let cannot_open = || format!("cannot open the Raft log {}", file.display());
        let (disk, machine) = opened.await.with_context(cannot_open)?.with_context(cannot_open)?;

        let map = machine.map();
        let map_sender = machine.map_sender();
        let peers = Arc::new(Peers::new(make_client));
        let weak_disk = Arc::downgrade(&disk);
        let raft = openraft::Raft::new(
            node.get().into(),
            Arc::new(settings(&config)?),
            Network::new(node, Arc::clone(&peers)),
            LogStore::new(disk),
            machine,
        );
        let raft = raft.await.with_context(|| format!("cannot resume Raft from {}", file.display()))?;

        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        // Others may need the map while they drain.
        let follow = status::follow(raft.metrics(), leadership_sender.clone());
        supervisor.spawn(TaskSpec::fatal("raft").abort_last(), follow);
        let inbound = TaskTracker::new();
        let _kept_open = (map_sender, leadership_sender);
        Ok(Self { inner: Arc::new(Inner { raft, map, leadership, _kept_open, peers, inbound, disk: weak_disk }) })
    }

    /// The applied map, as it changes; `None` until the cluster is initialised. It may lag behind the leader's: for a
    /// decision use [`Raft::read_linearizable`].
    pub fn map(&self) -> watch::Receiver<Option<Arc<ShardMap>>> {
        self.inner.map.clone()
    }

    /// Who leads, as far as this node knows.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Tells the other voters that this node is alive, and whether it is about to stop, each within the time or not at all. Waits for nothing.
    pub fn beat(&self, is_stopping: bool, within: Duration) {
        let own = NodeId::new(self.inner.raft.metrics().borrow().id as u32);
        for (node, member) in self.status().members {
            if node != own && member.voting == Voting::Voter {
                let client = self.inner.peers.client(node, &member.address);
                // A heartbeat that is lost is followed by another.
                tokio::spawn(
                    async move { client.call(Call::Heartbeat { is_stopping }, CallOptions::within(within)).await },
                );
            }
        }
    }

    pub fn status(&self) -> RaftStatus {
        RaftStatus::of(&self.inner.raft.metrics().borrow())
    }

    /// Stops taking part, answers nothing more, and closes the log.
    pub async fn shutdown(&self) {
        self.inner.inbound.close();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop in order");
        }
        if timeout(CLOSE_TIMEOUT, self.inner.inbound.wait()).await.is_err() {
            tracing::warn!("raft requests were still being answered");
        }
        // openraft's tasks end on their own once its core has; it offers nothing to wait for.
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while self.inner.disk.strong_count() > 0 {
            if Instant::now() > deadline {
                tracing::warn!("the raft log is still open");
                return;
            }
            sleep(CLOSE_POLL_INTERVAL).await;
        }
    }
}

fn settings(config: &RaftConfig) -> anyhow::Result<openraft::Config> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let settings = openraft::Config {
        cluster_name: "tertulia".to_owned(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election_min),
        election_timeout_max: millis(config.election_max),
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: REQUEST_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY_ENTRIES),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT_BEHIND_SNAPSHOT,
        ..openraft::Config::default()
    };
    settings.validate().context("the Raft timing settings do not fit together")
}
