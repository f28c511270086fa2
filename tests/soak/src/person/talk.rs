//! What a person says: which kind of event, in which conversation, about what; and what of it is not answered yet.
//!
//! Invariant: a command that is repeated is the same to the byte. All that it says follows from its number, but for the
//! message that it is about, which is kept until it is answered.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
};

use rand::Rng;
use tertulia_shard_map::EventId;
use tertulia_wire::{
    ReactionChange,
    client::{
        ClientEventKind, Command, CreateConversation, DeleteMessage, EditMessage, ErrorCode, ErrorReply, Event,
        MembersChange, ReactToMessage, RenameConversation, SendMessage,
    },
};

use crate::{
    records::{Certainty, What},
    tally::add,
    world::World,
};

/// Of 256 events, those that go to the one friend; the others go to any conversation.
const TO_THE_FRIEND: u8 = 200;
const EMOJI: [&str; 12] = ["👍", "😂", "❤️", "🎉", "😮", "😢", "🙏", "👏", "🔥", "🤔", "👀", "✅"];

pub struct Talk {
    world: Rc<World>,
    me: usize,
    /// Begun and not answered, and not on the way in this session: the oldest first.
    unsent: VecDeque<usize>,
    /// Of what is not answered: the message that it is about.
    about: HashMap<usize, EventId>,
    /// Of what is not answered: what may have been carried out already.
    doubtful: HashSet<usize>,
    /// Per conversation: the newest own message that was acked and not deleted, and the newest of others.
    own: HashMap<u32, EventId>,
    others: HashMap<u32, EventId>,
    /// Guests whom this person, as the owner of their group, has removed.
    away: HashSet<u32>,
}

impl Talk {
    pub fn new(world: Rc<World>, me: usize) -> Self {
        Self {
            world,
            me,
            unsent: VecDeque::new(),
            about: HashMap::new(),
            doubtful: HashSet::new(),
            own: HashMap::new(),
            others: HashMap::new(),
            away: HashSet::new(),
        }
    }

    pub fn me(&self) -> usize {
        self.me
    }

    pub fn make_groups(&mut self) {
        for number in 0..self.world.conversations.len() as u32 {
            if self.world.conversation(number).owner() == Some(self.me) {
                self.unsent.push_back(self.world.begin(self.me, number, What::Create));
            }
        }
    }

    /// The next thing to say, if there is one: what was begun before goes first.
    pub fn next(&mut self) -> Option<(usize, Command)> {
        let number = self.unsent.pop_front().or_else(|| self.begin())?;
        self.world.waits_for(self.me, number);
        Some((number, self.command(number)))
    }

    fn begin(&mut self) -> Option<usize> {
        let mine = &self.world.of_person[self.me];
        if mine.is_empty() || !self.world.take_due(self.me) {
            return None;
        }
        let mut dice = rand::rng();
        let place = if dice.random::<u8>() < TO_THE_FRIEND { 0 } else { dice.random_range(0..mine.len()) };
        let conversation = mine[place];
        let own = self.own.get(&conversation).copied();
        let anybodys = if dice.random() { own } else { self.others.get(&conversation).copied().or(own) };
        let (what, about) = match (dice.random::<u8>(), own, anybodys) {
            (0..=2, Some(own), _) => (What::Edit, Some(own)),
            (3, Some(own), _) => {
                self.own.remove(&conversation);
                (What::Delete, Some(own))
            }
            (4..=7, _, Some(message)) => (What::React, Some(message)),
            (8..=10, _, _) if self.is_owner(conversation) => (self.change_of_group(conversation), None),
            _ => (What::Message, None),
        };
        let number = self.world.begin(self.me, conversation, what);
        about.map(|message| self.about.insert(number, message));
        Some(number)
    }

    fn is_owner(&self, conversation: u32) -> bool {
        self.world.conversation(conversation).owner() == Some(self.me)
    }

    fn change_of_group(&mut self, conversation: u32) -> What {
        if self.world.conversation(conversation).guest().is_none() || rand::random() {
            return What::Rename;
        }
        if self.away.remove(&conversation) {
            return What::Add;
        }
        self.away.insert(conversation);
        What::Remove
    }

