//! I1 to I4: one conversation's log against what its senders recorded, and its messages against its edits and deletions.

use std::collections::HashMap;

use tertulia_shard_map::{ConversationId, EventId, Seq, UserId};
use tertulia_wire::EventKind;

use crate::{Invariant, Violations};

/// What a client knows of something that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acked, or seen in a push, which is as good.
    Acked {
        id: EventId,
        seq: Seq,
    },
    /// Refused for good: it must not be in the log.
    Refused,
    Unknown,
}

/// Something that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub outcome: Outcome,
    /// Of the content, as the checker's caller makes it.
    pub content_hash: u64,
}

/// An event as a store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEvent<'a> {
    pub seq: Seq,
    pub id: EventId,
    pub kind: EventKind,
    pub sender: UserId,
    pub temp_id: &'a str,
    /// The message that an edit or a deletion is about.
    pub target: Option<Seq>,
    /// Of a message or an edit: its content now. `None` where it has none.
    pub content_hash: Option<u64>,
}

/// Checks one conversation: hand in its events in order of `seq`, then [`finish`](Self::finish).
#[derive(Debug)]
pub struct ConversationCheck {
    conversation: ConversationId,
    next: Seq,
    last_id: EventId,
    /// Of events seen: sender and temp_id.
    seen: HashMap<(UserId, Box<str>), Seq>,
    /// Of messages and edits.
    contents: HashMap<Seq, Content>,
    /// Edits of each message that has some.
    edits: HashMap<Seq, Vec<Seq>>,
}

/// Hashes of what an event says: as the log has it that it must, and as it is stored. `None`: nothing, it was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    expected: Option<u64>,
    stored: Option<u64>,
}

