//! How much a user may do in a while, however many routers the user is at: sliding windows, kept in Redis for all routers
//! together.
//!
//! Invariants: never more than a limit in any window, as long as Redis is there; a command waits for Redis no longer than
//! [`REDIS_PATIENCE`]. Every router also keeps windows of its own, which decide alone while Redis is away: then the limits are
//! each router's.
//!
//! What the app's back end says is not limited. Deliberately absent: connections, handshakes and requests under way (`edge` and
//! `rest` bound these), and what a session reads, which has its own pace.

mod action;
mod redis;
mod turnstile;
mod windows;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tertulia_runtime::config::LimitsConfig;
use tertulia_wire::{
    client::{ErrorCode, ErrorReply},
    cluster::Call,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    action::{Action, Deed},
    turnstile::Turnstile,
};
use self::{
    redis::{Counted, SharedWindows},
    windows::{Key, Windows},
};
use crate::metrics::{LIMITED, LIMITS_ALONE};

/// Longest time that a command waits for Redis. Beyond, this router decides alone, for a while.
pub const REDIS_PATIENCE: Duration = Duration::from_millis(50);

/// At most `count` in any window. Of no action where `count` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub count: u32,
    pub window: Duration,
}

/// What is left of a limit after a deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    pub action: Action,
    pub limit: Limit,
    pub remaining: u32,
    /// Until the oldest deed in the window has left it: one more may be done then.
    pub resets_in: Duration,
}

/// Too much in a while: come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub allowance: Allowance,
}

impl Limited {
    pub fn error(&self) -> ErrorReply {
        let Allowance { action, limit, resets_in, .. } = self.allowance;
        let message = format!("at most {} of {} in {} ms", limit.count, action.as_str(), limit.window.as_millis());
        let wait = resets_in.as_millis().max(1);
        ErrorReply::new(ErrorCode::RateLimited, message).with_retry_after_ms(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

/// The limits of one router. Cheap to clone.
#[derive(Clone)]
pub struct Limits {
    /// `None` where nothing is limited.
    inner: Option<Arc<Inner>>,
}

struct Inner {
    limits: LimitsConfig,
    own: Mutex<Windows>,
    shared: SharedWindows,
}

impl Limits {
    pub fn new(limits: LimitsConfig, client: ::redis::Client) -> Self {
        let own = Mutex::new(Windows::default());
        let inner = Inner { limits, own, shared: SharedWindows::new(client) };
        Self { inner: limits.enabled.then(|| Arc::new(inner)) }
    }

    /// Limits nothing.
    pub fn none() -> Self {
        Self { inner: None }
    }

    /// Keeps the connection to Redis, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        match &self.inner {
            Some(inner) => inner.shared.run(stop).await,
            None => stop.cancelled().await,
        }
    }

    /// What a call is, where it is limited.
    pub fn deed(&self, call: &Call) -> Option<Deed> {
        let inner = self.inner.as_deref()?;
        Deed::of(call).filter(|deed| inner.limit(deed.action).count > 0)
    }

    /// Counts what is about to be done. `None` where nothing is limited.
    pub async fn admit(&self, deed: Deed) -> Result<Option<Allowance>, Limited> {
        match &self.inner {
            Some(inner) => inner.admit(deed).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Inner {
    fn limit(&self, action: Action) -> Limit {
        let limits = &self.limits;
        let count = match action {
            Action::Send => limits.sends,
            Action::Change => limits.changes,
            Action::Group => limits.groups,
            Action::Account => limits.account,
        };
        Limit { count, window: Duration::from_millis(limits.window_ms) }
    }

    async fn admit(&self, deed: Deed) -> Result<Allowance, Limited> {
        let limit = self.limit(deed.action);
        let key = Key { action: deed.action, user: deed.user };
        let now = Instant::now();
        // First alone: whoever does not cease is refused without Redis, and the windows are there should Redis go away.
        let own = self.own().count(key, limit, now);
        let decided = match own {
            Counted::Refused { .. } => own,
            Counted::Admitted { .. } => match self.shared.count(key, limit).await {
                Some(shared) => {
                    if let Counted::Refused { .. } = shared {
                        self.own().take_back(&key, now);
                    }
                    shared
                }
                None => {
                    metrics::counter!(LIMITS_ALONE).increment(1);
                    own
                }
            },
        };
        let action = deed.action;
        match decided {
            Counted::Admitted { remaining, resets_in } => Ok(Allowance { action, limit, remaining, resets_in }),
            Counted::Refused { resets_in } => {
                metrics::counter!(LIMITED, "action" => action.as_str()).increment(1);
                Err(Limited { allowance: Allowance { action, limit, remaining: 0, resets_in } })
            }
        }
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Windows> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
