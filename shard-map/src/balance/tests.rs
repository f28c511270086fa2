use proptest::prelude::*;

use super::*;
use crate::fixtures::any_weight;

fn members(weights: &[(u32, u32)]) -> Vec<Member> {
    weights.iter().map(|&(id, weight)| Member { id, weight: weight.try_into().unwrap() }).collect()
}

fn nowhere(slots: u16) -> Vec<Seat> {
    (0..slots).map(|slot| Seat { slot: Slot::new(slot), member: None }).collect()
}

fn loads(seated: &[Seated], members: usize) -> Vec<usize> {
    let mut loads = vec![0; members];
    seated.iter().for_each(|to| loads[to.member] += 1);
    loads
}

/// The same slots seated among other members; those whose member is gone are with nobody.
fn seats_among(seated: &[Seated], old: &[Member], new: &[Member]) -> Vec<Seat> {
    let index = |id: u32| new.iter().position(|member| member.id == id);
    seated.iter().map(|to| Seat { slot: to.slot, member: index(old[to.member].id) }).collect()
}

#[test]
fn bounds_are_the_weighted_share_and_its_slack() {
    let members = members(&[(1, 1_000), (2, 2_000), (3, 10)]);
    let stores = Balance { kind: MemberKind::Store, members: &members, slack_percent: 10 };
    let wants = [(76, 94), (153, 188), (0, 1)].map(|(low, high)| Bounds { low, high });
    assert_eq!(stores.bounds(256), wants);
    let nodes = Balance { slack_percent: 0, ..stores };
    let wants = [(85, 86), (170, 171), (0, 1)].map(|(low, high)| Bounds { low, high });
    assert_eq!(nodes.bounds(256), wants);
}

#[test]
fn a_first_placement_is_the_bounded_walk_of_the_ring() {
    let members = members(&[(1, 1_000), (2, 1_000), (3, 1_000)]);
    let balance = Balance { kind: MemberKind::Store, members: &members, slack_percent: 10 };
    let ring = Ring::new(MemberKind::Store, &members);
    let seated = balance.seat(&nowhere(1_024));
    let first_choice = |to: &&Seated| usize::from(ring.walk(to.slot)[0]) == to.member;
    let at_first_choice = seated.iter().filter(first_choice).count();
    assert!(at_first_choice > 950, "{at_first_choice} of 1024");
}

#[test]
fn the_largest_cluster_is_placed() {
    let all: Vec<_> = (0..256).map(|id| (id, 1_000)).collect();
    let members = members(&all);
    let balance = Balance { kind: MemberKind::Store, members: &members, slack_percent: 10 };
    let loads = loads(&balance.seat(&nowhere(16_384)), 256);
    assert!(loads.iter().all(|load| (57..=71).contains(load)), "{loads:?}");
}

#[derive(Debug, Clone)]
struct Case {
    kind: MemberKind,
    slack_percent: u32,
    slots: u16,
    weights: Vec<u32>,
    /// Where each slot was, an index that may point beyond the members (then it was nowhere).
    was: Vec<usize>,
}

