//! The commands of a lane that wait, and how many of them may go into the next batch.

use std::{collections::VecDeque, mem};

use tertulia_runtime::rpc::Responder;
use tertulia_shard_map::Slot;
use tertulia_wire::cluster::Append;

use super::{Request, handle::Queued};
use crate::store::DuplicateKey;

/// A command that this often could neither be committed nor found is given up.
const MAX_ATTEMPTS: u8 = 5;
/// A batch takes no further command once it has so much, as the queue counts it.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) struct Command {
    pub slot: Slot,
    pub request: Request,
    pub reply: Responder,
    attempts: u8,
}

impl Command {
    pub fn append(&self) -> Option<&Append> {
        match &self.request {
            Request::Append(append) => Some(append),
            Request::Mark(_) | Request::Block(_) | Request::Typing(_) => None,
        }
    }

    pub fn key(&self) -> Option<DuplicateKey<'_>> {
        let append = self.append()?;
        let (conversation, sender, temp_id) = (append.conversation, append.sender, append.temp_id.as_str());
        Some(DuplicateKey { slot: self.slot, conversation, sender, temp_id })
    }
}

impl From<Queued> for Command {
    fn from(queued: Queued) -> Self {
        let Queued { slot, request, reply } = queued;
        Self { slot, request, reply, attempts: 0 }
    }
}

pub(super) struct Backlog {
    commands: VecDeque<Command>,
    batch_max: usize,
    /// Set after the store refused a whole batch: commands go one by one until this many are through, so that a bad one
    /// fails alone.
    one_by_one: usize,
    /// So many at the head were in a batch with a duplicate: they go again among themselves, so that duplicates that keep
    /// coming in cannot keep them waiting.
    settling: usize,
}

impl Backlog {
    pub fn new(batch_max: usize) -> Self {
        Self { commands: VecDeque::new(), batch_max, one_by_one: 0, settling: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn push(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    /// The next batch: of the oldest, up to the bounds.
    pub fn take(&mut self) -> Vec<Command> {
        let bound = match (self.one_by_one, mem::take(&mut self.settling)) {
            (0, 0) => self.batch_max,
            (0, settling) => settling,
            (_, _) => {
                self.one_by_one -= 1;
                1
            }
        };
        let (mut count, mut bytes) = (0, 0);
        while count < bound && bytes < BATCH_BYTES_MAX {
            let Some(command) = self.commands.get(count) else { break };
            bytes += command.request.cost();
            count += 1;
        }
        self.commands.drain(..count).collect()
    }

    /// To the front, in their order.
    pub fn back(&mut self, commands: Vec<Command>) {
        for command in commands.into_iter().rev() {
            self.commands.push_front(command);
        }
    }

    /// To the front: what is left of a batch with duplicates, to be tried by itself.
    pub fn settle(&mut self, left: Vec<Command>) {
        self.settling = left.len();
        self.back(left);
    }

    /// To the front, in their order, after an attempt that led nowhere. Returns those for which it was the last.
    pub fn try_again(&mut self, mut commands: Vec<Command>) -> Vec<Command> {
        commands.iter_mut().for_each(|command| command.attempts += 1);
        let (given_up, again) = commands.into_iter().partition(|command| command.attempts > MAX_ATTEMPTS);
        self.back(again);
        given_up
    }

    /// The same, one by one.
    pub fn try_one_by_one(&mut self, commands: Vec<Command>) -> Vec<Command> {
        self.one_by_one = commands.len();
        self.try_again(commands)
    }

    pub fn take_slot(&mut self, slot: Slot) -> VecDeque<Command> {
        let (gone, kept) = self.commands.drain(..).partition(|command| command.slot == slot);
        self.commands = kept;
        gone
    }

    pub fn take_all(&mut self) -> VecDeque<Command> {
        mem::take(&mut self.commands)
    }
}
