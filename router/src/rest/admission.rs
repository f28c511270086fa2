//! How many requests are under way at once: of the router, and of each caller. Beyond, a request is refused at once
//! rather than queued.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tertulia_shard_map::UserId;
use tertulia_wire::client::{ErrorCode, ErrorReply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Problem;

const REQUESTS_MAX: usize = 1024;
const REQUESTS_PER_USER_MAX: usize = 32;
/// A back end speaks for many users.
const REQUESTS_PER_KEY_MAX: usize = 256;
const RETRY_AFTER_MS: u64 = 500;

/// On whose account a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    User(UserId),
    /// By its place in the configuration.
    ApiKey(usize),
}

impl Account {
    const fn requests_max(self) -> usize {
        match self {
            Self::User(_) => REQUESTS_PER_USER_MAX,
            Self::ApiKey(_) => REQUESTS_PER_KEY_MAX,
        }
    }
}

#[derive(Clone)]
pub struct Admission {
    room: Arc<Semaphore>,
    /// Those with a request under way only.
    under_way: Arc<Mutex<HashMap<Account, usize>>>,
}

/// One of the bounded number of requests of the router, before it is known whose it is.
pub struct Admitted {
    _permit: OwnedSemaphorePermit,
}

/// One of the bounded number of requests of a caller, until dropped.
pub struct Place {
    account: Account,
    admission: Admission,
    _admitted: Admitted,
}

impl Admission {
    pub fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(REQUESTS_MAX)), under_way: Arc::default() }
    }

    pub fn admit(&self) -> Result<Admitted, Problem> {
        let permit = self.room.clone().try_acquire_owned();
        permit
            .map(|permit| Admitted { _permit: permit })
            .map_err(|_| full("this router has too many requests under way"))
    }

    pub fn place(&self, admitted: Admitted, account: Account) -> Result<Place, Problem> {
        let mut under_way = self.under_way();
        let count = under_way.entry(account).or_default();
        if *count >= account.requests_max() {
            return Err(full("you have too many requests under way"));
        }
        *count += 1;
        Ok(Place { account, admission: self.clone(), _admitted: admitted })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Account, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.admission.under_way();
        if let Some(count) = under_way.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.account);
            }
        }
    }
}

fn full(message: &str) -> Problem {
    ErrorReply::new(ErrorCode::Overloaded, message).with_retry_after_ms(RETRY_AFTER_MS).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_requests_at_once_and_others_have_theirs() {
        let admission = Admission::new();
        let place = |account| admission.admit().and_then(|admitted| admission.place(admitted, account));
        let (ana, bea) = (Account::User(UserId::from_u128(1)), Account::User(UserId::from_u128(2)));
        let mut held: Vec<Place> = (0..REQUESTS_PER_USER_MAX).filter_map(|_| place(ana).ok()).collect();
        assert_eq!(held.len(), REQUESTS_PER_USER_MAX);
        assert_eq!(place(ana).err().map(|problem| problem.code()), Some(ErrorCode::Overloaded));
        assert!(place(bea).is_ok());
        assert!(place(Account::ApiKey(0)).is_ok());
        held.pop();
        assert!(place(ana).is_ok());
        held.clear();
        assert!(admission.under_way().is_empty(), "nothing is kept of who has none under way");
    }

    #[test]
    fn a_router_has_so_many_requests_at_once() {
        let admission = Admission::new();
        let held: Vec<Admitted> = (0..REQUESTS_MAX).filter_map(|_| admission.admit().ok()).collect();
        assert_eq!(held.len(), REQUESTS_MAX);
        assert_eq!(admission.admit().err().map(|problem| problem.code()), Some(ErrorCode::Overloaded));
        drop(held);
        assert!(admission.admit().is_ok());
    }
}
