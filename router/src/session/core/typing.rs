//! How often one session may say that its user is typing.

use std::time::{Duration, Instant};

use tertulia_shard_map::ConversationId;

/// Per conversation.
const INTERVAL: Duration = Duration::from_secs(1);
/// Conversations that one user types in within the interval; in others it is not shown.
const CONVERSATIONS_MAX: usize = 8;

/// Passes one word a second, and besides that the one that takes it back: nobody is shown typing who has stopped.
#[derive(Default)]
pub struct Throttle {
    /// Passed within the last interval.
    passed: Vec<Passed>,
}

struct Passed {
    conversation: ConversationId,
    at: Instant,
    typing: bool,
}

impl Throttle {
    /// Whether to pass this one on.
    pub fn admit(&mut self, conversation: ConversationId, typing: bool, now: Instant) -> bool {
        self.passed.retain(|passed| passed.at + INTERVAL > now);
        if let Some(passed) = self.passed.iter_mut().find(|passed| passed.conversation == conversation) {
            let takes_back = passed.typing && !typing;
            passed.typing &= typing;
            return takes_back;
        }
        if self.passed.len() >= CONVERSATIONS_MAX {
            return false;
        }
        self.passed.push(Passed { conversation, at: now, typing });
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
        assert!(throttle.admit(a, true, start));
        assert!(!throttle.admit(a, true, start + INTERVAL / 2));
        assert!(throttle.admit(b, true, start + INTERVAL / 2));
        assert!(throttle.admit(a, true, start + INTERVAL));
    }

    #[test]
    fn who_stops_typing_is_not_shown_as_typing_for_long() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let a = ConversationId::from_u128(1);
        assert!(throttle.admit(a, true, start));
        assert!(throttle.admit(a, false, start), "taken back at once");
        assert!(!throttle.admit(a, false, start), "once");
        assert!(!throttle.admit(a, true, start), "and not said again within the second");
        assert!(!throttle.admit(a, false, start));
        assert!(throttle.admit(a, true, start + INTERVAL));
    }

    #[test]
    fn a_session_that_types_everywhere_is_bounded() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let passed = (0..100).filter(|id| throttle.admit(ConversationId::from_u128(*id), true, start)).count();
        assert_eq!(passed, CONVERSATIONS_MAX);
        assert!(throttle.admit(ConversationId::from_u128(99), true, start + INTERVAL));
    }
}
