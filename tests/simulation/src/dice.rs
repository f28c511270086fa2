//! The only source of chance: the same seed throws the same dice, for ever and on every machine.

use std::ops::Range;

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// # Panics
    /// Where the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    pub fn happens(&mut self, per_mille: u64) -> bool {
        self.number() % 1_000 < per_mille
    }

    /// `None` where there is nothing to pick.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let len = of.len() as u64;
        (len > 0).then(|| &of[self.within(0..len) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let mut dice = Dice::new(1);
        assert_eq!([dice.number(), dice.number()], [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67]);
    }
}