    fn command(&self, number: usize) -> Command {
        let record = self.world.record(self.me, number).expect("it was begun");
        let conversation = self.world.conversation(record.conversation);
        let (conversation_id, temp_id) = (conversation.id, self.world.temp_id(number));
        let message_id = self.about.get(&number).copied().unwrap_or(EventId::from_u128(0));
        let users = |people: &[usize]| people.iter().map(|&person| self.world.user(person)).collect::<Vec<_>>();
        let guest = || users(conversation.guest().as_slice());
        match record.what {
            What::Create => Command::Create(CreateConversation {
                conversation_id: Some(conversation_id),
                temp_id,
                name: format!("group {}", record.conversation),
                user_ids: users(&conversation.members[1..]),
            }),
            What::Rename => {
                let name = format!("group {}, as of {number}", record.conversation);
                Command::Rename(RenameConversation { conversation_id, temp_id, name })
            }
            What::Add => Command::AddMembers(MembersChange { conversation_id, temp_id, user_ids: guest() }),
            What::Remove => Command::RemoveMembers(MembersChange { conversation_id, temp_id, user_ids: guest() }),
            What::Edit => {
                let content = self.world.text(self.me, number);
                Command::Edit(EditMessage::plain(conversation_id, message_id, temp_id, content))
            }
            What::Delete => Command::Delete(DeleteMessage { conversation_id, message_id, temp_id }),
            What::React => {
                let (emoji, change) = (EMOJI[number % EMOJI.len()].to_owned(), ReactionChange::Add);
                Command::React(ReactToMessage { conversation_id, message_id, temp_id, emoji, change })
            }
            What::Message => {
                let content = Some(self.world.text(self.me, number));
                let peer = conversation.members.iter().find(|&&it| it != self.me && !conversation.is_group());
                let to = peer.map(|&peer| self.world.user(peer));
                // As an app does that knows whom it writes to.
                let conversation_id = to.is_none().then_some(conversation_id);
                Command::Send(SendMessage { conversation_id, to, temp_id, content, ..SendMessage::default() })
            }
        }
    }

    pub fn acked(&mut self, number: usize, event: &Event) {
        self.world.acked(self.me, number, event);
        let record = self.world.record(self.me, number).expect("it was begun");
        if record.what == What::Message {
            self.own.insert(record.conversation, event.id);
        }
        self.answered(number);
    }

    /// True where it is to be said again, later.
    pub fn failed(&mut self, number: usize, error: &ErrorReply) -> bool {
        self.world.tally.error(error.code);
        if error.retryable {
            // Overloaded is refused before anything is done.
            if error.code != ErrorCode::Overloaded {
                self.doubtful.insert(number);
            }
            return true;
        }
        if !self.is_expected(number, error.code) {
            let record = self.world.record(self.me, number).expect("it was begun");
            self.world.tally.unexpected(&format!("{:?}", record.what), error);
        }
        let certainty = match self.doubtful.contains(&number) {
            true => Certainty::Doubtful,
            false => Certainty::Sure,
        };
        self.world.refused(self.me, number, certainty);
        self.answered(number);
        false
    }

    fn answered(&mut self, number: usize) {
        self.about.remove(&number);
        self.doubtful.remove(&number);
    }

    /// What a client that does nothing wrong may be told, because others were faster, or it was itself.
    fn is_expected(&self, number: usize, code: ErrorCode) -> bool {
        let record = self.world.record(self.me, number).expect("it was begun");
        let is_guest = self.world.conversation(record.conversation).guest() == Some(self.me);
        match code {
            ErrorCode::NotFound => is_guest || matches!(record.what, What::Edit | What::Delete | What::React),
            ErrorCode::NoChange => matches!(record.what, What::React | What::Rename | What::Add | What::Remove),
            _ => false,
        }
    }

    /// What is on the way may be answered already: how long that took is not known.
    pub fn was_away(&mut self) {
        self.world.stops_waiting(self.me);
    }

    /// The session ended while the former were on the way and the latter waited to be said again: all of it, and what waits
    /// anyhow, is said in the next session, in its order.
    pub fn give_back(&mut self, flying: impl IntoIterator<Item = usize>, retries: Vec<usize>) {
        self.was_away();
        let mut open: Vec<usize> = self.unsent.drain(..).chain(retries).collect();
        for number in flying {
            self.doubtful.insert(number);
            open.push(number);
        }
        open.sort_unstable();
        self.unsent = open.into();
    }

    /// To be said again now, before anything newer.
    pub fn say_again(&mut self, numbers: &mut Vec<usize>) {
        numbers.sort_unstable();
        for number in numbers.drain(..).rev() {
            add(&self.world.tally.retried);
            self.unsent.push_front(number);
        }
    }

