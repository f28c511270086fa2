//! Groups: how they begin, who is in them, who may what.

use tertulia_shard_map::{Seq, UserId};
use tertulia_wire::{
    EventKind, GroupBody, GroupMember, Role,
    cluster::{Action, Append, Authority, Membership, Refusal},
    decode_group,
};

use super::*;
use crate::{
    entry::Reach,
    store::{MemberKey, Senior, StoredMember, WrittenKind},
};

fn users(range: std::ops::Range<u128>) -> Vec<UserId> {
    range.map(UserId::from_u128).collect()
}

fn create(temp_id: &str, users: &[UserId]) -> Append {
    append(GROUP, ANA, temp_id, Action::Create { name: "us".into(), users: users.to_vec() })
}

fn add(temp_id: &str, sender: UserId, users: &[UserId]) -> Append {
    append(GROUP, sender, temp_id, Action::Add { users: users.to_vec() })
}

fn remove(temp_id: &str, sender: UserId, users: &[UserId]) -> Append {
    append(GROUP, sender, temp_id, Action::Remove { users: users.to_vec() })
}

fn set_role(temp_id: &str, sender: UserId, user: UserId, role: Role) -> Append {
    append(GROUP, sender, temp_id, Action::SetRole { user, role })
}

fn leave(temp_id: &str, sender: UserId) -> Append {
    append(GROUP, sender, temp_id, Action::Leave)
}

fn rename(temp_id: &str, sender: UserId, name: &str) -> Append {
    append(GROUP, sender, temp_id, Action::Rename { name: name.into() })
}

fn body(entry: &LogEntry) -> GroupBody {
    decode_group(&event_of(entry).body).unwrap()
}

fn named(user: UserId, role: Role) -> GroupMember {
    GroupMember { user, role }
}

/// Ana's group with Bea.
fn group() -> Lane {
    let mut lane = Lane::new();
    lane.made(create("c", &[BEA]));
    lane
}

#[test]
fn a_group_begins_with_its_creator_as_the_owner() {
    let mut lane = Lane::new();
    let (_, draft) = lane.append(create("c", &[BEA, ANA, BEA, EVE]));
    let entry = &draft.entries[&SLOT][0];
    let first = [named(ANA, Role::Owner), named(BEA, Role::Member), named(EVE, Role::Member)];
    assert_eq!((body(entry).members, body(entry).name.as_deref()), (first.to_vec(), Some("us")));
    assert!(recipients(entry).iter().all(|(_, membership)| *membership == Membership::Joins));
    assert_eq!(draft.batch.members.len(), 3);
    assert_eq!(draft.batch.conversations[0].members, 3);
    assert_eq!(lane.refusal(create("c2", &[])), Refusal::Conflict, "the id is taken");
    assert_eq!(lane.refusal(Append { sender: BEA, ..create("c", &[]) }), Refusal::Conflict);
}

#[test]
fn who_is_added_is_told_from_there_on_and_who_is_removed_up_to_there() {
    let mut lane = group();
    let joined = lane.made(add("a", ANA, &[BEA, EVE]));
    assert_eq!(body(&joined).members, [named(EVE, Role::Member)]);
    assert_eq!(recipients(&joined), [(ANA, Membership::Stays), (BEA, Membership::Stays), (EVE, Membership::Joins)]);
    assert!(matches!(lane.refusal(add("a2", ANA, &[BEA, EVE])), Refusal::NoChange(_)));
    let (_, draft) = lane.append(remove("r", ANA, &[EVE, UserId::from_u128(9)]));
    let removed = &draft.entries[&SLOT][0];
    assert_eq!(recipients(removed), [(ANA, Membership::Stays), (BEA, Membership::Stays), (EVE, Membership::Leaves)]);
    assert_eq!(draft.batch.members[0].left_seq, Some(Seq::new(3)));
    let after = lane.made(append(GROUP, ANA, "m", message("without her")));
    assert_eq!(recipients(&after), [(ANA, Membership::Stays), (BEA, Membership::Stays)]);
    assert_eq!(lane.refusal(append(GROUP, EVE, "m", message("hello?"))), Refusal::NotFound);
    assert!(matches!(lane.refusal(remove("r2", ANA, &[EVE])), Refusal::NoChange(_)));
    let (_, draft) = lane.append(add("a3", ANA, &[EVE]));
    assert_eq!((draft.batch.members[0].joined_seq, draft.batch.members[0].left_seq), (Seq::new(5), None));
}

