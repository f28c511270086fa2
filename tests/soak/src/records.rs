//! What a person said and what became of it: a few bytes each, for there are millions. A record's number is its place in
//! its person's list, and in its `temp_id`.

use tertulia_shard_map::{EventId, Seq};
use tertulia_test_invariants::Outcome;

/// Memory of one record.
pub const RECORD_BYTES: usize = size_of::<Record>();
const _: () = assert!(RECORD_BYTES <= 28, "millions of these are kept");

#[derive(Debug, Default)]
pub struct Records {
    list: Vec<Record>,
}

#[derive(Debug, Clone, Copy)]
pub struct Record {
    id: [u8; 16],
    /// A conversation of a soak has fewer than 2^32 events.
    seq: u32,
    pub conversation: u32,
    pub what: What,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Create,
    Message,
    Edit,
    Delete,
    React,
    Rename,
    Add,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not answered yet, or not answered at all.
    Open,
    /// Somebody was told of it before its ack came: as good as that.
    Heard,
    Acked,
    Refused,
    /// Refused at last, but an attempt before that may have been carried out.
    Unclear,
}

/// Whether what was heard is what was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    Same,
    /// Another id or seq than before.
    Differs,
    /// It was refused to its sender.
    WasRefused,
}

impl Records {
    /// Notes that something is about to be said; its number.
    pub fn begin(&mut self, conversation: u32, what: What) -> usize {
        self.list.push(Record { id: [0; 16], seq: 0, conversation, what, state: State::Open });
        self.list.len() - 1
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, number: usize) -> Option<&Record> {
        self.list.get(number)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.list.iter()
    }

    pub fn acked(&mut self, number: usize, id: EventId, seq: Seq) -> Agreement {
        self.list.get_mut(number).map_or(Agreement::Differs, |record| record.learn(State::Acked, id, seq))
    }

    pub fn heard(&mut self, number: usize, id: EventId, seq: Seq) -> Agreement {
        self.list.get_mut(number).map_or(Agreement::Differs, |record| record.learn(State::Heard, id, seq))
    }

    pub fn refused(&mut self, number: usize, certainty: Certainty) {
        if let Some(record) = self.list.get_mut(number).filter(|record| record.state == State::Open) {
            record.state = match certainty {
                Certainty::Sure => State::Refused,
                Certainty::Doubtful => State::Unclear,
            };
        }
    }
}

/// Whether an earlier attempt may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    Sure,
    Doubtful,
}

impl Record {
    fn learn(&mut self, state: State, id: EventId, seq: Seq) -> Agreement {
        let agreement = match self.state {
            State::Open | State::Unclear => Agreement::Same,
            State::Refused => return Agreement::WasRefused,
            State::Heard | State::Acked if (self.id, self.seq) == (id.to_bytes(), seq.get() as u32) => Agreement::Same,
            State::Heard | State::Acked => return Agreement::Differs,
        };
        (self.id, self.seq) = (id.to_bytes(), seq.get() as u32);
        if self.state != State::Acked {
            self.state = state;
        }
        agreement
    }

    pub fn outcome(&self) -> Outcome {
        match self.state {
            State::Heard | State::Acked => {
                Outcome::Acked { id: EventId::from_bytes(self.id), seq: Seq::new(self.seq.into()) }
            }
            State::Refused => Outcome::Refused,
            State::Open | State::Unclear => Outcome::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> EventId {
        EventId::from_u128(number)
    }

    #[test]
    fn what_is_heard_first_binds_the_ack_and_the_reverse() {
        let mut records = Records::default();
        let number = records.begin(3, What::Message);
        assert_eq!(records.get(number).unwrap().outcome(), Outcome::Unknown);
        assert_eq!(records.heard(number, id(7), Seq::new(2)), Agreement::Same);
        assert_eq!(records.acked(number, id(7), Seq::new(3)), Agreement::Differs);
        assert_eq!(records.acked(number, id(7), Seq::new(2)), Agreement::Same);
        assert_eq!(records.heard(number, id(8), Seq::new(2)), Agreement::Differs);
        assert_eq!(records.get(number).unwrap().outcome(), Outcome::Acked { id: id(7), seq: Seq::new(2) });
        records.refused(number, Certainty::Sure);
        assert_eq!(records.get(number).unwrap().outcome(), Outcome::Acked { id: id(7), seq: Seq::new(2) });
    }

    #[test]
    fn a_refusal_counts_only_where_no_earlier_attempt_is_in_doubt() {
        let mut records = Records::default();
        let (sure, doubtful) = (records.begin(3, What::Message), records.begin(3, What::Message));
        records.refused(sure, Certainty::Sure);
        records.refused(doubtful, Certainty::Doubtful);
        assert_eq!(records.heard(sure, id(1), Seq::new(1)), Agreement::WasRefused);
        assert_eq!(records.get(doubtful).unwrap().outcome(), Outcome::Unknown);
        assert_eq!(records.heard(doubtful, id(2), Seq::new(2)), Agreement::Same);
    }
}
