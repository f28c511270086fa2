//! Balancing: the fewest slots change hands so that every member is within its bounds, and the ring says which.
//!
//! This is consistent hashing with bounded loads, made sticky. A member's *share* is the slots divided by weight; its
//! load has to be from its share less a slack, rounded down, to its share plus that slack, rounded up. A slot moves
//! only if it has to:
//! - it is with nobody here (it never was placed, or its member left), or
//! - its member is above its bounds, or
//! - another member is below its own.
//!
//! Where nothing is placed yet this is the bounded ring walk: each slot goes to the first member it meets that has room.
//! The number of moves is exactly the larger of what must leave (the homeless, and what is above the upper bounds) and
//! what must arrive (what lacks to the lower bounds).
//!
//! Not here: what members and slots are. Stores and nodes are balanced by the same rules, with different slacks.

use crate::{
    Slot,
    ring::{Member, MemberKind, Ring},
};

/// Who is balanced, and how closely.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance<'a> {
    pub(crate) kind: MemberKind,
    /// At least one, in ascending order of id.
    pub(crate) members: &'a [Member],
    /// How far a load may be from its share. With 0, it is the share rounded down or up.
    pub(crate) slack_percent: u32,
}

/// A slot, and the index of the member it is with; `None` where it is with none of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) slot: Slot,
    pub(crate) member: Option<usize>,
}

/// Where a slot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seated {
    pub(crate) slot: Slot,
    pub(crate) member: usize,
    pub(crate) cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Stays,
    /// It was with none of the members.
    Homeless,
    /// Its member was above its bounds.
    AboveBound,
    /// The new member was below its bounds.
    BelowBound,
}

/// The loads that are allowed to one member, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) low: usize,
    pub(crate) high: usize,
}

impl Balance<'_> {
    /// In the members' order, for that many slots in total.
    pub(crate) fn bounds(&self, slots: usize) -> Vec<Bounds> {
        let total: u64 = self.members.iter().map(|member| u64::from(member.weight.thousandths())).sum();
        let whole = 100 * total;
        let of = |member: &Member| {
            let share = slots as u64 * u64::from(member.weight.thousandths());
            let slack = u64::from(self.slack_percent);
            Bounds {
                low: (share * 100u64.saturating_sub(slack) / whole) as usize,
                high: (share * (100 + slack)).div_ceil(whole) as usize,
            }
        };
        self.members.iter().map(of).collect()
    }

    /// Where each of the slots goes, in the order given. The same for the same arguments, always.
    pub(crate) fn seat(&self, seats: &[Seat]) -> Vec<Seated> {
        let bounds = self.bounds(seats.len());
        let mut loads = vec![0; self.members.len()];
        seats.iter().filter_map(|seat| seat.member).for_each(|member| loads[member] += 1);
        let in_bounds = |(load, bounds): (&usize, &Bounds)| (bounds.low..=bounds.high).contains(load);
        let all_seated = seats.iter().all(|seat| seat.member.is_some());
        if all_seated && loads.iter().zip(&bounds).all(in_bounds) {
            // By far the usual case, and the ring is dear: it is not even made.
            let stays = |seat: &Seat| Some(Seated { slot: seat.slot, member: seat.member?, cause: Cause::Stays });
            return seats.iter().filter_map(stays).collect();
        }
        let ring = Ring::new(self.kind, self.members);
        let walks = seats.iter().map(|seat| Walk::new(ring.walk(seat.slot))).collect();
        let now = seats.iter().map(|seat| (seat.member, Cause::Stays)).collect();
        let mut table = Table { bounds, loads, walks, now };
        table.evict();
        table.place();
        table.pull();
        let seated = |(seat, (member, cause)): (&Seat, (Option<usize>, Cause))| Seated {
            slot: seat.slot,
            member: member.expect("place() left no slot without a member"),
            cause,
        };
        seats.iter().zip(table.now).map(seated).collect()
    }
}

/// A slot's order of choice among the members.
struct Walk {
    order: Vec<u16>,
    /// By member: its place in `order`.
    rank: Vec<u16>,
}

