//! The consistent-hash ring: for each slot, the order in which it would choose among the members.
//!
//! A member stands on the ring at 512 points per unit of weight, a slot at one; a slot prefers the members in the
//! order in which it meets them clockwise. So a member that joins changes no order among the others, and takes from
//! each of them about as much as its weight says.
//!
//! Points are xxh3 over explicit big-endian bytes: the same on every platform and in every release. The ring is only
//! walked to compute a placement, which the map then keeps as a table; no message is ever routed by it.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use hashring::HashRing;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Slot, Weight};

/// More make shares more even, and the ring slower to build: with 512, the largest of equal shares is within about a
/// tenth of the mean.
const POINTS_PER_UNIT_OF_WEIGHT: u32 = 512;

/// What the members of a ring are. Stores and nodes with the same number stand at different points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberKind {
    Store,
    Node,
}

/// One who may be chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) id: u32,
    pub(crate) weight: Weight,
}

impl Member {
    fn points(self) -> u32 {
        (self.weight.thousandths() * POINTS_PER_UNIT_OF_WEIGHT).div_ceil(1_000)
    }
}

/// A place on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point(u64);

impl Point {
    fn of_replica(kind: MemberKind, id: u32, replica: u32) -> Self {
        let tag = match kind {
            MemberKind::Store => b'S',
            MemberKind::Node => b'N',
        };
        let mut bytes = [tag; 9];
        bytes[1..5].copy_from_slice(&id.to_be_bytes());
        bytes[5..].copy_from_slice(&replica.to_be_bytes());
        Self(xxh3_64(&bytes))
    }

    fn of_slot(slot: Slot) -> Self {
        Self(xxh3_64(&slot.get().to_be_bytes()))
    }
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A point is a hash already: the ring takes it as it is. (Hashing through [`Hash`] proper would be neither the same on
/// all platforms, which differ in byte order and in the size of lengths, nor in all releases.)
#[derive(Clone, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a point writes one u64");
    }

    fn write_u64(&mut self, point: u64) {
        self.0 = point;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Points = HashRing<Point, BuildHasherDefault<AsItIs>>;

/// Each member's points are a ring of their own: the next of them is all that a slot's order of choice needs.
pub(crate) struct Ring {
    members: Vec<Points>,
}

impl Ring {
    pub(crate) fn new(kind: MemberKind, members: &[Member]) -> Self {
        let points_of = |member: &Member| {
            let points = (0..member.points()).map(|replica| Point::of_replica(kind, member.id, replica));
            points_from(points.collect())
        };
        Self { members: members.iter().map(points_of).collect() }
    }

    /// The members' indexes, the slot's first choice first.
    pub(crate) fn walk(&self, slot: Slot) -> Vec<u16> {
        let at = Point::of_slot(slot);
        let mut walk: Vec<_> =
            (0..).zip(&self.members).map(|(member, points)| (distance(at, points), member)).collect();
        walk.sort_unstable();
        walk.into_iter().map(|(_, member)| member).collect()
    }
}

fn points_from(points: Vec<Point>) -> Points {
    let mut ring = HashRing::with_hasher(BuildHasherDefault::default());
    ring.batch_add(points);
    ring
}

/// How far clockwise from `at` the next of the points is.
fn distance(at: Point, points: &Points) -> u64 {
    let next = points.get(&at).expect("a member has at least one point: weights have a minimum");
    next.0.wrapping_sub(at.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SlotCount;

    fn members(weights: &[u32]) -> Vec<Member> {
        (1..).zip(weights).map(|(id, &weight)| Member { id, weight: weight.try_into().unwrap() }).collect()
    }

    fn slots(count: u32) -> SlotCount {
        count.try_into().unwrap()
    }

    #[test]
    fn the_first_choice_is_what_one_ring_of_all_points_answers() {
        let members = members(&[1_000, 2_000, 10, 500]);
        let ring = Ring::new(MemberKind::Store, &members);
        let points = |index: usize, member: Member| {
            (0..member.points()).map(move |replica| (Point::of_replica(MemberKind::Store, member.id, replica), index))
        };
        let all: Vec<_> = members.iter().enumerate().flat_map(|(index, &member)| points(index, member)).collect();
        let reference = points_from(all.iter().map(|&(point, _)| point).collect());
        for slot in slots(4_096).slots() {
            let next = reference.get(&Point::of_slot(slot)).unwrap();
            let (_, owner) = all.iter().find(|(point, _)| point == next).unwrap();
            assert_eq!(usize::from(ring.walk(slot)[0]), *owner, "{slot:?}");
        }
    }

    #[test]
    fn points_never_change() {
        let points = [
            Point::of_slot(Slot::new(0)),
            Point::of_slot(Slot::new(16_383)),
            Point::of_replica(MemberKind::Store, 1, 0),
            Point::of_replica(MemberKind::Node, 1, 0),
            Point::of_replica(MemberKind::Store, u32::MAX, 511),
        ];
        assert_eq!(points.map(|point| point.0), GOLDEN_POINTS);
    }

    /// Of another implementation of xxh3 (Python's `xxhash`), over the bytes written out by hand.
    const GOLDEN_POINTS: [u64; 5] =
        [0x3325230e1f285505, 0x253b3e2de8f2037f, 0x6275168ca288baf9, 0x7609921bcd0c46b7, 0x4549436b8f236918];

    #[test]
    fn first_choices_follow_the_weights() {
        let weights = [1_000, 2_000, 4_000, 1_000];
        let ring = Ring::new(MemberKind::Store, &members(&weights));
        let mut chosen = [0u32; 4];
        slots(16_384).slots().for_each(|slot| chosen[usize::from(ring.walk(slot)[0])] += 1);
        for (count, weight) in chosen.into_iter().zip(weights) {
            let share = 16_384 * weight / 8_000;
            assert!(count.abs_diff(share) < share / 5, "{chosen:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_member_that_joins_changes_no_order_among_the_others(weights in prop::collection::vec(10u32..4_000, 2..6)) {
            let all = members(&weights);
            let joined = Ring::new(MemberKind::Node, &all);
            let before = Ring::new(MemberKind::Node, &all[..all.len() - 1]);
            let newest = (all.len() - 1) as u16;
            for slot in slots(256).slots() {
                let mut walk = joined.walk(slot);
                walk.retain(|&member| member != newest);
                prop_assert_eq!(walk, before.walk(slot));
            }
        }
    }
}
