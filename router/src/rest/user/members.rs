//! The members of a conversation.

use axum::Json;
use tertulia_wire::client::{Ack, Command, MemberPage, MembersChange, MembersQuery};

use crate::rest::{
    Problem,
    bodies::{NewRole, Users},
    caller::AsUser,
    extract::{Body, Path, Query},
    params::{ConversationPath, MemberPath, MembersParams, OnceParams},
};

/// List members
///
/// In order of their ids.
#[utoipa::path(get, path = "/v1/conversations/{conversation_id}/members", tag = "Members",
    params(ConversationPath, MembersParams), responses((status = 200, description = "A page", body = MemberPage)))]
pub async fn list_members(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Query(params): Query<MembersParams>,
) -> Result<Json<MemberPage>, Problem> {
    let MembersParams { after, limit } = params;
    let query = MembersQuery { conversation_id: path.conversation_id, after, limit };
    user.command(Command::Members(query)).await.map(Json)
}

/// Add members
///
/// By an admin. New members read from the event on that made them members.
#[utoipa::path(post, path = "/v1/conversations/{conversation_id}/members", tag = "Members", params(ConversationPath),
    request_body = Users, responses((status = 200, description = "The event", body = Ack)))]
pub async fn add_members(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Body(body): Body<Users>,
) -> Result<Json<Ack>, Problem> {
    user.command(body.join(path.conversation_id)).await.map(Json)
}

/// Remove members
///
/// By an admin; admins and owners by an owner only. The event is the last that they get.
#[utoipa::path(post, path = "/v1/conversations/{conversation_id}/members/remove", tag = "Members",
    params(ConversationPath), request_body = Users, responses((status = 200, description = "The event", body = Ack)))]
pub async fn remove_members(
    user: AsUser,
    Path(path): Path<ConversationPath>,
    Body(body): Body<Users>,
) -> Result<Json<Ack>, Problem> {
    user.command(body.leave(path.conversation_id)).await.map(Json)
}

/// Remove a member
///
/// The same for one. To go oneself: leave.
#[utoipa::path(delete, path = "/v1/conversations/{conversation_id}/members/{user_id}", tag = "Members",
    params(MemberPath, OnceParams), responses((status = 200, description = "The event", body = Ack)))]
pub async fn remove_member(
    user: AsUser,
    Path(path): Path<MemberPath>,
    Query(OnceParams { temp_id }): Query<OnceParams>,
) -> Result<Json<Ack>, Problem> {
    let MemberPath { conversation_id, user_id } = path;
    let change = MembersChange { conversation_id, temp_id, user_ids: vec![user_id] };
    user.command(Command::RemoveMembers(change)).await.map(Json)
}

/// Give a role
///
/// By an owner. The only owner's role cannot be taken.
#[utoipa::path(patch, path = "/v1/conversations/{conversation_id}/members/{user_id}", tag = "Members",
    params(MemberPath), request_body = NewRole, responses((status = 200, description = "The event", body = Ack)))]
pub async fn set_role(
    user: AsUser,
    Path(path): Path<MemberPath>,
    Body(body): Body<NewRole>,
) -> Result<Json<Ack>, Problem> {
    user.command(body.of(path.conversation_id, path.user_id)).await.map(Json)
}
