//! The conversation list, and groups as wholes.

use axum::{Json, http::StatusCode};
use serde::Serialize;
use tertulia_wire::{
    client::{Ack, Command, ConversationInfo, ConversationQuery, ConversationRow, ErrorCode, LeaveConversation},
    cluster::InboxPosition,
    limits::{SYNC_PAGE_DEFAULT, SYNC_PAGE_MAX},
};
use utoipa::ToSchema;

use crate::{
    commands::conversation_row,
    rest::{
        Problem,
        bodies::{NewConversation, NewName, Once},
        caller::AsUser,
        cursor::Cursor,
        extract::{Body, Path, Query},
        params::{ConversationPath, ListParams},
    },
};

/// A page of the conversation list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationList {
    conversations: Vec<ConversationRow>,
    pagination: Pagination,
    /// Messages that this user has not read, over all conversations.
    unread_total: u64,
}

/// Where a page ends, and how to go on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pagination {
    has_more: bool,
    /// Ask with this as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// Most rows of a page, as asked for.
    limit: u32,
}

/// List conversations
///
/// Those of the user, in order of their newest event, newest first. A conversation that moves up while one pages is on a
/// page that was read already: to follow changes, use `sync`.
#[utoipa::path(get, path = "/v1/conversations", tag = "Conversations", params(ListParams),
    responses((status = 200, description = "A page", body = ConversationList)))]
pub async fn list_conversations(
    user: AsUser,
    Query(params): Query<ListParams>,
) -> Result<Json<ConversationList>, Problem> {
    let limit = params.limit.unwrap_or(SYNC_PAGE_DEFAULT);
    if !(1..=SYNC_PAGE_MAX).contains(&limit) {
        let detail = format!("`limit`: {limit} is not from 1 to {SYNC_PAGE_MAX}");
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    let page = user.ask().inbox(user.id(), params.cursor.map(|cursor| cursor.0), limit).await?;
    let last = page.rows.last().filter(|_| page.has_more);
    let end = last.map(|row| Cursor(InboxPosition { last_at_ms: row.last_at_ms, conversation: row.conversation }));
    let pagination = Pagination { has_more: end.is_some(), next_cursor: end.map(|cursor| cursor.to_string()), limit };
    let conversations = page.rows.into_iter().map(conversation_row).collect();
    Ok(Json(ConversationList { conversations, pagination, unread_total: page.unread_total }))
}

/// Create a group
///
/// Direct conversations need no creating: the first message to a user does it.
#[utoipa::path(post, path = "/v1/conversations", tag = "Conversations", request_body = NewConversation,
    responses((status = 201, description = "The event that began it", body = Ack)))]
pub async fn create_conversation(
    user: AsUser,
    Body(body): Body<NewConversation>,
) -> Result<(StatusCode, Json<Ack>), Problem> {
    Ok((StatusCode::CREATED, Json(user.command(body.command()).await?)))
}

/// Get a conversation
#[utoipa::path(get, path = "/v1/conversations/{conversation_id}", tag = "Conversations", params(ConversationPath),
    responses((status = 200, description = "The conversation", body = ConversationInfo)))]
pub async fn get_conversation(
    user: AsUser,
    Path(path): Path<ConversationPath>,
) -> Result<Json<ConversationInfo>, Problem> {
    let query = ConversationQuery { conversation_id: path.conversation_id };
    user.command(Command::Conversation(query)).await.map(Json)
}

/// Rename a group
#[utoipa::path(patch, path = "/v1/conversations/{conversation_id}", tag = "Conversations", params(ConversationPath),
    request_body = NewName, responses((status = 200, description = "The event", body = Ack)))]
pub async fn rename_conversation(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Body(body): Body<NewName>,
) -> Result<Json<Ack>, Problem> {
    user.command(body.of(path.conversation_id)).await.map(Json)
}

/// Leave a group
///
/// Where the only owner leaves, the longest-standing admin, else member, becomes owner.
#[utoipa::path(post, path = "/v1/conversations/{conversation_id}/leave", tag = "Conversations",
    params(ConversationPath), request_body = Once, responses((status = 200, description = "The event", body = Ack)))]
pub async fn leave_conversation(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Body(Once { temp_id }): Body<Once>,
) -> Result<Json<Ack>, Problem> {
    let leave = LeaveConversation { conversation_id: path.conversation_id, temp_id };
    user.command(Command::Leave(leave)).await.map(Json)
}
