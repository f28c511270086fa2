//! Messages, edits, deletions, reactions; and what all commands have in common.

use bytes::Bytes;
use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, MessageNo, Seq, UserId};
use tertulia_wire::{
    EventKind, ReactionChange,
    cluster::{Action, Answer, Append, Refusal},
};

use super::*;

const EVENT: EventId = EventId::from_u128(500);

fn requests(appends: &[Append]) -> Vec<Request> {
    appends.iter().map(|append| Request::Append(Box::new(append.clone()))).collect()
}

#[test]
fn seqs_are_contiguous_per_conversation_across_batches() {
    let mut lane = Lane::new();
    let first = [send(ANA, BEA, "1", "a"), send(ANA, EVE, "1", "a"), send(BEA, ANA, "1", "b")];
    let (decisions, draft) = lane.commit(requests(&first));
    let due = |place| Decision::Commit(Due::Event(place));
    assert_eq!(decisions, [due(0), due(1), due(2)]);
    assert_eq!(seqs(&draft), [1, 1, 2]);
    assert_eq!(draft.batch.slots, [(SLOT, Epoch::new(7))]);
    assert_eq!(draft.batch.conversations.len(), 2, "each is created once");
    assert_eq!(draft.batch.members.len(), 4, "with its members");
    let (_, draft) = lane.commit(requests(&[send(ANA, BEA, "2", "c")]));
    assert_eq!((seqs(&draft), draft.batch.conversations.len()), (vec![3], 0));
    assert_eq!(draft.batch.events[0].record.message_no, MessageNo::new(3));
}

#[test]
fn ids_grow_also_when_the_clock_goes_back() {
    let mut lane = Lane::new();
    let mut last = EventId::from_u128(0);
    for (number, now_ms) in [5_000, 5_000, 10, -3, 6_000].into_iter().enumerate() {
        let request = Request::Append(Box::new(send(ANA, BEA, &number.to_string(), "a")));
        let mut entropy = || 5;
        let moment = Moment { now_ms, entropy: &mut entropy };
        let (_, draft) = lane.log.assign(&[(SLOT, &request)], &mut Details::default(), moment);
        let id = draft.batch.events[0].record.id;
        assert!(id > last, "at {now_ms}");
        last = id;
        lane.log.confirm(&draft.batch);
    }
    assert_eq!(last.to_u128() >> 80, 6_000);
}

#[test]
fn a_retry_gets_the_first_answer_and_takes_no_seq() {
    let mut lane = Lane::new();
    let once = send(ANA, BEA, "1", "a");
    let (decisions, _) = lane.commit(requests(&[once.clone(), once.clone()]));
    assert_eq!(decisions[1], Decision::Later, "what is in the batch already is decided after it");
    let other = send(ANA, BEA, "1", "something else");
    let (decisions, draft) = lane.commit(requests(&[once, other, send(BEA, ANA, "1", "a")]));
    let Answer::Append(appended) = known(&decisions[0]) else { panic!("{decisions:?}") };
    assert_eq!(appended.seq, Seq::new(1));
    assert_eq!(decisions[1], Decision::Refuse(Refusal::Conflict));
    assert_eq!(decisions[2], Decision::Commit(Due::Event(0)), "another's temp_id is another's");
    assert_eq!(seqs(&draft), [2]);
}

#[test]
fn what_was_not_committed_is_loaded_anew() {
    let mut lane = Lane::new();
    let append = send(ANA, BEA, "1", "a");
    let (_, draft) = lane.assign(requests(std::slice::from_ref(&append)));
    let request = Request::Append(Box::new(append.clone()));
    assert!(lane.log.missing([(SLOT, &request)].into_iter()).is_empty(), "it is in memory");
    lane.log.forget(&draft.batch);
    assert_eq!(lane.log.missing([(SLOT, &request), (SLOT, &request)].into_iter()).len(), 1);
    lane.log.load(SLOT, stored_direct(append.conversation, DirectPair::new(ANA, BEA), 9));
    let (_, draft) = lane.commit(requests(&[append]));
    assert_eq!((seqs(&draft), draft.batch.conversations.len()), (vec![10], 0));
}

