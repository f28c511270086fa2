//! Groups and their members, by the app.

use axum::{Json, http::StatusCode};
use tertulia_wire::client::{
    Ack, Command, ConversationInfo, ConversationQuery, MemberPage, MembersChange, MembersQuery,
};

use crate::rest::{
    Problem,
    bodies::{NewConversation, NewName, NewRole, Users},
    caller::AsApp,
    extract::{Body, Path, Query},
    params::{ActingOnceParams, ActingParams, ConversationPath, MemberPath, MembersParams},
};

/// Create a group
///
/// In the name of `as_user`, who becomes the owner; without, the first of `user_ids` does.
#[utoipa::path(post, path = "/v1/app/conversations", tag = "App: conversations", params(ActingParams),
    request_body = NewConversation, responses((status = 201, description = "The event that began it", body = Ack)))]
pub async fn create_conversation_as_app(
    app: AsApp,
    Query(acting): Query<ActingParams>,
    Body(body): Body<NewConversation>,
) -> Result<(StatusCode, Json<Ack>), Problem> {
    Ok((StatusCode::CREATED, Json(app.command(acting.as_user, body.command()).await?)))
}

/// Get a conversation
///
/// Any conversation. `role` is `owner`: nothing is closed to the app.
#[utoipa::path(get, path = "/v1/app/conversations/{conversation_id}", tag = "App: conversations",
    params(ConversationPath), responses((status = 200, description = "The conversation", body = ConversationInfo)))]
pub async fn get_conversation_as_app(
    app: AsApp,
    Path(path): Path<ConversationPath>,
) -> Result<Json<ConversationInfo>, Problem> {
    let query = ConversationQuery { conversation_id: path.conversation_id };
    app.command(None, Command::Conversation(query)).await.map(Json)
}

/// Rename a group
#[utoipa::path(patch, path = "/v1/app/conversations/{conversation_id}", tag = "App: conversations",
    params(ConversationPath, ActingParams), request_body = NewName,
    responses((status = 200, description = "The event", body = Ack)))]
pub async fn rename_conversation_as_app(
    app: AsApp,
    Path(path): Path<ConversationPath>,
    Query(acting): Query<ActingParams>,
    Body(body): Body<NewName>,
) -> Result<Json<Ack>, Problem> {
    app.command(acting.as_user, body.of(path.conversation_id)).await.map(Json)
}

/// List members
#[utoipa::path(get, path = "/v1/app/conversations/{conversation_id}/members", tag = "App: conversations",
    params(ConversationPath, MembersParams), responses((status = 200, description = "A page", body = MemberPage)))]
pub async fn list_members_as_app(
    app: AsApp,
    Path(path): Path<ConversationPath>,
    Query(params): Query<MembersParams>,
) -> Result<Json<MemberPage>, Problem> {
    let MembersParams { after, limit } = params;
    let query = MembersQuery { conversation_id: path.conversation_id, after, limit };
    app.command(None, Command::Members(query)).await.map(Json)
}

/// Add members
#[utoipa::path(post, path = "/v1/app/conversations/{conversation_id}/members", tag = "App: conversations",
    params(ConversationPath, ActingParams), request_body = Users,
    responses((status = 200, description = "The event", body = Ack)))]
pub async fn add_members_as_app(
    app: AsApp,
    Path(path): Path<ConversationPath>,
    Query(acting): Query<ActingParams>,
    Body(body): Body<Users>,
) -> Result<Json<Ack>, Problem> {
    app.command(acting.as_user, body.join(path.conversation_id)).await.map(Json)
}

/// Remove members
#[utoipa::path(post, path = "/v1/app/conversations/{conversation_id}/members/remove", tag = "App: conversations",
    params(ConversationPath, ActingParams), request_body = Users,
    responses((status = 200, description = "The event", body = Ack)))]
pub async fn remove_members_as_app(
    app: AsApp,
    Path(path): Path<ConversationPath>,
    Query(acting): Query<ActingParams>,
    Body(body): Body<Users>,
) -> Result<Json<Ack>, Problem> {
    app.command(acting.as_user, body.leave(path.conversation_id)).await.map(Json)
}

/// Remove a member
#[utoipa::path(delete, path = "/v1/app/conversations/{conversation_id}/members/{user_id}", tag = "App: conversations",
    params(MemberPath, ActingOnceParams), responses((status = 200, description = "The event", body = Ack)))]
pub async fn remove_member_as_app(
    app: AsApp,
    Path(path): Path<MemberPath>,
    Query(ActingOnceParams { as_user, temp_id }): Query<ActingOnceParams>,
) -> Result<Json<Ack>, Problem> {
    let MemberPath { conversation_id, user_id } = path;
    let change = MembersChange { conversation_id, temp_id, user_ids: vec![user_id] };
    app.command(as_user, Command::RemoveMembers(change)).await.map(Json)
}

/// Give a role
#[utoipa::path(patch, path = "/v1/app/conversations/{conversation_id}/members/{user_id}", tag = "App: conversations",
    params(MemberPath, ActingParams), request_body = NewRole,
    responses((status = 200, description = "The event", body = Ack)))]
pub async fn set_role_as_app(
    app: AsApp,
    Path(path): Path<MemberPath>,
    Query(acting): Query<ActingParams>,
    Body(body): Body<NewRole>,
) -> Result<Json<Ack>, Problem> {
    app.command(acting.as_user, body.of(path.conversation_id, path.user_id)).await.map(Json)
}
