//! What the user said, until it is acked or refused for good. Pure.
//!
//! Of each conversation only the oldest is on the way: the order is kept, whatever is refused or lost.

use std::time::Duration;

use tertulia_shard_map::ConversationId;
use tertulia_wire::client::{Command, CommandId, ErrorReply};
use tokio::time::Instant;

/// Before the same command is sent again after a retryable error that names no time.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Outbox {
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    command: Command,
    conversation: Option<ConversationId>,
    /// The command on the way in this session.
    flying: Option<CommandId>,
    not_before: Instant,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn add(&mut self, command: Command, now: Instant) {
        let (conversation, _) = names(&command);
        self.pending.push(Pending { command, conversation, flying: None, not_before: now });
    }

    /// What is to be sent now.
    pub fn due(&self, now: Instant) -> Vec<Command> {
        let mut busy = Vec::new();
        let mut due = Vec::new();
        for pending in &self.pending {
            if busy.contains(&pending.conversation) {
                continue;
            }
            busy.push(pending.conversation);
            if pending.flying.is_none() && pending.not_before <= now {
                due.push(pending.command.clone());
            }
        }
        due
    }

    /// A command of [`due`](Self::due) went out under this id.
    pub fn sent(&mut self, command: &Command, id: CommandId) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.command == *command) {
            pending.flying = Some(id);
        }
    }

    /// The connection went: nothing is on the way any more.
    pub fn landed(&mut self) {
        self.pending.iter_mut().for_each(|pending| pending.flying = None);
    }

    /// Acked, or refused for good. False where the id is not of this outbox.
    pub fn finish(&mut self, id: CommandId) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.flying != Some(id));
        self.pending.len() < before
    }

    pub fn retry(&mut self, id: CommandId, error: &ErrorReply, now: Instant) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.flying == Some(id)) {
            pending.flying = None;
            pending.not_before = now + error.retry_after_ms.map_or(RETRY_AFTER, Duration::from_millis);
        }
    }

    /// An event of one's own was seen before its ack, which is as good. What is on the way still gets its ack.
    pub fn seen(&mut self, conversation: ConversationId, temp_id: &str) {
        self.pending
            .retain(|pending| pending.flying.is_some() || names(&pending.command) != (Some(conversation), temp_id));
    }
}

/// The conversation of a command that makes an event, where the command says it, and its `temp_id`.
fn names(command: &Command) -> (Option<ConversationId>, &str) {
    match command {
        Command::Send(it) => (it.conversation_id, &it.temp_id),
        Command::Edit(it) => (Some(it.conversation_id), &it.temp_id),
        Command::Delete(it) => (Some(it.conversation_id), &it.temp_id),
        Command::React(it) => (Some(it.conversation_id), &it.temp_id),
        Command::Create(it) => (it.conversation_id, &it.temp_id),
        Command::Rename(it) => (Some(it.conversation_id), &it.temp_id),
        Command::AddMembers(it) | Command::RemoveMembers(it) => (Some(it.conversation_id), &it.temp_id),
        Command::SetRole(it) => (Some(it.conversation_id), &it.temp_id),
        Command::Leave(it) => (Some(it.conversation_id), &it.temp_id),
        other => panic!("{} makes no event", other.type_name()),
    }
}

#[cfg(test)]
mod tests {
    use tertulia_wire::client::{ErrorCode, SendMessage};

    use super::*;

    fn send(conversation: u128, temp_id: &str) -> Command {
        let conversation_id = Some(ConversationId::from_u128(conversation));
        Command::Send(SendMessage { conversation_id, temp_id: temp_id.into(), ..SendMessage::default() })
    }

    #[tokio::test]
    async fn of_each_conversation_the_oldest_goes_first_and_alone() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        [send(1, "a"), send(1, "b"), send(2, "c")].into_iter().for_each(|it| outbox.add(it, now));
        assert_eq!(outbox.due(now), [send(1, "a"), send(2, "c")]);
        outbox.sent(&send(1, "a"), 7);
        assert_eq!(outbox.due(now), [send(2, "c")]);
        outbox.retry(7, &ErrorReply::new(ErrorCode::Overloaded, "").with_retry_after_ms(50), now);
        assert_eq!(outbox.due(now), [send(2, "c")], "the newer one waits for it");
        assert_eq!(outbox.due(now + Duration::from_millis(50)), [send(1, "a"), send(2, "c")]);
        outbox.sent(&send(1, "a"), 8);
        outbox.landed();
        assert_eq!(outbox.due(now + Duration::from_secs(1)).len(), 2);
        outbox.seen(ConversationId::from_u128(1), "a");
        outbox.sent(&send(1, "b"), 9);
        assert!(outbox.finish(9) && !outbox.finish(9));
        assert_eq!(outbox.due(now), [send(2, "c")]);
    }
}
