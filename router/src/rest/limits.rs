//! What is left of a limit, as headers: `RateLimit-Policy` and `RateLimit` of the IETF's draft "RateLimit header fields for HTTP".

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::limits::Allowance;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Seconds are whole there: windows and waits are rounded up.
pub fn tell(allowance: &Allowance, headers: &mut HeaderMap) {
    let Allowance { action, limit, remaining, resets_in } = allowance;
    let seconds = |time: &std::time::Duration| time.as_millis().div_ceil(1000).max(1);
    let policy = format!("\"{}\";q={};w={}", action.as_str(), limit.count, seconds(&limit.window));
    let left = format!("\"{}\";r={remaining};t={}", action.as_str(), seconds(resets_in));
    for (name, value) in [(POLICY, policy), (LEFT, left)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::{Action, Limit};

    #[test]
    fn the_headers_are_those_of_the_draft() {
        let limit = Limit { count: 30, window: Duration::from_secs(60) };
        let (remaining, resets_in) = (12, Duration::from_millis(34_100));
        let mut headers = HeaderMap::new();
        tell(&Allowance { action: Action::Send, limit, remaining, resets_in }, &mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"sends\";q=30;w=60");
        assert_eq!(headers["ratelimit"], "\"sends\";r=12;t=35");
    }
}
