//! Whether the target has what the source has: first all of it, then again and again what differed or changed since. The
//! last time nobody writes, and then nothing may differ.

use tertulia_shard_map::Slot;

use crate::store::{Differing, Filling, MoveEnd, Position, StoreError};

pub struct Comparison {
    positions: Vec<Position>,
    differing: Differing,
}

/// A copy that is as good as its source, with the connections that found that out: sealed, there is no time for new ones.
pub struct Compared {
    /// What was compared: it says nothing of another filling.
    pub filling: Filling,
    pub source: MoveEnd,
    pub target: MoveEnd,
    pub comparison: Comparison,
}

impl Comparison {
    pub async fn full(
        source: &MoveEnd,
        target: &MoveEnd,
        slots: impl Iterator<Item = Slot>,
        mut compared: impl FnMut(usize),
    ) -> Result<Self, StoreError> {
        let (mut positions, mut differing) = (Vec::new(), Differing::new());
        for (done, slot) in slots.enumerate() {
            positions.extend(source.positions(&[slot]).await?);
            differing.extend(source.compare_all(target, slot).await?);
            compared(done + 1);
        }
        Ok(Self { positions, differing })
    }

    /// What differed or may have changed since. Returns how many units that was.
    pub async fn again(&mut self, source: &MoveEnd, target: &MoveEnd, slots: &[Slot]) -> Result<usize, StoreError> {
        // First: what changes from here on is the next round's, even if this one sees some of it.
        let positions = source.positions(slots).await?;
        let mut units = source.changed_since(&self.positions).await?;
        units.extend(self.differing.drain());
        // Until this has ended well, all of them count as differing: it may be dropped at any point.
        self.differing = units;
        let compared = self.differing.len();
        self.differing = source.compare_some(target, &self.differing).await?;
        self.positions = positions;
        Ok(compared)
    }

    pub fn is_same(&self) -> bool {
        self.differing.is_empty()
    }

    pub fn differing(&self) -> &Differing {
        &self.differing
    }
}
