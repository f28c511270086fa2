//! Delta sync: what changed since the last time.

use axum::Json;
use tertulia_wire::client::{Command, SyncPage, SyncQuery};

use crate::rest::{Problem, caller::AsUser, extract::Query, params::SyncParams};

/// Get what changed
///
/// Rows of the conversation list that changed after `rev`, the least recently changed first. The protocol's `sync`.
#[utoipa::path(get, path = "/v1/sync", tag = "Sync", params(SyncParams),
    responses((status = 200, description = "A page", body = SyncPage)))]
pub async fn sync(user: AsUser, Query(params): Query<SyncParams>) -> Result<Json<SyncPage>, Problem> {
    let query = SyncQuery { rev: params.rev.unwrap_or_default(), limit: params.limit };
    user.command(Command::Sync(query)).await.map(Json)
}
