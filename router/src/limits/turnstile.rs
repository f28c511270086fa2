//! The limits of one session, which keeps its commands in order.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use tokio::sync::Mutex;

use super::{Deed, Limited, Limits};

/// Lets a session's commands through one after the other, as they came.
#[derive(Clone)]
pub struct Turnstile {
    limits: Limits,
    /// Fair: whoever waits first goes first.
    turn: Arc<Mutex<()>>,
}

impl Turnstile {
    pub fn new(limits: Limits) -> Self {
        Self { limits, turn: Arc::default() }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts the deed, then begins with `carry_out`. The next one's turn comes only when that has been polled once, which is when it
    /// takes its place on the stream to the owner.
    pub async fn pass<T>(&self, deed: Deed, carry_out: impl Future<Output = T>) -> Result<T, Limited> {
        let turn = self.turn.lock().await;
        self.limits.admit(deed).await?;
        let mut carry_out = pin!(carry_out);
        let begun = poll_fn(|cx| Poll::Ready(carry_out.as_mut().poll(cx))).await;
        drop(turn);
        match begun {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => Ok(carry_out.await),
        }
    }
}
