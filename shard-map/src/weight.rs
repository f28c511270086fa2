//! How much of the cluster a member should carry, relative to the other members.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A relative weight, kept as thousandths: comparable, hashable, and the same arithmetic on every platform.
///
/// Serialised as its integer thousandths; configuration files write a decimal number, which `TryFrom<f64>` takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

/// The number is not a weight.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a weight: want a number from {min} to {max}", min = Weight::MIN, max = Weight::MAX)]
pub struct InvalidWeight(pub f64);

impl Weight {
    /// Below this, a member would have fewer than five points on the ring.
    pub const MIN: Self = Self(10);
    /// Bounds the number of points on the ring.
    pub const MAX: Self = Self(16_000);
    pub const ONE: Self = Self(1_000);

    pub const fn thousandths(self) -> u32 {
        self.0
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<u32> for Weight {
    type Error = InvalidWeight;

    fn try_from(thousandths: u32) -> Result<Self, InvalidWeight> {
        let weight = Self(thousandths);
        if (Self::MIN..=Self::MAX).contains(&weight) { Ok(weight) } else { Err(InvalidWeight(weight.as_f64())) }
    }
}

impl TryFrom<f64> for Weight {
    type Error = InvalidWeight;

    /// Rounds to the nearest thousandth.
    fn try_from(weight: f64) -> Result<Self, InvalidWeight> {
        // The cast saturates, and makes NaN zero: both are refused below as out of range.
        let thousandths = (weight * 1_000.0).round() as u32;
        Self::try_from(thousandths).map_err(|_| InvalidWeight(weight))
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_f64().fmt(f)
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight({})", self.as_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_weights_become_thousandths() {
        assert_eq!(Weight::try_from(1.0), Ok(Weight::ONE));
        assert_eq!(Weight::try_from(0.25).unwrap().thousandths(), 250);
        assert_eq!(Weight::try_from(1.0 / 3.0).unwrap().thousandths(), 333);
        assert_eq!(Weight::try_from(2.5).unwrap().to_string(), "2.5");
    }

    #[test]
    fn what_is_not_a_positive_finite_number_in_range_is_refused() {
        for bad in [0.0, -1.0, 0.009, 16.001, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert_eq!(Weight::try_from(bad), Err(InvalidWeight(bad)));
        }
        assert!(Weight::try_from(f64::NAN).is_err());
        assert_eq!(InvalidWeight(0.0).to_string(), "0 is not a weight: want a number from 0.01 to 16");
    }

    #[test]
    fn a_decoded_weight_is_checked() {
        assert_eq!(serde_json::to_string(&Weight::ONE).unwrap(), "1000");
        assert_eq!(serde_json::from_str::<Weight>("250").unwrap().thousandths(), 250);
        for bad in ["0", "9", "16001", "-5", "1.5"] {
            assert!(serde_json::from_str::<Weight>(bad).is_err(), "{bad}");
        }
    }
}
