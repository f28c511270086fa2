//! Windows in this router's memory. Pure: time comes from the caller.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use tertulia_shard_map::UserId;

use super::{Action, Limit, redis::Counted};

/// Windows that are remembered; those that are over are forgotten once in a while. With more, new users are not counted here: in
/// Redis they are.
const WINDOWS_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub action: Action,
    pub user: UserId,
}

#[derive(Default)]
pub struct Windows {
    /// When what is in the window was done, in order.
    done: HashMap<Key, VecDeque<Instant>>,
    /// When to look next for windows that are over.
    sweep_at: Option<Instant>,
}

impl Windows {
    /// Admits one more, unless the window that ends now is full.
    pub fn count(&mut self, key: Key, limit: Limit, now: Instant) -> Counted {
        if self.sweep_at.is_none_or(|at| at <= now) {
            self.done.retain(|_, done| done.back().is_some_and(|&at| at + limit.window > now));
            self.sweep_at = Some(now + limit.window);
        }
        if self.done.len() >= WINDOWS_MAX && !self.done.contains_key(&key) {
            return Counted::Admitted { remaining: limit.count.saturating_sub(1), resets_in: limit.window };
        }
        let done = self.done.entry(key).or_default();
        while done.front().is_some_and(|&at| at + limit.window <= now) {
            done.pop_front();
        }
        let is_full = done.len() >= limit.count as usize;
        if !is_full {
            done.push_back(now);
        }
        let oldest = done.front().copied().unwrap_or(now);
        let resets_in = (oldest + limit.window).saturating_duration_since(now);
        if is_full {
            Counted::Refused { resets_in }
        } else {
            Counted::Admitted { remaining: limit.count - done.len() as u32, resets_in }
        }
    }

    /// What was counted at `at` was not done after all.
    pub fn take_back(&mut self, key: &Key, at: Instant) {
        if let Some(done) = self.done.get_mut(key)
            && let Some(place) = done.iter().rposition(|it| *it == at)
        {
            done.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: Limit = Limit { count: 3, window: Duration::from_millis(100) };

    fn key(user: u128) -> Key {
        Key { action: Action::Send, user: UserId::from_u128(user) }
    }

    fn is_admitted(counted: Counted) -> bool {
        matches!(counted, Counted::Admitted { .. })
    }

    #[test]
    fn one_more_is_admitted_when_the_oldest_has_left_the_window() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (ms, remaining) in [(0, 2), (10, 1), (20, 0)] {
            let resets_in = Duration::from_millis(100 - ms);
            assert_eq!(windows.count(key(1), LIMIT, at(ms)), Counted::Admitted { remaining, resets_in });
        }
        assert_eq!(windows.count(key(1), LIMIT, at(99)), Counted::Refused { resets_in: Duration::from_millis(1) });
        assert!(is_admitted(windows.count(key(2), LIMIT, at(99))), "others have their own");
        assert!(is_admitted(windows.count(key(1), LIMIT, at(100))));
        assert!(!is_admitted(windows.count(key(1), LIMIT, at(109))));
        windows.take_back(&key(1), at(100));
        assert!(is_admitted(windows.count(key(1), LIMIT, at(109))), "what was not done does not count");
    }

    #[test]
    fn windows_that_are_over_are_forgotten() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        for user in 0..1000 {
            windows.count(key(user), LIMIT, start);
        }
        windows.count(key(0), LIMIT, start + 2 * LIMIT.window);
        assert_eq!(windows.done.len(), 1);
    }

    #[test]
    fn with_too_many_users_new_ones_are_not_counted_here() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        for user in 0..WINDOWS_MAX as u128 + 10 {
            assert!(is_admitted(windows.count(key(user), LIMIT, start)));
        }
        assert_eq!(windows.done.len(), WINDOWS_MAX);
        assert!((0..3).all(|_| is_admitted(windows.count(key(u128::MAX), LIMIT, start))));
    }

    proptest! {
        /// Against the definition: admitted if and only if fewer than the limit were admitted in the window before.
        #[test]
        fn never_more_than_the_limit_in_any_window_and_no_fewer(
            pauses_ms in prop::collection::vec(0_u64..60, 1..200), count in 1_u32..6
        ) {
            let limit = Limit { count, ..LIMIT };
            let (mut windows, mut now) = (Windows::default(), Instant::now());
            let mut admitted: Vec<Instant> = Vec::new();
            for pause in pauses_ms {
                now += Duration::from_millis(pause);
                let before = admitted.iter().filter(|&&at| at + limit.window > now).count();
                let is_in = is_admitted(windows.count(key(1), limit, now));
                prop_assert_eq!(is_in, before < count as usize);
                if is_in {
                    admitted.push(now);
                }
            }
        }
    }
}
