//! Who chats with whom, what is due, and what everybody writes down. One thread, so cells and no locks.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rand::seq::index;
use tertulia_bench::{
    body::Bodies,
    connection::{SignedIn, SignedInUser},
};
use tertulia_shard_map::{ConversationId, DirectPair, EventId, Seq, UserId};
use tertulia_test_invariants::{Invariant, Violations};
use tertulia_wire::client::Event;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    chat::Crowd,
    records::{Agreement, Certainty, Record, Records, What},
    tally::{Tally, add},
};

/// How often the pacer hands out what is due.
const PACE: Duration = Duration::from_millis(5);
/// Events that a person may be behind with, as after an absence; what is due beyond is passed over, and counted.
const BACKLOG_MAX: u32 = 1024;
/// A run of this length is not short.
const UNHURRIED: Duration = Duration::from_secs(240);
const GROUPS_LIMIT: Duration = Duration::from_secs(60);
/// A group of this size has a guest, who comes and goes.
const GUEST_FROM: usize = 3;

pub struct Conversation {
    pub id: ConversationId,
    /// Numbers of people; of a group its owner first.
    pub members: Vec<usize>,
}

impl Conversation {
    pub fn is_group(&self) -> bool {
        !self.id.is_direct()
    }

    pub fn owner(&self) -> Option<usize> {
        self.members.first().copied().filter(|_| self.is_group())
    }

    /// The one member whom the owner removes and adds again.
    pub fn guest(&self) -> Option<usize> {
        self.members.last().copied().filter(|_| self.is_group() && self.members.len() >= GUEST_FROM)
    }
}

/// Something that was said in a session, and answered with an ack much later.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    pub conversation: u32,
    pub since: Instant,
    pub until: Instant,
}

/// What takes less is not noted.
pub const WAIT_NOTED: Duration = Duration::from_millis(50);
/// Notes that are kept.
const WAITS_MAX: usize = 1 << 20;

pub struct World {
    /// Names the people and the `temp_id`s of this run.
    pub run: u32,
    pub routers: Vec<SocketAddr>,
    pub people: Vec<SignedIn>,
    pub conversations: Vec<Conversation>,
    /// Conversations of each person.
    pub of_person: Vec<Vec<u32>>,
    pub tally: Tally,
    /// What was found broken while people chatted.
    pub live: RefCell<Violations>,
    /// Of each person: what is on the way in this session, and since when, refusals that were repeated included.
    waiting: Vec<RefCell<HashMap<usize, Instant>>>,
    /// The acks that took long.
    pub waits: RefCell<Vec<Wait>>,
    /// Per person, told when something is due, or when all is over.
    pub wake: Vec<Notify>,
    by_user: HashMap<UserId, usize>,
    by_id: HashMap<ConversationId, u32>,
    records: Vec<RefCell<Records>>,
    /// The farthest marks that were acked: delivered and read.
    marks: RefCell<HashMap<(usize, u32), (Seq, Seq)>>,
    restless_percent: usize,
    haste: f64,
    due: Vec<Cell<u32>>,
    open: Cell<u64>,
    sending: Cell<bool>,
    ended: Cell<bool>,
    bodies: Bodies,
}

impl World {
    pub fn new(crowd: &Crowd, routers: Vec<SocketAddr>, time: Duration, run: u32, people: Vec<SignedIn>) -> Self {
        let users: Vec<UserId> = people.iter().map(|person| person.user.user_id).collect();
        let conversations = arrange(&users, crowd.groups as usize, crowd.group_size as usize);
        let mut of_person = vec![Vec::new(); users.len()];
        for (number, conversation) in conversations.iter().enumerate() {
            conversation.members.iter().for_each(|&member| of_person[member].push(number as u32));
        }
        Self {
            run,
            routers,
            tally: Tally::default(),
            live: RefCell::default(),
            waiting: users.iter().map(|_| RefCell::default()).collect(),
            waits: RefCell::default(),
            wake: users.iter().map(|_| Notify::new()).collect(),
            by_user: users.iter().enumerate().map(|(number, user)| (*user, number)).collect(),
            by_id: conversations.iter().enumerate().map(|(number, it)| (it.id, number as u32)).collect(),
            records: users.iter().map(|_| RefCell::default()).collect(),
            marks: RefCell::default(),
            restless_percent: crowd.restless_percent as usize,
            haste: (time.as_secs_f64() / UNHURRIED.as_secs_f64()).min(1.0),
            due: users.iter().map(|_| Cell::new(0)).collect(),
            open: Cell::new(0),
            sending: Cell::new(true),
            ended: Cell::new(false),
            bodies: Bodies::new(None),
            people,
            conversations,
            of_person,
        }
    }