#[test]
fn a_bad_command_is_refused_alone() {
    let mut lane = Lane::new();
    lane.made(send(ANA, BEA, "1", "a"));
    let strangers = [
        append(direct(), EVE, "2", message("let me in")),
        append(ConversationId::from_u128(99), EVE, "3", message("nowhere")),
    ];
    for append in strangers {
        assert_eq!(lane.refusal(append), Refusal::NotFound);
    }
    let invalid = [
        Append { conversation: direct(), ..send(EVE, BEA, "4", "not the derived id") },
        send(ANA, BEA, "", "no temp_id"),
        send(ANA, BEA, &"x".repeat(65), "a long temp_id"),
        send(ANA, BEA, "a\0b", "what Postgres cannot hold"),
        send(ANA, UserId::from_u128(1 << 127), "5", "nobody"),
    ];
    for (number, append) in invalid.into_iter().enumerate() {
        let neighbour = send(ANA, BEA, &format!("neighbour {number}"), "good");
        let (decisions, _) = lane.commit(requests(&[append, neighbour]));
        assert!(
            matches!(&decisions[..], [Decision::Reject(Refusal::Invalid(_)), Decision::Commit(_)]),
            "{decisions:?}"
        );
    }
}

#[test]
fn a_slot_that_was_closed_is_not_written() {
    let mut lane = Lane::new();
    lane.log.close_slot(SLOT);
    let (decision, draft) = lane.append(send(ANA, BEA, "1", "a"));
    assert_eq!(decision, Decision::Refuse(Refusal::NotServing));
    assert!(draft.batch.is_empty() && draft.batch.conversations.is_empty());
}

#[test]
fn a_known_conversation_is_not_pushed_out_by_loading_its_neighbours() {
    let mut lane = Lane::new();
    let stored = |number: u128| {
        let pair = DirectPair::new(ANA, UserId::from_u128(1_000 + number));
        stored_direct(pair.conversation_id(), pair, 1)
    };
    // Number 0 is in the older generation, the younger one is full.
    let turn = 32 * 1024;
    for number in 0..2 * turn {
        lane.log.load(SLOT, stored(number));
    }
    let to = |number: u128| {
        let append = Append { direct_peer: None, ..send(ANA, UserId::from_u128(1_000 + number), "1", "a") };
        Request::Append(Box::new(append))
    };
    let (known, news) = (to(0), to(2 * turn));
    let missing = lane.log.missing([(SLOT, &known), (SLOT, &news)].into_iter());
    assert_eq!(missing.iter().map(|key| key.id).collect::<Vec<_>>(), [news.conversation()]);
    lane.log.load(SLOT, stored(2 * turn));
    let (decisions, _) = lane.commit(vec![known, news]);
    assert!(decisions.iter().all(|decision| matches!(decision, Decision::Commit(_))));
}

fn edit(temp_id: &str, sender: UserId) -> Append {
    append(direct(), sender, temp_id, Action::Edit { message: EVENT, body: Bytes::from_static(b"new") })
}

fn delete(temp_id: &str, sender: UserId) -> Append {
    append(direct(), sender, temp_id, Action::Delete { message: EVENT })
}

fn react(temp_id: &str, sender: UserId, emoji: &str, change: ReactionChange) -> Append {
    append(direct(), sender, temp_id, Action::React { message: EVENT, emoji: emoji.into(), change })
}

/// Ana's first message to Bea is there.
fn chatting() -> Lane {
    let mut lane = Lane::new();
    lane.made(send(ANA, BEA, "1", "a"));
    lane.knows_message(direct(), EVENT, ANA, ANA, 1);
    lane.knows_message(direct(), EVENT, BEA, ANA, 1);
    lane
}

#[test]
fn an_edit_is_the_senders_and_takes_a_seq_but_no_message_no() {
    let mut lane = chatting();
    let entry = lane.made(edit("e", ANA));
    let record = event_of(&entry);
    assert_eq!((record.kind, record.seq, record.message_no), (EventKind::Edit, Seq::new(2), MessageNo::new(1)));
    assert_eq!(record.target.map(|target| (target.id, target.seq)), Some((EVENT, Seq::new(1))));
    assert!(matches!(lane.refusal(edit("e", BEA)), Refusal::NotAllowed(_)));
    let elsewhere = Action::Edit { message: EventId::from_u128(9), body: Bytes::new() };
    assert_eq!(lane.refusal(append(direct(), ANA, "x", elsewhere)), Refusal::NotFound);
}

