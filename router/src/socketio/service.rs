//! The library's server, and the handlers by which it makes sessions of connections.

use std::{future::ready, sync::Arc, time::Duration};

use axum::http::Request;
use socketioxide::{
    ParserConfig, SocketIo, TransportType,
    extract::SocketRef,
    handler::{ConnectHandler, Value},
    service::SocketIoService,
};
use tertulia_wire::{
    client::{ErrorCode, ErrorReply},
    limits,
};
use tokio_util::task::TaskTracker;

use super::{
    driver::TRANSIT_PACKETS_MAX,
    envelope,
    incoming::{Incoming, RawAuth},
    link::Link,
    session::Admitted,
    transport::Transport,
};
use crate::{
    commands::internal,
    session::{Policy, Sessions},
};

/// Allocated per connection for as long as it lives.
const READ_BUFFER_BYTES: usize = 2048;
/// Packets in the library's queue: those of the session, and as many of the library's own, so that a ping has room.
const QUEUE_PACKETS: usize = 2 * TRANSIT_PACKETS_MAX;
/// Attachments are refused, but only once they are there: what the library may hold of them until then.
const ATTACHMENTS_MAX: usize = 8;
const ATTACHMENTS_BYTES_MAX: usize = limits::CLIENT_FRAME_BYTES;
const ATTACHMENTS_WITHIN: Duration = Duration::from_secs(10);

/// Takes connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Skin {
    service: SocketIoService<()>,
}

impl Skin {
    /// `tasks` is where sessions run.
    pub(crate) fn new(sessions: Sessions, tasks: TaskTracker) -> Self {
        let Policy { hello_timeout, ping_interval, .. } = sessions.shared.policy;
        let parser = ParserConfig::common()
            .max_incoming_binaries(ATTACHMENTS_MAX)
            .max_incoming_binary_buf_size(ATTACHMENTS_BYTES_MAX)
            .packet_completion_timeout(ATTACHMENTS_WITHIN);
        let (service, io) = SocketIo::builder()
            .transports([TransportType::Websocket])
            .ping_interval(ping_interval)
            .ping_timeout(ping_interval)
            .connect_timeout(hello_timeout)
            .max_buffer_size(QUEUE_PACKETS)
            .max_payload(limits::CLIENT_FRAME_BYTES as u64)
            .ws_read_buffer_size(READ_BUFFER_BYTES)
            .ws_max_message_size(limits::CLIENT_FRAME_BYTES)
            .ws_max_frame_size(limits::CLIENT_FRAME_BYTES)
            .with_parser(parser)
            .build_with_inner_svc(());
        let admission = sessions.clone();
        let admit = move |socket: SocketRef, RawAuth(auth): RawAuth| ready(admit(&admission, &socket, auth.as_ref()));
        let begin = async move |socket: SocketRef| {
            if let Some(link) = link_of(&socket)
                && let Some(admitted) = link.take_admitted()
            {
                // The process waits for sessions, not for the library's tasks.
                tasks.spawn(async move { admitted.run(&sessions, socket, link).await });
            }
        };
        io.ns("/", begin.with(admit));
        Self { service }
    }

    /// Gives a connection to the library, from behind the handshake on. `query` is the handshake's.
    pub(super) fn serve(&self, stream: Transport, link: Arc<Link>, mut query: Request<()>) {
        query.extensions_mut().insert(link);
        let mut service = self.service.clone();
        // Fails on a query that was not checked before.
        if let Err(error) = tower::Service::call(&mut service, (stream, query)).into_inner() {
            tracing::warn!(%error, "a Socket.IO connection was refused after its handshake");
        }
    }
}

fn link_of(socket: &SocketRef) -> Option<Arc<Link>> {
    socket.req_parts().extensions.get::<Arc<Link>>().cloned()
}

/// Before the client is told that it is connected. Its events can come from right after on, so the handlers are set here.
fn admit(sessions: &Sessions, socket: &SocketRef, auth: Option<&Value>) -> Result<(), String> {
    let complain = |error: ErrorReply| {
        sessions.shared.meter.complained(&error);
        envelope::refusal(&error)
    };
    let link = link_of(socket).ok_or_else(|| complain(internal()))?;
    if !link.claim() {
        return Err(complain(ErrorReply::new(ErrorCode::NotExpected, "a connection has one session")));
    }
    let admitted = envelope::hello(auth)
        .map_err(complain)
        .and_then(|hello| Admitted::admit(sessions, hello, &link).map_err(|error| envelope::refusal(&error)));
    match admitted {
        Ok(admitted) => link.admit(admitted),
        Err(refusal) => {
            link.release();
            return Err(refusal);
        }
    }
    let inbox = link.clone();
    socket.on_fallback(move |event: Incoming| {
        // On the task that reads the connection: events keep their order.
        inbox.receive(event);
        ready(())
    });
    socket.on_disconnect(move || {
        link.left();
        ready(())
    });
    Ok(())
}
