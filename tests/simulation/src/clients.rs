//! Clients, and the router that they share: each command is repeated under the same key until it is answered, however often
//! its answer is lost.
//!
//! A client here keeps what it has sent, and nothing else. The offline-first client, with its own store and its delta sync,
//! has its place here once its state machine exists.

use std::{collections::BTreeMap, rc::Rc};

use bytes::Bytes;
use tertulia_node::append::Request;
use tertulia_shard_map::{ConversationId, DirectPair, Seq, ShardMap, Slot, SlotCount, UserId};
use tertulia_test_invariants::{Invariant, Outcome, Sent};
use tertulia_wire::cluster::{Action, Answer, Append, Appended, Authority, Mark, Marked, Refusal};

use crate::{
    agenda::{Command, Event, Message},
    network::Fate,
    time::Span,
    world::{Process, World},
};

const USERS: u128 = 4;
/// Commands without an answer; with more, nobody says anything new.
const OPEN_MAX: usize = 12;
const MARK_PER_MILLE: u64 = 200;
/// Of retries: how many are made by somebody who was away.
const AWAY_PER_MILLE: u64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(usize);

#[derive(Debug, Clone)]
pub enum Reply {
    Appended(Appended),
    Marked(Marked),
    Refused(Refusal),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Append(appended) => Self::Appended(appended),
            Answer::Mark(marked) => Self::Marked(marked),
            Answer::Refused(refusal) => Self::Refused(refusal),
            _ => Self::Refused(Refusal::Internal),
        }
    }
}

/// A command, from its sender's side.
#[derive(Debug)]
pub struct Said {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub request: Rc<Request>,
    pub state: State,
    attempt: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    Acked(Outcome),
    Marked { delivered: Seq, read: Seq },
    Refused,
}

pub struct Clients {
    slots: SlotCount,
    /// As the router knows it.
    map: Option<Rc<ShardMap>>,
    pairs: Vec<DirectPair>,
    ids: BTreeMap<(UserId, UserId), ConversationId>,
    said: Vec<Said>,
}

impl Clients {
    pub fn new(slots: SlotCount) -> Self {
        let users = || (1..=USERS).map(UserId::from_u128);
        let pairs: Vec<DirectPair> =
            users().flat_map(|a| users().filter(move |b| a < *b).map(move |b| DirectPair::new(a, b))).collect();
        let ids = pairs.iter().map(|pair| ((pair.lo(), pair.hi()), pair.conversation_id())).collect();
        Self { slots, map: None, pairs, ids, said: Vec::new() }
    }

    pub fn learn(&mut self, map: Rc<ShardMap>) {
        if self.map.as_ref().is_none_or(|known| known.version() < map.version()) {
            self.map = Some(map);
        }
    }

    pub fn users(&self) -> impl Iterator<Item = UserId> {
        (1..=USERS).map(UserId::from_u128)
    }

    pub fn said(&self) -> &[Said] {
        &self.said
    }

    pub fn unrest(&self) -> Vec<String> {
        let open = self.said.iter().filter(|said| said.state == State::Open).count();
        (open > 0).then(|| format!("{open} commands are not answered")).into_iter().collect()
    }

    fn owner(&self, slot: Slot) -> Option<Process> {
        let owner = self.map.as_ref()?.owner(slot)?;
        Some(Process { node: owner.node, incarnation: owner.incarnation })
    }

    /// The newest event of the conversation that somebody knows to be there.
    fn newest(&self, conversation: ConversationId) -> Option<Seq> {
        let seq = |said: &Said| match said.state {
            State::Acked(Outcome::Acked { seq, .. }) if said.conversation == conversation => Some(seq),
            _ => None,
        };
        self.said.iter().filter_map(seq).max()
    }
}

impl Said {
    /// What was recorded of a message, with its sender and key.
    pub fn sent(&self) -> Option<(UserId, &str, Sent)> {
        let Request::Append(append) = self.request.as_ref() else { return None };
        let Action::Message { body } = &append.action else { return None };
        let outcome = match self.state {
            State::Acked(outcome) => outcome,
            State::Refused => Outcome::Refused,
            State::Open | State::Marked { .. } => Outcome::Unknown,
        };
        Some((append.sender, &append.temp_id, Sent { outcome, content_hash: content_hash(body) }))
    }
}

