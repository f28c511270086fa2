//! Who has what with whom, what was sent and what became of it. One thread, so cells and no locks.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use anyhow::ensure;
use tertulia_bench::{body::Bodies, connection::SignedIn};
use tertulia_shard_map::{ConversationId, DirectPair, EventId, Seq, UserId};
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use crate::Options;

/// How often the pacer hands out what is due.
const PACE: Duration = Duration::from_millis(5);
/// Events that a person may be behind with; what is due beyond is passed over, and counted.
pub const BACKLOG_MAX: u32 = 256;
const GROUPS_LIMIT: Duration = Duration::from_secs(60);

pub struct Conversation {
    pub id: ConversationId,
    /// Numbers of people.
    pub members: Vec<usize>,
    pub is_group: bool,
}

/// Something that a person sent. Its number is its place in the person's list.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub conversation: u32,
    pub what: What,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Create,
    Message,
    Edit,
    Delete,
    React,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not answered yet, or not answered at all.
    Open,
    Acked {
        id: EventId,
        seq: Seq,
    },
    Refused,
}

#[derive(Default)]
pub struct Tally {
    pub acked: Cell<u64>,
    pub refused: Cell<u64>,
    pub retried: Cell<u64>,
    pub passed_over: Cell<u64>,
    pub pushes: Cell<u64>,
    pub resyncs: Cell<u64>,
    pub joins: Cell<u64>,
    pub leaves: Cell<u64>,
    pub freezes: Cell<u64>,
    pub own_reads: Cell<u64>,
    pub own_reads_missed: Cell<u64>,
    pub marks: Cell<u64>,
}

pub fn add(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

pub struct World {
    pub run: u32,
    pub routers: Vec<std::net::SocketAddr>,
    pub users: Vec<UserId>,
    pub restless: usize,
    pub conversations: Vec<Conversation>,
    /// Conversations of each person.
    pub of_person: Vec<Vec<u32>>,
    pub records: Vec<RefCell<Vec<Record>>>,
    /// Events that a person is due to send.
    pub due: Vec<Cell<u32>>,
    pub wake: Vec<Notify>,
    pub tally: Tally,
    open: Cell<u64>,
    sending: Cell<bool>,
    ended: Cell<bool>,
    bodies: Bodies,
}

impl World {
    pub fn new(options: &Options, run: u32, people: &[SignedIn]) -> Self {
        let users: Vec<UserId> = people.iter().map(|person| person.user.user_id).collect();
        let count = users.len();
        let mut conversations = Vec::new();
        for first in (0..count.saturating_sub(1)).step_by(2) {
            let id = DirectPair::new(users[first], users[first + 1]).conversation_id();
            conversations.push(Conversation { id, members: vec![first, first + 1], is_group: false });
        }
        for group in 0..options.groups as usize {
            let size = (options.group_size as usize).min(count);
            let members = (0..size).map(|place| (group * 17 + place * 31) % count).collect::<Vec<_>>();
            let mut unique = members.clone();
            unique.sort_unstable();
            unique.dedup();
            let random: u128 = rand::random();
            conversations.push(Conversation {
                id: ConversationId::from_u128(random >> 1),
                members: unique,
                is_group: true,
            });
        }
        let mut of_person = vec![Vec::new(); count];
        for (number, conversation) in conversations.iter().enumerate() {
            conversation.members.iter().for_each(|&member| of_person[member].push(number as u32));
        }
        Self {
            run,
            routers: options.routers.clone(),
            restless: count * options.restless_percent as usize / 100,
            conversations,
            of_person,
            records: (0..count).map(|_| RefCell::default()).collect(),
            due: (0..count).map(|_| Cell::new(0)).collect(),
            wake: (0..count).map(|_| Notify::new()).collect(),
            users,
            tally: Tally::default(),
            open: Cell::new(0),
            sending: Cell::new(true),
            ended: Cell::new(false),
            bodies: Bodies::new(None),
        }
    }

    // --- what is sent ---

    pub fn temp_id(&self, number: usize) -> String {
        format!("{:08x}-{number}", self.run)
    }

    /// The number in a temp_id of this run.
    pub fn number_of(&self, temp_id: &str) -> Option<usize> {
        let (run, number) = temp_id.split_once('-')?;
        (u32::from_str_radix(run, 16).ok()? == self.run).then(|| number.parse().ok())?
    }

    pub fn text(&self, person: usize, number: usize) -> String {
        self.bodies.text(person as u32, number as u32)
    }

    pub fn content_hash(&self, person: usize, number: usize) -> u64 {
        xxh3_64(self.text(person, number).as_bytes())
    }

    /// Notes that something is about to be sent; its number.
    pub fn begin(&self, person: usize, conversation: u32, what: What) -> usize {
        let mut records = self.records[person].borrow_mut();
        records.push(Record { conversation, what, state: State::Open });
        self.open.set(self.open.get() + 1);
        records.len() - 1
    }

    pub fn finish(&self, person: usize, number: usize, state: State) {
        let mut records = self.records[person].borrow_mut();
        let record = &mut records[number];
        if record.state == State::Open {
            self.open.set(self.open.get() - 1);
            add(if state == State::Refused { &self.tally.refused } else { &self.tally.acked });
            record.state = state;
        }
    }

    pub fn record(&self, person: usize, number: usize) -> Record {
        self.records[person].borrow()[number]
    }

    pub fn sent(&self) -> usize {
        self.records.iter().map(|records| records.borrow().len()).sum()
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
                next = (next + 1) % self.users.len();
                if self.due[person].get() < BACKLOG_MAX {
                    self.due[person].set(self.due[person].get() + 1);
                    self.wake[person].notify_one();
                } else {
                    add(&self.tally.passed_over);
                }
            }
        }
    }

    pub fn stop_sending(&self) {
        self.sending.set(false);
        self.due.iter().for_each(|due| due.set(0));
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

    /// Until everything that was sent is answered.
    pub async fn settled(&self) {
        while self.open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn unanswered(&self) -> u64 {
        self.open.get()
    }

    /// Until the first member of each group has made it.
    pub async fn wait_for_groups(&self) -> anyhow::Result<()> {
        let groups = self.conversations.iter().filter(|conversation| conversation.is_group).count() as u64;
        let start = Instant::now();
        while self.tally.acked.get() < groups {
            ensure!(start.elapsed() < GROUPS_LIMIT, "the groups could not be made");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
