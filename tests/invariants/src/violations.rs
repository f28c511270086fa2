//! What was found: counted in full, described for the first few.

use std::{collections::BTreeMap, fmt};

use crate::Invariant;

/// Descriptions kept per invariant.
const DESCRIBED: usize = 5;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    counts: BTreeMap<Invariant, u64>,
    described: BTreeMap<Invariant, Vec<String>>,
}

impl Violations {
    pub fn add(&mut self, invariant: Invariant, description: impl FnOnce() -> String) {
        *self.counts.entry(invariant).or_default() += 1;
        let described = self.described.entry(invariant).or_default();
        if described.len() < DESCRIBED {
            described.push(description());
        }
    }

    /// Adds what another check has found.
    pub fn merge(&mut self, other: Self) {
        for (invariant, count) in other.counts {
            *self.counts.entry(invariant).or_default() += count;
        }
        for (invariant, descriptions) in other.described {
            let described = self.described.entry(invariant).or_default();
            described.extend(descriptions);
            described.truncate(DESCRIBED);
        }
    }

    pub fn count(&self, invariant: Invariant) -> u64 {
        self.counts.get(&invariant).copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (invariant, count) in &self.counts {
            writeln!(f, "{invariant} ({}): {count} violations", invariant.statement())?;
            for description in &self.described[invariant] {
                writeln!(f, "  {description}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_few_described() {
        let (mut one, mut other) = (Violations::default(), Violations::default());
        for number in 0..4 {
            one.add(Invariant::SeqIsContiguous, || format!("one {number}"));
            other.add(Invariant::SeqIsContiguous, || format!("other {number}"));
        }
        one.merge(other);
        assert_eq!((one.count(Invariant::SeqIsContiguous), one.is_empty()), (8, false));
        assert_eq!(one.to_string().lines().count(), 1 + DESCRIBED);
    }
}
