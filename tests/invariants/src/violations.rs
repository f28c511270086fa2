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