#[test]
fn roles_decide_who_may_what() {
    let mut lane = group();
    lane.made(add("a", ANA, &[EVE]));
    let not_allowed = |refusal| matches!(refusal, Refusal::NotAllowed(_));
    assert!(not_allowed(lane.refusal(rename("1", BEA, "mine"))));
    assert!(not_allowed(lane.refusal(add("2", BEA, &users(9..10)))));
    assert!(not_allowed(lane.refusal(remove("3", BEA, &[EVE]))));
    assert!(not_allowed(lane.refusal(set_role("4", BEA, BEA, Role::Owner))));
    lane.made(set_role("5", ANA, BEA, Role::Admin));
    lane.made(rename("6", BEA, "ours"));
    assert!(matches!(lane.refusal(rename("7", BEA, "ours")), Refusal::NoChange(_)));
    assert!(not_allowed(lane.refusal(remove("8", BEA, &[ANA]))), "an admin cannot remove the owner");
    assert!(not_allowed(lane.refusal(set_role("9", BEA, EVE, Role::Admin))));
    lane.made(remove("10", BEA, &[EVE]));
    assert!(not_allowed(lane.refusal(set_role("11", ANA, ANA, Role::Member))), "the only owner");
    assert!(matches!(lane.refusal(remove("12", ANA, &[ANA])), Refusal::Invalid(_)), "to go oneself: leave");
    assert!(matches!(lane.refusal(set_role("13", ANA, EVE, Role::Admin)), Refusal::Invalid(_)), "not a member");
    let direct = append(direct(), ANA, "14", message("x"));
    lane.made(Append { direct_peer: Some(BEA), ..direct.clone() });
    assert!(not_allowed(lane.refusal(Append { temp_id: "15".into(), action: Action::Leave, ..direct })));
}

#[test]
fn the_most_senior_member_follows_the_last_owner() {
    let mut lane = group();
    lane.made(add("a", ANA, &[EVE]));
    lane.made(set_role("p", ANA, EVE, Role::Admin));
    let left = lane.made(leave("l", ANA));
    assert_eq!(body(&left).members, [named(ANA, Role::Member), named(EVE, Role::Owner)], "admins before members");
    let left = lane.made(leave("l", EVE));
    assert_eq!(body(&left).members, [named(EVE, Role::Member), named(BEA, Role::Owner)]);
    let (_, draft) = lane.append(leave("l", BEA));
    assert_eq!(draft.batch.conversations[0].members, 0, "the last one turns off the light");
    assert_eq!(lane.refusal(leave("l2", BEA)), Refusal::NotFound);
}

#[test]
fn the_app_needs_neither_membership_nor_role() {
    let mut lane = group();
    let app = |append: Append| Append { authority: Authority::App, ..append };
    let nobody = UserId::from_u128(0);
    let entry = lane.made(app(append(GROUP, nobody, "m", message("system says"))));
    assert_eq!(recipients(&entry), [(ANA, Membership::Stays), (BEA, Membership::Stays)], "not to itself");
    let removed = lane.made(app(remove("r", nobody, &[ANA])));
    assert_eq!(body(&removed).members, [named(ANA, Role::Member), named(BEA, Role::Owner)]);
}

/// Ana's group with as many members as a small one may have.
fn full_group() -> Lane {
    let mut lane = Lane::new();
    lane.made(create("c", &users(10..14)));
    lane
}

#[test]
fn one_more_than_the_limit_makes_a_group_large_by_an_event_that_all_get() {
    let mut lane = full_group();
    let (_, draft) = lane.append(add("a", ANA, &[BEA]));
    let crossing = &draft.entries[&SLOT][0];
    assert!(body(crossing).became_large);
    assert_eq!((crossing.recipients.len(), crossing.reach), (6, Reach::Interested));
    assert!(matches!(draft.batch.conversations[0].kind, WrittenKind::Group { large: true, .. }));
    // From then on mailboxes get what concerns their user; the others are told if they want to.
    let said = lane.made(append(GROUP, BEA, "m", message("hello")));
    assert_eq!((recipients(&said), said.reach), (vec![(BEA, Membership::Stays)], Reach::Interested));
    let joined = lane.made(add("a2", ANA, &[EVE]));
    assert_eq!(recipients(&joined), [(ANA, Membership::Stays), (EVE, Membership::Joins)]);
    assert!(!body(&joined).became_large, "once");
    let mut lane = Lane::new();
    let created = lane.made(create("c", &users(10..30)));
    assert!(body(&created).became_large, "or from the beginning");
}

