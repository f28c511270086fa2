//! Puts a node together and runs it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use tertulia_runtime::{
    PeerName,
    cli::Start,
    config::Unusable,
    rpc::{Class, Endpoint, EndpointConfig, NoInbox, PeerAddress},
    tasks::{ExitReason, TaskSpec},
    tls::Identity,
};
use tertulia_shard_map::Change;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    admin::{self, Admin},
    append::{self, LaneHandle, LaneSettings},
    fanout::{self, COMMITTED_CHANNEL, Fanout, FanoutHandle},
    mailbox::{self, FolderHandle, FolderSettings, MailboxHandle, PresenceHandle},
    metrics,
    peers::Peers,
    raft::{self, Raft, RaftConfig},
    service::{self, NodeService, Parts},
    slots::{self, Keeper, Lanes, SlotTable},
    store::{Lane, LaneId, Store, Writer},
};

/// Runs until a signal, or until a part fails without which a node is of no use.
pub async fn run(start: Start) -> anyhow::Result<ExitReason> {
    let Start { name, config, metrics: rendered, supervisor } = start;
    let PeerName::Node(node) = name else { anyhow::bail!("{name} is not a node") };
    let config = Arc::new(config);
    let own = config.nodes.get(&node).context("the configuration has no such node")?.clone();
    let tuning = &config.node;
    metrics::describe();

    // All of the configuration first: where it is wrong, nobody has heard of this process, and nothing else is logged.
    let identity = Arc::new(Identity::load(name, &config.tls.dir, &config.tls.ca_file)?);
    let redis = redis::Client::open(config.redis.url.expose()).map_err(|error| Unusable::value("redis.url", error))?;
    let dir = config.cluster.data_dir.join(name.to_string());
    let incarnation = raft::next_incarnation(&dir)?;
    let writer = Writer { node, incarnation };
    let mut stores = BTreeMap::new();
    for (&id, store) in &config.stores {
        let opened = Store::new(id, store.dsn.expose(), writer, tuning.pool_size);
        stores.insert(id, opened.map_err(|error| Unusable::value(format!("stores.{id}.dsn"), error))?);
    }
    let stores = Arc::new(stores);

    let listen = own.cluster_address.resolve()?;
    let endpoint = Endpoint::bind(EndpointConfig { listen, identity }, &supervisor)?;
    tracing::info!(%node, %incarnation, "starting");
    let admin_listener = TcpListener::bind(own.admin_address.resolve()?)
        .await
        .with_context(|| format!("cannot listen on {}", own.admin_address))?;

    let raft_config = RaftConfig {
        node,
        dir: dir.clone(),
        heartbeat: Duration::from_millis(tuning.raft_heartbeat_ms),
        election_min: Duration::from_millis(tuning.raft_election_min_ms),
        election_max: Duration::from_millis(tuning.raft_election_max_ms),
    };
    let raft_endpoint = endpoint.clone();
    let make_client = move |node, address: &str| {
        let peer = PeerAddress { name: PeerName::Node(node), address: address.to_owned() };
        raft_endpoint.peer(peer, Class::Raft, Arc::new(NoInbox))
    };
    let raft = Raft::start(raft_config, Arc::new(make_client), &supervisor).await?;
    let peers = Peers::new(endpoint.clone(), raft.map());

    let token = supervisor.token();
    let (committed, committed_receiver) = mpsc::channel(COMMITTED_CHANNEL);
    let mut lanes = BTreeMap::new();
    let mut folders = BTreeMap::new();
    for (&id, store) in stores.iter() {
        let of_store: Vec<LaneHandle> = (0..tuning.append_lanes_per_store)
            .map(|index| {
                let (handle, inputs) = LaneHandle::new(tuning.append_queue_bytes);
                let lane = Lane::new(store.clone(), LaneId::append(index as u8));
                let settings = LaneSettings { batch_max: tuning.append_batch_max };
                let task = append::run(lane, settings, inputs, committed.clone(), token.clone());
                supervisor.spawn(TaskSpec::fatal(format!("append lane {index} of store {id}")), task);
                handle
            })
            .collect();
        lanes.insert(id, of_store);

        let (handle, inputs) = FolderHandle::new();
        let lane = Lane::new(store.clone(), LaneId::FOLD);
        let settings = FolderSettings { interval: Duration::from_millis(tuning.fold_interval_ms) };
        let task = mailbox::run_folder(lane, peers.clone(), settings, inputs, token.clone());
        supervisor.spawn(TaskSpec::fatal(format!("folder of store {id}")), task);
        folders.insert(id, handle);
    }
    drop(committed);
    let lanes = Lanes::new(lanes);
    let (mailboxes, mailbox_inputs) = MailboxHandle::new(folders);
    let (presence, presence_inputs) = PresenceHandle::new();
    supervisor.spawn(TaskSpec::fatal("presence"), mailbox::run_presence(redis, presence_inputs, token.clone()));
    supervisor.spawn(TaskSpec::fatal("sessions"), mailbox::run_sessions(mailbox_inputs, presence, token.clone()));

    let (fanout, fanout_control) = FanoutHandle::new();
    let parts = Fanout {
        node,
        stores: stores.clone(),
        lanes: lanes.clone(),
        mailboxes: mailboxes.clone(),
        peers: peers.clone(),
        map: raft.map(),
    };
    supervisor.spawn(TaskSpec::fatal("fan-out"), fanout::run(parts, fanout_control, committed_receiver, token.clone()));

    let table = SlotTable::default();
    let keeper = Keeper {
        writer,
        stores: stores.clone(),
        lanes: lanes.clone(),
        fanout,
        mailboxes: mailboxes.clone(),
        table: table.clone(),
    };
    supervisor.spawn(TaskSpec::fatal("slots"), slots::run(keeper, raft.map(), token.clone()));

    let parts =
        Parts { node, config: config.clone(), raft: raft.clone(), table: table.clone(), lanes, mailboxes, stores };
    let service = NodeService::new(parts);
    supervisor.spawn(TaskSpec::fatal("map watchers").abort_last(), service.push_maps());
    endpoint.serve(Arc::new(service));

    let started = Change::NodeStarted { node, incarnation, address: own.cluster_address.to_string() };
    let is_announced =
        move |map: &tertulia_shard_map::ShardMap| map.node(node).is_some_and(|n| n.incarnation == incarnation);
    supervisor
        .spawn(TaskSpec::fatal("announce"), service::announce(raft.clone(), started, is_announced, token.clone()));

    let admin = Admin { writer, map: raft.map(), table, metrics: rendered };
    supervisor.spawn(TaskSpec::fatal("admin"), admin::run(admin, admin_listener, token));

    let reason = supervisor.run_until_shutdown(Duration::from_millis(tuning.drain_ms)).await?;
    raft.shutdown().await;
    endpoint.close().await;
    Ok(reason)
}
