//! I1 to I4: one conversation's log against what its senders recorded.

use std::collections::HashMap;

use tertulia_shard_map::{ConversationId, EventId, Seq, UserId};

use crate::{Invariant, Violations};

/// What a client knows of something that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
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

/// An event as a store, or a reader, has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEvent<'a> {
    pub seq: Seq,
    pub id: EventId,
    pub sender: UserId,
    pub temp_id: &'a str,
    /// `None` where later events have changed the content, or the caller does not check it.
    pub content_hash: Option<u64>,
}

/// Checks one conversation: hand in its events in order of `seq`, then [`finish`](Self::finish).
pub struct ConversationCheck {
    conversation: ConversationId,
    next: Seq,
    last_id: EventId,
    /// Of events seen: sender and temp_id.
    seen: HashMap<(UserId, Box<str>), Seq>,
}

impl ConversationCheck {
    pub fn new(conversation: ConversationId) -> Self {
        Self { conversation, next: Seq::new(1), last_id: EventId::from_u128(0), seen: HashMap::new() }
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
        if event.content_hash.is_some_and(|hash| hash != sent.content_hash) {
            violations.add(Invariant::NothingIsInvented, || {
                format!("{conversation}: the content of seq {} is not what was sent", event.seq)
            });
        }
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

    /// All events are in: `sent` is everything that was recorded for this conversation. Returns the newest seq.
    pub fn finish<'a>(
        self,
        sent: impl IntoIterator<Item = (UserId, &'a str, &'a Sent)>,
        violations: &mut Violations,
    ) -> Seq {
        let mut key = (UserId::from_u128(0), Box::<str>::default());
        for (sender, temp_id, sent) in sent {
            let Outcome::Acked { seq, .. } = sent.outcome else { continue };
            key.0 = sender;
            key.1 = temp_id.into();
            if !self.seen.contains_key(&key) {
                violations.add(Invariant::AckedIsDurable, || {
                    format!("{}: {temp_id} of {sender}, acked as seq {seq}, is not in the log", self.conversation)
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
        StoredEvent { seq, id, sender: ANA, temp_id, content_hash: Some(7) }
    }

    fn acked(seq: u64) -> Sent {
        let outcome = Outcome::Acked { id: EventId::from_u128(seq.into()), seq: Seq::new(seq) };
        Sent { outcome, content_hash: 7 }
    }

    fn found(steps: impl FnOnce(&mut ConversationCheck, &mut Violations), rest: &[(&str, Sent)]) -> Vec<Invariant> {
        let (mut check, mut violations) = (ConversationCheck::new(CONVERSATION), Violations::default());
        steps(&mut check, &mut violations);
        check.finish(rest.iter().map(|(temp_id, sent)| (ANA, *temp_id, sent)), &mut violations);
        Invariant::ALL.into_iter().filter(|invariant| violations.count(*invariant) > 0).collect()
    }

    #[test]
    fn a_faultless_log_is_found_faultless() {
        let unknown = Sent { outcome: Outcome::Unknown, content_hash: 7 };
        let sent = [("a", acked(1)), ("b", unknown), ("c", unknown)];
        let found = found(
            |check, violations| {
                check.event(&event(1, "a"), Some(&acked(1)), violations);
                check.event(&event(2, "b"), Some(&unknown), violations);
            },
            &sent,
        );
        assert_eq!(found, []);
    }

    #[test]
    fn each_fault_is_found_as_what_it_is() {
        assert_eq!(found(|_, _| (), &[("a", acked(1))]), [Invariant::AckedIsDurable]);
        let doubled = found(
            |check, violations| {
                check.event(&event(1, "a"), Some(&acked(1)), violations);
                check.event(&event(2, "a"), Some(&Sent { outcome: Outcome::Unknown, content_hash: 7 }), violations);
            },
            &[],
        );
        assert_eq!(doubled, [Invariant::OneEventPerTempId]);
        let hole = found(|check, v| check.event(&event(2, "a"), Some(&acked(2)), v), &[]);
        assert_eq!(hole, [Invariant::SeqIsContiguous]);
        let moved = found(|check, v| check.event(&event(1, "a"), Some(&acked(2)), v), &[]);
        assert_eq!(moved, [Invariant::SeqIsContiguous]);
        let invented = found(|check, v| check.event(&event(1, "a"), None, v), &[]);
        assert_eq!(invented, [Invariant::NothingIsInvented]);
        let altered = Sent { content_hash: 8, ..acked(1) };
        assert_eq!(
            found(|check, v| check.event(&event(1, "a"), Some(&altered), v), &[]),
            [Invariant::NothingIsInvented]
        );
        let refused = Sent { outcome: Outcome::Refused, content_hash: 7 };
        assert_eq!(
            found(|check, v| check.event(&event(1, "a"), Some(&refused), v), &[]),
            [Invariant::NothingIsInvented]
        );
    }
}
