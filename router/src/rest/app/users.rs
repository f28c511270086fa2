//! Users, by the app: what they are called, and whether they may sign in.

use axum::Json;
use serde::{Deserialize, Serialize};
use tertulia_shard_map::UserId;
use tertulia_wire::{
    client::{ErrorCode, ProfileChange},
    cluster::{ProfileRecord, SetProfile},
};
use utoipa::ToSchema;

use crate::rest::{
    Problem,
    caller::AsApp,
    extract::{Body, Path},
    params::UserPath,
    schemas,
};

/// A user as the app sees them.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppUser {
    user_id: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
    shares_presence: bool,
    /// Whether they may not sign in.
    disabled: bool,
}

/// What is to change of a user; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    #[schema(schema_with = schemas::optional_name)]
    name: Option<String>,
    #[schema(schema_with = schemas::optional_avatar_url)]
    avatar_url: Option<String>,
    /// Whether others see that they are online and typing.
    shares_presence: Option<bool>,
    /// `true`: they may not sign in. Requests of theirs are refused within seconds.
    disabled: Option<bool>,
}

impl From<ProfileRecord> for AppUser {
    fn from(record: ProfileRecord) -> Self {
        let ProfileRecord { user, name, avatar_url, shares_presence, disabled } = record;
        Self { user_id: user, name, avatar_url, shares_presence, disabled }
    }
}

/// Get a user
#[utoipa::path(get, path = "/v1/app/users/{user_id}", tag = "App: users", params(UserPath),
    responses((status = 200, description = "The user", body = AppUser)))]
pub async fn get_user_as_app(app: AsApp, Path(path): Path<UserPath>) -> Result<Json<AppUser>, Problem> {
    let known = app.ask().profile(path.user_id).await?;
    let Some(record) = known else {
        return Err(Problem::new(ErrorCode::NotFound, "nobody of this id is known"));
    };
    Ok(Json(record.into()))
}

/// Change a user
///
/// Also one who has never signed in.
#[utoipa::path(patch, path = "/v1/app/users/{user_id}", tag = "App: users", params(UserPath),
    request_body = UserChange, responses((status = 200, description = "The user now", body = AppUser)))]
pub async fn change_user_as_app(
    app: AsApp,
    Path(path): Path<UserPath>,
    Body(body): Body<UserChange>,
) -> Result<Json<AppUser>, Problem> {
    let UserChange { name, avatar_url, shares_presence, disabled } = body;
    let profile = ProfileChange { name, avatar_url, shares_presence };
    profile.validate()?;
    let ProfileChange { name, avatar_url, shares_presence } = profile;
    let user = path.user_id;
    let change = SetProfile { user, origin: None, name, avatar_url, shares_presence, disabled };
    let record = app.ask().set_profile(&change).await?;
    app.changed(user);
    Ok(Json(record.into()))
}
