use tertulia_shard_map::EventId;
use tertulia_wire::cluster::Head;

use super::*;

const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);
const GROUP: ConversationId = ConversationId::from_u128(9);

fn seq(seq: u64) -> Seq {
    Seq::new(seq)
}

fn head(last_seq: u64, last_at_ms: i64) -> Head {
    Head {
        name: "all".into(),
        last_seq: seq(last_seq),
        last_event_id: EventId::from_u128(last_seq.into()),
        last_at_ms,
        last_message_no: Default::default(),
    }
}

fn members(interest: &Interest, at: u64) -> Vec<UserId> {
    let mut members: Vec<UserId> = interest.members(GROUP, seq(at)).collect();
    members.sort();
    members
}

#[test]
fn a_group_is_of_interest_as_long_as_somebody_attached_is_in_it() {
    let mut interest = Interest::default();
    assert_eq!(interest.joins(ANA, GROUP, seq(5), 0), None, "she is not attached");
    interest.attached(ANA);
    interest.attached(BEA);
    assert_eq!(interest.loaded(ANA, vec![(GROUP, seq(5))], 0), [GROUP]);
    assert_eq!(interest.joins(BEA, GROUP, seq(8), 0), None, "not new");
    assert_eq!(members(&interest, 7), [ANA], "Bea does not see what was before her");
    assert_eq!(members(&interest, 8), [ANA, BEA]);
    assert_eq!(interest.left(ANA), []);
    assert_eq!(interest.leaves(BEA, GROUP, seq(9)), Some(GROUP));
    assert_eq!(members(&interest, 10), []);
}

#[test]
fn rows_that_do_not_know_yet_bring_nobody_back() {
    let mut interest = Interest::default();
    interest.attached(ANA);
    interest.leaves(ANA, GROUP, seq(6));
    assert_eq!(interest.loaded(ANA, vec![(GROUP, seq(2))], 0), [], "read before she left");
    assert_eq!(interest.joins(ANA, GROUP, seq(8), 0), Some(GROUP));
    assert_eq!(interest.leaves(ANA, GROUP, seq(6)), None, "told late, by another way");
    assert_eq!(members(&interest, 8), [ANA]);
}

#[test]
fn what_was_not_announced_is_fetched_once() {
    let mut interest = Interest::default();
    interest.attached(ANA);
    interest.loaded(ANA, vec![(GROUP, seq(1))], 100_000);
    assert!(!interest.is_behind(GROUP, &head(10, 50_000)), "it was before the interest");
    interest.announced(GROUP, seq(11));
    assert!(!interest.is_behind(GROUP, &head(11, 100_500)));
    assert!(interest.is_behind(GROUP, &head(13, 101_000)));
    assert!(!interest.is_behind(GROUP, &head(13, 101_000)), "being fetched");
    assert!(!interest.fetched(GROUP, None), "in vain");
    assert!(interest.is_behind(GROUP, &head(13, 101_000)));
    assert!(interest.fetched(GROUP, Some(seq(13))));
    assert!(!interest.is_behind(GROUP, &head(13, 101_000)));
}

#[test]
fn what_came_while_the_interest_was_being_told_is_fetched() {
    let mut interest = Interest::default();
    interest.attached(ANA);
    interest.loaded(ANA, vec![(GROUP, seq(1))], 100_000);
    assert!(interest.is_behind(GROUP, &head(10, 99_000)));
    assert!(interest.fetched(GROUP, Some(seq(10))));
    assert!(!interest.is_behind(GROUP, &head(10, 99_000)));
}
