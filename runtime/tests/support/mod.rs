//! Processes in miniature: an endpoint with an identity, and a service that does as it is told.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tertulia_runtime::{
    PeerName,
    pki::DevPki,
    rpc::{Class, Client, Connection, Endpoint, EndpointConfig, Inbox, LinkState, PeerAddress, Responder, Service},
    tasks::Supervisor,
    tls::Identity,
};
use tertulia_shard_map::{NodeId, RouterId, SessionId};
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, Notice, PushBatch, PushTarget, Refusal},
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{sleep, timeout},
};

pub const NODE: PeerName = PeerName::Node(NodeId::new(1));
pub const OTHER_NODE: PeerName = PeerName::Node(NodeId::new(2));
pub const ROUTER: PeerName = PeerName::Router(RouterId::new(1));
/// A call that is answered only by [`Scripted::release_held`].
pub const HELD: Call = Call::Raft(bytes::Bytes::from_static(b"hold"));

const SOON: Duration = Duration::from_secs(10);

pub struct Authority {
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        DevPki::create(dir.path(), [NODE, OTHER_NODE, ROUTER]).unwrap();
        Self { dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn identity(&self, name: PeerName) -> Arc<Identity> {
        Arc::new(Identity::load(name, self.dir(), &self.dir().join("ca.pem")).unwrap())
    }
}

pub struct Process {
    pub endpoint: Endpoint,
    pub supervisor: Supervisor,
    pub service: Arc<Scripted>,
    pub notices: Arc<Notices>,
}

impl Process {
    pub fn calling(authority: &Authority, name: PeerName) -> Self {
        Self::bind(authority, name, "127.0.0.1:0".parse().unwrap()).unwrap()
    }