#[test]
fn what_follows_a_deletion_in_its_batch_sees_it() {
    let mut lane = chatting();
    let like = react("r", BEA, "+", ReactionChange::Add);
    let (decisions, draft) = lane.commit(requests(&[
        like,
        delete("d", ANA),
        edit("e", ANA),
        delete("d2", ANA),
        react("r2", BEA, "-", ReactionChange::Add),
    ]));
    assert!(matches!(decisions[..2], [Decision::Commit(_), Decision::Commit(_)]));
    assert_eq!(decisions[2], Decision::Refuse(Refusal::NotFound));
    assert!(matches!(decisions[3], Decision::Refuse(Refusal::NoChange(_))));
    assert_eq!(decisions[4], Decision::Refuse(Refusal::NotFound));
    assert!(draft.batch.reactions.is_empty(), "the reaction goes with the message");
    assert!(matches!(chatting().refusal(delete("d", BEA)), Refusal::NotAllowed(_)), "another's message");
}

#[test]
fn a_reaction_is_there_once_and_its_number_is_bounded() {
    let mut lane = chatting();
    lane.made(react("1", BEA, "+", ReactionChange::Add));
    assert!(matches!(lane.refusal(react("2", BEA, "+", ReactionChange::Add)), Refusal::NoChange(_)));
    lane.made(react("3", ANA, "+", ReactionChange::Add));
    lane.made(react("4", BEA, "+", ReactionChange::Remove));
    assert!(matches!(lane.refusal(react("5", BEA, "+", ReactionChange::Remove)), Refusal::NoChange(_)));
    for number in 0..16 {
        lane.made(react(&format!("n{number}"), BEA, &number.to_string(), ReactionChange::Add));
    }
    assert!(matches!(lane.refusal(react("x", BEA, "x", ReactionChange::Add)), Refusal::LimitReached(_)));
}

#[test]
fn a_message_has_a_bounded_number_of_different_reactions() {
    let mut lane = chatting();
    let key = TargetKey { slot: SLOT, conversation: direct(), message: EventId::from_u128(501), user: BEA };
    let emojis: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    let (seq, kind) = (Seq::new(1), EventKind::Message);
    lane.details
        .add_target(key, StoredTarget { seq, kind, sender: ANA, deleted: false, own_emojis: Vec::new(), emojis });
    let react = |temp_id: &str, emoji: &str| {
        let action = Action::React { message: key.message, emoji: emoji.into(), change: ReactionChange::Add };
        append(direct(), BEA, temp_id, action)
    };
    lane.made(react("1", "7"));
    assert!(matches!(lane.refusal(react("2", "64")), Refusal::LimitReached(_)));
}

#[test]
fn what_was_not_committed_leaves_no_trace_in_the_order_of_ids() {
    let mut lane = chatting();
    let before = lane.log.last_entry(SLOT).expect("the slot is open");
    let (_, draft) = lane.assign(requests(&[send(ANA, BEA, "2", "b")]));
    lane.log.take_back(&draft.batch, &[(SLOT, before)].into());
    assert_eq!(lane.log.last_entry(SLOT), Some(before));
}

#[test]
fn a_first_message_after_a_block_begins_the_conversation_anew() {
    let mut lane = Lane::new();
    let block = |change| {
        let (conversation, user, peer) = (direct(), ANA, BEA);
        Request::Block(tertulia_wire::cluster::Block { conversation, user, peer, origin: None, change })
    };
    lane.commit(vec![block(tertulia_wire::cluster::BlockChange::Block)]);
    lane.commit(vec![block(tertulia_wire::cluster::BlockChange::Unblock)]);
    let (_, draft) = lane.append(send(BEA, ANA, "1", "hello"));
    assert_eq!(draft.batch.conversations.len(), 1);
    assert_eq!(draft.batch.conversations[0].created_by, BEA, "not by who blocked");
}

#[test]
fn both_users_of_a_direct_conversation_are_recipients_once_each() {
    let mut lane = Lane::new();
    let entry = lane.made(send(ANA, BEA, "1", "a"));
    assert_eq!(recipients(&entry), [(ANA, Membership::Stays), (BEA, Membership::Stays)]);
    let entry = lane.made(send(ANA, ANA, "1", "a note"));
    assert_eq!(recipients(&entry), [(ANA, Membership::Stays)]);
}