/// Bodies here are numbers.
pub fn content_hash(body: &[u8]) -> u64 {
    body.iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

impl World {
    pub(crate) fn client_acts(&mut self) {
        if self.is_calm() {
            return;
        }
        let pause = Span::millis(self.dice.within(5..100));
        self.agenda.put(self.now + pause, Event::ClientActs);
        let open = self.clients.said.iter().filter(|said| said.state == State::Open).count();
        let Some(&pair) = self.dice.pick(&self.clients.pairs).filter(|_| open < OPEN_MAX) else { return };
        let conversation = self.clients.ids[&(pair.lo(), pair.hi())];
        let (user, peer) = if self.dice.happens(500) { (pair.lo(), pair.hi()) } else { (pair.hi(), pair.lo()) };
        let newest = self.clients.newest(conversation).filter(|_| self.dice.happens(MARK_PER_MILLE));
        let number = self.clients.said.len();
        let request = match newest {
            Some(newest) => {
                let read = Seq::new(self.dice.within(1..newest.get() + 1));
                Request::Mark(Mark { conversation, user, origin: None, delivered: newest, read })
            }
            None => Request::Append(Box::new(Append {
                conversation,
                direct_peer: Some(peer),
                sender: user,
                authority: Authority::Member,
                origin: None,
                temp_id: number.to_string(),
                action: Action::Message { body: Bytes::copy_from_slice(&(number as u64).to_be_bytes()) },
            })),
        };
        let slot = self.clients.slots.of_conversation(conversation);
        let request = Rc::new(request);
        self.clients.said.push(Said { slot, conversation, request, state: State::Open, attempt: 0 });
        self.client_sends(CommandId(number));
    }

    pub(crate) fn client_retries(&mut self, id: CommandId, attempt: u32) {
        let said = &self.clients.said[id.0];
        if said.state == State::Open && said.attempt == attempt {
            self.client_sends(id);
        }
    }

    fn client_sends(&mut self, id: CommandId) {
        let said = &mut self.clients.said[id.0];
        said.attempt += 1;
        let (slot, attempt) = (said.slot, said.attempt);
        let command = Command { id, slot, request: said.request.clone(), attempts: 0 };
        let owner = self.clients.owner(slot);
        if let Some(owner) = owner.filter(|_| self.weather.fate(&mut self.dice) != Fate::Lost) {
            self.tell(owner, Message::Command(command));
        }
        let is_away = !self.is_calm() && self.dice.happens(AWAY_PER_MILLE);
        let pause = Span::millis(if is_away { self.dice.within(1_000..3_000) } else { self.dice.within(100..400) });
        self.agenda.put(self.now + pause, Event::ClientRetries { id, attempt });
    }

    pub(crate) fn client_hears(&mut self, id: CommandId, reply: Reply) {
        let said = &self.clients.said[id.0];
        let (slot, attempt, before) = (said.slot, said.attempt, said.state);
        let state = match reply {
            Reply::Appended(Appended { id, seq, .. }) => State::Acked(Outcome::Acked { id, seq }),
            Reply::Marked(Marked { delivered, read }) => State::Marked { delivered, read },
            Reply::Refused(refusal) if refusal.is_transient() => {
                let pause = Span::millis(self.dice.within(20..80));
                return self.agenda.put(self.now + pause, Event::ClientRetries { id, attempt });
            }
            Reply::Refused(refusal) => {
                self.violate(Invariant::ServesAfterFaults, || {
                    format!("command {} of slot {slot} is refused for good: {refusal}", id.0)
                });
                State::Refused
            }
        };
        match (before, state) {
            (State::Open, _) => self.note(|| format!("client: command {} of slot {slot}: {state:?}", id.0)),
            (State::Acked(_), _) if before != state => self.violate(Invariant::SeqIsContiguous, || {
                format!("command {} of slot {slot} was acked as {before:?}, then as {state:?}", id.0)
            }),
            // Marks that were repeated may have been overtaken by higher ones.
            _ => return,
        }
        self.clients.said[id.0].state = state;
        self.check_acked(slot);
    }
}
