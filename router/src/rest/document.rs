//! The OpenAPI document: every route with its handler, and what is true of all of them.
//!
//! Parameters, bodies and answers are described beside their handlers. Who may ask, and which problems there may be, is
//! known from the route alone, and said here once.

use utoipa::{
    OpenApi,
    openapi::{
        self, Content, HeaderBuilder, HttpMethod, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{Operation, ParameterIn, PathItem},
        schema::{Schema, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    app::{conversations as app_conversations, messages as app_messages, users as app_users},
    problem::{MEDIA_TYPE, ProblemBody},
    schemas::attachment_limits,
    user::{blocks, conversations, members, messages, profiles, sync},
};

const USER_TOKEN: &str = "user_token";
const API_KEY: &str = "api_key";

const TAGS: [(&str, &str); 10] = [
    ("Conversations", "The conversation list, and groups as wholes."),
    ("Messages", "The log of a conversation: messages, edits, deletions, reactions."),
    ("Members", "Who is in a conversation, and who may what."),
    ("Receipts", "How far a user has received and read."),
    ("Sync", "What changed since the last time."),
    ("Users", "Profiles."),
    ("Blocks", "Whom a user has blocked."),
    ("App: conversations", "For the app's back end, with an API key: any group and its members."),
    ("App: messages", "For the app's back end, with an API key: any conversation's messages."),
    ("App: users", "For the app's back end, with an API key: names, pictures, who may sign in."),
];

/// The problems that there may be, by status.
const PROBLEMS: [(&str, &str); 12] = [
    ("400", "A part of the request cannot be read"),
    ("401", "No valid token or key"),
    ("403", "Not allowed, blocked, or the user is disabled"),
    ("404", "Not found, or closed to this user"),
    ("408", "The body did not arrive in time"),
    ("409", "A conflict, no change, or a limit is reached"),
    ("413", "The body is too large"),
    ("415", "The body is not JSON"),
    ("422", "A part of the request is not allowed"),
    ("429", "Too much at once: try again"),
    ("500", "A fault of the server's: try again"),
    ("503", "Not available now: try again"),
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tertulia",
        description = "What of a chat is not a stream, over HTTP. Live events come over the WebSocket protocol. \
                       Every change is named by a `temp_id`, so that a retry of it is harmless. Errors are problems as in \
                       RFC 9457; those that are `retryable` may work later.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemBody))
)]
struct Base;

/// The routes, and the document that describes them.
pub fn routes() -> (axum::Router<Api>, openapi::OpenApi) {
    let router = OpenApiRouter::with_openapi(Base::openapi())
        .routes(routes!(conversations::list_conversations, conversations::create_conversation))
        .routes(routes!(conversations::get_conversation, conversations::rename_conversation))
        .routes(routes!(conversations::leave_conversation))
        .routes(routes!(messages::list_messages, messages::send_message))
        .routes(routes!(messages::send_direct_message))
        .routes(routes!(messages::edit_message, messages::delete_message))
        .routes(routes!(messages::react))
        .routes(routes!(members::list_members, members::add_members))
        .routes(routes!(members::remove_members))
        .routes(routes!(members::remove_member, members::set_role))
        .routes(routes!(messages::mark_delivered))
        .routes(routes!(messages::mark_read))
        .routes(routes!(sync::sync))
        .routes(routes!(profiles::get_users))
        .routes(routes!(profiles::get_user))
        .routes(routes!(profiles::get_profile, profiles::change_profile))
        .routes(routes!(blocks::list_blocks))
        .routes(routes!(blocks::block, blocks::unblock))
        .routes(routes!(app_conversations::create_conversation_as_app))
        .routes(routes!(app_conversations::get_conversation_as_app, app_conversations::rename_conversation_as_app))
        .routes(routes!(app_conversations::list_members_as_app, app_conversations::add_members_as_app))
        .routes(routes!(app_conversations::remove_members_as_app))
        .routes(routes!(app_conversations::remove_member_as_app, app_conversations::set_role_as_app))
        .routes(routes!(app_messages::list_messages_as_app, app_messages::send_message_as_app))
        .routes(routes!(app_messages::delete_message_as_app))
        .routes(routes!(app_messages::send_direct_message_as_app))
        .routes(routes!(app_users::get_user_as_app, app_users::change_user_as_app));
    let (router, mut document) = router.split_for_parts();
    complete(&mut document);
    (router, document)
}

fn complete(document: &mut openapi::OpenApi) {
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let tag = |(name, description): (&str, &str)| TagBuilder::new().name(name).description(Some(description)).build();
    document.tags = Some(TAGS.into_iter().map(tag).collect());
    let components = document.components.get_or_insert_default();
    for (name, scheme) in schemes() {
        components.add_security_scheme(name, scheme);
    }
    components
        .responses
        .extend(PROBLEMS.map(|(status, description)| (status.to_owned(), problem(status, description))));
    limit_attachments(components.schemas.get_mut("FileAttachment"));
    for (path, item) in &mut document.paths.paths {
        let scheme = if path.starts_with("/v1/app/") { API_KEY } else { USER_TOKEN };
        for (method, operation) in operations(item) {
            let no_scopes: [&str; 0] = [];
            operation.security = Some(vec![SecurityRequirement::new(scheme, no_scopes)]);
            add_problems(&method, operation);
        }
    }
}

fn schemes() -> [(&'static str, SecurityScheme); 2] {
    let bearer = |description| HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    let user = bearer("A user's token: a JWT, as for the WebSocket protocol.").bearer_format("JWT").build();
    let app = bearer("An API key of the app's back end, made with `tertuliactl api-key`.").build();
    [(USER_TOKEN, SecurityScheme::Http(user)), (API_KEY, SecurityScheme::Http(app))]
}

fn problem(status: &str, description: &str) -> RefOr<Response> {
    let response = ResponseBuilder::new()
        .description(description)
        .content(MEDIA_TYPE, Content::new(Some(Ref::from_schema_name("Problem"))));
    let response = if matches!(status, "429" | "503") {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        response.header("Retry-After", HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds")).build())
    } else {
        response
    };
    response.build().into()
}

fn limit_attachments(schema: Option<&mut RefOr<Schema>>) {
    let Some(RefOr::T(Schema::Object(attachment))) = schema else { return };
    for (name, limits) in attachment_limits() {
        attachment.properties.insert(name.to_owned(), limits.into());
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Which statuses of problems an operation may have.
fn add_problems(method: &HttpMethod, operation: &mut Operation) {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let names_something =
        parameters.iter().any(|it| matches!(it, RefOr::T(it) if it.parameter_in == ParameterIn::Path));
    let has_body = operation.request_body.is_some();
    let is_change = !matches!(method, HttpMethod::Get);
    let mut names = vec!["401", "403", "429", "500", "503"];
    if has_body || !parameters.is_empty() {
        names.extend(["400", "422"]);
    }
    if names_something || is_change {
        names.push("404");
    }
    if is_change {
        names.push("409");
    }
    if has_body {
        names.extend(["408", "413", "415"]);
    }
    names.sort_unstable();
    for name in names {
        operation.responses.responses.insert(name.to_owned(), Ref::from_response_name(name).into());
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.required = Some(Required::True);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::to_value(routes().1).unwrap()
    }

    fn each_operation(document: &Value, mut see: impl FnMut(&str, &str, &Value)) {
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                see(path, method, operation);
            }
        }
    }

    #[test]
    fn it_is_openapi_and_names_every_operation_once() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = HashSet::new();
        each_operation(&document, |path, method, operation| {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(operation["summary"].is_string(), "{id} has no summary");
        });
        assert!(ids.len() >= 30, "{}", ids.len());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut HashSet<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|field| references(field, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = HashSet::new();
        references(&document, &mut found);
        assert!(found.contains("#/components/schemas/Event"));
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn the_app_has_keys_and_users_have_tokens() {
        each_operation(&document(), |path, method, operation| {
            let scheme = if path.starts_with("/v1/app") { API_KEY } else { USER_TOKEN };
            assert!(operation["security"][0][scheme].is_array(), "{method} {path}");
            assert_eq!(operation["responses"]["401"]["$ref"], "#/components/responses/401");
        });
    }

    #[test]
    fn bodies_are_closed_and_have_the_limits_of_the_protocol() {
        let document = document();
        each_operation(&document, |path, method, operation| {
            let Some(reference) = operation.pointer("/requestBody/content/application~1json/schema/$ref") else {
                return;
            };
            let schema = document.pointer(&reference.as_str().unwrap()[1..]).unwrap();
            let forms = schema["oneOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
            assert!(forms.iter().all(|form| form["additionalProperties"] == false), "{method} {path}");
        });
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["NewMessage"]["oneOf"][0]["properties"]["temp_id"]["maxLength"], 64);
        assert_eq!(schemas["NewMessage"]["oneOf"][0]["required"], serde_json::json!(["temp_id", "content"]));
        assert_eq!(schemas["FileAttachment"]["properties"]["key"]["maxLength"], 512);
        assert_eq!(schemas["Users"]["properties"]["user_ids"]["maxItems"], 1000);
    }
}
