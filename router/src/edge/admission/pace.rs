//! How many handshakes there may be in a second, and when those beyond shall come again.
//!
//! A token bucket, kept as one point in time (GCRA). Who is refused is given a place in an imaginary queue that moves at
//! the same pace, and is told how long that takes: a storm comes back as a stream, not as the same storm a second later.

use std::time::{Duration, Instant};

/// Nobody is told to wait longer: what happens until then is anybody's guess.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Added at random to each wait, for waits are told in whole seconds.
const JITTER: Duration = Duration::from_secs(2);

pub(super) struct Pace {
    /// Between two handshakes, in the long run.
    interval: Duration,
    /// How far ahead of its time the bucket may be emptied.
    tolerance: Duration,
    /// When the bucket would be full again, less its tolerance.
    emptied_until: Instant,
    /// The last place of the imaginary queue.
    last_place: Instant,
}

/// The pace is reached: come again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ComeAgain(pub Duration);

impl Pace {
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, tolerance: interval * (burst.max(1) - 1), emptied_until: now, last_place: now }
    }

    /// Takes one handshake, or says when to come again. `dice` is from 0 to 1.
    pub fn take(&mut self, now: Instant, dice: f64) -> Result<(), ComeAgain> {
        let emptied_until = self.emptied_until.max(now);
        if emptied_until - now <= self.tolerance {
            self.emptied_until = emptied_until + self.interval;
            return Ok(());
        }
        self.last_place = (self.last_place.max(now) + self.interval).min(now + WAIT_MAX);
        Err(ComeAgain(self.last_place - now + JITTER.mul_f64(dice.clamp(0.0, 1.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_the_pace_counts() {
        let now = Instant::now();
        let mut pace = Pace::new(100, 50, now);
        let taken = |pace: &mut Pace, now| (0..1000).filter(|_| pace.take(now, 0.0).is_ok()).count();
        assert_eq!(taken(&mut pace, now), 50);
        assert_eq!(taken(&mut pace, now + Duration::from_millis(100)), 10);
        assert_eq!(
            taken(&mut pace, now + Duration::from_secs(100)),
            50,
            "a quiet time fills it up to the burst, no more"
        );
    }

    #[test]
    fn in_the_long_run_no_more_than_the_pace_is_taken() {
        let now = Instant::now();
        let mut pace = Pace::new(1000, 1, now);
        let taken = (0..100_000).filter(|n| pace.take(now + Duration::from_micros(100 * n), 0.0).is_ok()).count();
        assert!((9_990..=10_001).contains(&taken), "{taken}");
    }

    #[test]
    fn a_storm_is_told_to_come_back_as_a_stream() {
        let now = Instant::now();
        let mut pace = Pace::new(100, 10, now);
        let waits: Vec<Duration> = (0..2_010).filter_map(|_| pace.take(now, 0.0).err()).map(|it| it.0).collect();
        assert_eq!(waits.len(), 2_000);
        for second in 0..20 {
            let then = waits.iter().filter(|wait| wait.as_millis().div_ceil(1000) == second + 1).count();
            assert_eq!(then, 100, "in second {second}");
        }
        let again = pace.take(now + Duration::from_secs(15), 0.0);
        assert_eq!(again, Ok(()), "the queue is imaginary: who comes when there is room is taken");
    }

    #[test]
    fn waits_are_jittered_and_bounded() {
        let now = Instant::now();
        let mut pace = Pace::new(1, 1, now);
        pace.take(now, 0.0).unwrap();
        assert_eq!(pace.take(now, 0.5), Err(ComeAgain(Duration::from_secs(2))));
        let longest = (0..10_000).filter_map(|_| pace.take(now, 1.0).err()).map(|it| it.0).max();
        assert_eq!(longest, Some(WAIT_MAX + JITTER));
    }
}