#[test]
fn members_of_a_large_group_are_looked_up_when_they_matter() {
    let mut lane = Lane::new();
    let position =
        StoredPosition { seq: Seq::new(3), message_no: MessageNo::new(1), kind: EventKind::Message, sender: ANA };
    lane.log.load(
        SLOT,
        StoredConversation {
            id: GROUP,
            kind: WrittenKind::Group { name: "many".into(), large: true },
            member_count: 1000,
            created_by: ANA,
            created_at_ms: 1,
            newest: vec![position],
            members: Vec::new(),
        },
    );
    let request = Request::Append(Box::new(remove("r", ANA, &[BEA])));
    let wanted = lane.log.wanted([(SLOT, &request)].into_iter());
    let key = |user| MemberKey { slot: SLOT, conversation: GROUP, user };
    assert_eq!(wanted.members, [key(ANA), key(BEA)]);
    lane.log.learn(&key(ANA), Some(StoredMember { role: Role::Owner, ..stored_member(ANA) }));
    lane.log.learn(&key(BEA), Some(stored_member(BEA)));
    assert!(lane.log.wanted_seniority([(SLOT, &request)].into_iter()).is_empty(), "no owner goes");
    let (_, draft) = lane.commit(vec![request]);
    assert_eq!(recipients(&draft.entries[&SLOT][0]), [(ANA, Membership::Stays), (BEA, Membership::Leaves)]);
    let request = Request::Append(Box::new(append(GROUP, BEA, "m", message("hello?"))));
    assert!(lane.log.wanted([(SLOT, &request)].into_iter()).is_empty(), "that Bea is gone is remembered");
    assert_eq!(lane.refusal(append(GROUP, BEA, "m", message("hello?"))), Refusal::NotFound);
}

#[test]
fn the_last_owner_of_a_large_group_goes_when_it_is_known_who_follows() {
    let mut lane = full_group();
    let join_and_leave =
        vec![Request::Append(Box::new(add("a", ANA, &[BEA]))), Request::Append(Box::new(leave("l", ANA)))];
    let (decisions, draft) = lane.commit(join_and_leave);
    assert!(matches!(decisions[1], Decision::Commit(_)), "everybody is still remembered");
    let left = body(&draft.entries[&SLOT][1]);
    assert_eq!(left.members.last(), Some(&named(UserId::from_u128(10), Role::Owner)));

    // Loaded anew it is not, and has to be looked up when the owner goes: not before a change of members, but after.
    let mut lane = Lane::new();
    let position =
        StoredPosition { seq: Seq::new(3), message_no: MessageNo::new(1), kind: EventKind::Message, sender: ANA };
    lane.log.load(
        SLOT,
        StoredConversation {
            id: GROUP,
            kind: WrittenKind::Group { name: "many".into(), large: true },
            member_count: 1,
            created_by: ANA,
            created_at_ms: 1,
            newest: vec![position],
            members: Vec::new(),
        },
    );
    let key = |user| MemberKey { slot: SLOT, conversation: GROUP, user };
    lane.log.learn(&key(ANA), Some(StoredMember { role: Role::Owner, ..stored_member(ANA) }));
    lane.log.learn(&key(BEA), None);
    let senior = |user, role| Senior { user, role, joined_seq: Seq::new(1) };
    lane.details.add_seniority(GROUP, vec![senior(ANA, Role::Owner)]);
    let requests =
        || vec![Request::Append(Box::new(add("a", ANA, &[BEA]))), Request::Append(Box::new(leave("l", ANA)))];
    let wanted = requests();
    assert_eq!(lane.log.wanted_seniority(wanted.iter().map(|request| (SLOT, request))).len(), 1);
    assert_eq!(lane.commit(requests()).0[1], Decision::Later, "the members are others now");
    lane.details.add_seniority(GROUP, vec![senior(ANA, Role::Owner), senior(BEA, Role::Member)]);
    let left = lane.made(leave("l", ANA));
    assert_eq!(body(&left).members, [named(ANA, Role::Member), named(BEA, Role::Owner)]);
}