impl ConversationCheck {
    pub fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            next: Seq::new(1),
            last_id: EventId::from_u128(0),
            seen: HashMap::new(),
            contents: HashMap::new(),
            edits: HashMap::new(),
        }
    }

    /// `sent` is what was recorded under the event's sender and temp_id, `None` where nothing was.
    pub fn event(&mut self, event: &StoredEvent<'_>, sent: Option<&Sent>, violations: &mut Violations) {
        let conversation = self.conversation;
        if event.seq != self.next {
            violations.add(Invariant::SeqIsContiguous, || {
                format!("{conversation}: seq {} where {} is due", event.seq, self.next)
            });
        }
        self.next = event.seq.next();
        if event.id <= self.last_id {
            violations.add(Invariant::SeqIsContiguous, || {
                format!("{conversation}: the id of seq {} is not above the one before", event.seq)
            });
        }
        self.last_id = event.id;
        if let Some(first) = self.seen.insert((event.sender, event.temp_id.into()), event.seq) {
            violations.add(Invariant::OneEventPerTempId, || {
                format!("{conversation}: {} of {} at {first} and {}", event.temp_id, event.sender, event.seq)
            });
        }
        let Some(sent) = sent else {
            return violations.add(Invariant::NothingIsInvented, || {
                format!("{conversation}: seq {} by {} ({}) was never sent", event.seq, event.sender, event.temp_id)
            });
        };
        self.content(event, sent.content_hash);
        match sent.outcome {
            Outcome::Acked { id, seq } if (id, seq) != (event.id, event.seq) => {
                violations.add(Invariant::SeqIsContiguous, || {
                    format!("{conversation}: acked as {seq} ({id}), stored as {} ({})", event.seq, event.id)
                });
            }
            Outcome::Refused => violations.add(Invariant::NothingIsInvented, || {
                format!("{conversation}: seq {} was refused to its sender", event.seq)
            }),
            Outcome::Acked { .. } | Outcome::Unknown => {}
        }
    }

    fn content(&mut self, event: &StoredEvent<'_>, said: u64) {
        let own = Content { expected: Some(said), stored: event.content_hash };
        match (event.kind, event.target) {
            (EventKind::Message, _) => drop(self.contents.insert(event.seq, own)),
            (EventKind::Edit, Some(message)) => {
                self.contents.insert(event.seq, own);
                self.edits.entry(message).or_default().push(event.seq);
                self.expect(message, Some(said));
            }
            (EventKind::Delete, Some(message)) => {
                self.expect(message, None);
                for edit in self.edits.remove(&message).unwrap_or_default() {
                    self.expect(edit, None);
                }
            }
            _ => {}
        }
    }

    fn expect(&mut self, seq: Seq, expected: Option<u64>) {
        if let Some(content) = self.contents.get_mut(&seq) {
            content.expected = expected;
        }
    }

    /// All events are in: `sent` is everything that was recorded for this conversation. Returns the newest seq.
    pub fn finish<'a>(
        self,
        sent: impl IntoIterator<Item = (UserId, &'a str, &'a Sent)>,
        violations: &mut Violations,
    ) -> Seq {
        let conversation = self.conversation;
        let mut key = (UserId::from_u128(0), Box::<str>::default());
        for (sender, temp_id, sent) in sent {
            let Outcome::Acked { seq, .. } = sent.outcome else { continue };
            key.0 = sender;
            key.1 = temp_id.into();
            if !self.seen.contains_key(&key) {
                violations.add(Invariant::AckedIsDurable, || {
                    format!("{conversation}: {temp_id} of {sender}, acked as seq {seq}, is not in the log")
                });
            }
        }
        for (seq, content) in self.contents {
            if content.stored != content.expected {
                violations.add(Invariant::NothingIsInvented, || {
                    let now = if content.stored.is_none() { "nothing" } else { "something else" };
                    format!("{conversation}: the content of seq {seq} is {now}, and not what was last said of it")
                });
            }
        }
        Seq::new(self.next.get() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_u128(1);
    const CONVERSATION: ConversationId = ConversationId::from_u128(9);

    fn event(seq: u64, temp_id: &str) -> StoredEvent<'_> {
        let (seq, id) = (Seq::new(seq), EventId::from_u128(seq.into()));
        let kind = EventKind::Message;
        StoredEvent { seq, id, kind, sender: ANA, temp_id, target: None, content_hash: Some(7) }
    }

    fn about(seq: u64, temp_id: &str, kind: EventKind, content_hash: Option<u64>) -> StoredEvent<'_> {
        StoredEvent { kind, target: Some(Seq::new(1)), content_hash, ..event(seq, temp_id) }
    }

    fn acked(seq: u64) -> Sent {
        let outcome = Outcome::Acked { id: EventId::from_u128(seq.into()), seq: Seq::new(seq) };
        Sent { outcome, content_hash: 7 }
    }

    const UNKNOWN: Sent = Sent { outcome: Outcome::Unknown, content_hash: 7 };

    fn found(log: &[(StoredEvent<'_>, Option<Sent>)], rest: &[(&str, Sent)]) -> Vec<Invariant> {
        let (mut check, mut violations) = (ConversationCheck::new(CONVERSATION), Violations::default());
        log.iter().for_each(|(event, sent)| check.event(event, sent.as_ref(), &mut violations));
        check.finish(rest.iter().map(|(temp_id, sent)| (ANA, *temp_id, sent)), &mut violations);
        Invariant::ALL.into_iter().filter(|invariant| violations.count(*invariant) > 0).collect()
    }

    #[test]
    fn a_faultless_log_is_found_faultless() {
        let log = [(event(1, "a"), Some(acked(1))), (event(2, "b"), Some(UNKNOWN))];
        assert_eq!(found(&log, &[("a", acked(1)), ("b", UNKNOWN), ("c", UNKNOWN)]), []);
    }

    #[test]
    fn each_fault_is_found_as_what_it_is() {
        assert_eq!(found(&[], &[("a", acked(1))]), [Invariant::AckedIsDurable]);
        let twice = [(event(1, "a"), Some(acked(1))), (event(2, "a"), Some(UNKNOWN))];
        assert_eq!(found(&twice, &[]), [Invariant::OneEventPerTempId]);
        assert_eq!(found(&[(event(2, "a"), Some(acked(2)))], &[]), [Invariant::SeqIsContiguous], "a hole");
        assert_eq!(found(&[(event(1, "a"), Some(acked(2)))], &[]), [Invariant::SeqIsContiguous], "moved");
        let low = StoredEvent { id: EventId::from_u128(0), ..event(1, "a") };
        assert_eq!(found(&[(low, Some(UNKNOWN))], &[]), [Invariant::SeqIsContiguous], "ids fall");
        assert_eq!(found(&[(event(1, "a"), None)], &[]), [Invariant::NothingIsInvented]);
        let altered = Sent { content_hash: 8, ..acked(1) };
        assert_eq!(found(&[(event(1, "a"), Some(altered))], &[]), [Invariant::NothingIsInvented]);
        let refused = Sent { outcome: Outcome::Refused, content_hash: 7 };
        assert_eq!(found(&[(event(1, "a"), Some(refused))], &[]), [Invariant::NothingIsInvented]);
    }

    #[test]
    fn a_message_is_what_was_last_said_of_it() {
        let now = |hash| StoredEvent { content_hash: hash, ..event(1, "a") };
        let said = |hash| Some(Sent { content_hash: hash, ..UNKNOWN });
        let edit = |hash| about(2, "b", EventKind::Edit, hash);
        let delete = about(3, "c", EventKind::Delete, None);

        assert_eq!(found(&[(now(Some(8)), said(7)), (edit(Some(8)), said(8))], &[]), []);
        assert_eq!(found(&[(now(None), said(7)), (edit(None), said(8)), (delete, said(9))], &[]), []);

        let wrong = [Invariant::NothingIsInvented];
        assert_eq!(found(&[(now(Some(7)), said(7)), (edit(Some(8)), said(8))], &[]), wrong, "an edit without effect");
        assert_eq!(found(&[(now(Some(8)), said(7)), (edit(None), said(8))], &[]), wrong, "an edit erased");
        let erased = [(now(None), said(7)), (edit(Some(8)), said(8)), (delete, said(9))];
        assert_eq!(found(&erased, &[]), wrong, "an edit that outlived its message");
        assert_eq!(found(&[(now(None), said(7))], &[]), wrong, "a message erased");
    }
}
