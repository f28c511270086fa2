//! The WebSocket handshake: `GET /v1/ws`, and what other skins share of it.
//!
//! Done here and not by axum's extractor, for what that hides: the bare TCP stream, which spares an idle session some
//! memory, and the exact error of an oversized frame, which has a close code of its own.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tertulia_wire::{TraceId, client::Format, limits};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role, protocol::WebSocketConfig},
};
use tokio_util::sync::CancellationToken;

use super::{accept::ConnectionPermit, web::Web};
use crate::{metrics::HANDSHAKES, session::Client};

/// Allocated per session for as long as it lives: small, and large enough for almost every frame.
const READ_BUFFER_BYTES: usize = 2048;
const WRITE_BUFFER_BYTES: usize = 2048;
/// One frame is written at a time, so this is never reached.
const WRITE_BUFFER_BYTES_MAX: usize = 2 * limits::SERVER_FRAME_BYTES;

/// Who finds this router stopping, and no other, is to come again at a random time up to this: one may have started.
const RETRY_AFTER_SECONDS_MAX: u16 = 5;

/// Why a handshake is refused: an HTTP status, and a text for the developer.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    status: StatusCode,
    reason: &'static str,
    text: &'static str,
}

const fn refused(status: StatusCode, reason: &'static str, text: &'static str) -> Refused {
    Refused { status, reason, text }
}

/// What the headers of an acceptable handshake say.
struct Accepted {
    accept_key: String,
    bearer: Option<Box<str>>,
    trace: Option<TraceId>,
}

/// A handshake that was accepted, of whichever skin. The connection is there once `response` was sent.
pub(crate) struct Upgrade {
    pub(crate) connection: OnUpgrade,
    /// To be held for as long as the connection is open.
    pub(crate) permit: Option<ConnectionPermit>,
    pub(crate) bearer: Option<Box<str>>,
    pub(crate) trace: Option<TraceId>,
    pub(crate) response: Response,
}

/// An acceptable handshake of the native skin.
pub struct Handshake {
    pub client: Client,
    /// What to answer,
    pub response: Response,
    /// and what comes of it then.
    pub upgrading: Upgrading,
}

/// A connection that becomes a WebSocket once its handshake is answered.
pub struct Upgrading {
    connection: OnUpgrade,
    permit: Option<ConnectionPermit>,
}

pub(super) async fn websocket(State(web): State<Web>, request: Request) -> Response {
    let Handshake { client, response, upgrading } = match goes_on(&web.draining).and_then(|()| handshake(request)) {
        Ok(handshake) => handshake,
        Err(refused) => return refused.into_response(),
    };
    let sessions = web.sessions.clone();
    web.tasks.spawn(upgrading.run(limits::CLIENT_FRAME_BYTES, async move |socket| sessions.run(socket, client).await));
    response
}

/// Checks a handshake of the native skin; an `Err` is to be the answer to a bad one.
pub fn handshake(mut request: Request) -> Result<Handshake, Refused> {
    let format = tokens(request.headers(), header::SEC_WEBSOCKET_PROTOCOL).find_map(Format::from_subprotocol);
    let Upgrade { connection, permit, bearer, trace, mut response } = accept(&mut request)?;
    let format = format.ok_or(NO_SUBPROTOCOL)?;
    metrics::counter!(HANDSHAKES, "outcome" => "ok").increment(1);
    let subprotocol = HeaderValue::from_static(format.subprotocol());
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    let client = Client { format, bearer, trace };
    Ok(Handshake { client, response, upgrading: Upgrading { connection, permit } })
}

/// Accepts a handshake of another skin, or says why not.
pub(crate) fn upgrade(request: &mut Request, draining: &CancellationToken) -> Result<Upgrade, Refused> {
    goes_on(draining)?;
    accept(request)
}

fn goes_on(draining: &CancellationToken) -> Result<(), Refused> {
    if draining.is_cancelled() {
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "draining", "this router stops; use another"));
    }
    Ok(())
}

fn accept(request: &mut Request) -> Result<Upgrade, Refused> {
    let Accepted { accept_key, bearer, trace } = check(request.method(), request.headers())?;
    let permit = request.extensions().get::<ConnectionPermit>().cloned();
    let not_upgradable = refused(StatusCode::UPGRADE_REQUIRED, "not_upgradable", "the connection cannot be upgraded");
    let connection = request.extensions_mut().remove::<OnUpgrade>().ok_or(not_upgradable)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(&accept_key) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    Ok(Upgrade { connection, permit, bearer, trace, response })
}

impl Upgrading {
    /// Runs `session` on the WebSocket, whose messages have at most `message_bytes_max`.
    pub async fn run(self, message_bytes_max: usize, session: impl AsyncFnOnce(WebSocketStream<TcpStream>)) {
        let Self { connection, permit } = self;
        // Counts until the session has ended.
        let _permit = permit;
        if let Some(socket) = socket(connection, message_bytes_max).await {
            session(socket).await;
        }
    }
}

/// The bare stream of an upgraded connection, and what was read of it already. `None` where the peer left before the
/// answer.
pub(crate) async fn stream(connection: OnUpgrade) -> Option<(TcpStream, Bytes)> {
    let Parts { io, read_buf, .. } = connection.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((io.into_inner(), read_buf))
}