    /// Somebody else's event.
    pub fn heard(&mut self, conversation: u32, event: &Event) {
        if event.kind == ClientEventKind::Message && event.sender_id != self.world.user(self.me) {
            self.others.insert(conversation, event.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{ConversationId, Seq};
    use tertulia_test_invariants::Outcome;

    use super::*;
    use crate::chat::Crowd;

    /// One who has so many things to say.
    fn talk(due: usize) -> Talk {
        let world = World::of_strangers(&Crowd { people: 2, groups: 0, ..Crowd::default() });
        let talk = Talk::new(world.clone(), 0);
        let begun = (0..due).map(|_| world.begin(0, 0, What::Message)).collect::<Vec<_>>();
        Talk { unsent: begun.into(), ..talk }
    }

    fn event(seq: u64) -> Event {
        let json = serde_json::json!({
            "id": EventId::from_u128(seq.into()), "conversation_id": ConversationId::from_u128(9), "seq": seq,
            "message_no": seq, "kind": "message", "sender_id": "00000000000000000000000001", "created_at_ms": 0,
            "temp_id": "t",
        });
        serde_json::from_value(json).expect("an event")
    }

    fn error(code: ErrorCode) -> ErrorReply {
        ErrorReply::new(code, "")
    }

    #[test]
    fn what_a_lost_session_had_on_the_way_is_said_again_first_the_same_and_in_order() {
        let mut talk = talk(5);
        let before: Vec<_> = (0..4).map_while(|_| talk.next()).collect();
        assert!(talk.failed(before[2].0, &error(ErrorCode::Unavailable)));
        talk.give_back([before[3].0, before[0].0, before[1].0], vec![before[2].0]);
        let after: Vec<_> = (0..9).map_while(|_| talk.next()).collect();
        assert_eq!((after.len(), &after[..4]), (5, &before[..]));
    }

    #[test]
    fn an_edit_that_is_repeated_is_about_the_same_message() {
        let mut talk = talk(2);
        let first = talk.next().expect("due").0;
        talk.acked(first, &event(1));
        let edit = talk.world.begin(0, 0, What::Edit);
        talk.about.insert(edit, talk.own[&0]);
        let said = talk.command(edit);
        // Meanwhile another message becomes the newest.
        let second = talk.next().expect("due").0;
        talk.acked(second, &event(2));
        assert_eq!(talk.command(edit), said);
    }

    #[test]
    fn a_refusal_is_held_against_the_log_only_where_it_was_the_first_answer() {
        let mut talk = talk(3);
        let numbers: Vec<_> = (0..3).map_while(|_| Some(talk.next()?.0)).collect();
        assert!(talk.failed(numbers[0], &error(ErrorCode::Overloaded)));
        assert!(!talk.failed(numbers[0], &error(ErrorCode::NotFound)));
        assert!(talk.failed(numbers[1], &error(ErrorCode::Unavailable)));
        assert!(!talk.failed(numbers[1], &error(ErrorCode::NotFound)));
        talk.give_back([numbers[2]], Vec::new());
        talk.next();
        assert!(!talk.failed(numbers[2], &error(ErrorCode::Conflict)));
        let outcomes = numbers.iter().map(|number| talk.world.record(0, *number).expect("begun").outcome());
        assert_eq!(outcomes.collect::<Vec<_>>(), [Outcome::Refused, Outcome::Unknown, Outcome::Unknown]);
        assert_eq!(talk.world.tally.all_unexpected().count, 3, "a plain message to a friend is never refused");
        assert_eq!(talk.world.unanswered(), 0);
    }

    #[test]
    fn what_is_heard_of_must_have_been_said() {
        let mut talk = talk(1);
        let number = talk.next().expect("due").0;
        let id = talk.world.conversation(0).id;
        let pushed = Event { temp_id: talk.world.temp_id(number), conversation_id: id, ..event(4) };
        talk.world.heard(&pushed);
        assert!(talk.world.live.borrow().is_empty());
        talk.acked(number, &Event { seq: Seq::new(5), ..pushed.clone() });
        talk.world.heard(&Event { temp_id: "of another run".into(), ..pushed });
        let found = talk.world.live.borrow();
        use tertulia_test_invariants::Invariant::{NothingIsInvented, SeqIsContiguous};
        assert_eq!((found.count(SeqIsContiguous), found.count(NothingIsInvented)), (1, 1));
    }
}
