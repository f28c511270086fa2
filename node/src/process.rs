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
    append::{self, LaneHandle, LaneSettings, Outlets},
    controller::Controller,
    fanout::{self, COMMITTED_CHANNEL, Fanout, FanoutHandle, TYPING_CHANNEL},
    load::Meter,
    mailbox::{self, FolderSettings, MailboxParts},
    metrics,
    moves::{Mover, Progresses},
    peers::Peers,
    raft::{self, Raft, RaftConfig},
    service::{self, Load, NodeService, Parts},
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
    let (typing, typing_receiver) = mpsc::channel(TYPING_CHANNEL);
    let meter = Meter::new(stores.keys().copied());
    supervisor.spawn(TaskSpec::fatal("load"), meter.clone().run(token.clone()));
    let mut lanes = BTreeMap::new();
    for (&id, store) in stores.iter() {
        let of_store: Vec<LaneHandle> = (0..tuning.append_lanes_per_store)
            .map(|index| {
                let (handle, inputs) = LaneHandle::new(tuning.append_queue_bytes);
                let lane = Lane::new(store.clone(), LaneId::append(index as u8));
                let (batch_max, fanout_limit) = (tuning.append_batch_max, tuning.fanout_limit);
                let settings = LaneSettings { batch_max, fanout_limit };
                let outlets = Outlets { committed: committed.clone(), typing: typing.clone(), meter: meter.clone() };
                let task = append::run(lane, settings, inputs, outlets, token.clone());
                supervisor.spawn(TaskSpec::fatal(format!("append lane {index} of store {id}")), task);
                handle
            })
            .collect();
        lanes.insert(id, of_store);
    }
    drop((committed, typing));
    let load = Load { meter, lanes: lanes.clone() };
    let lanes = Lanes::new(lanes);
    let settings = FolderSettings { interval: Duration::from_millis(tuning.fold_interval_ms) };
    let parts = MailboxParts { stores: stores.clone(), peers: peers.clone(), redis, settings };
    let mailboxes = mailbox::start(parts, &supervisor);

    let (fanout, fanout_inputs) = FanoutHandle::new();
    let parts = Fanout {
        node,
        stores: stores.clone(),
        lanes: lanes.clone(),
        mailboxes: mailboxes.clone(),
        peers: peers.clone(),
        map: raft.map(),
    };
    let task = fanout::run(parts, fanout_inputs, committed_receiver, typing_receiver, token.clone());
    supervisor.spawn(TaskSpec::fatal("fan-out"), task);

    let table = SlotTable::default();
    let keeper = Keeper {
        writer,
        stores: stores.clone(),
        lanes: lanes.clone(),
        fanout: fanout.clone(),
        mailboxes: mailboxes.clone(),
        table: table.clone(),
    };
    supervisor.spawn(TaskSpec::fatal("slots"), slots::run(keeper, raft.map(), token.clone()));

    let controller = Controller::new(node, raft.clone(), Duration::from_millis(tuning.node_timeout_ms));
    let pulses = controller.pulses();
    supervisor.spawn(TaskSpec::fatal("heartbeats"), controller.clone().beat(token.clone()));
    supervisor.spawn(TaskSpec::fatal("controller"), controller.clone().run(token.clone()));

    let progresses = Progresses::default();
    let mover = Mover {
        raft: raft.clone(),
        stores: stores.clone(),
        bytes_per_second: tuning.move_bytes_per_second,
        progresses: progresses.clone(),
    };
    supervisor.spawn(TaskSpec::fatal("moves"), mover.run(token.clone()));

    let parts = Parts {
        node,
        config: config.clone(),
        raft: raft.clone(),
        table: table.clone(),
        lanes,
        mailboxes,
        fanout,
        peers,
        stores,
        pulses,
        load,
        moves: progresses,
    };
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

    let reason = supervisor.wait_for_end().await?;
    if matches!(reason, ExitReason::Signal(_)) {
        controller.hand_over().await;
    }
    supervisor.drain(Duration::from_millis(tuning.drain_ms)).await;
    let reason = supervisor.outcome(reason);
    raft.shutdown().await;
    endpoint.close().await;
    Ok(reason)
}
