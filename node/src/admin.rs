//! The admin listener: health and metrics over plain HTTP, for operators and scrapers. It shows nothing of a user.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use serde::Serialize;
use tertulia_runtime::telemetry::Metrics;
use tertulia_shard_map::ShardMap;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{slots::SlotTable, store::Writer};

/// What the pages show.
#[derive(Clone)]
pub struct Admin {
    pub writer: Writer,
    pub map: watch::Receiver<Option<Arc<ShardMap>>>,
    pub table: SlotTable,
    pub metrics: Metrics,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    /// Empty when ready.
    reasons: Vec<String>,
}

pub async fn run(admin: Admin, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/health/live", get(|| async { Json(Readiness { status: "live", reasons: Vec::new() }) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(|State(admin): State<Admin>| async move { admin.metrics.render() }))
        .with_state(admin);
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let reasons = admin.reasons();
    if reasons.is_empty() {
        (StatusCode::OK, Json(Readiness { status: "ready", reasons }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Readiness { status: "not ready", reasons }))
    }
}

impl Admin {
    /// Why this node does not serve all that it should.
    fn reasons(&self) -> Vec<String> {
        let Some(map) = self.map.borrow().clone() else { return vec!["the cluster is not initialised".to_owned()] };
        let Some(entry) = map.node(self.writer.node) else { return vec!["the map does not have this node".to_owned()] };
        if entry.incarnation != self.writer.incarnation {
            return vec!["the map does not have this incarnation yet".to_owned()];
        }
        let owned = map.owned_by(self.writer.node).count();
        let serving = self.table.len();
        if serving < owned {
            vec![format!("{} of {owned} slots are not taken over yet", owned - serving)]
        } else {
            Vec::new()
        }
    }
}
