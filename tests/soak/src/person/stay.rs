//! One session of a person, to its end.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::Duration,
};

use rand::Rng;
use tertulia_bench::connection::Session;
use tertulia_shard_map::{EventId, Rev, Seq};
use tertulia_wire::client::{
    Command, CommandId, ErrorCode, ErrorReply, Event, EventPush, HistoryQuery, Mark, Outbound, Push, Reply, SyncQuery,
};
use tokio::time::{Instant, sleep_until};

use super::{Leaving, talk::Talk};
use crate::{tally::add, world::World};

/// Events that a person has on the way at once.
const IN_FLIGHT_MAX: usize = 32;
/// How often a person says what arrived; every other time also what was seen. So many conversations each time.
const MARK_EVERY: Duration = Duration::from_secs(2);
const MARKS_AT_ONCE: usize = 8;
const RETRY_AFTER: Duration = Duration::from_millis(300);
/// How long one that stops reading goes on not reading.
const FREEZE: Duration = Duration::from_secs(20);
/// And how much longer it stays where it goes on reading then.
const STAY_AFTER_FREEZE: Duration = Duration::from_secs(20);
/// One ack in so many is followed by a look whether the log has it.
const OWN_READ_ONE_IN: u32 = 200;

/// What a person's app keeps from one session to the next.
#[derive(Debug, Default)]
pub struct Memory {
    rev: Rev,
    /// Per conversation, the newest seq known of, and the newest said to have arrived and to be read.
    seen: BTreeMap<u32, Seen>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    known: Seq,
    delivered: Seq,
    read: Seq,
}

/// What a command on the way is about.
#[derive(Debug, Clone, Copy)]
enum Flying {
    Event(usize),
    Sync,
    Mark(u32),
    /// Whether the log has this event of this conversation.
    OwnRead(u32, EventId, Seq),
}

/// The session has ended.
struct Ended;

struct Stay<'a> {
    world: &'a Rc<World>,
    talk: &'a mut Talk,
    memory: &'a mut Memory,
    session: Session,
    next_id: CommandId,
    flying: HashMap<CommandId, Flying>,
    /// To be said again at `retry_at`.
    retries: Vec<usize>,
    retry_at: Option<Instant>,
    marks: u32,
}

pub async fn stay(
    world: &Rc<World>,
    talk: &mut Talk,
    memory: &mut Memory,
    session: Session,
    (time, leaving): (Duration, Leaving),
) {
    let mut stay = Stay {
        world,
        talk,
        memory,
        session,
        next_id: 1,
        flying: HashMap::new(),
        retries: Vec::new(),
        retry_at: None,
        marks: 0,
    };
    let outcome = stay.run(time, leaving).await;
    let Stay { flying, retries, session, talk, .. } = stay;
    let flying = flying.into_values().filter_map(|it| if let Flying::Event(number) = it { Some(number) } else { None });
    talk.give_back(flying, retries);
    match outcome {
        Ok(Leaving::Close) => {
            add(&world.tally.closed);
            let _ = session.close().await;
        }
        Ok(_) => add(&world.tally.dropped),
        Err(Ended) => add(&world.tally.closed_by_router),
    }
}

