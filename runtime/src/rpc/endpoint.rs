//! The UDP socket of a process: every connection, to and from its peers, goes through it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    ConnectionId, ConnectionIdGenerator, IdleTimeout, TokioRuntime, TransportConfig, VarInt, congestion::CubicConfig,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Class, Client, IDLE_TIMEOUT, Inbox, KEEP_ALIVE, PeerAddress, Service, close,
    counters::{Counters, Side},
    link::{self, Shared},
    server,
};
use crate::{
    PeerName,
    tasks::{Supervisor, TaskSpec},
    tls::{Identity, TlsError},
};

/// What the kernel may hold of a burst. It grants less where its own limit is lower.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A first burst of small calls should not wait for acknowledgements.
const INITIAL_CONGESTION_WINDOW_BYTES: u64 = 256 * 1024;
/// Within a data centre. The default of 333 ms makes the first retransmission of a handshake wait for a second.
const INITIAL_RTT: Duration = Duration::from_millis(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct EndpointConfig {
    pub listen: SocketAddr,
    pub identity: Arc<Identity>,
}

impl EndpointConfig {
    /// For a process that only connects: any free port.
    pub fn client(identity: Arc<Identity>) -> Self {
        Self { listen: (Ipv4Addr::UNSPECIFIED, 0).into(), identity }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on UDP {address}")]
    Socket { address: SocketAddr, source: io::Error },
    #[error("[tls] this certificate and key are of no use")]
    Tls(#[from] TlsError),
}

/// The QUIC endpoint of this process. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    server_config: quinn::ServerConfig,
    name: PeerName,
    local_address: SocketAddr,
    supervisor: Supervisor,
    client_counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Endpoint {
    /// Binds the socket. Nothing is accepted before [`Endpoint::serve`].
    pub fn bind(config: EndpointConfig, supervisor: &Supervisor) -> Result<Self, BindError> {
        let transport = Arc::new(transport());
        let mut client_config = quinn::ClientConfig::new(config.identity.client_config()?);
        client_config.transport_config(transport.clone());
        let mut server_config = quinn::ServerConfig::with_crypto(config.identity.server_config()?);
        server_config.transport_config(transport).migration(false);

        let address = config.listen;
        let socket_error = |source| BindError::Socket { address, source };
        let socket = bind_socket(address).map_err(socket_error)?;
        let mut quic = quinn::Endpoint::new(endpoint_config(&config.identity), None, socket, Arc::new(TokioRuntime))
            .map_err(socket_error)?;
        quic.set_default_client_config(client_config);
        let local_address = quic.local_addr().map_err(socket_error)?;
        Ok(Self {
            quic,
            server_config,
            name: config.identity.name(),
            local_address,
            supervisor: supervisor.clone(),
            client_counters: Arc::new(Counters::new(Side::Client)),
            stop: CancellationToken::new(),
        })
    }

    /// Who this process is to its peers.
    pub fn name(&self) -> PeerName {
        self.name
    }

    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// A client of one peer. The connection is made at the first call (or [`Client::watch_state`]) and kept from then on.
    pub fn peer(&self, peer: PeerAddress, class: Class, inbox: Arc<dyn Inbox>) -> Client {
        let stop = self.stop.child_token();
        let shared = Arc::new(Shared::new(peer, class, inbox, self.client_counters.clone()));
        let (keeping, quic, keeper) = (shared.clone(), self.quic.clone(), stop.clone().drop_guard());
        self.supervisor.spawn(TaskSpec::log_and_end(format!("rpc to {}", shared.peer())).abort_last(), async move {
            link::keep(keeping, quic, stop).await;
            Ok(())
        });
        Client::new(shared, keeper)
    }

    /// Accepts connections from now on and hands their calls to `service`. To be called once.
    pub fn serve(&self, service: Arc<dyn Service>) {
        self.quic.set_server_config(Some(self.server_config.clone()));
        let (quic, supervisor) = (self.quic.clone(), self.supervisor.clone());
        self.supervisor.spawn(TaskSpec::fatal("rpc accept").abort_last(), async move {
            server::accept(quic, service, supervisor).await;
            Ok(())
        });
    }

    /// Closes every connection, and waits (bounded) until the peers have been told.
    pub async fn close(&self) {
        self.stop.cancel();
        self.quic.close(close::ENDED, b"shutting down");
        if timeout(CLOSE_TIMEOUT, self.quic.wait_idle()).await.is_err() {
            tracing::debug!("left connections to time out");
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({} at {})", self.name, self.local_address)
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    for grown in [socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES), socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)] {
        if let Err(error) = grown {
            tracing::debug!(%error, "the kernel keeps its own size of a UDP buffer");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_CONGESTION_WINDOW_BYTES);
    let idle = VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32);
    transport
        .max_idle_timeout(Some(IdleTimeout::from(idle)))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(STREAM_WINDOW_BYTES.into())
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(congestion));
    transport
}

fn endpoint_config(identity: &Identity) -> quinn::EndpointConfig {
    let mut config = match identity.reset_key() {
        Some(key) => quinn::EndpointConfig::new(key),
        None => quinn::EndpointConfig::default(),
    };
    config.cid_generator(|| Box::new(ConnectionIds));
    config
}

/// Random connection ids, any of which counts as one that a former self of this process may have made: a restarted
/// process then answers packets of old connections with a stateless reset. Quinn's own generator takes ids of a former
/// self for noise, and the peer waits for the idle timeout.
struct ConnectionIds;

const CONNECTION_ID_BYTES: usize = 8;

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; CONNECTION_ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
