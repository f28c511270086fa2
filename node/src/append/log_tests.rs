use bytes::Bytes;
use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{
    EventKind,
    cluster::{Append, Refusal},
};

use super::log::{Decision, Log, Moment};
use crate::store::{AppendBatch, StoredConversation, TakenSlot};

const SLOT: Slot = Slot::new(4);
const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);
const EVE: UserId = UserId::from_u128(3);

fn log() -> Log {
    let mut log = Log::new();
    log.open_slot(&TakenSlot {
        slot: SLOT,
        epoch: Epoch::new(7),
        last_event: EventId::from_u128(0),
        mailbox_cursor: EventId::from_u128(0),
    });
    log
}

fn send(sender: UserId, to: UserId, temp_id: &str, text: &str) -> Append {
    Append {
        conversation: DirectPair::new(sender, to).conversation_id(),
        direct_peer: Some(to),
        sender,
        origin: None,
        temp_id: temp_id.to_owned(),
        kind: EventKind::Message,
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn assign_at(log: &mut Log, now_ms: i64, appends: &[Append]) -> (Vec<Decision>, AppendBatch) {
    let commands: Vec<_> = appends.iter().map(|append| (SLOT, append)).collect();
    let mut entropy = || 5;
    log.assign(&commands, Moment { now_ms, entropy: &mut entropy })
}

fn assign(log: &mut Log, appends: &[Append]) -> (Vec<Decision>, AppendBatch) {
    assign_at(log, 1_000, appends)
}

fn seqs(batch: &AppendBatch) -> Vec<u64> {
    batch.events.iter().map(|event| event.record.seq.get()).collect()
}

#[test]
fn seqs_are_contiguous_per_conversation_across_batches() {
    let mut log = log();
    let first = [send(ANA, BEA, "1", "a"), send(ANA, EVE, "1", "a"), send(BEA, ANA, "1", "b")];
    let (decisions, batch) = assign(&mut log, &first);
    assert_eq!(decisions, [Decision::Commit, Decision::Commit, Decision::Commit]);
    assert_eq!(seqs(&batch), [1, 1, 2]);
    assert_eq!(batch.slots, [(SLOT, Epoch::new(7))]);
    assert_eq!(batch.conversations.len(), 2, "each is created once");
    log.confirm(&batch);
    let (_, batch) = assign(&mut log, &[send(ANA, BEA, "2", "c")]);
    assert_eq!((seqs(&batch), batch.conversations.len()), (vec![3], 0));
    assert_eq!(batch.events[0].record.message_no, MessageNo::new(3));
}

#[test]
fn ids_grow_also_when_the_clock_goes_back() {
    let mut log = log();
    let mut last = EventId::from_u128(0);
    for (number, now_ms) in [5_000, 5_000, 10, -3, 6_000].into_iter().enumerate() {
        let (_, batch) = assign_at(&mut log, now_ms, &[send(ANA, BEA, &number.to_string(), "a")]);
        assert!(batch.events[0].record.id > last, "at {now_ms}");
        last = batch.events[0].record.id;
        log.confirm(&batch);
    }
    assert_eq!(last.to_u128() >> 80, 6_000);
}

#[test]
fn a_retry_gets_the_first_answer_and_takes_no_seq() {
    let mut log = log();
    let once = send(ANA, BEA, "1", "a");
    let (decisions, batch) = assign(&mut log, &[once.clone(), once.clone()]);
    assert_eq!(decisions, [Decision::Commit, Decision::Later], "what is in the batch already is decided after it");
    log.confirm(&batch);
    let other = send(ANA, BEA, "1", "something else");
    let (decisions, batch) = assign(&mut log, &[once, other, send(BEA, ANA, "1", "a")]);
    let Decision::Known(appended) = &decisions[0] else { panic!("{decisions:?}") };
    assert_eq!(appended.seq, Seq::new(1));
    assert_eq!(decisions[1], Decision::Refuse(Refusal::Conflict), "what is committed answers all its copies at once");
    assert_eq!(decisions[2], Decision::Commit, "another's temp_id is another's");
    assert_eq!(seqs(&batch), [2]);
}

#[test]
fn what_was_not_committed_is_loaded_anew() {
    let mut log = log();
    let append = send(ANA, BEA, "1", "a");
    let (_, batch) = assign(&mut log, std::slice::from_ref(&append));
    assert!(log.missing([(SLOT, &append)].into_iter()).is_empty(), "it is in memory");
    log.forget(&batch);
    assert_eq!(log.missing([(SLOT, &append), (SLOT, &append)].into_iter()).len(), 1);
    let stored = StoredConversation {
        id: append.conversation,
        pair: DirectPair::new(ANA, BEA),
        last_seq: Seq::new(9),
        message_no: MessageNo::new(8),
    };
    log.load(SLOT, &stored);
    let (_, batch) = assign(&mut log, &[append]);
    assert_eq!((seqs(&batch), batch.conversations.len()), (vec![10], 0));
}

#[test]
fn a_bad_command_is_refused_alone() {
    let mut log = log();
    let (_, batch) = assign(&mut log, &[send(ANA, BEA, "1", "a")]);
    log.confirm(&batch);
    let shared = DirectPair::new(ANA, BEA).conversation_id();
    let bad = [
        Append { direct_peer: None, conversation: shared, ..send(EVE, BEA, "2", "let me in") },
        Append { direct_peer: None, conversation: ConversationId::from_u128(99), ..send(EVE, BEA, "3", "nowhere") },
    ];
    for append in bad {
        assert_eq!(assign(&mut log, &[append]).0, [Decision::Refuse(Refusal::NotFound)]);
    }
    let invalid = [
        Append { conversation: shared, ..send(EVE, BEA, "4", "not the derived id") },
        send(ANA, BEA, "", "no temp_id"),
        send(ANA, BEA, &"x".repeat(65), "a long temp_id"),
        send(ANA, BEA, "a\0b", "what Postgres cannot hold"),
        send(ANA, UserId::from_u128(1 << 127), "5", "nobody"),
    ];
    for append in invalid {
        let (decisions, batch) = assign(&mut log, &[append, send(ANA, BEA, "neighbour", "good")]);
        assert!(matches!(
            &decisions[..],
            [Decision::Refuse(Refusal::Invalid(_)), Decision::Commit | Decision::Known(_)]
        ));
        log.confirm(&batch);
    }
}

#[test]
fn a_slot_that_was_closed_is_not_written() {
    let mut log = log();
    log.close_slot(SLOT);
    let (decisions, batch) = assign(&mut log, &[send(ANA, BEA, "1", "a")]);
    assert_eq!(decisions, [Decision::Refuse(Refusal::NotServing)]);
    assert!(batch.events.is_empty() && batch.conversations.is_empty());
}

#[test]
fn a_known_conversation_is_not_pushed_out_by_loading_its_neighbours() {
    let mut log = log();
    let stored = |number: u128| {
        let pair = DirectPair::new(ANA, UserId::from_u128(1_000 + number));
        StoredConversation { id: pair.conversation_id(), pair, last_seq: Seq::new(1), message_no: MessageNo::new(1) }
    };
    // Number 0 is in the older generation, the younger one is full.
    let turn = 32 * 1024;
    for number in 0..2 * turn {
        log.load(SLOT, &stored(number));
    }
    let known = Append { direct_peer: None, ..send(ANA, UserId::from_u128(1_000), "1", "a") };
    let news = Append { direct_peer: None, ..send(ANA, UserId::from_u128(1_000 + 2 * turn), "1", "a") };
    let missing = log.missing([(SLOT, &known), (SLOT, &news)].into_iter());
    assert_eq!(missing.iter().map(|key| key.id).collect::<Vec<_>>(), [news.conversation]);
    log.load(SLOT, &stored(2 * turn));
    assert_eq!(assign(&mut log, &[known, news]).0, [Decision::Commit, Decision::Commit]);
}