impl Stay<'_> {
    async fn run(&mut self, time: Duration, mut leaving: Leaving) -> Result<Leaving, Ended> {
        let mut until = Instant::now() + time;
        let mut mark_at = Instant::now() + MARK_EVERY.mul_f64(rand::random());
        let world = self.world.clone();
        let wake = &world.wake[self.talk.me()];
        self.sync().await?;
        loop {
            self.say_what_is_due().await?;
            tokio::select! {
                received = self.session.receive() => {
                    for outbound in received.map_err(|_| Ended)? {
                        match outbound {
                            Outbound::Push(push) => self.pushed(&push).await?,
                            Outbound::Reply { id: Some(id), reply } => self.answered(id, reply).await?,
                            Outbound::Reply { id: None, .. } => {}
                        }
                    }
                }
                () = wake.notified() => {
                    if self.world.has_ended() {
                        return Ok(Leaving::Close);
                    }
                }
                () = sleep_until(mark_at) => {
                    mark_at = Instant::now() + MARK_EVERY;
                    self.mark().await?;
                }
                () = sleep_until(self.retry_at.unwrap_or(until)), if self.retry_at.is_some() => {
                    self.retry_at = None;
                    self.talk.say_again(&mut self.retries);
                }
                () = sleep_until(until) => {
                    if matches!(leaving, Leaving::FreezeAndDrop | Leaving::FreezeAndRead) {
                        // The socket stays open and nothing is read from it, while others go on writing to this person.
                        add(&self.world.tally.freezes);
                        self.talk.was_away();
                        self.world.pause(self.world.time_for(FREEZE)).await;
                        self.talk.was_away();
                    }
                    if leaving != Leaving::FreezeAndRead {
                        return Ok(leaving);
                    }
                    (until, leaving) = (Instant::now() + self.world.time_for(STAY_AFTER_FREEZE), Leaving::Close);
                }
            }
        }
    }

    async fn send(&mut self, command: &Command, what: Flying) -> Result<(), Ended> {
        self.next_id += 1;
        self.flying.insert(self.next_id, what);
        self.session.send_as(self.next_id, command).await.map_err(|_| Ended)
    }

    async fn say_what_is_due(&mut self) -> Result<(), Ended> {
        let events = self.flying.values().filter(|it| matches!(it, Flying::Event(_))).count() + self.retries.len();
        for _ in events..IN_FLIGHT_MAX {
            let Some((number, command)) = self.talk.next() else { break };
            self.send(&command, Flying::Event(number)).await?;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Ended> {
        add(&self.world.tally.syncs);
        self.send(&Command::Sync(SyncQuery { rev: self.memory.rev, limit: None }), Flying::Sync).await
    }

    async fn mark(&mut self) -> Result<(), Ended> {
        self.marks += 1;
        let reads = self.marks.is_multiple_of(2);
        let mut commands = Vec::new();
        for (&conversation, seen) in &mut self.memory.seen {
            let mark = Mark { conversation_id: self.world.conversation(conversation).id, seq: seen.known };
            let said = if reads { &mut seen.read } else { &mut seen.delivered };
            if *said < seen.known && commands.len() < MARKS_AT_ONCE {
                *said = seen.known;
                commands.push((conversation, if reads { Command::Read(mark) } else { Command::Delivered(mark) }));
            }
        }
        for (conversation, command) in commands {
            self.send(&command, Flying::Mark(conversation)).await?;
        }
        Ok(())
    }

    async fn answered(&mut self, id: CommandId, reply: Reply) -> Result<(), Ended> {
        let Some(what) = self.flying.remove(&id) else { return Ok(()) };
        match (what, reply) {
            (Flying::Event(number), Reply::Ack(ack)) => {
                self.talk.acked(number, &ack.message);
                return self.look_for_own(&ack.message).await;
            }
            (Flying::Event(number), Reply::Error(error)) => {
                if self.talk.failed(number, &error) {
                    self.retries.push(number);
                    self.retry_at.get_or_insert(Instant::now() + RETRY_AFTER);
                }
            }
            (Flying::Sync, Reply::SyncPage(page)) => {
                for row in page.conversations.iter().filter(|row| row.left_seq.is_none()) {
                    if let Some(conversation) = self.world.number_of(row.conversation_id) {
                        self.knows(conversation, row.last_seq);
                    }
                }
                self.memory.rev = if page.reset { Rev::ZERO } else { page.rev };
                if page.has_more || page.reset {
                    return self.sync().await;
                }
            }
            (Flying::Mark(conversation), Reply::Marked(marked)) => {
                self.world.marked(self.talk.me(), conversation, marked.delivered_seq, marked.read_seq);
            }
            (Flying::OwnRead(conversation, id, seq), Reply::HistoryPage(page)) => {
                let found = page.events.first().map(|event| (event.id, event.seq));
                self.world.read_back(self.world.conversation(conversation).id, (id, seq), found);
            }
            (what, Reply::Error(error)) => self.failed(what, &error),
            (what, other) => {
                let error = ErrorReply::new(ErrorCode::Internal, other.type_name());
                self.world.tally.unexpected(&format!("{what:?} was answered with"), &error);
            }
        }
        Ok(())
    }

    /// A read or a mark that failed: not repeated, since the next one does the same.
    fn failed(&self, what: Flying, error: &ErrorReply) {
        self.world.tally.error(error.code);
        let is_guest = match what {
            Flying::Mark(conversation) => self.world.conversation(conversation).guest() == Some(self.talk.me()),
            _ => false,
        };
        if !error.retryable && !is_guest {
            self.world.tally.unexpected(&format!("{what:?}"), error);
        }
    }

    /// Now and then, whether the log has what was just acked. Not where the person may have been removed meanwhile.
    async fn look_for_own(&mut self, event: &Event) -> Result<(), Ended> {
        let Some(conversation) = self.world.number_of(event.conversation_id) else { return Ok(()) };
        self.knows(conversation, event.seq);
        let is_guest = self.world.conversation(conversation).guest() == Some(self.talk.me());
        if is_guest || rand::rng().random_range(0..OWN_READ_ONE_IN) > 0 {
            return Ok(());
        }
        let query = HistoryQuery {
            conversation_id: event.conversation_id,
            after_seq: Some(Seq::new(event.seq.get() - 1)),
            before_seq: None,
            limit: Some(1),
        };
        self.send(&Command::History(query), Flying::OwnRead(conversation, event.id, event.seq)).await
    }

    async fn pushed(&mut self, push: &Push) -> Result<(), Ended> {
        add(&self.world.tally.pushes);
        match push {
            Push::New(new) => self.heard(&new.message),
            Push::Edited(EventPush { event })
            | Push::Deleted(EventPush { event })
            | Push::Reacted(EventPush { event })
            | Push::ConversationChanged(EventPush { event }) => self.heard(event),
            Push::Resync(_) => {
                add(&self.world.tally.resyncs);
                return self.sync().await;
            }
            // A router that stops closes the session at last: then this person comes back at another.
            _ => {}
        }
        Ok(())
    }

    fn heard(&mut self, event: &Event) {
        self.world.heard(event);
        if let Some(conversation) = self.world.number_of(event.conversation_id) {
            self.talk.heard(conversation, event);
            self.knows(conversation, event.seq);
        }
    }

    fn knows(&mut self, conversation: u32, seq: Seq) {
        let seen = self.memory.seen.entry(conversation).or_default();
        seen.known = seen.known.max(seq);
    }
}
