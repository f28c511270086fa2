//! Parameters of paths and queries.

use serde::{Deserialize, Deserializer, de};
use tertulia_shard_map::{ConversationId, EventId, Rev, Seq, UserId};
use utoipa::{
    IntoParams,
    openapi::{
        RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle},
    },
};

use super::{cursor, cursor::Cursor, schemas};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ConversationPath {
    pub conversation_id: ConversationId,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct MessagePath {
    pub conversation_id: ConversationId,
    /// The message's event id.
    pub message_id: EventId,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct MemberPath {
    pub conversation_id: ConversationId,
    #[serde(deserialize_with = "user")]
    pub user_id: UserId,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct UserPath {
    #[serde(deserialize_with = "user")]
    pub user_id: UserId,
}

/// A page of the conversation list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    pub limit: Option<u32>,
    pub cursor: Option<Cursor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembersParams {
    #[serde(default, deserialize_with = "optional_user")]
    pub after: Option<UserId>,
    pub limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlocksParams {
    #[serde(default, deserialize_with = "optional_user")]
    pub after: Option<UserId>,
    pub limit: Option<u32>,
}

/// At most one of `after_seq` and `before_seq`; with neither, the newest page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryParams {
    pub after_seq: Option<Seq>,
    pub before_seq: Option<Seq>,
    pub limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncParams {
    pub rev: Option<Rev>,
    pub limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersParams {
    #[serde(deserialize_with = "users")]
    pub user_ids: Vec<UserId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnceParams {
    pub temp_id: String,
}

/// In whose name the app does something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActingParams {
    #[serde(default, deserialize_with = "optional_user")]
    pub as_user: Option<UserId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActingOnceParams {
    #[serde(default, deserialize_with = "optional_user")]
    pub as_user: Option<UserId>,
    pub temp_id: String,
}

macro_rules! described {
    ($($params:ident: $($parameter:expr),+;)*) => {
        $(impl IntoParams for $params {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter.build()),+]
            }
        })*
    };
}

// By hand: what derives would say of a field with a schema of its own is that it is optional.
described! {
    ListParams:
        optional("limit", schemas::sync_limit()),
        optional("cursor", cursor::schema()).description(Some("`next_cursor` of the page before."));
    MembersParams: after(), optional("limit", schemas::members_limit());
    BlocksParams: after(), optional("limit", schemas::blocks_limit());
    HistoryParams:
        optional("after_seq", schemas::seq())
            .description(Some("The page that follows this event: the oldest above it. Not with `before_seq`.")),
        optional("before_seq", schemas::seq())
            .description(Some("The page that ends before this event: the newest below it. With neither, the newest page.")),
        optional("limit", schemas::history_limit());
    SyncParams:
        optional("rev", schemas::rev()).description(Some("`rev` of the page before; 0, or left out, for all.")),
        optional("limit", schemas::sync_limit());
    UsersParams:
        required("user_ids", schemas::profile_users())
            .description(Some("Separated by commas."))
            .style(Some(ParameterStyle::Form))
            .explode(Some(false));
    OnceParams: once();
    ActingParams: acting();
    ActingOnceParams: acting(), once();
}

fn optional(name: &str, schema: impl Into<RefOr<Schema>>) -> ParameterBuilder {
    required(name, schema).required(Required::False)
}

fn required(name: &str, schema: impl Into<RefOr<Schema>>) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(Required::True).schema(Some(schema))
}

fn after() -> ParameterBuilder {
    optional("after", schemas::user_id()).description(Some("Ids above this one: the last of the page before."))
}

fn once() -> ParameterBuilder {
    required("temp_id", schemas::temp_id())
}

fn acting() -> ParameterBuilder {
    let description = "The user or bot in whose name it is done; left out, the app itself (`sender_id` of 26 zeros).";
    optional("as_user", schemas::user_id()).description(Some(description))
}

fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
    valid(UserId::deserialize(deserializer)?)
}

fn optional_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UserId>, D::Error> {
    user(deserializer).map(Some)
}

fn users<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<UserId>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.split(',').map(|id| id.parse().map_err(de::Error::custom).and_then(valid)).collect()
}

fn valid<E: de::Error>(user: UserId) -> Result<UserId, E> {
    if user.is_valid() { Ok(user) } else { Err(E::custom("not the id of a user")) }
}