async fn socket(connection: OnUpgrade, message_bytes_max: usize) -> Option<WebSocketStream<TcpStream>> {
    let (stream, ahead) = stream(connection).await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    let config = Some(config);
    Some(if ahead.is_empty() {
        WebSocketStream::from_raw_socket(stream, Role::Server, config).await
    } else {
        WebSocketStream::from_partially_read(stream, ahead.into(), Role::Server, config).await
    })
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        metrics::counter!(HANDSHAKES, "outcome" => self.reason).increment(1);
        let version = (HeaderName::from_static("sec-websocket-version"), HeaderValue::from_static("13"));
        let mut response = (self.status, [version], self.text).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = rand::random_range(1..=RETRY_AFTER_SECONDS_MAX);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn check(method: &Method, headers: &HeaderMap) -> Result<Accepted, Refused> {
    const NOT_WEBSOCKET: Refused =
        refused(StatusCode::UPGRADE_REQUIRED, "not_websocket", "this is a WebSocket endpoint: want an upgrade");
    if method != Method::GET || !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(NOT_WEBSOCKET);
    }
    if !has_token(headers, header::UPGRADE, "websocket") {
        return Err(NOT_WEBSOCKET);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(refused(StatusCode::UPGRADE_REQUIRED, "version", "want Sec-WebSocket-Version: 13"));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return Err(refused(StatusCode::BAD_REQUEST, "no_key", "Sec-WebSocket-Key is missing"));
    };
    let accept_key = derive_accept_key(key.as_bytes());
    Ok(Accepted { accept_key, bearer: bearer(headers)?, trace: trace_of(headers) })
}

const NO_SUBPROTOCOL: Refused = refused(
    StatusCode::BAD_REQUEST,
    "subprotocol",
    "offer the WebSocket subprotocol tertulia.v1.json or tertulia.v1.msgpack",
);

/// The token of `Authorization: Bearer`, if there is one. Whether it is any good is seen at `hello`.
fn bearer(headers: &HeaderMap) -> Result<Option<Box<str>>, Refused> {
    const BAD: Refused =
        refused(StatusCode::BAD_REQUEST, "authorization", "want Authorization: Bearer and a token, or none");
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(BAD)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > limits::TOKEN_BYTES {
        return Err(BAD);
    }
    Ok(Some(token.into()))
}

/// `X-Trace-Id`, or the trace of a W3C `traceparent`.
fn trace(headers: &HeaderMap) -> Option<TraceId> {
    let text = |name: &'static str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = text("x-trace-id").and_then(|id| id.trim().parse().ok());
    own.or_else(|| text("traceparent")?.split('-').nth(1)?.parse().ok())
}

/// The trace that a request is part of: a new one where it names none.
pub fn trace_of(headers: &HeaderMap) -> Option<TraceId> {
    trace(headers).or_else(new_trace)
}

fn new_trace() -> Option<TraceId> {
    TraceId::new(rand::random())
}

/// The items of a header that is a list, over all its lines.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|it| it.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(change: impl FnOnce(&mut HeaderMap)) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "other, tertulia.v1.msgpack, tertulia.v1.json"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        change(&mut headers);
        headers
    }

    fn refusal(change: impl FnOnce(&mut HeaderMap)) -> Option<&'static str> {
        check(&Method::GET, &headers(change)).err().map(|refused| refused.reason)
    }

    #[test]
    fn the_first_known_subprotocol_is_chosen() {
        let headers = headers(|_| ());
        let accepted = check(&Method::GET, &headers).ok().unwrap();
        let format = tokens(&headers, header::SEC_WEBSOCKET_PROTOCOL).find_map(Format::from_subprotocol);
        assert_eq!(format, Some(Format::MessagePack));
        assert_eq!(accepted.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        assert_eq!(refusal(|it| drop(it.remove("upgrade"))), Some("not_websocket"));
        assert_eq!(refusal(|it| drop(it.remove("connection"))), Some("not_websocket"));
        assert_eq!(refusal(|it| drop(it.remove("sec-websocket-version"))), Some("version"));
        assert_eq!(refusal(|it| drop(it.remove("sec-websocket-key"))), Some("no_key"));
        assert!(check(&Method::POST, &headers(|_| ())).is_err());
    }

    #[test]
    fn a_token_may_come_with_the_handshake() {
        let with = |value: &'static str| {
            bearer(&headers(|it| drop(it.insert("authorization", HeaderValue::from_static(value)))))
        };
        assert_eq!(with("Bearer abc").unwrap().as_deref(), Some("abc"));
        assert_eq!(with("bearer abc").unwrap().as_deref(), Some("abc"));
        assert!(with("Basic abc").is_err());
        assert!(with("Bearer ").is_err());
    }

    #[test]
    fn a_trace_id_is_taken_from_either_header() {
        const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |name: &'static str, value: String| {
            trace(&headers(|it| drop(it.insert(name, HeaderValue::try_from(value).unwrap())))).map(|id| id.to_string())
        };
        assert_eq!(read("x-trace-id", ID.into()).as_deref(), Some(ID));
        assert_eq!(read("traceparent", format!("00-{ID}-00f067aa0ba902b7-01")).as_deref(), Some(ID));
        assert_eq!(read("traceparent", "nonsense".into()), None);
    }
}