fn any_case() -> impl Strategy<Value = Case> {
    let kinds = prop_oneof![Just((MemberKind::Store, 10)), Just((MemberKind::Node, 0))];
    (kinds, 1u16..300, prop::collection::vec(any_weight(), 1..8)).prop_flat_map(
        |((kind, slack_percent), slots, weights)| {
            let was = prop::collection::vec(0..=weights.len(), usize::from(slots));
            was.prop_map(move |was| Case { kind, slack_percent, slots, weights: weights.clone(), was })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn from_anywhere_every_member_ends_within_its_bounds_by_the_fewest_moves(case in any_case()) {
        let members = members(&(1..).zip(case.weights.iter().copied()).collect::<Vec<_>>());
        let balance = Balance { kind: case.kind, members: &members, slack_percent: case.slack_percent };
        let seats: Vec<_> = nowhere(case.slots)
            .into_iter()
            .zip(&case.was)
            .map(|(seat, &was)| Seat { member: (was < members.len()).then_some(was), ..seat })
            .collect();
        let seated = balance.seat(&seats);
        let bounds = balance.bounds(seats.len());

        let after = loads(&seated, members.len());
        for (load, bounds) in after.iter().zip(&bounds) {
            prop_assert!((bounds.low..=bounds.high).contains(load), "{after:?} {bounds:?}");
        }

        let mut before = vec![0usize; members.len()];
        seats.iter().filter_map(|seat| seat.member).for_each(|member| before[member] += 1);
        let homeless = seats.iter().filter(|seat| seat.member.is_none()).count();
        let above: usize = before.iter().zip(&bounds).map(|(load, bounds)| load.saturating_sub(bounds.high)).sum();
        let below: usize = before.iter().zip(&bounds).map(|(&load, bounds)| bounds.low.saturating_sub(load)).sum();
        let moved = seats.iter().zip(&seated).filter(|(seat, to)| seat.member != Some(to.member)).count();
        prop_assert_eq!(moved, (homeless + above).max(below));

        for (seat, to) in seats.iter().zip(&seated) {
            prop_assert_eq!(seat.slot, to.slot);
            prop_assert_eq!(to.cause == Cause::Stays, seat.member == Some(to.member));
            prop_assert_eq!(to.cause == Cause::Homeless, seat.member.is_none());
        }
        let again: Vec<_> = seated.iter().map(|to| Seat { slot: to.slot, member: Some(to.member) }).collect();
        prop_assert!(balance.seat(&again).iter().all(|to| to.cause == Cause::Stays));
    }

    #[test]
    fn a_member_that_joins_takes_no_more_than_its_share_and_slack_and_nobody_else_gains(
        weights in prop::collection::vec(any_weight(), 2..8),
        slots in 1u16..600,
    ) {
        let all = members(&(1..).zip(weights).collect::<Vec<_>>());
        let old = &all[..all.len() - 1];
        let before = Balance { kind: MemberKind::Store, members: old, slack_percent: 10 }.seat(&nowhere(slots));
        let balance = Balance { kind: MemberKind::Store, members: &all, slack_percent: 10 };
        let seats = seats_among(&before, old, &all);
        let seated = balance.seat(&seats);
        let newest = all.len() - 1;
        let moved: Vec<_> = seated.iter().filter(|to| to.cause != Cause::Stays).collect();
        let elsewhere = moved.iter().filter(|to| to.member != newest).count();
        // Its upper bound is the share and a tenth, rounded up. Rounding lets each old member be one above its own.
        prop_assert!(moved.len() <= balance.bounds(seats.len())[newest].high + old.len());
        prop_assert!(elsewhere <= old.len() + balance.bounds(seats.len())[newest].high / 5, "{elsewhere} elsewhere");
    }

    #[test]
    fn a_member_that_leaves_moves_its_own_slots_and_what_the_others_then_lack(
        weights in prop::collection::vec(any_weight(), 2..8),
        slots in 1u16..600,
    ) {
        let all = members(&(1..).zip(weights).collect::<Vec<_>>());
        let before = Balance { kind: MemberKind::Store, members: &all, slack_percent: 10 }.seat(&nowhere(slots));
        let rest = &all[1..];
        let balance = Balance { kind: MemberKind::Store, members: rest, slack_percent: 10 };
        let seats = seats_among(&before, &all, rest);
        let own = seats.iter().filter(|seat| seat.member.is_none()).count();
        let low: Vec<_> = balance.bounds(seats.len()).iter().map(|bounds| bounds.low).collect();
        let lacking: usize = loads(&before, all.len())[1..].iter().zip(low).map(|(&load, low)| low.saturating_sub(load)).sum();
        let moved = balance.seat(&seats).iter().filter(|to| to.cause != Cause::Stays).count();
        prop_assert_eq!(moved, own.max(lacking));
    }
}
