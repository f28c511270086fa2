//! The parts of a request, each refused as a problem where it cannot be read.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::{Deserializer, de::DeserializeOwned};
use serde_json::Value;
use tertulia_wire::client::ErrorCode;
use tokio::time::timeout;

use super::Problem;

/// Largest body of a request: a native frame's.
pub const BODY_BYTES: usize = tertulia_wire::limits::CLIENT_FRAME_BYTES;
/// A body must have arrived by then; with what the cluster may take, the whole request stays below the client port's own
/// limit.
const BODY_READ: Duration = Duration::from_secs(4);

/// 2^63: below it a whole `f64` is an `i64`, which every number of a body is.
const I64_BELOW: f64 = 9_223_372_036_854_775_808.0;

/// The ids in the path.
pub struct Path<T>(pub T);

/// The query; unknown parameters are refused.
pub struct Query<T>(pub T);

/// A JSON object.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(ids)) => Ok(Self(ids)),
            Err(error) if error.status().is_server_error() => Err(Problem::internal()),
            Err(error) => Err(Problem::malformed(format!("the path: {}", error.body_text()))),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(error) => Err(Problem::malformed(format!("the query: {}", error.body_text()))),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let Ok(body) = timeout(BODY_READ, Bytes::from_request(request, state)).await else {
            let detail = "the body did not arrive in time";
            return Err(Problem::of_http(StatusCode::REQUEST_TIMEOUT, ErrorCode::Unavailable, detail));
        };
        let body = body.map_err(unread)?;
        if body.is_empty() {
            return Err(Problem::malformed("the body is missing"));
        }
        if !is_json {
            let detail = "want a body of Content-Type: application/json";
            return Err(Problem::of_http(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, detail));
        }
        // serde would take a list for a struct too.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::malformed("the body must be a JSON object"));
        }
        read(&body).map(Self)
    }
}

fn unread(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the body has more than {BODY_BYTES} bytes");
            Problem::of_http(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::BadRequest, detail)
        }
        _ => Problem::malformed("the body cannot be read"),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).map(str::trim);
    media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    match decode(&mut json) {
        Ok(value) => json.end().map(|()| value).map_err(|error| Problem::malformed(format!("the body: {error}"))),
        // To JSON `7.0` is an integer as good as `7`.
        Err(problem) => match serde_json::from_slice(body).ok().and_then(with_integers) {
            Some(value) => decode(value),
            None => Err(problem),
        },
    }
}

fn decode<'de, T: DeserializeOwned>(json: impl Deserializer<'de, Error = serde_json::Error>) -> Result<T, Problem> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        // A syntax error is of the body, wherever it is met.
        if path == "." || inner.is_syntax() || inner.is_eof() {
            Problem::malformed(format!("the body: {inner}"))
        } else {
            Problem::malformed(format!("`{path}`: {inner}"))
        }
    })
}

/// The value with numbers like `7.0` as integers; `None` where it has none.
fn with_integers(mut value: Value) -> Option<Value> {
    fn change(value: &mut Value) -> bool {
        match value {
            Value::Number(number) => {
                let whole = number.as_f64().filter(|it| number.is_f64() && it.fract() == 0.0 && it.abs() < I64_BELOW);
                if let Some(whole) = whole {
                    *value = Value::from(whole as i64);
                }
                whole.is_some()
            }
            Value::Array(items) => items.iter_mut().fold(false, |changed, item| change(item) | changed),
            Value::Object(fields) => fields.values_mut().fold(false, |changed, field| change(field) | changed),
            _ => false,
        }
    }
    change(&mut value).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its form matters")]
        size: u64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only its form matters")]
        items: Vec<Inner>,
    }

    fn refusal(body: &str) -> String {
        format!("{:?}", read::<Outer>(body.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert!(read::<Outer>(br#" {"items": [{"size": 1}]} "#).is_ok());
        assert!(refusal(r#"{"items": [{"size": 1}, {"size": "x"}]}"#).contains("`items[1].size`"));
        assert!(refusal(r#"{"items": [], "more": 1}"#).contains("more"));
        assert!(refusal("{}").contains("items"));
        assert!(read::<Outer>(br#"{"items": [{"size": 1.0}, {"size": 2e2}]}"#).is_ok(), "an integer to JSON");
        assert!(read::<Outer>(br#"{"items": [{"size": 9007199254740992.0}]}"#).is_ok(), "2^53 too");
        assert!(refusal(r#"{"items": [{"size": 9223372036854775808.0}]}"#).contains("`items[0].size`"));
        assert!(refusal(r#"{"items": [{"size": 1.5}]}"#).contains("`items[0].size`"));
        assert!(refusal(r#"{"items": [{"size": -1.0}]}"#).contains("`items[0].size`"));
    }

    #[test]
    fn what_is_no_json_is_refused_as_a_whole() {
        for body in ["{", r#"{"items": [}"#, r#"{"items": []} x"#, "{\"items\": [\"\u{1}\"]}"] {
            assert!(refusal(body).contains("the body") || refusal(body).contains("items"), "{body}");
        }
    }

    #[test]
    fn only_json_is_taken() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        assert!(with("application/json"));
        assert!(with("Application/JSON; charset=utf-8"));
        assert!(!with("text/plain"));
        assert!(!with("application/json-patch+json"));
        assert!(!is_json(&HeaderMap::new()));
    }
}
