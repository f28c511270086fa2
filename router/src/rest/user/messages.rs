//! Messages, what becomes of them, and how far they were read.

use axum::{Json, http::StatusCode};
use tertulia_wire::client::{Ack, Command, DeleteMessage, HistoryPage, HistoryQuery, Marked};

use crate::rest::{
    Problem,
    bodies::{NewMessage, NewReaction, Reached},
    caller::AsUser,
    extract::{Body, Path, Query},
    params::{ConversationPath, HistoryParams, MessagePath, OnceParams, UserPath},
};

/// Read the history
///
/// Events in order of `seq`, without a hole, messages as they are now. A page ends at about 512 KiB of content.
#[utoipa::path(get, path = "/v1/conversations/{conversation_id}/messages", tag = "Messages",
    params(ConversationPath, HistoryParams), responses((status = 200, description = "A page", body = HistoryPage)))]
pub async fn list_messages(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Query(params): Query<HistoryParams>,
) -> Result<Json<HistoryPage>, Problem> {
    user.command(history(path, params)).await.map(Json)
}

/// Shared with the app's view of a conversation.
pub fn history(path: ConversationPath, params: HistoryParams) -> Command {
    let HistoryParams { after_seq, before_seq, limit } = params;
    Command::History(HistoryQuery { conversation_id: path.conversation_id, after_seq, before_seq, limit })
}

/// Send a message
///
/// Answered once it is durably committed. A retry with the same `temp_id` and the same content gets the same answer.
#[utoipa::path(post, path = "/v1/conversations/{conversation_id}/messages", tag = "Messages", params(ConversationPath),
    request_body = NewMessage, responses((status = 201, description = "The message", body = Ack)))]
pub async fn send_message(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Body(body): Body<NewMessage>,
) -> Result<(StatusCode, Json<Ack>), Problem> {
    Ok((StatusCode::CREATED, Json(user.command(body.for_conversation(path.conversation_id)).await?)))
}

/// Send a message to a user
///
/// In the direct conversation with them, which the first message creates.
#[utoipa::path(post, path = "/v1/users/{user_id}/messages", tag = "Messages", params(UserPath),
    request_body = NewMessage, responses((status = 201, description = "The message", body = Ack)))]
pub async fn send_direct_message(
    user: AsUser,
    Path(path): Path<UserPath>,
    Body(body): Body<NewMessage>,
) -> Result<(StatusCode, Json<Ack>), Problem> {
    Ok((StatusCode::CREATED, Json(user.command(body.for_user(path.user_id)).await?)))
}

/// Edit a message
///
/// One's own: it has all of the new content, and nothing of the old, from now on. `message` of the answer is the event
/// that says so.
#[utoipa::path(put, path = "/v1/conversations/{conversation_id}/messages/{message_id}", tag = "Messages",
    params(MessagePath), request_body = NewMessage, responses((status = 200, description = "The event", body = Ack)))]
pub async fn edit_message(
    user: AsUser,
    Path(path): Path<MessagePath>,
    Body(body): Body<NewMessage>,
) -> Result<Json<Ack>, Problem> {
    user.command(body.in_place_of(path.conversation_id, path.message_id)).await.map(Json)
}

/// Delete a message
///
/// One's own, or for an admin anybody's: it loses its content, for everybody and for good. Its place stays.
#[utoipa::path(delete, path = "/v1/conversations/{conversation_id}/messages/{message_id}", tag = "Messages",
    params(MessagePath, OnceParams), responses((status = 200, description = "The event", body = Ack)))]
pub async fn delete_message(
    user: AsUser,
    Path(path): Path<MessagePath>,
    Query(OnceParams { temp_id }): Query<OnceParams>,
) -> Result<Json<Ack>, Problem> {
    user.command(deletion(path, temp_id)).await.map(Json)
}

pub fn deletion(path: MessagePath, temp_id: String) -> Command {
    let MessagePath { conversation_id, message_id } = path;
    Command::Delete(DeleteMessage { conversation_id, message_id, temp_id })
}

/// React to a message
///
/// Or take a reaction back, with `change`: `remove`.
#[utoipa::path(post, path = "/v1/conversations/{conversation_id}/messages/{message_id}/reactions", tag = "Messages",
    params(MessagePath), request_body = NewReaction, responses((status = 200, description = "The event", body = Ack)))]
pub async fn react(
    user: AsUser,
    Path(path): Path<MessagePath>,
    Body(body): Body<NewReaction>,
) -> Result<Json<Ack>, Problem> {
    user.command(body.to(path.conversation_id, path.message_id)).await.map(Json)
}

/// Say what was delivered
///
/// Everything up to `seq` has reached one of the user's devices. Watermarks only grow: a lower one changes nothing.
#[utoipa::path(put, path = "/v1/conversations/{conversation_id}/delivered", tag = "Receipts", params(ConversationPath),
    request_body = Reached, responses((status = 200, description = "The watermarks now", body = Marked)))]
pub async fn mark_delivered(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Body(body): Body<Reached>,
) -> Result<Json<Marked>, Problem> {
    user.command(Command::Delivered(body.of(path.conversation_id))).await.map(Json)
}

/// Say what was read
///
/// The user has seen everything up to `seq`; `unread` falls accordingly, on every device.
#[utoipa::path(put, path = "/v1/conversations/{conversation_id}/read", tag = "Receipts", params(ConversationPath),
    request_body = Reached, responses((status = 200, description = "The watermarks now", body = Marked)))]
pub async fn mark_read(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Body(body): Body<Reached>,
) -> Result<Json<Marked>, Problem> {
    user.command(Command::Read(body.of(path.conversation_id))).await.map(Json)
}
