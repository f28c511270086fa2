//! Which nodes want to hear of new events of large groups at once. Pure.
//!
//! A declaration holds for a while and is renewed by who still wants it; nothing is promised to anybody. Bounded: beyond
//! the bound a node hears of a group with its next look at the group's head.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tertulia_shard_map::{ConversationId, NodeId};
use tertulia_wire::cluster::INTEREST_MS;

/// Declarations that are remembered: a large group each, and a node.
const DECLARATIONS_MAX: usize = 256 * 1024;
const HOLDS: Duration = Duration::from_millis(INTEREST_MS);

#[derive(Default)]
pub struct Interest {
    until: HashMap<ConversationId, Vec<(NodeId, Instant)>>,
    declarations: usize,
}

impl Interest {
    pub fn declare(&mut self, node: NodeId, conversations: &[ConversationId], now: Instant) {
        if self.declarations + conversations.len() > DECLARATIONS_MAX {
            self.expire(now);
        }
        for conversation in conversations {
            let nodes = self.until.get_mut(conversation);
            if let Some((_, until)) = nodes.and_then(|nodes| nodes.iter_mut().find(|(it, _)| *it == node)) {
                *until = now + HOLDS;
            } else if self.declarations < DECLARATIONS_MAX {
                self.until.entry(*conversation).or_default().push((node, now + HOLDS));
                self.declarations += 1;
            }
        }
    }

    /// Who wants to hear of it now.
    pub fn of(&self, conversation: ConversationId, now: Instant) -> impl Iterator<Item = NodeId> {
        let nodes = self.until.get(&conversation).map_or(&[][..], Vec::as_slice);
        nodes.iter().filter(move |(_, until)| *until > now).map(|(node, _)| *node)
    }

    fn expire(&mut self, now: Instant) {
        self.until.retain(|_, nodes| {
            nodes.retain(|(_, until)| *until > now);
            !nodes.is_empty()
        });
        self.declarations = self.until.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: ConversationId = ConversationId::from_u128(1);

    fn of(interest: &Interest, now: Instant) -> Vec<u32> {
        interest.of(GROUP, now).map(NodeId::get).collect()
    }

    #[test]
    fn an_interest_holds_for_a_while_and_is_renewed() {
        let (mut interest, start) = (Interest::default(), Instant::now());
        interest.declare(NodeId::new(1), &[GROUP], start);
        interest.declare(NodeId::new(2), &[GROUP], start);
        assert_eq!(of(&interest, start), [1, 2]);
        interest.declare(NodeId::new(2), &[GROUP], start + HOLDS / 2);
        assert_eq!(of(&interest, start + HOLDS), [2]);
        assert!(of(&interest, start + 2 * HOLDS).is_empty());
    }

    #[test]
    fn what_is_over_makes_room() {
        let (mut interest, start) = (Interest::default(), Instant::now());
        let groups: Vec<_> = (0..DECLARATIONS_MAX as u128).map(|id| ConversationId::from_u128(id + 2)).collect();
        interest.declare(NodeId::new(1), &groups, start);
        interest.declare(NodeId::new(1), &[GROUP], start);
        assert!(of(&interest, start).is_empty(), "full");
        interest.declare(NodeId::new(1), &[GROUP], start + HOLDS);
        assert_eq!(of(&interest, start + HOLDS), [1]);
        assert_eq!(interest.declarations, 1);
    }
}
