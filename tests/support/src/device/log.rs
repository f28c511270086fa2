//! What a client keeps of one conversation: a window of events without a hole, and the messages in it as later events
//! have made them. Pure.
//!
//! Invariant: applying live events to what a page of history gave ends as a newer page of history would have it. So an
//! event that a page has applied already (its seq is at or below the page's `last_seq`) is not applied again.

use std::collections::BTreeMap;

use tertulia_shard_map::{Seq, UserId};
use tertulia_wire::{
    ReactionChange,
    client::{ClientEventKind, Event, HistoryPage, Reactions},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    me: UserId,
    entries: Vec<Entry>,
    /// Events above a hole.
    aside: BTreeMap<Seq, Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    event: Event,
    /// Later events up to here have been applied to it.
    as_of: Seq,
}

impl Log {
    pub fn new(me: UserId) -> Self {
        Self { me, entries: Vec::new(), aside: BTreeMap::new() }
    }

    /// The events, each as it is now.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().map(|entry| &entry.event)
    }

    pub fn first(&self) -> Option<Seq> {
        self.entries.first().map(|entry| entry.event.seq)
    }

    /// 0 where nothing is held.
    pub fn last(&self) -> Seq {
        self.entries.last().map_or(Seq::ZERO, |entry| entry.event.seq)
    }

    /// The newest seq that was ever seen.
    pub fn newest(&self) -> Seq {
        self.aside.keys().next_back().copied().unwrap_or_default().max(self.last())
    }

    /// A live event.
    pub fn take(&mut self, event: &Event) {
        if event.seq > self.last() {
            self.aside.insert(event.seq, event.clone());
            self.append_aside();
        }
    }

    /// A page that was asked for with `after_seq` at the window's end.
    pub fn take_page(&mut self, page: &HistoryPage) {
        for event in page.events.iter().filter(|event| event.seq > self.last()).cloned().collect::<Vec<_>>() {
            // What is in between may not be read: it was before this user became a member, again.
            if event.seq > self.last().next() {
                self.entries.clear();
            }
            self.append(event, page.last_seq);
        }
        self.append_aside();
    }

    fn append_aside(&mut self) {
        let last = self.last();
        self.aside.retain(|seq, _| *seq > last);
        while let Some(event) = self.aside.remove(&self.last().next()) {
            let as_of = event.seq;
            self.append(event, as_of);
        }
    }

    fn append(&mut self, event: Event, as_of: Seq) {
        let target = event.message_seq.zip(self.first()).filter(|(target, first)| target >= first);
        if let Some((target, first)) = target {
            let place = (target.get() - first.get()) as usize;
            let me = self.me;
            if let Some(entry) = self.entries.get_mut(place).filter(|entry| entry.as_of < event.seq) {
                apply(&mut entry.event, &event, me);
                entry.as_of = event.seq;
            }
            if event.kind == ClientEventKind::Delete {
                let edits = self.entries.iter_mut().map(|entry| &mut entry.event);
                edits.filter(|it| it.kind == ClientEventKind::Edit && it.message_seq == Some(target)).for_each(erase);
            }
        }
        self.entries.push(Entry { event, as_of });
    }
}

/// What an edit, a deletion or a reaction does to its message.
fn apply(message: &mut Event, change: &Event, me: UserId) {
    match change.kind {
        ClientEventKind::Edit => {
            message.content.clone_from(&change.content);
            message.ciphertext.clone_from(&change.ciphertext);
            message.nonce.clone_from(&change.nonce);
            message.tag.clone_from(&change.tag);
            message.key_version.clone_from(&change.key_version);
            message.algorithm.clone_from(&change.algorithm);
            message.reply_to = change.reply_to;
            message.attachments.clone_from(&change.attachments);
            message.mentions.clone_from(&change.mentions);
            message.edited_at_ms = Some(change.created_at_ms);
        }
        ClientEventKind::Delete => {
            erase(message);
            message.deleted_at_ms = Some(change.created_at_ms);
        }
        ClientEventKind::Reaction => react(message, change, me),
        _ => {}
    }
}

fn erase(event: &mut Event) {
    event.content = None;
    event.ciphertext = None;
    event.nonce = None;
    event.tag = None;
    event.key_version = None;
    event.algorithm = None;
    event.reply_to = None;
    event.attachments.clear();
    event.mentions.clear();
    event.reactions.clear();
}

