//! Errors as `application/problem+json` (RFC 9457), and which HTTP status each code has.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tertulia_wire::client::{ErrorCode, ErrorReply};
use utoipa::ToSchema;

use crate::metrics::ERRORS;

pub const MEDIA_TYPE: &str = "application/problem+json";
/// Said in `Retry-After` where the error itself names no time: its unit is the second.
const RETRY_AFTER_DEFAULT_MS: u64 = 1000;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    error: ErrorReply,
}

/// Why a request was not carried out: a problem as in RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Where the code is explained.
    #[serde(rename = "type")]
    #[schema(examples("/docs#not_found"), format = "uri-reference")]
    kind: String,
    /// The code in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong this time: for developers, in English; it may change.
    detail: String,
    code: ErrorCode,
    /// Whether the same request may work later.
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// A request that cannot be read: a body that is no JSON, a field, parameter or id of the wrong form. What can be read
    /// and is not allowed is an [`ErrorReply`] like any other.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::of_http(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, detail)
    }

    /// What HTTP alone knows of.
    pub fn of_http(status: StatusCode, code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { status, error: ErrorReply::new(code, detail) }
    }

    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        ErrorReply::new(code, detail).into()
    }

    /// Something that only a fault of ours can bring about.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "a fault of the server's")
    }

    #[cfg(test)]
    pub fn code(&self) -> ErrorCode {
        self.error.code
    }
}

impl From<ErrorReply> for Problem {
    /// The native protocol names fields of an envelope's `data`; here they are the request's own.
    fn from(mut error: ErrorReply) -> Self {
        error.message = error.message.replace("`data.", "`").replace("`data`:", "the request:");
        Self { status: status(error.code), error }
    }
}

/// The status of each code. `docs/REST.md` has the table.
pub const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadFrame => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized | ErrorCode::TokenExpired => StatusCode::UNAUTHORIZED,
        ErrorCode::ClientOutdated => StatusCode::UPGRADE_REQUIRED,
        ErrorCode::Blocked | ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound | ErrorCode::UnknownType => StatusCode::NOT_FOUND,
        ErrorCode::Conflict | ErrorCode::NoChange | ErrorCode::LimitReached | ErrorCode::NotExpected => {
            StatusCode::CONFLICT
        }
        ErrorCode::BadRequest => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RateLimited | ErrorCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

const fn title(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadFrame => "The body cannot be read",
        ErrorCode::BadRequest => "The request is not valid",
        ErrorCode::UnknownType => "No such resource or method",
        ErrorCode::NotExpected => "Not expected now",
        ErrorCode::Unauthorized => "No valid token or key",
        ErrorCode::TokenExpired => "The token has expired",
        ErrorCode::ClientOutdated => "This version is too old",
        ErrorCode::NotFound => "Not found",
        ErrorCode::Conflict => "Used before with another payload",
        ErrorCode::Blocked => "Blocked",
        ErrorCode::Forbidden => "Not allowed",
        ErrorCode::NoChange => "It is so already",
        ErrorCode::LimitReached => "A limit is reached",
        ErrorCode::RateLimited => "Too much in a while",
        ErrorCode::Overloaded => "Too much at once",
        ErrorCode::Unavailable => "Not available now",
        ErrorCode::Internal => "A fault of the server's",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, error } = self;
        let code = error.code;
        metrics::counter!(ERRORS, "code" => code.as_str()).increment(1);
        let retry_after_ms = error.retry_after_ms;
        let body = ProblemBody {
            kind: format!("/docs#{}", code.as_str()),
            title: title(code),
            status: status.as_u16(),
            detail: error.message,
            code,
            retryable: error.retryable,
            retry_after_ms,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let seconds = retry_after_ms.unwrap_or(RETRY_AFTER_DEFAULT_MS).div_ceil(1000).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = match code {
                ErrorCode::TokenExpired => r#"Bearer error="invalid_token", error_description="expired""#,
                _ => "Bearer",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_says_whose_fault_it_is() {
        for code in ErrorCode::ALL {
            let status = status(code);
            let is_servers = matches!(code, ErrorCode::Internal | ErrorCode::Unavailable);
            assert_eq!(status.is_server_error(), is_servers, "{code:?}");
            assert_eq!(status.is_client_error(), !is_servers, "{code:?}");
            if code.retryable() {
                assert!(is_servers || status == StatusCode::TOO_MANY_REQUESTS, "{code:?}");
            }
        }
    }

    #[test]
    fn a_wait_is_said_in_whole_seconds_and_in_milliseconds() {
        let overloaded = ErrorReply::new(ErrorCode::Overloaded, "full").with_retry_after_ms(1200);
        let response = Problem::from(overloaded).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        let response = Problem::new(ErrorCode::Unavailable, "away").into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = Problem::new(ErrorCode::NotFound, "no").into_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn who_is_not_known_is_told_what_to_show() {
        let response = Problem::new(ErrorCode::Unauthorized, "no token").into_response();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn a_field_is_named_as_the_request_has_it() {
        let error = ErrorReply::new(ErrorCode::BadRequest, "`data.temp_id`: must not be empty");
        let problem = Problem::from(error);
        assert_eq!(problem.error.message, "`temp_id`: must not be empty");
        assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(Problem::malformed("no JSON").status, StatusCode::BAD_REQUEST);
    }
}
