//! The wall clock, read in drivers only, and an error's causes in one line.

use std::{
    error::Error,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970 (UTC); 0 for a clock before that.
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// `error: cause: cause of the cause`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
