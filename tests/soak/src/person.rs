//! One person: connects, says what is due, reads, marks as read, and, where restless, leaves in all the ways there are.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use rand::Rng;
use tertulia_bench::connection::{Session, SignedIn};
use tertulia_shard_map::{EventId, Seq};
use tertulia_wire::{
    ReactionChange,
    client::{
        Command, CommandId, CreateConversation, DeleteMessage, EditMessage, ErrorReply, Event, EventPush, Format,
        HistoryQuery, Mark, Outbound, Push, ReactToMessage, Reply, SendMessage,
    },
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::world::{State, What, World, add};

/// Commands that a person has on the way at once.
const IN_FLIGHT_MAX: usize = 32;
const READ_EVERY: Duration = Duration::from_secs(2);
const RETRY_AFTER: Duration = Duration::from_millis(300);
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a restless person stays, at most, and stays away.
const STAY_MAX: Duration = Duration::from_secs(60);
const AWAY_MAX: Duration = Duration::from_secs(10);
/// How long one that stops reading goes on not reading.
const FREEZE: Duration = Duration::from_secs(20);
/// One ack in so many is followed by a look whether the log has it.
const OWN_READ_ONE_IN: u32 = 200;

/// Until the world ends.
pub async fn live(world: Rc<World>, me: usize, signed_in: SignedIn) {
    let mut person = Person {
        world,
        me,
        unsent: VecDeque::new(),
        seen: BTreeMap::new(),
        read: BTreeMap::new(),
        last_own: HashMap::new(),
    };
    person.make_groups();
    let mut failures = 0_u32;
    while !person.world.has_ended() {
        let router = person.world.routers[rand::rng().random_range(0..person.world.routers.len())];
        match Session::open(router, Format::MessagePack, &signed_in).await {
            Ok(session) => {
                failures = 0;
                add(&person.world.tally.joins);
                person.stay(session).await;
                add(&person.world.tally.leaves);
                if person.is_restless() && person.world.is_sending() {
                    sleep(AWAY_MAX.mul_f64(rand::random())).await;
                }
            }
            Err(_) => {
                failures += 1;
                sleep((RECONNECT_MAX.min(Duration::from_millis(50) * failures)).mul_f64(rand::random())).await;
            }
        }
    }
}

struct Person {
    world: Rc<World>,
    me: usize,
    /// Begun and not answered, and not on the way in this session: the oldest first.
    unsent: VecDeque<usize>,
    /// Per conversation, the newest seq heard of, and the newest marked as read.
    seen: BTreeMap<u32, Seq>,
    read: BTreeMap<u32, Seq>,
    /// Per conversation, an own message that may be edited, deleted or reacted to.
    last_own: HashMap<u32, EventId>,
}

/// What a command on the way is about.
enum Flying {
    Event(usize),
    /// Whether the log has this event.
    OwnRead(EventId),
    Other,
}

enum Leaving {
    Close,
    Freeze,
}

impl Person {
    fn is_restless(&self) -> bool {
        self.me < self.world.restless
    }

    fn make_groups(&mut self) {
        for number in 0..self.world.conversations.len() {
            let conversation = &self.world.conversations[number];
            if conversation.is_group && conversation.members.first() == Some(&self.me) {
                self.unsent.push_back(self.world.begin(self.me, number as u32, What::Create));
            }
        }
    }

    /// One session, to its end.
    async fn stay(&mut self, mut session: Session) {
        let mut flying: HashMap<CommandId, Flying> = HashMap::new();
        let mut next_id: CommandId = 1;
        let stay = if self.is_restless() { STAY_MAX.mul_f64(rand::random()) } else { Duration::from_secs(86_400) };
        let until = Instant::now() + stay;
        let leaving = if rand::random::<u8>() < 64 { Leaving::Freeze } else { Leaving::Close };
        let mut read_at = Instant::now() + READ_EVERY.mul_f64(rand::random());
        let mut retry_at: Option<Instant> = None;
        let mut retries: Vec<usize> = Vec::new();
        let wake = self.world.clone();
        loop {
            // What is due goes out as long as there is room; what was begun before goes first.
            let mut commands = Vec::new();
            let events = flying.values().filter(|it| matches!(it, Flying::Event(_))).count() + retries.len();
            while events + commands.len() < IN_FLIGHT_MAX {
                let Some(number) = self.unsent.pop_front().or_else(|| self.begin_due()) else { break };
                commands.push((self.command(number), Flying::Event(number)));
            }
            for (command, what) in commands {
                next_id += 1;
                flying.insert(next_id, what);
                if session.send_as(next_id, &command).await.is_err() {
                    return self.give_back(flying, retries);
                }
            }
            tokio::select! {
                received = session.receive() => {
                    let Ok(received) = received else { return self.give_back(flying, retries) };
                    for outbound in received {
                        match outbound {
                            Outbound::Push(push) => self.pushed(&push),
                            Outbound::Reply { id, reply } => {
                                let Some(what) = id.and_then(|id| flying.remove(&id)) else { continue };
                                match self.answered(what, reply) {
                                    Next::Nothing => {}
                                    Next::Retry(number) => {
                                        retries.push(number);
                                        retry_at.get_or_insert(Instant::now() + RETRY_AFTER);
                                    }
                                    Next::Ask(command, event) => {
                                        next_id += 1;
                                        flying.insert(next_id, Flying::OwnRead(event));
                                        if session.send_as(next_id, &command).await.is_err() {
                                            return self.give_back(flying, retries);
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                () = wake.wake[self.me].notified() => {
                    if self.world.has_ended() {
                        return self.give_back(flying, retries);
                    }
                }
                () = sleep_until(read_at) => {
                    read_at = Instant::now() + READ_EVERY;
                    for command in self.marks() {
                        next_id += 1;
                        flying.insert(next_id, Flying::Other);
                        if session.send_as(next_id, &command).await.is_err() {
                            return self.give_back(flying, retries);
                        }
                    }
                }
                () = sleep_until(retry_at.unwrap_or(until)), if retry_at.is_some() => {
                    retry_at = None;
                    retries.sort_unstable();
                    for number in retries.drain(..).rev() {
                        add(&self.world.tally.retried);
                        self.unsent.push_front(number);
                    }
                }
                () = sleep_until(until) => {
                    if matches!(leaving, Leaving::Freeze) && self.world.is_sending() {
                        // The socket stays open and nothing is read from it, while others go on writing to this person.
                        add(&self.world.tally.freezes);
                        sleep(FREEZE).await;
                    }
                    return self.give_back(flying, retries);
                }
            }
        }
    }

    /// What was on the way is sent again in the next session, in its order.
    fn give_back(&mut self, flying: HashMap<CommandId, Flying>, retries: Vec<usize>) {
        let events =
            flying.into_values().filter_map(|it| if let Flying::Event(number) = it { Some(number) } else { None });
        let mut open: Vec<usize> = events.chain(retries).chain(self.unsent.drain(..)).collect();
        open.sort_unstable();
        self.unsent = open.into();
    }

    fn begin_due(&mut self) -> Option<usize> {
        let due = &self.world.due[self.me];
        if due.get() == 0 || !self.world.is_sending() {
            return None;
        }
        due.set(due.get() - 1);
        let mine = &self.world.of_person[self.me];
        // Mostly to the one friend.
        let conversation = if mine.len() == 1 || rand::random::<u8>() < 200 {
            *mine.first()?
        } else {
            mine[rand::rng().random_range(0..mine.len())]
        };
        let what = match (rand::random::<u8>(), self.last_own.contains_key(&conversation)) {
            (0..=2, true) => What::Edit,
            (3, true) => What::Delete,
            (4..=5, true) => What::React,
            _ => What::Message,
        };
        Some(self.world.begin(self.me, conversation, what))
    }

    fn command(&mut self, number: usize) -> Command {
        let record = self.world.record(self.me, number);
        let conversation = &self.world.conversations[record.conversation as usize];
        let (conversation_id, temp_id) = (conversation.id, self.world.temp_id(number));
        // An edit, a deletion or a reaction that is repeated must be about the same message: the one before it.
        let target = || self.target(record.conversation, number);
        match (record.what, target()) {
            (What::Create, _) => Command::Create(CreateConversation {
                conversation_id: Some(conversation_id),
                temp_id,
                name: format!("group {}", record.conversation),
                user_ids: conversation.members.iter().skip(1).map(|&member| self.world.users[member]).collect(),
            }),
            (What::Edit, Some(message_id)) => Command::Edit(EditMessage {
                conversation_id,
                message_id,
                temp_id,
                content: Some(self.world.text(self.me, number)),
                ciphertext: None,
                nonce: None,
                tag: None,
                key_version: None,
                algorithm: None,
                attachments: Vec::new(),
                mentions: Vec::new(),
            }),
            (What::Delete, Some(message_id)) => Command::Delete(DeleteMessage { conversation_id, message_id, temp_id }),
            (What::React, Some(message_id)) => Command::React(ReactToMessage {
                conversation_id,
                message_id,
                temp_id,
                emoji: "👍".into(),
                change: ReactionChange::Add,
            }),
            _ if conversation.is_group => Command::Send(SendMessage {
                conversation_id: Some(conversation_id),
                temp_id,
                content: Some(self.world.text(self.me, number)),
                ..SendMessage::default()
            }),
            _ => {
                let peer = conversation.members.iter().find(|&&member| member != self.me);
                let to = self.world.users[peer.copied().unwrap_or(self.me)];
                let content = Some(self.world.text(self.me, number));
                Command::Send(SendMessage { to: Some(to), temp_id, content, ..SendMessage::default() })
            }
        }
    }

    /// The newest own message of the conversation that was acked before this number: always the same for a number.
    fn target(&self, conversation: u32, number: usize) -> Option<EventId> {
        let records = self.world.records[self.me].borrow();
        let of = records[..number].iter().rev().take(TARGET_LOOK_BACK);
        of.filter(|record| record.conversation == conversation && record.what == What::Message)
            .find_map(|record| if let State::Acked { id, .. } = record.state { Some(id) } else { None })
    }

    fn answered(&mut self, what: Flying, reply: Reply) -> Next {
        match (what, reply) {
            (Flying::Event(number), Reply::Ack(ack)) => self.acked(number, &ack.message),
            (Flying::Event(number), Reply::Error(ErrorReply { retryable: true, .. })) => Next::Retry(number),
            (Flying::Event(number), _) => {
                self.world.finish(self.me, number, State::Refused);
                Next::Nothing
            }
            (Flying::OwnRead(event), Reply::HistoryPage(page)) => {
                add(&self.world.tally.own_reads);
                if page.events.first().is_none_or(|first| first.id != event) {
                    add(&self.world.tally.own_reads_missed);
                }
                Next::Nothing
            }
            _ => Next::Nothing,
        }
    }

    fn acked(&mut self, number: usize, event: &Event) -> Next {
        self.world.finish(self.me, number, State::Acked { id: event.id, seq: event.seq });
        let record = self.world.record(self.me, number);
        self.heard(record.conversation, event.seq);
        if record.what == What::Message {
            self.last_own.insert(record.conversation, event.id);
        } else {
            self.last_own.remove(&record.conversation);
        }
        if rand::random::<u32>() % OWN_READ_ONE_IN == 0 {
            let after_seq = Some(Seq::new(event.seq.get() - 1));
            let conversation_id = event.conversation_id;
            let query = HistoryQuery { conversation_id, after_seq, before_seq: None, limit: Some(1) };
            return Next::Ask(Command::History(query), event.id);
        }
        Next::Nothing
    }

    fn pushed(&mut self, push: &Push) {
        add(&self.world.tally.pushes);
        match push {
            Push::New(new) => self.heard_event(&new.message),
            Push::Edited(EventPush { event })
            | Push::Deleted(EventPush { event })
            | Push::Reacted(EventPush { event })
            | Push::ConversationChanged(EventPush { event }) => self.heard_event(event),
            Push::Resync(_) => add(&self.world.tally.resyncs),
            _ => {}
        }
    }

    fn heard_event(&mut self, event: &Event) {
        let mine = &self.world.of_person[self.me];
        let of = mine.iter().find(|&&number| self.world.conversations[number as usize].id == event.conversation_id);
        if let Some(&conversation) = of {
            self.heard(conversation, event.seq);
        }
    }

    fn heard(&mut self, conversation: u32, seq: Seq) {
        let seen = self.seen.entry(conversation).or_default();
        *seen = (*seen).max(seq);
    }

    fn marks(&mut self) -> Vec<Command> {
        let mut marks = Vec::new();
        for (&conversation, &seq) in &self.seen {
            let read = self.read.entry(conversation).or_default();
            if seq > *read && marks.len() < 8 {
                *read = seq;
                add(&self.world.tally.marks);
                let conversation_id = self.world.conversations[conversation as usize].id;
                marks.push(Command::Read(Mark { conversation_id, seq }));
            }
        }
        marks
    }
}

const TARGET_LOOK_BACK: usize = 200;

enum Next {
    Nothing,
    Retry(usize),
    Ask(Command, EventId),
}
