//! The routes of the client port.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde::{Deserialize, Serialize};
use tertulia_runtime::telemetry::Metrics;
use tertulia_shard_map::{DevName, UserId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    handshake::websocket,
    page::{ASSETS, Asset},
};
use crate::{
    auth::{ApiKeys, dev::DevSigner},
    metrics::HELD_BYTES,
    rest,
    routing::Health,
    session::{Sessions, unix_ms},
    socketio,
};

/// Beside REST, no request but a sign-in has a body.
const BODY_BYTES: usize = 4 * 1024;

/// What the routes need. Cheap to clone.
#[derive(Clone)]
pub struct Web {
    pub sessions: Sessions,
    /// Absent in tests that share a process.
    pub metrics: Option<Metrics>,
    /// Present only in development.
    pub dev: Option<Arc<DevSigner>>,
    /// Of the app's back end.
    pub api_keys: Arc<ApiKeys>,
    /// Where sessions run.
    pub tasks: TaskTracker,
    /// Cancelled when the router begins to stop.
    pub draining: CancellationToken,
}

pub fn app(web: Web) -> Router {
    let mut app = Router::new()
        .route("/v1/ws", any(websocket))
        .merge(socket_io(&web))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics_text));
    if web.dev.is_some() {
        app = app.route("/v1/dev/login", post(login)).route("/v1/dev/users/{name}", get(user));
    }
    for asset in ASSETS.iter() {
        let path = if asset.path == "index.html" { "/".to_owned() } else { format!("/{}", asset.path) };
        app = app.route(&path, get(move |headers: HeaderMap| async move { Asset::respond(asset, &headers) }));
    }
    let Sessions { routes, shared, .. } = &web.sessions;
    let api = rest::Api::new(routes.clone(), shared.clone(), web.api_keys.clone());
    // Their own limits stand: they are laid on below this one.
    app = app.merge(rest::router(api)).fallback(rest::nothing_here);
    app.layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(web)
}

fn socket_io(web: &Web) -> Router<Web> {
    let skin = socketio::Skin::new(web.sessions.clone(), web.tasks.clone());
    let connect = any(move |State(web): State<Web>, request: Request| async move {
        socketio::connect(&skin, &web.tasks, &web.draining, request)
    });
    Router::new().route("/socket.io", connect.clone()).route("/socket.io/", connect)
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// Why not; empty where ready.
    reasons: Vec<String>,
    /// What is not served, by this router and any other: no reason to send clients elsewhere.
    warnings: Vec<String>,
    map_version: u64,
    sessions: usize,
}

/// Whether a new session belongs here: there is a map, a node is connected, and the router is not stopping. A node that
/// is away is no reason: all routers miss it alike, and one dead node must not take them all out of a load balancer.
async fn ready(State(web): State<Web>) -> Response {
    let health = web.sessions.routes.health();
    let mut reasons = Vec::new();
    if web.draining.is_cancelled() {
        reasons.push("the router is stopping".to_owned());
    }
    if !health.has_map {
        reasons.push("there is no shard map yet: no node can be reached, or the cluster is not initialised".to_owned());
    } else if !health.reaches_a_node {
        reasons.push("no node is connected".to_owned());
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let map_version = web.sessions.routes.version().get();
    let sessions = web.sessions.registry.len();
    let body = Readiness { ready, reasons, warnings: warnings(&health), map_version, sessions };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn warnings(health: &Health) -> Vec<String> {
    let mut warnings: Vec<String> =
        health.owners_away.iter().map(|node| format!("node {node} is not connected")).collect();
    if health.slots_without_owner > 0 {
        warnings.push(format!("{} slots have no owner", health.slots_without_owner));
    }
    warnings
}

async fn metrics_text(State(web): State<Web>) -> Response {
    let Some(metrics) = &web.metrics else { return StatusCode::NOT_FOUND.into_response() };
    metrics::gauge!(HELD_BYTES).set(web.sessions.shared.held.held() as f64);
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], metrics.render()).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    name: String,
}

#[derive(Serialize)]
struct DevUser {
    user_id: UserId,
    name: String,
}

#[derive(Serialize)]
struct LoggedIn {
    token: String,
    user: DevUser,
    expires_at_ms: i64,
}

#[derive(Serialize)]
struct Problem {
    message: String,
}

fn problem(status: StatusCode, message: impl ToString) -> Response {
    (status, Json(Problem { message: message.to_string() })).into_response()
}

async fn login(State(web): State<Web>, body: Result<Json<Login>, JsonRejection>) -> Response {
    let Some(signer) = &web.dev else { return StatusCode::NOT_FOUND.into_response() };
    let login = match body {
        Ok(Json(login)) => login,
        Err(error) => return problem(error.status(), error.body_text()),
    };
    let name = match login.name.parse::<DevName>() {
        Ok(name) => name,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error),
    };
    match signer.sign(&name, unix_ms()) {
        Ok(signed) => {
            let user = DevUser { user_id: name.user_id(), name: name.as_str().to_owned() };
            let body = LoggedIn { token: signed.token, user, expires_at_ms: signed.expires_at_ms };
            ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot sign a development token");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "cannot sign a token")
        }
    }
}

async fn user(Path(name): Path<String>) -> Response {
    match name.parse::<DevName>() {
        Ok(name) => Json(DevUser { user_id: name.user_id(), name: name.as_str().to_owned() }).into_response(),
        Err(error) => problem(StatusCode::BAD_REQUEST, error),
    }
}
