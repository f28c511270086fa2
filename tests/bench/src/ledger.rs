//! Checks one conversation: every acked message delivered exactly once, in order, contiguous and unaltered.
//!
//! Pure: times come in as arguments.

use std::time::{Duration, Instant};

/// Which of a pair's two users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// Both directions are used in turn.
    pub const fn sender_of(number: u32) -> Self {
        if number.is_multiple_of(2) { Self::A } else { Self::B }
    }
}

/// What a run adds up to, over all pairs. Counts are of the whole run; latencies only of messages due while measuring.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    pub errors: u64,
    /// How often a session was told that pushes were dropped, or may have been. No fault by itself: what was dropped is
    /// lost here, for nobody syncs.
    pub resyncs: u64,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// As it should be, so long after the message was due.
    Good(Duration),
    /// Counted as a fault.
    Faulty,
}

struct Entry {
    due: Instant,
    acked: bool,
    delivered: bool,
    seq: Option<u64>,
}

/// One pair's conversation, from its first message.
#[derive(Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    /// The newest `seq` pushed to each side.
    pushed_seq: [u64; 2],
    open: usize,
}

impl Ledger {
    pub fn next_number(&self) -> u32 {
        self.entries.len() as u32
    }

    pub fn sent(&mut self, due: Instant, counts: &mut Counts) {
        self.entries.push(Entry { due, acked: false, delivered: false, seq: None });
        self.open += 1;
        counts.sent += 1;
    }

    /// Messages that are not both acked and delivered yet.
    pub fn open(&self) -> usize {
        self.open
    }

    pub fn acked(&mut self, number: u32, seq: u64, now: Instant, counts: &mut Counts) -> Arrival {
        let Some(entry) = self.entries.get_mut(number as usize).filter(|entry| !entry.acked) else {
            counts.errors += 1;
            return Arrival::Faulty;
        };
        entry.acked = true;
        counts.acked += 1;
        if entry.delivered {
            self.open -= 1;
        }
        Self::settle_seq(entry, seq, counts);
        Arrival::Good(now - entry.due)
    }

    pub fn delivered(&mut self, to: Side, number: u32, seq: u64, now: Instant, counts: &mut Counts) -> Arrival {
        let Some(entry) = self.entries.get_mut(number as usize) else {
            counts.errors += 1;
            return Arrival::Faulty;
        };
        // Live pushes go to the other user only: the sender's one session has the ack.
        if Side::sender_of(number) == to || entry.delivered {
            counts.duplicated += 1;
            return Arrival::Faulty;
        }
        entry.delivered = true;
        counts.delivered += 1;
        if entry.acked {
            self.open -= 1;
        }
        let newest = &mut self.pushed_seq[to.index()];
        if seq <= *newest {
            counts.out_of_order += 1;
        }
        *newest = seq.max(*newest);
        Self::settle_seq(entry, seq, counts);
        Arrival::Good(now - entry.due)
    }

    /// The ack and the push must name the same position.
    fn settle_seq(entry: &mut Entry, seq: u64, counts: &mut Counts) {
        if *entry.seq.get_or_insert(seq) != seq {
            counts.out_of_order += 1;
        }
    }

    /// After the last arrival: what was acked and never came is lost; a conversation has each `seq` from 1 once.
    pub fn close(self, counts: &mut Counts) {
        counts.lost += self.entries.iter().filter(|entry| entry.acked && !entry.delivered).count() as u64;
        counts.errors += self.entries.iter().filter(|entry| !entry.acked).count() as u64;
        let mut seqs: Vec<u64> = self.entries.iter().filter_map(|entry| entry.seq).collect();
        seqs.sort_unstable();
        let holes = (1..).zip(&seqs).filter(|(expected, seq)| expected != *seq).count() as u64;
        // A message without an ack may be in the log all the same: then it is counted as an error above.
        if seqs.len() == self.entries.len() {
            counts.out_of_order += holes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: impl FnOnce(&mut Ledger, &mut Counts, Instant)) -> Counts {
        let (mut ledger, mut counts, now) = (Ledger::default(), Counts::default(), Instant::now());
        for _ in 0..4 {
            ledger.sent(now, &mut counts);
        }
        steps(&mut ledger, &mut counts, now);
        ledger.close(&mut counts);
        counts
    }

    /// Messages 0 and 2 go from A to B, 1 and 3 from B to A; `seq` is the number + 1.
    fn deliver(ledger: &mut Ledger, counts: &mut Counts, now: Instant, number: u32) {
        let to = if number.is_multiple_of(2) { Side::B } else { Side::A };
        ledger.delivered(to, number, u64::from(number) + 1, now, counts);
    }

    fn ack_all(ledger: &mut Ledger, counts: &mut Counts, now: Instant) {
        for number in 0..4 {
            ledger.acked(number, u64::from(number) + 1, now, counts);
        }
    }

    #[test]
    fn a_faultless_run_is_found_faultless() {
        let counts = run(|ledger, counts, now| {
            ack_all(ledger, counts, now);
            (0..4).for_each(|number| deliver(ledger, counts, now, number));
            assert_eq!(ledger.open(), 0);
        });
        assert_eq!(counts, Counts { sent: 4, acked: 4, delivered: 4, ..Counts::default() });
    }

    #[test]
    fn a_lost_message_is_noticed() {
        let counts = run(|ledger, counts, now| {
            ack_all(ledger, counts, now);
            [0, 1, 3].into_iter().for_each(|number| deliver(ledger, counts, now, number));
        });
        assert_eq!((counts.lost, counts.duplicated, counts.out_of_order, counts.errors), (1, 0, 0, 0));
    }

    #[test]
    fn a_doubled_message_is_noticed() {
        let counts = run(|ledger, counts, now| {
            ack_all(ledger, counts, now);
            [0, 0, 1, 2, 3].into_iter().for_each(|number| deliver(ledger, counts, now, number));
        });
        assert_eq!((counts.lost, counts.duplicated, counts.out_of_order, counts.errors), (0, 1, 0, 0));
    }

    #[test]
    fn swapped_messages_are_noticed() {
        let counts = run(|ledger, counts, now| {
            ack_all(ledger, counts, now);
            [2, 0, 1, 3].into_iter().for_each(|number| deliver(ledger, counts, now, number));
        });
        assert_eq!((counts.lost, counts.duplicated, counts.out_of_order, counts.errors), (0, 0, 1, 0));
    }

    #[test]
    fn a_hole_in_the_log_is_noticed() {
        let counts = run(|ledger, counts, now| {
            for (number, seq) in [(0, 1), (1, 2), (2, 4), (3, 5)] {
                ledger.acked(number, seq, now, counts);
                let to = if number.is_multiple_of(2) { Side::B } else { Side::A };
                ledger.delivered(to, number, seq, now, counts);
            }
        });
        assert_eq!((counts.lost, counts.duplicated, counts.out_of_order), (0, 0, 2));
    }

    #[test]
    fn a_missing_ack_is_an_error() {
        let counts = run(|ledger, counts, now| {
            (0..4).for_each(|number| deliver(ledger, counts, now, number));
            for number in 0..3 {
                ledger.acked(number, u64::from(number) + 1, now, counts);
            }
        });
        assert_eq!((counts.lost, counts.errors), (0, 1));
    }
}
