//! How long slots were out of order, as those saw it who wrote to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde::Serialize;
use tertulia_shard_map::Slot;

/// A fault, and the slots that it took the owner from; `None` where it may concern any slot.
#[derive(Debug, Clone)]
pub struct Window {
    pub from: Instant,
    pub to: Instant,
    pub slots: Option<BTreeSet<Slot>>,
}

/// An ack that took long: of a message to this slot.
#[derive(Debug, Clone, Copy)]
pub struct SlotWait {
    pub slot: Slot,
    pub since: Instant,
    pub until: Instant,
}

/// In milliseconds, over slots and faults; `None` where nobody had to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// For each slot in which somebody had to wait during the fault: the longest wait, counted from the fault or from when the
/// message was sent, whichever came later.
pub fn of_window(window: &Window, waits: &[SlotWait]) -> Vec<Duration> {
    longest(window, waits, |slot| window.slots.as_ref().is_none_or(|slots| slots.contains(&slot)))
}

/// The same for the slots that the fault does not concern.
pub fn elsewhere(window: &Window, waits: &[SlotWait]) -> Vec<Duration> {
    longest(window, waits, |slot| window.slots.as_ref().is_some_and(|slots| !slots.contains(&slot)))
}

fn longest(window: &Window, waits: &[SlotWait], is_of_it: impl Fn(Slot) -> bool) -> Vec<Duration> {
    let mut longest: BTreeMap<Slot, Duration> = BTreeMap::new();
    for wait in waits {
        if is_of_it(wait.slot) && wait.until > window.from && wait.since < window.to {
            let time = wait.until - wait.since.max(window.from);
            let most = longest.entry(wait.slot).or_default();
            *most = time.max(*most);
        }
    }
    longest.into_values().collect()
}

pub fn percentiles(mut times: Vec<Duration>) -> Option<Percentiles> {
    times.sort_unstable();
    let at = |share: f64| {
        let place = (share * times.len() as f64).ceil() as usize;
        times.get(place.clamp(1, times.len()) - 1).map(|time| time.as_millis() as u64)
    };
    if times.is_empty() {
        return None;
    }
    Some(Percentiles { p50: at(0.5)?, p99: at(0.99)?, max: at(1.0)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn of_each_slot_the_longest_wait_counts_from_the_fault_on() {
        let zero = Instant::now();
        let wait = |slot, since: u32, until: u32| SlotWait {
            slot: Slot::new(slot),
            since: zero + since * MS,
            until: zero + until * MS,
        };
        let window = Window { from: zero + 100 * MS, to: zero + 200 * MS, slots: Some([1, 2].map(Slot::new).into()) };
        let waits = [
            wait(1, 0, 90),
            wait(1, 50, 400),
            wait(1, 150, 300),
            wait(2, 190, 990),
            wait(3, 100, 900),
            wait(2, 200, 9000),
        ];
        assert_eq!(of_window(&window, &waits), [300 * MS, 800 * MS]);
        assert_eq!(elsewhere(&window, &waits), [800 * MS]);
        assert_eq!(of_window(&Window { slots: None, ..window }, &waits).len(), 3);
    }

    #[test]
    fn percentiles_are_of_what_there_is() {
        let times = (1..=200).map(|ms| ms * MS).collect();
        assert_eq!(percentiles(times), Some(Percentiles { p50: 100, p99: 198, max: 200 }));
        assert_eq!(percentiles(vec![7 * MS]), Some(Percentiles { p50: 7, p99: 7, max: 7 }));
        assert_eq!(percentiles(Vec::new()), None);
    }
}