    pub async fn serving(authority: &Authority, name: PeerName) -> Self {
        Self::serving_at(authority, name, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn serving_at(authority: &Authority, name: PeerName, address: SocketAddr) -> Self {
        // A port is free only once the tasks of its last user have ended.
        let process = poll(|| Self::bind(authority, name, address).ok()).await;
        process.endpoint.serve(process.service.clone());
        process
    }

    fn bind(
        authority: &Authority,
        name: PeerName,
        listen: SocketAddr,
    ) -> Result<Self, tertulia_runtime::rpc::BindError> {
        let supervisor = Supervisor::new();
        let config = EndpointConfig { listen, identity: authority.identity(name) };
        let endpoint = Endpoint::bind(config, &supervisor)?;
        Ok(Self { endpoint, supervisor, service: Arc::default(), notices: Arc::default() })
    }

    pub fn client_of(&self, peer: &Process, class: Class) -> Client {
        self.client_at(peer.endpoint.name(), peer.endpoint.local_address(), class)
    }

    pub fn client_at(&self, name: PeerName, address: SocketAddr, class: Class) -> Client {
        self.endpoint.peer(PeerAddress { name, address: address.to_string() }, class, self.notices.clone())
    }

    pub async fn stop(self) {
        self.endpoint.close().await;
        self.supervisor.drain(SOON).await;
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub from: PeerName,
    pub class: Class,
    pub trace: Option<TraceId>,
    pub call: Call,
}

/// Echoes `WatchMap`, refuses `Initialise`, drops `Status`, echoes or holds `Raft`.
#[derive(Default)]
pub struct Scripted {
    pub calls: Mutex<Vec<Seen>>,
    pub connections: Mutex<Vec<Connection>>,
    held: Mutex<Vec<Responder>>,
    closed: Mutex<Vec<PeerName>>,
}

impl Service for Scripted {
    fn call(&self, from: &Connection, trace: Option<TraceId>, call: Call, reply: Responder) {
        if self.calls.lock().unwrap().is_empty() {
            self.connections.lock().unwrap().push(from.clone());
        }
        let seen = Seen { from: from.peer(), class: from.class(), trace, call: call.clone() };
        self.calls.lock().unwrap().push(seen);
        match call {
            Call::WatchMap { have } => reply.send(Answer::Propose { version: have }),
            Call::Initialise => reply.refuse(Refusal::Forbidden),
            held if held == HELD => self.held.lock().unwrap().push(reply),
            Call::Raft(bytes) => reply.send(Answer::Raft(bytes)),
            _ => drop(reply),
        }
    }

    fn closed(&self, from: &Connection) {
        self.closed.lock().unwrap().push(from.peer());
    }
}

impl Scripted {
    pub fn release_held(&self, answer: Answer) {
        for reply in self.held.lock().unwrap().drain(..) {
            reply.send(answer.clone());
        }
    }

    pub async fn wait_held(&self, count: usize) {
        poll(|| (self.held.lock().unwrap().len() >= count).then_some(())).await;
    }

    pub async fn wait_closed(&self) -> PeerName {
        poll(|| self.closed.lock().unwrap().first().copied()).await
    }
}

#[derive(Default)]
pub struct Notices {
    received: Mutex<Vec<(PeerName, u64, Notice)>>,
}

impl Inbox for Notices {
    fn notice(&self, from: &PeerName, generation: u64, notice: Notice) {
        self.received.lock().unwrap().push((*from, generation, notice));
    }
}

impl Notices {
    pub async fn wait(&self, count: usize) -> Vec<(PeerName, u64, Notice)> {
        poll(|| {
            let received = self.received.lock().unwrap();
            (received.len() >= count).then(|| received.clone())
        })
        .await
    }
}

pub fn numbered(number: u64) -> Notice {
    let sessions = vec![SessionId::from_u128(number.into())];
    Notice::Push(PushBatch { items: vec![], targets: vec![PushTarget { item: 0, sessions }] })
}

/// Waits for a state, and fails where it does not come.
pub async fn reach(state: &mut watch::Receiver<LinkState>, wanted: LinkState, within: Duration) {
    let reached = timeout(within, state.wait_for(|state| *state == wanted)).await;
    assert!(reached.is_ok(), "no {wanted:?} within {within:?}");
}

async fn poll<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, found).await.expect("it did not happen in time")
}

/// Passes datagrams between one client and a server that can be exchanged.
pub struct Relay {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    tasks: tokio::task::JoinSet<()>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = outside.local_addr().unwrap();
        let target = watch::Sender::new(server);
        let client = Arc::new(Mutex::new(None));
        let mut tasks = tokio::task::JoinSet::new();
        let (targets, clients) = (target.subscribe(), client.clone());
        tasks.spawn(pump(outside.clone(), inside.clone(), move |from| {
            *clients.lock().unwrap() = Some(from);
            Some(*targets.borrow())
        }));
        tasks.spawn(pump(inside, outside, move |_| *client.lock().unwrap()));
        Self { address, target, tasks }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn switch_to(&self, server: SocketAddr) {
        assert_eq!(self.tasks.len(), 2);
        self.target.send_replace(server);
    }
}

async fn pump(from: Arc<UdpSocket>, to: Arc<UdpSocket>, route: impl Fn(SocketAddr) -> Option<SocketAddr> + Send) {
    let mut buffer = vec![0; 65_536];
    while let Ok((length, sender)) = from.recv_from(&mut buffer).await {
        if let Some(receiver) = route(sender) {
            let _lost = to.send_to(&buffer[..length], receiver).await;
        }
    }
}

/// Connects by hand, sends `bytes` on the stream, and returns why the server closed the connection.
pub async fn send_raw(authority: &Authority, server: SocketAddr, bytes: &[u8]) -> String {
    let read = |file: &str| std::fs::read(authority.dir().join(file)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.pem")).unwrap()).unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&read("router-1.pem")).unwrap()],
                PrivateKeyDer::from_pem_slice(&read("router-1.key")).unwrap(),
            )
            .unwrap();
    config.alpn_protocols = vec![b"tertulia-cluster/1".to_vec()];
    let quic: quinn::crypto::rustls::QuicClientConfig = config.try_into().unwrap();
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(quic)));
    let connection = endpoint.connect(server, &NODE.dns_name()).unwrap().await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    let _finished = send.finish();
    timeout(SOON, connection.closed()).await.expect("the connection stayed open").to_string()
}
