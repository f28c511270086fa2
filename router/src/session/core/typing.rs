//! How often one session may say that its user is typing.

use std::time::{Duration, Instant};

use tertulia_shard_map::ConversationId;

/// Per conversation.
const INTERVAL: Duration = Duration::from_secs(1);
/// Conversations that one user types in within the interval; in others it is not shown.
const CONVERSATIONS_MAX: usize = 8;

#[derive(Default)]
pub struct Throttle {
    /// Said within the last interval.
    said: Vec<(ConversationId, Instant)>,
}

impl Throttle {
    /// Whether to pass this one on.
    pub fn admit(&mut self, conversation: ConversationId, now: Instant) -> bool {
        self.said.retain(|(_, at)| *at + INTERVAL > now);
        if self.said.len() >= CONVERSATIONS_MAX || self.said.iter().any(|(it, _)| *it == conversation) {
            return false;
        }
        self.said.push((conversation, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_passed_on_once_a_second_per_conversation() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let (a, b) = (ConversationId::from_u128(1), ConversationId::from_u128(2));
        assert!(throttle.admit(a, start));
        assert!(!throttle.admit(a, start + INTERVAL / 2));
        assert!(throttle.admit(b, start + INTERVAL / 2));
        assert!(throttle.admit(a, start + INTERVAL));
    }

    #[test]
    fn a_session_that_types_everywhere_is_bounded() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let passed = (0..100).filter(|id| throttle.admit(ConversationId::from_u128(*id), start)).count();
        assert_eq!(passed, CONVERSATIONS_MAX);
        assert!(throttle.admit(ConversationId::from_u128(99), start + INTERVAL));
    }
}
