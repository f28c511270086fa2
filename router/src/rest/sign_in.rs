//! Whether a user may use the cluster: not if the app has disabled them.
//!
//! A session asks when it begins, by attaching. A request has no session, so it asks the owner of the user's mailbox, and
//! keeps the answer for a moment. Whom the cluster has never heard of is signed in: attached once, so that their name is
//! known, and detached again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tertulia_shard_map::UserId;
use tertulia_wire::client::ErrorCode;

use super::{Problem, cluster::Ask};
use crate::auth::Identity;

/// A user who is disabled gets through for this long, and one who is enabled again has to wait for as long.
const KEPT: Duration = Duration::from_secs(5);
/// Beyond, all are forgotten: they cost a call each to learn again.
const KEPT_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    Welcome,
    Disabled,
}

/// What was found out in the last moments.
#[derive(Default)]
pub struct SignIns {
    known: Mutex<HashMap<UserId, (SignIn, Instant)>>,
}

impl SignIns {
    pub async fn check(&self, ask: &Ask<'_>, identity: &Identity) -> Result<(), Problem> {
        let now = Instant::now();
        let sign_in = match self.recall(identity.user, now) {
            Some(sign_in) => sign_in,
            None => {
                let sign_in = ask.let_in(identity).await?;
                self.keep(identity.user, sign_in, now);
                sign_in
            }
        };
        match sign_in {
            SignIn::Welcome => Ok(()),
            SignIn::Disabled => Err(Problem::new(ErrorCode::Forbidden, "this user is disabled")),
        }
    }

    /// What this router itself has changed is not asked again.
    pub fn forget(&self, user: UserId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&user);
    }

    fn recall(&self, user: UserId, now: Instant) -> Option<SignIn> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (sign_in, at) = known.get(&user)?;
        (now.saturating_duration_since(*at) < KEPT).then_some(*sign_in)
    }

    fn keep(&self, user: UserId, sign_in: SignIn, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT_MAX {
            known.retain(|_, (_, at)| now.saturating_duration_since(*at) < KEPT);
        }
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(user, (sign_in, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_for_a_moment_and_by_so_many() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        let user = UserId::from_u128(1);
        assert_eq!(sign_ins.recall(user, now), None);
        sign_ins.keep(user, SignIn::Disabled, now);
        assert_eq!(sign_ins.recall(user, now), Some(SignIn::Disabled));
        assert_eq!(sign_ins.recall(user, now + KEPT), None);
        sign_ins.forget(user);
        assert_eq!(sign_ins.recall(user, now), None);
        for number in 0..=KEPT_MAX as u128 {
            sign_ins.keep(UserId::from_u128(number), SignIn::Welcome, now);
        }
        assert!(sign_ins.known.lock().unwrap().len() <= KEPT_MAX);
    }
}
