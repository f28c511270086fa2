//! Virtual time: it stands still while something happens, and jumps to whatever happens next.

use std::{
    fmt,
    ops::{Add, Sub},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    micros: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    micros: u64,
}

impl Time {
    pub const ZERO: Self = Self { micros: 0 };

    pub const fn millis(self) -> u64 {
        self.micros / 1_000
    }
}

impl Span {
    pub const fn micros(micros: u64) -> Self {
        Self { micros }
    }

    pub const fn millis(millis: u64) -> Self {
        Self { micros: millis * 1_000 }
    }
}

impl Add<Span> for Time {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self { micros: self.micros + span.micros }
    }
}

impl Sub for Time {
    type Output = Span;

    /// Zero where the other is later.
    fn sub(self, earlier: Self) -> Span {
        Span { micros: self.micros.saturating_sub(earlier.micros) }
    }
}

impl fmt::Display for Time {
    /// In milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:03}", self.micros / 1_000, self.micros % 1_000)
    }
}
