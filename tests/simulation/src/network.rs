//! How long things take, and what is lost on the way.

use crate::{dice::Dice, time::Span};

/// Usually. Slowness and loss are told apart by nobody, so both are frequent.
const LATE_PER_MILLE: u64 = 40;
const LOST_PER_MILLE: u64 = 25;
/// While the network is bad.
const LOST_BADLY_PER_MILLE: u64 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything arrives, and soon.
    Calm,
    Usual,
    Bad,
}

/// What becomes of a message, or of a statement and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    /// Never arrives.
    Lost,
    /// Arrives, perhaps much later, and the answer does not.
    AnswerLost,
}

impl Weather {
    pub fn delay(self, dice: &mut Dice) -> Span {
        let late = self != Self::Calm && dice.happens(LATE_PER_MILLE);
        Span::micros(if late { dice.within(20_000..700_000) } else { dice.within(200..2_000) })
    }

    pub fn fate(self, dice: &mut Dice) -> Fate {
        let lost = match self {
            Self::Calm => 0,
            Self::Usual => LOST_PER_MILLE,
            Self::Bad => LOST_BADLY_PER_MILLE,
        };
        match dice.happens(lost) {
            false => Fate::Arrives,
            true if dice.happens(500) => Fate::Lost,
            true => Fate::AnswerLost,
        }
    }

    /// How long a batch is in flight in its store.
    pub fn commit(self, dice: &mut Dice) -> Span {
        let late = self != Self::Calm && dice.happens(LATE_PER_MILLE);
        Span::micros(if late { dice.within(50_000..2_500_000) } else { dice.within(300..4_000) })
    }

    /// How long an asker waits before it gives a connection up.
    pub fn patience(dice: &mut Dice) -> Span {
        Span::millis(dice.within(100..600))
    }
}
