//! Users, as others and as they themselves see them.

use axum::Json;
use serde::Deserialize;
use tertulia_shard_map::UserId;
use tertulia_wire::client::{Command, ErrorCode, Profile, ProfileChange, ProfileList, ProfileQuery};
use utoipa::ToSchema;

use crate::rest::{
    Problem,
    caller::AsUser,
    extract::{Body, Path, Query},
    params::{UserPath, UsersParams},
    schemas,
};

/// What of one's profile is to change; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnProfileChange {
    #[schema(schema_with = schemas::optional_name)]
    name: Option<String>,
    #[schema(schema_with = schemas::optional_avatar_url)]
    avatar_url: Option<String>,
    /// Whether others see that one is online and typing.
    shares_presence: Option<bool>,
}

/// Get users
///
/// Those who have signed in at least once, in any order.
#[utoipa::path(get, path = "/v1/users", tag = "Users", params(UsersParams),
    responses((status = 200, description = "Those that are known", body = ProfileList)))]
pub async fn get_users(user: AsUser, Query(params): Query<UsersParams>) -> Result<Json<ProfileList>, Problem> {
    user.command(Command::Profiles(ProfileQuery { user_ids: params.user_ids })).await.map(Json)
}

/// Get a user
#[utoipa::path(get, path = "/v1/users/{user_id}", tag = "Users", params(UserPath),
    responses((status = 200, description = "The user", body = Profile)))]
pub async fn get_user(user: AsUser, Path(path): Path<UserPath>) -> Result<Json<Profile>, Problem> {
    let profile = one(&user, path.user_id).await?;
    profile.map(Json).ok_or_else(|| Problem::new(ErrorCode::NotFound, "nobody of this id has signed in yet"))
}

/// Get one's own profile
#[utoipa::path(get, path = "/v1/profile", tag = "Users",
    responses((status = 200, description = "The profile", body = Profile)))]
pub async fn get_profile(user: AsUser) -> Result<Json<Profile>, Problem> {
    let known = one(&user, user.id()).await?;
    let bare = || Profile { user_id: user.id(), name: None, avatar_url: None, shares_presence: Some(true) };
    Ok(Json(known.unwrap_or_else(bare)))
}

/// Change one's own profile
#[utoipa::path(patch, path = "/v1/profile", tag = "Users", request_body = OwnProfileChange,
    responses((status = 200, description = "The profile now", body = Profile)))]
pub async fn change_profile(user: AsUser, Body(body): Body<OwnProfileChange>) -> Result<Json<Profile>, Problem> {
    let OwnProfileChange { name, avatar_url, shares_presence } = body;
    user.command(Command::SetProfile(ProfileChange { name, avatar_url, shares_presence })).await.map(Json)
}

async fn one(user: &AsUser, id: UserId) -> Result<Option<Profile>, Problem> {
    let list: ProfileList = user.command(Command::Profiles(ProfileQuery { user_ids: vec![id] })).await?;
    Ok(list.users.into_iter().find(|profile| profile.user_id == id))
}
