//! REST: what of the protocol is not a stream, as HTTP resources under `/v1`; under `/v1/app` what the app's back end
//! does, by API key. Described by `/v1/openapi.json`, which is made of the same code, and shown at `/docs`.
//!
//! Invariants: whatever goes wrong is answered as a problem ([`Problem`]); who is not known gets nothing but 401; requests
//! under way are bounded, of the router and of each caller; nothing of a message's content is logged.
//!
//! Deliberately absent: what a command means (that is `commands`), and sessions. A request is told of nothing that happens
//! later, and sends of one client are in order only where it waits for each answer.

mod admission;
mod app;
mod bodies;
mod caller;
mod cluster;
mod cursor;
mod document;
mod extract;
mod limits;
mod params;
mod problem;
mod reference;
mod schemas;
mod sign_in;
mod user;

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use tertulia_wire::{TraceId, client::ErrorCode};
use tokio::time::Instant;

pub use problem::Problem;

use self::{
    admission::Admission,
    cluster::{Ask, HOLD_MAX},
    sign_in::SignIns,
};
use crate::{
    auth::ApiKeys,
    edge::trace_of,
    limits::Allowance,
    metrics::{REST_LATENCY, REST_REQUESTS},
    routing::Routes,
    session::Shared,
};

const TRACE: HeaderName = HeaderName::from_static("x-trace-id");

/// What is left of the limit that a request counted against, for its answer's headers.
type Left = Arc<OnceLock<Allowance>>;

/// What the handlers need. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    routes: Arc<Routes>,
    shared: Arc<Shared>,
    keys: Arc<ApiKeys>,
    admission: Admission,
    sign_ins: Arc<SignIns>,
}

impl Api {
    pub fn new(routes: Arc<Routes>, shared: Arc<Shared>, keys: Arc<ApiKeys>) -> Self {
        Self { routes, shared, keys, admission: Admission::new(), sign_ins: Arc::default() }
    }

    fn ask<'a>(&'a self, trace: Option<TraceId>, left: Option<&'a Left>) -> Ask<'a> {
        let hold = self.shared.policy.hold.min(HOLD_MAX);
        Ask { routes: &self.routes, limits: &self.shared.limits, deadline: Instant::now() + hold, trace, left }
    }
}

/// All of it, to be merged into the client port's routes.
pub fn router<S: Clone + Send + Sync + 'static>(api: Api) -> Router<S> {
    let (router, document) = document::routes();
    let document = Bytes::from(serde_json::to_vec(&document).expect("a document is plain data"));
    let serve = move || async move {
        ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], document)
    };
    router
        .route("/v1/openapi.json", get(serve))
        .method_not_allowed_fallback(|| async {
            let detail = "this resource has no such method: see `Allow`";
            Problem::of_http(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::UnknownType, detail)
        })
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES))
        .layer(from_fn(accompany))
        .with_state(api)
        .merge(reference::router())
}

/// For what no route matches.
pub async fn nothing_here(uri: Uri) -> Response {
    match uri.path() {
        "/v1" => unknown(),
        path if path.starts_with("/v1/") => unknown(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn unknown() -> Response {
    Problem::new(ErrorCode::UnknownType, "there is no such resource").into_response()
}

/// Gives each request a trace, which its answer names, and counts it.
async fn accompany(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let trace = trace_of(request.headers());
    if let Some(trace) = trace {
        request.extensions_mut().insert(trace);
    }
    let left = Left::default();
    request.extensions_mut().insert(left.clone());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(left) = left.get() {
        limits::tell(left, headers);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Some(trace) = trace.and_then(|trace| HeaderValue::try_from(trace.to_string()).ok()) {
        headers.insert(TRACE, trace);
    }
    let status = response.status().as_str().to_owned();
    // Methods that no route has may be any text.
    let method =
        if response.status() == StatusCode::METHOD_NOT_ALLOWED { "other".to_owned() } else { method.to_string() };
    metrics::counter!(REST_REQUESTS, "method" => method, "path" => path, "status" => status).increment(1);
    metrics::histogram!(REST_LATENCY).record(started.elapsed().as_secs_f64());
    response
}
