//! Puts the router together, and takes it apart in order: no new sessions, goodbye to the old ones, then the nodes.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tertulia_runtime::{
    PeerName,
    cli::Start,
    config::{Config, ConfigError, Place, Problem, RouterTuning},
    rpc::{BindError, Endpoint, EndpointConfig},
    tasks::{ExitReason, Supervisor, TaskSpec},
    telemetry::Metrics,
    tls::Identity,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::TaskTracker;

use crate::{
    auth::{Verifier, dev::DevSigner},
    edge::{self, Web},
    metrics,
    routing::{Follower, Offers, Routes, Seed},
    session::{self, Detacher, HeldBytes, Policy, Registry, RouterInbox, Sessions, Shared},
};

/// Bytes of sends without an answer that one router holds, of all its sessions.
const HELD_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Connections beside the sessions: the page, health, metrics.
const OTHER_CONNECTIONS_MAX: usize = 256;
const BACKLOG: u32 = 1024;
/// What the process gets beyond the sessions' drain time.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error(transparent)]
    Endpoint(#[from] BindError),
}

/// A router that accepts clients.
pub struct Listening {
    pub address: SocketAddr,
    pub endpoint: Endpoint,
    pub sessions: Sessions,
    pub drain: Duration,
}

/// Runs a router until it is asked to stop.
pub async fn run(start: Start) -> anyhow::Result<ExitReason> {
    let Start { name, config, metrics, supervisor } = start;
    let started = self::start(name, &config, Some(metrics), &supervisor).await;
    let listening = started.map_err(|error| match error {
        // As itself, so that the exit code says whose fault it is.
        StartError::Config(error) => anyhow::Error::new(error),
        other => other.into(),
    })?;
    tracing::info!(address = %listening.address, "router listens");
    let reason = supervisor.run_until_shutdown(listening.drain + DRAIN_MARGIN).await?;
    listening.endpoint.close().await;
    Ok(reason)
}

/// Starts all tasks of a router under the supervisor.
pub async fn start(
    name: PeerName,
    config: &Config,
    telemetry: Option<Metrics>,
    supervisor: &Supervisor,
) -> Result<Listening, StartError> {
    metrics::describe();
    let auth = &config.auth;
    let verifier = Verifier::new(&read("auth.public_key_file", &auth.public_key_file)?, &auth.issuer)
        .map_err(|error| wrong("auth.public_key_file", &auth.public_key_file, &error))?;
    let dev = auth.dev_signing_key_file.as_deref().map(|file| dev_signer(file, &auth.issuer)).transpose()?;
    let identity = Identity::load(name, &config.tls.dir, &config.tls.ca_file)
        .map_err(|error| wrong("tls", &config.tls.dir, &error))?;
    let endpoint = Endpoint::bind(EndpointConfig::client(Arc::new(identity)), supervisor)?;

    let tuning = &config.router;
    let policy = policy(tuning);
    let drain = policy.drain;
    let routes = Routes::new();
    let registry = Registry::new();
    let (detacher, ended) = Detacher::new();
    let shared = Arc::new(Shared { policy, verifier, held: HeldBytes::new(HELD_BYTES_MAX) });
    let sessions = Sessions { shared, routes: routes.clone(), registry: registry.clone(), detacher: detacher.clone() };

    let listener = listen(config, name).await?;
    let address = listener.local_addr().map_err(|source| listen_error(config, name, source))?;

    let offers = Offers::new();
    let inbox = Arc::new(RouterInbox::new(registry.clone(), offers.clone()));
    let seeds = config.nodes.iter().map(|(&node, entry)| Seed { node, address: entry.cluster_address.to_string() });
    let follower = Follower::new(routes.clone(), endpoint.clone(), inbox, &offers, seeds.collect(), supervisor.clone());
    // These go on while sessions say goodbye.
    let never = tokio_util::sync::CancellationToken::new();
    spawn(supervisor, "shard map follower", follower.run(never.clone()));
    let reattach = session::reattach(routes.clone(), registry.clone(), detacher, never.clone());
    spawn(supervisor, "session attachments", reattach);
    spawn(supervisor, "session detaches", session::detach(routes, ended, never));

    let shutdown = supervisor.token();
    let tasks = TaskTracker::new();
    let web = Web {
        sessions: sessions.clone(),
        metrics: telemetry,
        dev: dev.map(Arc::new),
        tasks: tasks.clone(),
        draining: shutdown.clone(),
    };
    let app = edge::app(web);
    let connections_max = tuning.sessions_max + OTHER_CONNECTIONS_MAX;
    supervisor.spawn(TaskSpec::fatal("client port"), async move {
        edge::serve(listener, app, connections_max, shutdown, tasks.clone()).await;
        // The listener is closed: whoever comes now goes to another router.
        registry.go_away();
        tasks.close();
        tasks.wait().await;
        Ok(())
    });
    Ok(Listening { address, endpoint, sessions, drain })
}

fn spawn(supervisor: &Supervisor, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    supervisor.spawn(TaskSpec::fatal(name).abort_last(), async move {
        task.await;
        Ok(())
    });
}

fn policy(tuning: &RouterTuning) -> Policy {
    Policy {
        hello_timeout: Duration::from_millis(tuning.hello_timeout_ms),
        ping_interval: Duration::from_millis(tuning.ping_interval_ms),
        queue_bytes: tuning.session_queue_bytes,
        commands_in_flight: tuning.commands_in_flight,
        hold: Duration::from_millis(tuning.hold_ms),
        drain: Duration::from_millis(tuning.drain_ms),
    }
}

async fn listen(config: &Config, name: PeerName) -> Result<TcpListener, StartError> {
    let address = client_address(config, name)?;
    let resolve = address.clone();
    let resolved = tokio::task::spawn_blocking(move || resolve.resolve()).await;
    let bound = resolved.map_err(io::Error::other).flatten().and_then(|address| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the sockets of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    });
    bound.map_err(|source| listen_error(config, name, source))
}

fn listen_error(config: &Config, name: PeerName, source: io::Error) -> StartError {
    match client_address(config, name) {
        Ok(address) => StartError::Listen { address: address.to_string(), source },
        Err(error) => error.into(),
    }
}

fn client_address(config: &Config, name: PeerName) -> Result<&tertulia_runtime::config::Address, ConfigError> {
    let entry = match name {
        PeerName::Router(id) => config.routers.get(&id),
        PeerName::Node(_) | PeerName::Operator => None,
    };
    entry.map(|entry| &entry.client_address).ok_or_else(|| ConfigError {
        place: Place::File(Path::new("cluster.toml").into()),
        problem: Problem::Invalid { key: "routers".into(), reason: format!("{name} is not among them") },
    })
}

fn dev_signer(file: &Path, issuer: &str) -> Result<DevSigner, ConfigError> {
    const KEY: &str = "auth.dev_signing_key_file";
    DevSigner::new(&read(KEY, file)?, issuer).map_err(|error| wrong(KEY, file, &error))
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(file).map_err(|error| wrong(key, file, &error))
}

/// A file that the configuration names is not usable.
fn wrong(key: &'static str, file: &Path, error: &(dyn std::error::Error + 'static)) -> ConfigError {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    ConfigError { place: Place::File(file.into()), problem: Problem::Invalid { key: key.into(), reason } }
}
