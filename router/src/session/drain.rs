//! How a stopping router lets its sessions go: a few at a time, so that the other routers, which take so many handshakes
//! in a second and no more, have time for all of them.
//!
//! Half of the drain time is for telling the sessions, a quarter for each to leave by itself after it was told, the rest
//! for what is still in flight. A session that goes in its own time is never closed; one that does not is, with 1001.
//!
//! [`Drain`] decides (pure), [`let_go`] does. Invariant: whoever is there is told before the first half is over, however many
//! they are; all are to be gone by the end.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::registry::Registry;

/// From one batch to the next.
const TICK: Duration = Duration::from_millis(100);
/// Nobody needs longer to leave after it was told.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// What one session is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// The client leaves by itself within this.
    pub retry_after: Duration,
    /// From then on it is closed once nothing is in flight,
    pub close_from: Instant,
    /// and by then in any case.
    pub close_by: Instant,
}

/// The time that a stopping router has.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    tell_until: Instant,
    end: Instant,
    leave: Duration,
    /// Told in one tick where there is no hurry.
    batch: usize,
}

impl Drain {
    /// `handshakes_per_second` is what one other router takes; half of it is left to its own clients.
    pub fn new(time: Duration, handshakes_per_second: u32, now: Instant) -> Self {
        let per_tick = f64::from(handshakes_per_second) / 2.0 * TICK.as_secs_f64();
        Self {
            tell_until: now + time / 2,
            end: now + time,
            leave: (time / 4).min(LEAVE_MAX),
            batch: (per_tick as usize).max(1),
        }
    }

    /// Whether so many sessions are more than another router takes in the time.
    pub fn hurries(&self, sessions: usize, now: Instant) -> bool {
        self.batch(sessions, now) > 2 * self.batch
    }

    /// How many of those that were not told yet are told now.
    pub fn batch(&self, untold: usize, now: Instant) -> usize {
        let ticks_left = self.tell_until.saturating_duration_since(now).as_nanos() / TICK.as_nanos();
        let needed = untold.div_ceil((ticks_left as usize).max(1));
        needed.max(self.batch).min(untold)
    }

    /// What a session that is told now is told. `dice`, from 0 to 1, spreads a batch over the time until the next.
    pub fn leave(&self, now: Instant, dice: f64) -> Leave {
        let close_from = now + self.leave + TICK.min(self.leave).mul_f64(dice.clamp(0.0, 1.0));
        Leave { retry_after: self.leave, close_from: close_from.min(self.end), close_by: self.end }
    }
}

/// Tells the sessions, and returns when none is left.
pub async fn let_go(registry: &Registry, drain: Drain) {
    while !registry.is_empty() {
        let now = Instant::now();
        let mut untold = 0;
        registry.for_each(|mailslot| untold += usize::from(!mailslot.is_leaving()));
        let mut batch = drain.batch(untold, now);
        registry.for_each(|mailslot| {
            if batch > 0 && !mailslot.is_leaving() {
                mailslot.go_away(drain.leave(now, rand::random()));
                batch -= 1;
            }
        });
        sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    /// How many are told in each tick until all are.
    fn batches(sessions: usize, per_second: u32) -> Vec<usize> {
        let mut now = Instant::now();
        let drain = Drain::new(TIME, per_second, now);
        let (mut untold, mut batches) = (sessions, Vec::new());
        while untold > 0 {
            let batch = drain.batch(untold, now);
            assert!(batch > 0);
            batches.push(batch);
            untold -= batch;
            now += TICK;
        }
        batches
    }

    #[test]
    fn sessions_are_told_at_the_pace_that_another_router_has_to_spare() {
        assert_eq!(batches(7, 1000), [7]);
        assert_eq!(batches(120, 1000), [50, 50, 20]);
    }

    #[test]
    fn where_they_are_too_many_for_that_they_are_spread_over_half_of_the_time() {
        let batches = batches(16_000, 1000);
        assert_eq!(batches.len(), 50);
        assert!(batches.iter().all(|batch| *batch == 320), "{batches:?}");
    }

    #[test]
    fn nobody_is_told_late() {
        for (sessions, per_second) in [(1, 1), (1_000_000, 1), (3, 1_000_000), (51, 20)] {
            assert!(batches(sessions, per_second).len() <= 50, "{sessions} {per_second}");
        }
        let now = Instant::now();
        let drain = Drain::new(Duration::ZERO, 1000, now);
        assert_eq!(drain.batch(16_000, now), 16_000);
    }

    #[test]
    fn each_has_a_quarter_of_the_time_and_what_is_in_flight_the_rest() {
        let now = Instant::now();
        let drain = Drain::new(TIME, 1000, now);
        let (first, last) = (drain.leave(now, 0.0), drain.leave(now + TIME / 2, 1.0));
        assert_eq!((first.retry_after, first.close_from), (TIME / 4, now + TIME / 4));
        assert_eq!(last.close_from, now + TIME * 3 / 4 + TICK);
        assert_eq!((first.close_by, last.close_by), (now + TIME, now + TIME));
    }
}
