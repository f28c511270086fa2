//! Puts the router together, and takes it apart in order: no new sessions, goodbye to the old ones, then the nodes.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use socket2::SockRef;
use tertulia_runtime::{
    PeerName,
    cli::Start,
    config::{Address, Config, RouterTuning, Unusable},
    rpc::{Endpoint, EndpointConfig},
    tasks::{ExitReason, Supervisor, TaskSpec},
    telemetry::Metrics,
    tls::Identity,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{ApiKeys, Verifier, dev::DevSigner},
    edge::{self, Admission, AdmissionLimits, Closing, Web},
    limits::Limits,
    metrics,
    routing::{Follower, Offers, Routes, Seed},
    session::{self, Detacher, Drain, HeldBytes, Meter, Policy, Registry, RouterInbox, Sessions, Shared},
};

/// Bytes of sends without an answer that one router holds, of all its sessions.
const HELD_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Connections beside the sessions: the page, health, metrics.
const OTHER_CONNECTIONS_MAX: usize = 256;
const BACKLOG: u32 = 1024;
/// What the kernel may hold for a client that does not read, and of one that is not read from. Without a bound it would
/// be megabytes each; the kernel takes twice this, for its own bookkeeping.
const SOCKET_BYTES: u32 = 128 * 1024;
/// What the process gets beyond the sessions' drain time.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(50);

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
    let listening = self::start(name, &config, Some(metrics), &supervisor).await?;
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
) -> anyhow::Result<Listening> {
    metrics::describe();
    let auth = &config.auth;
    let (key, file) = ("auth.public_key_file", &auth.public_key_file);
    let verifier = Verifier::new(&read(key, file)?, &auth.issuer).map_err(|error| Unusable::file(key, file, error))?;
    let dev = auth.dev_signing_key_file.as_deref().map(|file| dev_signer(file, &auth.issuer)).transpose()?;
    let identity = Identity::load(name, &config.tls.dir, &config.tls.ca_file)?;
    let endpoint = Endpoint::bind(EndpointConfig::client(Arc::new(identity)), supervisor)?;

    let tuning = &config.router;
    let policy = policy(tuning);
    let drain = Duration::from_millis(tuning.drain_ms);
    let routes = Routes::new();
    let registry = Registry::new();
    let (detacher, ended) = Detacher::new(tuning.sessions_max);
    let redis = redis::Client::open(config.redis.url.expose()).map_err(|error| Unusable::value("redis.url", error))?;
    let limits = Limits::new(config.limits, redis);
    let (held, meter) = (HeldBytes::new(HELD_BYTES_MAX), Meter::new());
    let shared = Arc::new(Shared { policy, verifier, limits: limits.clone(), held, meter });
    let sessions = Sessions { shared, routes: routes.clone(), registry: registry.clone(), detacher: detacher.clone() };

    let configured = client_address(config, name)?;
    let listener = listen(configured, sessions.shared.policy.ping_interval)
        .await
        .with_context(|| format!("cannot listen on {configured}"))?;
    let address = listener.local_addr()?;

    let offers = Offers::new();
    let inbox = Arc::new(RouterInbox::new(registry.clone(), offers.clone()));
    let seeds = config.nodes.iter().map(|(&node, entry)| Seed { node, address: entry.cluster_address.to_string() });
    let follower = Follower::new(routes.clone(), endpoint.clone(), inbox, offers, seeds.collect(), supervisor.clone());
    // These go on while sessions say goodbye.
    let never = CancellationToken::new();
    spawn(supervisor, "shard map follower", follower.run(never.clone()));
    let reattach = session::reattach(routes.clone(), registry.clone(), detacher, never.clone());
    spawn(supervisor, "session attachments", reattach);
    spawn(supervisor, "session detaches", session::detach(routes, ended, never.clone()));
    spawn(supervisor, "limits in Redis", limits.run(never));

    let closing = Closing { draining: supervisor.token(), closed: CancellationToken::new() };
    let tasks = TaskTracker::new();
    let keys = auth.api_keys.iter().map(|(name, hash)| (name.clone(), hash.bytes()));
    let web = Web {
        sessions: sessions.clone(),
        metrics: telemetry,
        dev: dev.map(Arc::new),
        api_keys: Arc::new(ApiKeys::new(keys)),
        tasks: tasks.clone(),
        draining: closing.draining.clone(),
    };
    let app = edge::app(web);
    let admission = Admission::new(admission_limits(tuning), Instant::now());
    let port = edge::serve(listener, app, admission, closing.clone(), tasks.clone());
    let stop = stop(closing, registry, tasks, drain, tuning.handshakes_per_second);
    supervisor.spawn(TaskSpec::fatal("client port"), async move {
        tokio::join!(port, stop);
        Ok(())
    });
    Ok(Listening { address, endpoint, sessions, drain })
}

/// Once the router is asked to stop. It is unready from that moment, and takes no new sessions; but until the last one
/// has gone it answers, so that a balancer hears that it is unready, and a client that it is to go elsewhere.
async fn stop(closing: Closing, registry: Registry, tasks: TaskTracker, drain: Duration, handshakes_per_second: u32) {
    closing.draining.cancelled().await;
    let (now, sessions) = (Instant::now(), registry.len());
    let drain = Drain::new(drain, handshakes_per_second, now);
    if drain.hurries(sessions, now) {
        tracing::warn!(
            sessions,
            "too many sessions for router.drain_ms: they leave faster than other routers take them"
        );
    }
    session::let_go(&registry, drain).await;
    closing.closed.cancel();
    tasks.close();
    // A handshake that was under way may still have become a session.
    while timeout(DRAIN_POLL, tasks.wait()).await.is_err() {
        session::let_go(&registry, drain).await;
    }
}

fn admission_limits(tuning: &RouterTuning) -> AdmissionLimits {
    AdmissionLimits {
        connections: tuning.sessions_max + OTHER_CONNECTIONS_MAX,
        connections_per_address: tuning.connections_per_address,
        handshakes_per_second: tuning.handshakes_per_second,
        handshakes_burst: tuning.handshakes_burst,
        trusted_proxies: tuning.trusted_proxies.clone(),
    }
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
        min_client_version: tuning.min_client_version.clone(),
    }
}

fn client_address(config: &Config, name: PeerName) -> anyhow::Result<&Address> {
    let PeerName::Router(id) = name else { bail!("{name} is not a router") };
    Ok(&config.routers.get(&id).with_context(|| format!("the configuration has no {name}"))?.client_address)
}

async fn listen(address: &Address, ping_interval: Duration) -> io::Result<TcpListener> {
    let resolve = address.clone();
    let address = tokio::task::spawn_blocking(move || resolve.resolve()).await.map_err(io::Error::other)??;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the sockets of the process before.
    socket.set_reuseaddr(true)?;
    // Connections inherit these.
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    // Whoever takes no byte of what was sent for as long as a session may be silent is cut off, also one that has no
    // session: nothing else ends a request whose answer is not read.
    SockRef::from(&socket).set_tcp_user_timeout(Some(2 * ping_interval))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn dev_signer(file: &Path, issuer: &str) -> Result<DevSigner, Unusable> {
    const KEY: &str = "auth.dev_signing_key_file";
    DevSigner::new(&read(KEY, file)?, issuer).map_err(|error| Unusable::file(KEY, file, error))
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, Unusable> {
    fs::read(file).map_err(|error| Unusable::file(key, file, error))
}
