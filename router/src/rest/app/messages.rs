//! Messages, by the app.

use axum::{Json, http::StatusCode};
use tertulia_wire::client::{Ack, HistoryPage};

use crate::rest::{
    Problem,
    bodies::NewMessage,
    caller::AsApp,
    extract::{Body, Path, Query},
    params::{ActingOnceParams, ActingParams, ConversationPath, HistoryParams, MessagePath, UserPath},
    user::messages::{deletion, history},
};

/// Read the history
///
/// Of any conversation, from its first event on.
#[utoipa::path(get, path = "/v1/app/conversations/{conversation_id}/messages", tag = "App: messages",
    params(ConversationPath, HistoryParams), responses((status = 200, description = "A page", body = HistoryPage)))]
pub async fn list_messages_as_app(
    app: AsApp,
    Path(path): Path<ConversationPath>,
    Query(params): Query<HistoryParams>,
) -> Result<Json<HistoryPage>, Problem> {
    app.command(None, history(path, params)).await.map(Json)
}

/// Send a message
///
/// As the app itself, or in the name of `as_user`: a user or a bot.
#[utoipa::path(post, path = "/v1/app/conversations/{conversation_id}/messages", tag = "App: messages",
    params(ConversationPath, ActingParams), request_body = NewMessage,
    responses((status = 201, description = "The message", body = Ack)))]
pub async fn send_message_as_app(
    app: AsApp,
    Path(path): Path<ConversationPath>,
    Query(acting): Query<ActingParams>,
    Body(body): Body<NewMessage>,
) -> Result<(StatusCode, Json<Ack>), Problem> {
    let command = body.for_conversation(path.conversation_id);
    Ok((StatusCode::CREATED, Json(app.command(acting.as_user, command).await?)))
}

/// Send a message to a user
///
/// In the direct conversation of `as_user`, or of the app itself, with them.
#[utoipa::path(post, path = "/v1/app/users/{user_id}/messages", tag = "App: messages", params(UserPath, ActingParams),
    request_body = NewMessage, responses((status = 201, description = "The message", body = Ack)))]
pub async fn send_direct_message_as_app(
    app: AsApp,
    Path(path): Path<UserPath>,
    Query(acting): Query<ActingParams>,
    Body(body): Body<NewMessage>,
) -> Result<(StatusCode, Json<Ack>), Problem> {
    Ok((StatusCode::CREATED, Json(app.command(acting.as_user, body.for_user(path.user_id)).await?)))
}

/// Delete a message
///
/// Anybody's.
#[utoipa::path(delete, path = "/v1/app/conversations/{conversation_id}/messages/{message_id}", tag = "App: messages",
    params(MessagePath, ActingOnceParams), responses((status = 200, description = "The event", body = Ack)))]
pub async fn delete_message_as_app(
    app: AsApp,
    Path(path): Path<MessagePath>,
    Query(ActingOnceParams { as_user, temp_id }): Query<ActingOnceParams>,
) -> Result<Json<Ack>, Problem> {
    app.command(as_user, deletion(path, temp_id)).await.map(Json)
}
