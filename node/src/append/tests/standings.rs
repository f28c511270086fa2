//! Watermarks, blocks, typing.

use tertulia_wire::{
    Role,
    cluster::{Block, BlockChange, ConversationView, DeliverStanding, Mark, Marked, Typing},
};

use super::*;
use crate::store::{PositionKey, StoredMember};

fn mark(user: UserId, delivered: u64, read: u64) -> Request {
    let (delivered, read) = (Seq::new(delivered), Seq::new(read));
    Request::Mark(Mark { conversation: direct(), user, origin: None, delivered, read })
}

fn block(user: UserId, peer: UserId, change: BlockChange) -> Request {
    let conversation = DirectPair::new(user, peer).conversation_id();
    Request::Block(Block { conversation, user, peer, origin: None, change })
}

fn standing_of(entry: &LogEntry) -> &DeliverStanding {
    match &entry.entry {
        DeliverEntry::Standing(standing) => standing,
        DeliverEntry::Event(event) => panic!("an event: {event:?}"),
    }
}

fn marked(delivered: u64, read: u64) -> Answer {
    Answer::Mark(Marked { delivered: Seq::new(delivered), read: Seq::new(read) })
}

/// Four messages of Ana's to Bea.
fn chatting() -> Lane {
    let mut lane = Lane::new();
    for number in 1..=4 {
        lane.made(send(ANA, BEA, &number.to_string(), "a"));
    }
    lane
}

#[test]
fn watermarks_only_grow_and_reading_is_having() {
    let mut lane = chatting();
    let (decisions, draft) = lane.commit(vec![mark(BEA, 2, 0)]);
    assert_eq!(decisions, [Decision::Commit(Due::Answer(marked(2, 0)))]);
    let entry = &draft.entries[&SLOT][0];
    assert_eq!(recipients(entry), [(ANA, Membership::Stays), (BEA, Membership::Stays)]);
    let (decisions, draft) = lane.commit(vec![mark(BEA, 0, 3)]);
    assert_eq!(decisions, [Decision::Commit(Due::Answer(marked(3, 3)))]);
    assert_eq!(standing_of(&draft.entries[&SLOT][0]).standing.read_message_no, MessageNo::new(3));
    let (decisions, draft) = lane.commit(vec![mark(BEA, 1, 2)]);
    assert_eq!(decisions, [Decision::Known(marked(3, 3))]);
    assert!(draft.batch.is_empty());
    let (decisions, _) = lane.commit(vec![mark(BEA, 0, 5), mark(EVE, 1, 0)]);
    assert!(matches!(&decisions[0], Decision::Refuse(Refusal::Invalid(_))), "above the newest event");
    assert_eq!(decisions[1], Decision::Refuse(Refusal::NotFound));
}

#[test]
fn marks_of_one_batch_become_one() {
    let mut lane = chatting();
    let (decisions, draft) = lane.commit(vec![mark(BEA, 1, 1), mark(BEA, 4, 2), mark(BEA, 0, 4)]);
    assert_eq!(decisions.last(), Some(&Decision::Commit(Due::Answer(marked(4, 4)))));
    assert_eq!((draft.batch.standings.len(), draft.entries[&SLOT].len()), (1, 1));
    assert_eq!(draft.batch.standings[0].standing.read_seq, Seq::new(4));
    assert_eq!(draft.batch.standings[0].id, draft.entries[&SLOT][0].id());
}

#[test]
fn a_mark_that_becomes_one_with_an_earlier_one_comes_after_what_it_covers() {
    let mut lane = chatting();
    let more = Request::Append(Box::new(send(ANA, BEA, "5", "b")));
    let (_, draft) = lane.commit(vec![mark(BEA, 0, 2), mark(ANA, 0, 1), more, mark(BEA, 0, 5), mark(ANA, 0, 5)]);
    let entries = &draft.entries[&SLOT];
    assert_eq!(event_of(&entries[0]).seq, Seq::new(5));
    let marks: Vec<_> =
        entries[1..].iter().map(|it| (standing_of(it).standing.user, standing_of(it).standing.read_seq)).collect();
    assert_eq!(marks, [(BEA, Seq::new(5)), (ANA, Seq::new(5))]);
    assert!(entries.is_sorted_by_key(LogEntry::id), "in the order of the ids");
}

#[test]
fn a_mark_that_is_overtaken_in_its_batch_is_none_the_worse() {
    let mut lane = chatting();
    let mut requests: Vec<Request> =
        (5..15).map(|number| Request::Append(Box::new(send(ANA, BEA, &number.to_string(), "b")))).collect();
    assert!(lane.log.wanted([(SLOT, &mark(BEA, 0, 4))].into_iter()).is_empty(), "it is remembered");
    requests.push(mark(BEA, 0, 4));
    assert_eq!(lane.commit(requests).0.last(), Some(&Decision::Commit(Due::Answer(marked(4, 4)))));
}

#[test]
fn a_message_no_that_is_not_remembered_is_looked_up() {
    let mut lane = Lane::new();
    lane.log.load(SLOT, stored_direct(direct(), DirectPair::new(ANA, BEA), 90));
    let request = mark(BEA, 0, 40);
    let wanted = lane.log.wanted([(SLOT, &request)].into_iter());
    let key = PositionKey { slot: SLOT, conversation: direct(), seq: Seq::new(40) };
    assert_eq!(wanted.positions, [key]);
    lane.details.add_position(key, MessageNo::new(33));
    let (_, draft) = lane.commit(vec![request]);
    assert_eq!(draft.batch.standings[0].standing.read_message_no, MessageNo::new(33));
}