impl Walk {
    fn new(order: Vec<u16>) -> Self {
        let mut rank = vec![0; order.len()];
        for (place, &member) in (0..).zip(&order) {
            rank[usize::from(member)] = place;
        }
        Self { order, rank }
    }

    /// How many places higher the slot ranks `to` than `from`.
    fn gain(&self, from: usize, to: usize) -> i32 {
        i32::from(self.rank[from]) - i32::from(self.rank[to])
    }

    fn first(&self, mut wanted: impl FnMut(usize) -> bool) -> Option<usize> {
        self.order.iter().map(|&member| usize::from(member)).find(|&member| wanted(member))
    }
}

/// The slots while they are being seated. All vectors but the first two are by place in the given seats.
struct Table {
    bounds: Vec<Bounds>,
    loads: Vec<usize>,
    walks: Vec<Walk>,
    now: Vec<(Option<usize>, Cause)>,
}

impl Table {
    fn lacks(&self, member: usize) -> bool {
        self.loads[member] < self.bounds[member].low
    }

    /// Slots still to be given to members below their bounds.
    fn lacking(&self) -> usize {
        self.loads.iter().zip(&self.bounds).map(|(&load, bounds)| bounds.low.saturating_sub(load)).sum()
    }

    /// Takes from members above their bounds: those slots first that rank a member that lacks the most higher than
    /// their own, or, where none lacks, that rank their own the lowest.
    fn evict(&mut self) {
        let lacking: Vec<usize> = (0..self.loads.len()).filter(|&member| self.lacks(member)).collect();
        let mut candidates = Vec::new();
        for (place, &(member, _)) in self.now.iter().enumerate() {
            let Some(member) = member.filter(|&member| self.loads[member] > self.bounds[member].high) else { continue };
            let walk = &self.walks[place];
            let best = lacking.iter().map(|&to| walk.gain(member, to)).max();
            candidates.push((best.unwrap_or_else(|| i32::from(walk.rank[member])), place, member));
        }
        candidates.sort_unstable_by_key(|&(gain, place, _)| (-gain, place));
        for (_, place, member) in candidates {
            if self.loads[member] > self.bounds[member].high {
                self.loads[member] -= 1;
                self.now[place] = (None, Cause::AboveBound);
            }
        }
    }

    /// Gives each slot that is with nobody to the first member on its walk that has room, as long as enough slots
    /// remain for the members that lack; from then on, only to those.
    fn place(&mut self) {
        let mut lacking = self.lacking();
        let homeless: Vec<usize> = (0..self.now.len()).filter(|&place| self.now[place].0.is_none()).collect();
        for (taken, &place) in homeless.iter().enumerate() {
            let has_spare = homeless.len() - taken > lacking;
            let has_room = |member: usize| {
                let bound = if has_spare { self.bounds[member].high } else { self.bounds[member].low };
                self.loads[member] < bound
            };
            let member = self.walks[place].first(has_room);
            let member = member.expect("the upper bounds add up to all slots at least, and without a spare one lacks");
            lacking -= usize::from(self.lacks(member));
            self.loads[member] += 1;
            let cause = match self.now[place].1 {
                Cause::Stays => Cause::Homeless,
                cause => cause,
            };
            self.now[place] = (Some(member), cause);
        }
    }

    /// Takes for the members that still lack, from those that can give: the largest gain of rank first.
    fn pull(&mut self) {
        let lacking: Vec<usize> = (0..self.loads.len()).filter(|&member| self.lacks(member)).collect();
        let mut candidates = Vec::new();
        for (place, walk) in self.walks.iter().enumerate() {
            let (Some(from), Cause::Stays) = self.now[place] else { continue };
            candidates.extend(lacking.iter().map(|&to| (-walk.gain(from, to), place, to)));
        }
        candidates.sort_unstable();
        // One pass is enough: who cannot give or does not lack when its turn comes, never will again.
        for (_, place, to) in candidates {
            let (Some(from), Cause::Stays) = self.now[place] else { continue };
            if self.lacks(to) && self.loads[from] > self.bounds[from].low {
                self.loads[from] -= 1;
                self.loads[to] += 1;
                self.now[place] = (Some(to), Cause::BelowBound);
            }
        }
    }
}

#[cfg(test)]
mod tests;
