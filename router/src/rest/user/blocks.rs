//! Whom a user has blocked.

use axum::{Json, http::StatusCode};
use tertulia_wire::client::{BlockList, BlockQuery, Command, ListBlocks};

use crate::rest::{
    Problem,
    caller::AsUser,
    cluster::Done,
    extract::{Path, Query},
    params::{BlocksParams, UserPath},
};

/// List blocked users
///
/// In order of their ids.
#[utoipa::path(get, path = "/v1/blocks", tag = "Blocks", params(BlocksParams),
    responses((status = 200, description = "A page", body = BlockList)))]
pub async fn list_blocks(user: AsUser, Query(params): Query<BlocksParams>) -> Result<Json<BlockList>, Problem> {
    let BlocksParams { after, limit } = params;
    user.command(Command::Blocks(ListBlocks { after, limit })).await.map(Json)
}

/// Block a user
///
/// Neither can write to the other in their direct conversation, nor see the other's presence and receipts. The other is
/// not told.
#[utoipa::path(put, path = "/v1/blocks/{user_id}", tag = "Blocks", params(UserPath),
    responses((status = 204, description = "Blocked")))]
pub async fn block(user: AsUser, Path(path): Path<UserPath>) -> Result<StatusCode, Problem> {
    let Done = user.command(Command::Block(BlockQuery { user_id: path.user_id })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Unblock a user
#[utoipa::path(delete, path = "/v1/blocks/{user_id}", tag = "Blocks", params(UserPath),
    responses((status = 204, description = "No longer blocked")))]
pub async fn unblock(user: AsUser, Path(path): Path<UserPath>) -> Result<StatusCode, Problem> {
    let Done = user.command(Command::Unblock(BlockQuery { user_id: path.user_id })).await?;
    Ok(StatusCode::NO_CONTENT)
}