    /// People who are not connected, for tests.
    pub fn of_strangers(crowd: &Crowd) -> Rc<Self> {
        let user = |number: u32| SignedInUser { user_id: UserId::from_u128(number.into()) };
        let people = (1..=crowd.people).map(|number| SignedIn { token: String::new(), user: user(number) });
        Rc::new(Self::new(crowd, Vec::new(), UNHURRIED, 7, people.collect()))
    }

    // --- who ---

    pub fn user(&self, person: usize) -> UserId {
        self.people[person].user.user_id
    }

    pub fn person(&self, user: UserId) -> Option<usize> {
        self.by_user.get(&user).copied()
    }

    /// Spread evenly: of each pair one, both or none.
    pub fn is_restless(&self, person: usize) -> bool {
        person * self.restless_percent / 100 != (person + 1) * self.restless_percent / 100
    }

    /// How long somebody takes for something that usually takes so long: less in a short run, so that all kinds of things happen
    /// in it as well.
    pub fn time_for(&self, usual: Duration) -> Duration {
        usual.mul_f64(self.haste)
    }

    pub fn conversation(&self, number: u32) -> &Conversation {
        &self.conversations[number as usize]
    }

    pub fn number_of(&self, id: ConversationId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    // --- what was said ---

    pub fn temp_id(&self, number: usize) -> String {
        format!("{:08x}-{number}", self.run)
    }

    /// The record that a stored or pushed event is of.
    pub fn record_of(&self, sender: UserId, temp_id: &str) -> Option<(usize, usize, Record)> {
        let person = self.person(sender)?;
        let (run, number) = temp_id.split_once('-')?;
        let number: usize = (u32::from_str_radix(run, 16).ok()? == self.run).then(|| number.parse().ok())??;
        Some((person, number, *self.records[person].borrow().get(number)?))
    }

    pub fn record(&self, person: usize, number: usize) -> Option<Record> {
        self.records[person].borrow().get(number).copied()
    }

    pub fn with_records<T>(&self, person: usize, look: impl FnOnce(&Records) -> T) -> T {
        look(&self.records[person].borrow())
    }

    pub fn text(&self, person: usize, number: usize) -> String {
        self.bodies.text(person as u32, number as u32)
    }

    pub fn content_hash(&self, person: usize, number: usize) -> u64 {
        xxh3_64(self.text(person, number).as_bytes())
    }

    /// Notes that something is about to be said; its number.
    pub fn begin(&self, person: usize, conversation: u32, what: What) -> usize {
        self.open.set(self.open.get() + 1);
        self.records[person].borrow_mut().begin(conversation, what)
    }

    /// The ack of something that was begun. Once for each.
    pub fn acked(&self, person: usize, number: usize, event: &Event) {
        self.open.set(self.open.get() - 1);
        add(&self.tally.acked);
        self.waited(person, number, self.record(person, number).map(|record| record.conversation));
        let agreement = self.records[person].borrow_mut().acked(number, event.id, event.seq);
        self.compare(agreement, event);
    }

    /// Something is on the way, for the first time in this session.
    pub fn waits_for(&self, person: usize, number: usize) {
        self.waiting[person].borrow_mut().entry(number).or_insert_with(Instant::now);
    }

    /// Somebody is away: how long the answers take that come meanwhile is not known.
    pub fn stops_waiting(&self, person: usize) {
        self.waiting[person].borrow_mut().clear();
    }

    /// Since when somebody who is there waits for an answer.
    pub fn longest_wait(&self) -> Duration {
        let oldest = self.waiting.iter().filter_map(|waiting| waiting.borrow().values().min().copied()).min();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn waited(&self, person: usize, number: usize, conversation: Option<u32>) {
        let since = self.waiting[person].borrow_mut().remove(&number);
        let (Some(since), Some(conversation)) = (since, conversation) else { return };
        let (until, mut waits) = (Instant::now(), self.waits.borrow_mut());
        if until - since >= WAIT_NOTED && waits.len() < WAITS_MAX {
            waits.push(Wait { conversation, since, until });
        }
    }

    /// The refusal of something that was begun. Once for each.
    pub fn refused(&self, person: usize, number: usize, certainty: Certainty) {
        self.open.set(self.open.get() - 1);
        add(&self.tally.refused);
        self.waited(person, number, None);
        self.records[person].borrow_mut().refused(number, certainty);
    }

    /// An event that somebody was told of: it must have been said, and be where its ack says.
    pub fn heard(&self, event: &Event) {
        let Some((person, number, record)) = self.record_of(event.sender_id, &event.temp_id) else {
            return self.invented(event, "was never sent");
        };
        if self.conversation(record.conversation).id != event.conversation_id {
            return self.invented(event, "was sent to another conversation");
        }
        let agreement = self.records[person].borrow_mut().heard(number, event.id, event.seq);
        self.compare(agreement, event);
    }

    fn compare(&self, agreement: Agreement, event: &Event) {
        match agreement {
            Agreement::Same => {}
            Agreement::WasRefused => self.invented(event, "was refused to its sender"),
            Agreement::Differs => self.live.borrow_mut().add(Invariant::SeqIsContiguous, || {
                format!(
                    "{}: {} is told as {} ({}), and was another",
                    event.conversation_id, event.temp_id, event.seq, event.id
                )
            }),
        }
    }

    fn invented(&self, event: &Event, why: &str) {
        self.live.borrow_mut().add(Invariant::NothingIsInvented, || {
            format!("{}: seq {} by {} {why}", event.conversation_id, event.seq, event.sender_id)
        });
    }

    /// Marks that were acked.
    pub fn marked(&self, person: usize, conversation: u32, delivered: Seq, read: Seq) {
        add(&self.tally.marks);
        let mut marks = self.marks.borrow_mut();
        let most = marks.entry((person, conversation)).or_default();
        *most = (most.0.max(delivered), most.1.max(read));
    }

    pub fn marks(&self, person: usize, conversation: u32) -> (Seq, Seq) {
        self.marks.borrow().get(&(person, conversation)).copied().unwrap_or_default()
    }

    pub fn said(&self) -> usize {
        self.records.iter().map(|records| records.borrow().count()).sum()
    }

    /// Everything that was said and what became of it, a line of JSON each, for people who look for a cause.
    pub fn history(&self) -> impl Iterator<Item = String> {
        (0..self.people.len()).flat_map(move |person| {
            let records = self.records[person].borrow();
            let line = |(number, record): (usize, &Record)| {
                let conversation = self.conversation(record.conversation).id;
                let (temp_id, what, outcome) = (self.temp_id(number), record.what, record.outcome());
                format!(
                    r#"{{"sender":"{}","temp_id":"{temp_id}","conversation":"{conversation}","what":"{what:?}","outcome":"{outcome:?}"}}"#,
                    self.user(person)
                )
            };
            records.iter().enumerate().map(line).collect::<Vec<_>>()
        })
    }

    /// A sender asked for its own event right after the ack.
    pub fn read_back(&self, conversation: ConversationId, acked: (EventId, Seq), found: Option<(EventId, Seq)>) {
        add(&self.tally.own_reads);
        tertulia_test_invariants::check_own_read(conversation, acked, found, &mut self.live.borrow_mut());
    }

    // --- the course of things ---

    /// Hands out what is due, in turns, until the time is over.
    pub async fn pace(&self, rate: f64, time: Duration) {
        let start = Instant::now();
        let (mut handed, mut next) = (0_u64, 0_usize);
        while start.elapsed() < time {
            tokio::time::sleep(PACE).await;
            let due = (start.elapsed().as_secs_f64() * rate) as u64;
            while handed < due {
                handed += 1;
                let person = next;
                next = (next + 1) % self.people.len();
                if self.due[person].get() < BACKLOG_MAX {
                    self.due[person].set(self.due[person].get() + 1);
                    self.wake[person].notify_one();
                } else {
                    add(&self.tally.passed_over);
                }
            }
        }
    }

    /// Whether something is due; then it is not any more.
    pub fn take_due(&self, person: usize) -> bool {
        let due = self.due[person].get();
        if due == 0 || !self.is_sending() {
            return false;
        }
        self.due[person].set(due - 1);
        true
    }

    pub fn stop_sending(&self) {
        self.sending.set(false);
        self.wake.iter().for_each(Notify::notify_one);
    }

    pub fn is_sending(&self) -> bool {
        self.sending.get()
    }

    pub fn end(&self) {
        self.ended.set(true);
        self.wake.iter().for_each(Notify::notify_one);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Sleeps, but not on into the time when nobody sends any more.
    pub async fn pause(&self, time: Duration) {
        const SLICE: Duration = Duration::from_millis(250);
        let end = Instant::now() + time;
        while self.is_sending() && Instant::now() < end {
            tokio::time::sleep(SLICE.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Until everything that was sent is answered.
    pub async fn settled(&self) {
        while self.open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn unanswered(&self) -> u64 {
        self.open.get()
    }

    /// Until the owner of each group has made it.
    pub async fn wait_for_groups(&self) -> anyhow::Result<()> {
        let groups = self.conversations.iter().filter(|it| it.is_group()).count() as u64;
        let start = Instant::now();
        while self.tally.acked.get() < groups {
            ensure!(start.elapsed() < GROUPS_LIMIT, "the groups could not be made");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Everybody has a friend, and some are in groups.
fn arrange(users: &[UserId], groups: usize, group_size: usize) -> Vec<Conversation> {
    let pairs = users.chunks_exact(2).enumerate().map(|(pair, users)| Conversation {
        id: DirectPair::new(users[0], users[1]).conversation_id(),
        members: vec![2 * pair, 2 * pair + 1],
    });
    let groups = (0..groups).map(|_| Conversation {
        id: ConversationId::from_u128(rand::random::<u128>() >> 1),
        members: index::sample(&mut rand::rng(), users.len(), group_size.min(users.len())).into_vec(),
    });
    pairs.chain(groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_asked_for_are_restless() {
        let world = World::of_strangers(&Crowd { people: 40, restless_percent: 25, ..Crowd::default() });
        assert_eq!((0..40).filter(|person| world.is_restless(*person)).count(), 10);
    }

    #[tokio::test]
    async fn what_is_due_is_handed_out_on_time_and_bounded() {
        let world = World::of_strangers(&Crowd { people: 2, groups: 0, ..Crowd::default() });
        world.pace(1e6, Duration::from_millis(50)).await;
        let due = (0..).take_while(|_| world.take_due(0)).count();
        assert_eq!(due, BACKLOG_MAX as usize);
        assert!(world.tally.passed_over.get() > 10_000);
        let since = Instant::now();
        world.pace(100.0, Duration::from_millis(200)).await;
        // A busy machine may take longer, in which more becomes due: half of it is this one's.
        let half = since.elapsed().as_secs_f64() * 100.0 / 2.0;
        let due = (0..).take_while(|_| world.take_due(0)).count();
        assert!(due >= 5 && due as f64 <= half + 1.0, "half of twenty, but {due} of {half}");
        world.stop_sending();
        assert!(!world.take_due(1), "nobody begins anything any more");
    }

    #[test]
    fn everybody_has_a_friend_and_nobody_is_in_a_group_twice() {
        let users: Vec<UserId> = (1..=10).map(UserId::from_u128).collect();
        let conversations = arrange(&users, 4, 6);
        let (pairs, groups) = conversations.split_at(5);
        assert!(pairs.iter().all(|it| !it.is_group() && it.members.len() == 2 && it.guest().is_none()));
        for group in groups {
            let mut members = group.members.clone();
            members.sort_unstable();
            members.dedup();
            assert_eq!((members.len(), group.is_group()), (6, true));
            assert_ne!(group.owner(), group.guest());
        }
    }
}
