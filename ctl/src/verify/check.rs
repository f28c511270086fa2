//! What is checked, and what was found: counted in full, described for the first few.

use std::collections::BTreeMap;

use serde::Serialize;
use tertulia_shard_map::{ConversationId, Slot, StoreId, UserId};
use tertulia_wire::Invariant;

/// One thing that must be so in what the stores hold. The names are for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    TempIds,
    Seqs,
    Origins,
    Contents,
    Fences,
    Places,
    Cursors,
    Inboxes,
    Strangers,
    Members,
}

impl Check {
    pub const ALL: [Self; 10] = [
        Self::TempIds,
        Self::Seqs,
        Self::Origins,
        Self::Contents,
        Self::Fences,
        Self::Places,
        Self::Cursors,
        Self::Inboxes,
        Self::Strangers,
        Self::Members,
    ];

    /// The promise that it is a part of, where it is one's.
    pub const fn invariant(self) -> Option<Invariant> {
        match self {
            Self::TempIds => Some(Invariant::OneEventPerTempId),
            Self::Seqs => Some(Invariant::SeqIsContiguous),
            Self::Origins | Self::Contents => Some(Invariant::NothingIsInvented),
            Self::Fences | Self::Places => Some(Invariant::OneOwnerPerEpoch),
            Self::Cursors | Self::Inboxes | Self::Strangers => Some(Invariant::InboxIsTheFold),
            Self::Members => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::TempIds => "temp_ids",
            Self::Seqs => "seqs",
            Self::Origins => "origins",
            Self::Contents => "contents",
            Self::Fences => "fences",
            Self::Places => "places",
            Self::Cursors => "cursors",
            Self::Inboxes => "inboxes",
            Self::Strangers => "strangers",
            Self::Members => "members",
        }
    }

    pub const fn statement(self) -> &'static str {
        match self {
            Self::TempIds => "one event per sender and temp_id",
            Self::Seqs => "seq from 1 without a hole",
            Self::Origins => "each event has its conversation",
            Self::Contents => "messages as last said of them",
            Self::Fences => "no fence is ahead of the map",
            Self::Places => "keys and slots where they belong",
            Self::Cursors => "cursors are within the log",
            Self::Inboxes => "inbox rows as the log says",
            Self::Strangers => "inbox rows of members only",
            Self::Members => "members counted, marks in the log",
        }
    }
}

/// Something that is not as it must be, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub check: Check,
    pub store: StoreId,
    pub slot: Slot,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    pub what: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub checked: u64,
    pub violations: u64,
}

#[derive(Debug)]
pub struct Findings {
    counts: BTreeMap<Check, Count>,
    described: Vec<Violation>,
    described_max: usize,
}

impl Findings {
    /// Describes so many violations of each check.
    pub fn new(described_max: usize) -> Self {
        Self { counts: BTreeMap::new(), described: Vec::new(), described_max }
    }

    pub fn checked(&mut self, check: Check, count: u64) {
        self.counts.entry(check).or_default().checked += count;
    }

    pub fn add(&mut self, violation: Violation) {
        let count = self.counts.entry(violation.check).or_default();
        count.violations += 1;
        if count.violations <= self.described_max as u64 {
            self.described.push(violation);
        }
    }

    pub fn count(&self, check: Check) -> Count {
        self.counts.get(&check).copied().unwrap_or_default()
    }

    pub fn violations(&self) -> u64 {
        self.counts.values().map(|count| count.violations).sum()
    }

    pub fn described(&self) -> &[Violation] {
        &self.described
    }

    /// What one reading of a slot has found, which counts only once it is complete.
    pub fn merge(&mut self, other: Self) {
        for (check, count) in other.counts {
            let own = self.counts.entry(check).or_default();
            let room = (self.described_max as u64).saturating_sub(own.violations);
            *own = Count { checked: own.checked + count.checked, violations: own.violations + count.violations };
            let of_check = other.described.iter().filter(|it| it.check == check);
            self.described.extend(of_check.take(room as usize).cloned());
        }
    }

    /// For what is to be merged into this.
    pub fn part(&self) -> Self {
        Self::new(self.described_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(check: Check) -> Violation {
        let (store, slot) = (StoreId::new(1), Slot::new(3));
        Violation { check, store, slot, conversation: None, user: None, what: "wrong".to_owned() }
    }

    #[test]
    fn all_are_counted_and_the_first_few_of_each_check_described() {
        let mut all = Findings::new(3);
        for _ in 0..2 {
            let mut part = all.part();
            part.checked(Check::Seqs, 10);
            (0..2).for_each(|_| part.add(violation(Check::Seqs)));
            part.add(violation(Check::Fences));
            all.merge(part);
        }
        assert_eq!(all.count(Check::Seqs), Count { checked: 20, violations: 4 });
        assert_eq!(all.violations(), 6);
        assert_eq!(all.described().iter().filter(|it| it.check == Check::Seqs).count(), 3);
        assert_eq!(all.described().iter().filter(|it| it.check == Check::Fences).count(), 2);
    }

    #[test]
    fn the_name_of_a_check_is_the_same_for_people_and_programs() {
        for check in Check::ALL {
            assert_eq!(serde_json::to_string(&check).unwrap(), format!("{:?}", check.name()));
        }
    }
}
