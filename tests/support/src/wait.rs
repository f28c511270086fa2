//! Waiting for a state, never for a time.

use std::{future::Future, time::Duration};

/// How long anything may take that should happen at once. Long, for a loaded machine; a test that waits for it has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until `probe` gives a value; panics with `what` after [`DEADLINE`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    within(what, DEADLINE, polling).await
}

/// Panics with `what` where the future takes longer.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("after {limit:?} still waiting: {what}"),
    }
}