fn react(message: &mut Event, reaction: &Event, me: UserId) {
    let Some(emoji) = &reaction.emoji else { return };
    let mine = reaction.sender_id == me;
    let place = message.reactions.iter().position(|it| it.emoji == *emoji);
    match (reaction.change, place) {
        (Some(ReactionChange::Add), None) => {
            message.reactions.push(Reactions { emoji: emoji.clone(), count: 1, mine });
            message.reactions.sort_by(|a, b| a.emoji.cmp(&b.emoji));
        }
        (Some(ReactionChange::Add), Some(place)) => {
            message.reactions[place].count += 1;
            message.reactions[place].mine |= mine;
        }
        (_, Some(place)) => {
            let it = &mut message.reactions[place];
            it.count -= 1;
            it.mine &= !mine;
            message.reactions.retain(|it| it.count > 0);
        }
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{ConversationId, EventId, MessageNo};

    use super::*;

    const ANA: UserId = UserId::from_u128(1);
    const BEA: UserId = UserId::from_u128(2);

    fn event(seq: u64, kind: ClientEventKind, sender: UserId) -> Event {
        let json = serde_json::json!({
            "id": EventId::from_u128(seq.into()), "conversation_id": ConversationId::from_u128(9), "seq": seq,
            "message_no": MessageNo::new(seq), "kind": kind, "sender_id": sender, "created_at_ms": seq, "temp_id": "t",
        });
        serde_json::from_value(json).expect("an event")
    }

    fn message(seq: u64, content: &str) -> Event {
        Event { content: Some(content.into()), ..event(seq, ClientEventKind::Message, ANA) }
    }

    fn about(seq: u64, kind: ClientEventKind, message: u64) -> Event {
        Event { message_seq: Some(Seq::new(message)), ..event(seq, kind, ANA) }
    }

    fn edit(seq: u64, message: u64, content: &str) -> Event {
        Event { content: Some(content.into()), ..about(seq, ClientEventKind::Edit, message) }
    }

    fn reaction(seq: u64, message: u64, sender: UserId, change: ReactionChange) -> Event {
        let (emoji, change) = (Some("!".to_owned()), Some(change));
        Event { sender_id: sender, emoji, change, ..about(seq, ClientEventKind::Reaction, message) }
    }

    fn page(events: Vec<Event>, last_seq: u64) -> HistoryPage {
        let conversation_id = ConversationId::from_u128(9);
        HistoryPage { conversation_id, events, has_more: false, last_seq: Seq::new(last_seq) }
    }

    fn contents(log: &Log) -> Vec<Option<&str>> {
        log.events().map(|event| event.content.as_deref()).collect()
    }

    #[test]
    fn what_overtakes_is_set_aside_until_the_hole_is_filled() {
        let mut log = Log::new(ANA);
        for seq in [1, 4, 3] {
            log.take(&message(seq, "m"));
        }
        assert_eq!((log.last(), log.newest()), (Seq::new(1), Seq::new(4)));
        log.take_page(&page(vec![message(2, "m"), message(3, "m")], 4));
        assert_eq!((log.first(), log.last()), (Some(Seq::new(1)), Seq::new(4)));
        log.take(&message(2, "again"));
        assert_eq!(contents(&log), [Some("m"); 4]);
    }

    #[test]
    fn live_changes_end_as_a_later_page_has_them() {
        let mut live = Log::new(ANA);
        let events = [
            message(1, "one"),
            message(2, "two"),
            edit(3, 1, "one!"),
            reaction(4, 1, BEA, ReactionChange::Add),
            reaction(5, 1, ANA, ReactionChange::Add),
            reaction(6, 1, ANA, ReactionChange::Remove),
            edit(7, 2, "two!"),
            about(8, ClientEventKind::Delete, 2),
        ];
        events.iter().for_each(|event| live.take(event));
        let mut now = events.to_vec();
        now[0].content = Some("one!".into());
        now[0].edited_at_ms = Some(3);
        now[0].reactions = vec![Reactions { emoji: "!".into(), count: 1, mine: false }];
        (now[1].content, now[1].edited_at_ms, now[1].deleted_at_ms) = (None, Some(7), Some(8));
        now[6].content = None;
        assert_eq!(live.events().cloned().collect::<Vec<_>>(), now);

        // From a page in the middle: what it has applied is not applied again, what came later is.
        let mut resumed = Log::new(ANA);
        let mut then = events[..5].to_vec();
        then[0].content = Some("one!".into());
        then[0].edited_at_ms = Some(3);
        then[0].reactions = vec![Reactions { emoji: "!".into(), count: 2, mine: true }];
        resumed.take_page(&page(then, 5));
        events.iter().for_each(|event| resumed.take(event));
        assert_eq!(resumed.events().collect::<Vec<_>>(), live.events().collect::<Vec<_>>());
    }

    #[test]
    fn who_becomes_a_member_again_begins_anew() {
        let mut log = Log::new(ANA);
        log.take(&message(1, "before"));
        log.take_page(&page(vec![message(5, "back"), message(6, "after")], 6));
        assert_eq!((log.first(), log.last()), (Some(Seq::new(5)), Seq::new(6)));
    }
}