#[test]
fn in_a_group_the_senders_of_what_was_read_are_told() {
    let mut lane = Lane::new();
    let create = Action::Create { name: "us".into(), users: vec![BEA, EVE] };
    lane.made(append(GROUP, ANA, "c", create));
    lane.made(append(GROUP, ANA, "m", message("one")));
    lane.made(append(GROUP, BEA, "m", message("two")));
    let mut read = |seq: u64| {
        let mark = Mark { conversation: GROUP, user: EVE, origin: None, delivered: Seq::ZERO, read: Seq::new(seq) };
        let (_, draft) = lane.commit(vec![Request::Mark(mark)]);
        recipients(&draft.entries[&SLOT][0]).into_iter().map(|(user, _)| user).collect::<Vec<_>>()
    };
    assert_eq!(read(2), [ANA, BEA, EVE]);
    assert_eq!(read(3), [BEA, EVE], "Ana knows");
}

#[test]
fn a_block_stops_both_ways_hides_both_and_leaves_no_trace_in_the_log() {
    let mut lane = Lane::new();
    let (decisions, draft) = lane.commit(vec![block(ANA, BEA, BlockChange::Block)]);
    assert_eq!(decisions, [Decision::Commit(Due::Answer(Answer::Block))]);
    assert_eq!((draft.batch.conversations.len(), draft.batch.members.len(), draft.batch.events.len()), (1, 2, 0));
    let entries = &draft.entries[&SLOT];
    let stamped: Vec<_> = entries.iter().map(|entry| standing_of(entry).standing.user).collect();
    assert_eq!(stamped, [ANA], "nothing of Bea's is told, not even to herself");
    assert!(
        entries.iter().all(|entry| matches!(standing_of(entry).view, ConversationView::Direct { blocked: true, .. }))
    );
    for (from, to) in [(ANA, BEA), (BEA, ANA)] {
        assert_eq!(lane.refusal(send(from, to, "m", "hello?")), Refusal::Blocked);
    }
    // That there is a conversation at all is nobody's business.
    let (decisions, _) = lane.commit(vec![mark(BEA, 0, 0), block(ANA, BEA, BlockChange::Block)]);
    assert_eq!(decisions, [Decision::Refuse(Refusal::NotFound), Decision::Commit(Due::Answer(Answer::Block))]);
    let outsider = append(direct(), BEA, "x", message("is anybody there?"));
    assert_eq!(lane.refusal(outsider), Refusal::NotFound, "as if there were no conversation");

    let (_, draft) = lane.commit(vec![block(ANA, BEA, BlockChange::Unblock)]);
    assert!(
        draft.entries[&SLOT]
            .iter()
            .all(|it| matches!(standing_of(it).view, ConversationView::Direct { blocked: false, .. }))
    );
    assert_eq!(event_of(&lane.made(send(BEA, ANA, "m", "hello?"))).seq, Seq::new(1));
    let (decisions, draft) =
        lane.commit(vec![block(ANA, EVE, BlockChange::Unblock), block(ANA, ANA, BlockChange::Block)]);
    assert_eq!(
        decisions[0],
        Decision::Commit(Due::Answer(Answer::Block)),
        "nothing to lift, if this is still the owner"
    );
    assert!(matches!(decisions[1], Decision::Refuse(Refusal::Invalid(_))));
    assert_eq!((draft.batch.slots.len(), draft.batch.conversations.len(), draft.batch.standings.len()), (1, 0, 0));
}

#[test]
fn what_one_said_oneself_may_be_taken_back_across_a_block() {
    let mut lane = chatting();
    lane.commit(vec![block(BEA, ANA, BlockChange::Block)]);
    let message = EventId::from_u128(500);
    lane.knows_message(direct(), message, ANA, ANA, 1);
    let edit = Action::Edit { message, body: bytes::Bytes::new() };
    assert_eq!(lane.refusal(append(direct(), ANA, "e", edit)), Refusal::Blocked);
    lane.made(append(direct(), ANA, "d", Action::Delete { message }));
}

#[test]
fn typing_is_told_to_the_others_and_to_nobody_across_a_block() {
    let mut lane = chatting();
    let typing = |user| Request::Typing(Typing { conversation: direct(), user, origin: None, typing: true });
    let (decisions, draft) = lane.commit(vec![typing(ANA), typing(EVE)]);
    let Decision::Tell(told) = &decisions[0] else { panic!("{decisions:?}") };
    assert_eq!(told.recipients, [BEA]);
    assert_eq!(decisions[1], Decision::Known(Answer::Typing));
    assert!(draft.batch.is_empty());
    lane.commit(vec![block(BEA, ANA, BlockChange::Block)]);
    assert_eq!(lane.commit(vec![typing(ANA)]).0, [Decision::Known(Answer::Typing)]);
}

#[test]
fn a_stored_block_counts() {
    let mut lane = Lane::new();
    let pair = DirectPair::new(ANA, BEA);
    let mut stored = stored_direct(direct(), pair, 3);
    stored.members[1] = StoredMember { blocks_peer: true, role: Role::Member, ..stored_member(BEA) };
    lane.log.load(SLOT, stored);
    assert_eq!(lane.refusal(send(ANA, BEA, "m", "hello?")), Refusal::Blocked);
}
