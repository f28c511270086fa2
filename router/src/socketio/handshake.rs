//! The handshake, `GET /socket.io/`: what is no Socket.IO 4 over WebSocket is refused here, with the codes and words of the
//! reference server.

use std::sync::Arc;

use axum::{
    Json,
    extract::Request,
    http::{self, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Skin, link::Link, transport::Transport};
use crate::{
    edge::{self, Upgrade},
    metrics::HANDSHAKES,
};

/// Why a handshake is refused, as Engine.IO says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Refused {
    code: u8,
    message: &'static str,
}

const UNKNOWN_TRANSPORT: Refused = Refused { code: 0, message: "Transport unknown" };
const UNKNOWN_SESSION: Refused = Refused { code: 1, message: "Session ID unknown" };
const UNSUPPORTED_VERSION: Refused = Refused { code: 5, message: "Unsupported protocol version" };

/// Upgrades a connection and gives it to the library. `tasks` is where that runs.
pub(crate) fn connect(
    skin: &Skin,
    tasks: &TaskTracker,
    draining: &CancellationToken,
    mut request: Request,
) -> Response {
    if let Err(refused) = check(request.uri()) {
        metrics::counter!(HANDSHAKES, "outcome" => "socket_io").increment(1);
        return (StatusCode::BAD_REQUEST, Json(refused)).into_response();
    }
    let Upgrade { connection, permit, bearer, trace, response } = match edge::upgrade(&mut request, draining) {
        Ok(upgrade) => upgrade,
        Err(refused) => return refused.into_response(),
    };
    metrics::counter!(HANDSHAKES, "outcome" => "ok").increment(1);
    let link = Arc::new(Link::new(bearer, trace));
    let query = query(request.uri());
    let skin = skin.clone();
    tasks.spawn(async move {
        if let Some((stream, ahead)) = edge::stream(connection).await {
            skin.serve(Transport::new(stream, ahead, link.clone(), permit), link, query);
        }
    });
    response
}

/// What the library looks at of a request, and no more of it: it keeps it for as long as the connection lives.
fn query(uri: &Uri) -> http::Request<()> {
    let mut request = http::Request::new(());
    *request.uri_mut() = uri.clone();
    request
}

fn check(uri: &Uri) -> Result<(), Refused> {
    let query = uri.query().unwrap_or_default();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if value("transport") != Some("websocket") {
        return Err(UNKNOWN_TRANSPORT);
    }
    if value("EIO") != Some("4") {
        return Err(UNSUPPORTED_VERSION);
    }
    // Only a connection that began by long-polling would have one.
    if value("sid").is_some() {
        return Err(UNKNOWN_SESSION);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(query: &str) -> Result<(), Refused> {
        check(&format!("/socket.io/?{query}").parse().unwrap())
    }

    #[test]
    fn only_version_4_over_websocket_is_served() {
        assert_eq!(checked("EIO=4&transport=websocket"), Ok(()));
        assert_eq!(checked("t=abc&transport=websocket&EIO=4"), Ok(()));
        assert_eq!(checked("EIO=4&transport=polling"), Err(UNKNOWN_TRANSPORT));
        assert_eq!(checked("EIO=4"), Err(UNKNOWN_TRANSPORT));
        assert_eq!(checked(""), Err(UNKNOWN_TRANSPORT));
        assert_eq!(checked("EIO=3&transport=websocket"), Err(UNSUPPORTED_VERSION));
        assert_eq!(checked("transport=websocket"), Err(UNSUPPORTED_VERSION));
        assert_eq!(checked("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAHs"), Err(UNKNOWN_SESSION));
    }
}
