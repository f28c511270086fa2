//! What a lane decides, without a store: a scripted log, and look-ups that are answered by hand.

mod groups;
mod messages;
mod standings;

use bytes::Bytes;
use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, MessageNo, Seq, Slot, UserId};
use tertulia_wire::{
    EventKind,
    cluster::{Action, Answer, Append, Authority, DeliverEntry, Membership, Refusal},
};

use super::{
    Request,
    details::Details,
    draft::Draft,
    log::{Decision, Due, Log, Moment},
};
use crate::{
    entry::LogEntry,
    store::{StoredConversation, StoredPosition, StoredTarget, TakenSlot, TargetKey, WrittenKind},
};

const SLOT: Slot = Slot::new(4);
const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);
const EVE: UserId = UserId::from_u128(3);
const GROUP: ConversationId = ConversationId::from_u128(77);
const FANOUT_LIMIT: u64 = 5;

fn log() -> Log {
    let mut log = Log::new(FANOUT_LIMIT);
    log.open_slot(&TakenSlot {
        slot: SLOT,
        epoch: Epoch::new(7),
        last_entry: EventId::from_u128(0),
        mailbox_cursor: EventId::from_u128(0),
    });
    log
}

fn direct() -> ConversationId {
    DirectPair::new(ANA, BEA).conversation_id()
}

fn append(conversation: ConversationId, sender: UserId, temp_id: &str, action: Action) -> Append {
    Append {
        conversation,
        direct_peer: None,
        sender,
        authority: Authority::Member,
        origin: None,
        temp_id: temp_id.to_owned(),
        action,
    }
}

fn message(text: &str) -> Action {
    Action::Message { body: Bytes::copy_from_slice(text.as_bytes()) }
}

fn send(sender: UserId, to: UserId, temp_id: &str, text: &str) -> Append {
    let conversation = DirectPair::new(sender, to).conversation_id();
    Append { direct_peer: Some(to), ..append(conversation, sender, temp_id, message(text)) }
}

/// A lane's memory, and what its store would say of messages.
struct Lane {
    log: Log,
    details: Details,
}

impl Lane {
    fn new() -> Self {
        Self { log: log(), details: Details::default() }
    }

    fn assign(&mut self, requests: Vec<Request>) -> (Vec<Decision>, Draft) {
        let commands: Vec<_> = requests.iter().map(|request| (SLOT, request)).collect();
        let mut entropy = || 5;
        self.log.assign(&commands, &mut self.details, Moment { now_ms: 1_000, entropy: &mut entropy })
    }

    /// Decides these and commits what there is.
    fn commit(&mut self, requests: Vec<Request>) -> (Vec<Decision>, Draft) {
        let (decisions, draft) = self.assign(requests);
        self.log.confirm(&draft.batch);
        (decisions, draft)
    }

    fn append(&mut self, append: Append) -> (Decision, Draft) {
        let (mut decisions, draft) = self.commit(vec![Request::Append(Box::new(append))]);
        (decisions.remove(0), draft)
    }

    /// One that is carried out; its event's entry.
    fn made(&mut self, append: Append) -> LogEntry {
        let (decision, mut draft) = self.append(append);
        assert_eq!(decision, Decision::Commit(Due::Event(0)));
        draft.entries.remove(&SLOT).expect("an entry").remove(0)
    }

    fn refusal(&mut self, append: Append) -> Refusal {
        match self.append(append).0 {
            Decision::Refuse(refusal) | Decision::Reject(refusal) => refusal,
            other => panic!("not refused, but {other:?}"),
        }
    }

    /// What a look-up of a message finds, for a user without reactions.
    fn knows_message(
        &mut self,
        conversation: ConversationId,
        message: EventId,
        user: UserId,
        sender: UserId,
        seq: u64,
    ) {
        let key = TargetKey { slot: SLOT, conversation, message, user };
        let (seq, kind) = (Seq::new(seq), EventKind::Message);
        let stored = StoredTarget { seq, kind, sender, deleted: false, own_emojis: Vec::new(), emojis: Vec::new() };
        self.details.add_target(key, stored);
    }
}

fn event_of(entry: &LogEntry) -> &tertulia_wire::EventRecord {
    match &entry.entry {
        DeliverEntry::Event(event) => &event.record,
        DeliverEntry::Standing(standing) => panic!("a standing: {standing:?}"),
    }
}

fn recipients(entry: &LogEntry) -> Vec<(UserId, Membership)> {
    let mut recipients: Vec<_> = entry.recipients.iter().map(|it| (it.user, it.membership)).collect();
    recipients.sort_by_key(|(user, _)| *user);
    recipients
}

fn stored_direct(id: ConversationId, pair: DirectPair, last_seq: u64) -> StoredConversation {
    let position = |seq| StoredPosition {
        seq: Seq::new(seq),
        message_no: MessageNo::new(seq),
        kind: EventKind::Message,
        sender: pair.lo(),
    };
    StoredConversation {
        id,
        kind: WrittenKind::Direct(pair),
        member_count: 2,
        created_by: pair.lo(),
        created_at_ms: 1,
        newest: (1..=last_seq).rev().take(1).map(position).collect(),
        members: [pair.lo(), pair.hi()].map(stored_member).into(),
    }
}

fn stored_member(user: UserId) -> crate::store::StoredMember {
    crate::store::StoredMember {
        user,
        role: tertulia_wire::Role::Member,
        joined_seq: Seq::new(1),
        delivered_seq: Seq::ZERO,
        read_seq: Seq::ZERO,
        read_message_no: MessageNo::ZERO,
        blocks_peer: false,
    }
}

fn seqs(draft: &Draft) -> Vec<u64> {
    draft.batch.events.iter().map(|event| event.record.seq.get()).collect()
}

fn known(decision: &Decision) -> &Answer {
    match decision {
        Decision::Known(answer) => answer,
        other => panic!("not known, but {other:?}"),
    }
}
