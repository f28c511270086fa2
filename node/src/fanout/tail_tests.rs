//! A slot's log, its mailboxes and a hostile network between them, in memory: whatever fails, in the end every mailbox
//! has every event, in order, and the cursor is at the end of the log.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use tertulia_shard_map::{DirectPair, Epoch, EventId, MessageNo, Seq, Slot, SlotCount, UserId};
use tertulia_wire::{
    EventKind, EventRecord,
    cluster::{ConversationView, DeliverEntry, DeliverEvent, DeliverStanding, Standing},
};

use super::tail::{Effect, Outcome, PAGE_ENTRIES, Purpose, SendId, Tail};
use crate::{
    append::Committed,
    entry::{LogEntry, Reach},
    store::{TakenSlot, both},
};

const SLOT: Slot = Slot::new(3);
const SENDER: UserId = UserId::from_u128(7);

fn slots() -> SlotCount {
    SlotCount::try_from(16).expect("a power of two")
}

fn entry(number: u64, receiver: u64) -> LogEntry {
    let direct = DirectPair::new(SENDER, UserId::from_u128(100 + u128::from(receiver)));
    let (id, conversation) = (EventId::from_u128(u128::from(number) * 10), direct.conversation_id());
    let view = ConversationView::Direct { pair: direct, blocked: false };
    let (recipients, reach) = (both(direct), Reach::Recipients);
    // A standing now and then: it is an entry as any other.
    if number.is_multiple_of(5) {
        let standing = Standing {
            user: SENDER,
            delivered_seq: Seq::new(number),
            read_seq: Seq::new(number),
            read_message_no: MessageNo::new(number),
            blocks_peer: false,
        };
        let entry = DeliverEntry::Standing(DeliverStanding { id, conversation, view, standing, origin: None });
        return LogEntry { entry, recipients, reach };
    }
    let record = EventRecord {
        id,
        conversation,
        seq: Seq::new(number),
        message_no: MessageNo::new(number),
        kind: EventKind::Message,
        sender: SENDER,
        created_at_ms: 0,
        temp_id: number.to_string(),
        body: Bytes::from_static(b"text"),
        target: None,
        since: None,
    };
    LogEntry { entry: DeliverEntry::Event(DeliverEvent { record, view, origin: None }), recipients, reach }
}

/// What happens to the next thing that is under way.
#[derive(Debug, Clone, Copy)]
enum Step {
    Commit { count: u8, receiver: u8, told: Told },
    Settle { place: u8, outcome: Fate },
}

/// Whether fan-out is told of a commit.
#[derive(Debug, Clone, Copy)]
enum Told {
    Yes,
    /// As after a commit whose reply was lost.
    No,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Good,
    Bad,
}

struct World {
    tail: Tail,
    log: Vec<LogEntry>,
    told_up_to: EventId,
    under_way: VecDeque<Effect>,
    /// Per mailbox slot: the last id taken on the stream, and all ids in the order in which they were first seen.
    mailboxes: BTreeMap<Slot, (Option<EventId>, Vec<EventId>)>,
    cursor: EventId,
}

impl World {
    fn new() -> Self {
        let zero = EventId::from_u128(0);
        let taken = TakenSlot { slot: SLOT, epoch: Epoch::new(1), last_entry: zero, mailbox_cursor: zero };
        let tail = Tail::new(&taken, slots(), &mut Vec::new());
        Self {
            tail,
            log: Vec::new(),
            told_up_to: zero,
            under_way: VecDeque::new(),
            mailboxes: BTreeMap::new(),
            cursor: zero,
        }
    }

    fn last_id(&self) -> EventId {
        self.log.last().map_or(EventId::from_u128(0), |entry| entry.id())
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Cursor { event, .. } => {
                    assert!(event > self.cursor, "the cursor only grows");
                    self.cursor = event;
                    for entry in self.log.iter().filter(|entry| entry.id() <= event) {
                        self.assert_received(entry);
                    }
                }
                other => self.under_way.push_back(other),
            }
        }
    }

    fn assert_received(&self, entry: &LogEntry) {
        for user in entry.recipients.iter().map(|it| it.user) {
            let seen = self.mailboxes.get(&slots().of_user(user)).is_some_and(|m| m.1.contains(&entry.id()));
            assert!(seen, "entry {} passed by the cursor before {user} had it", entry.id());
        }
    }

    fn commit(&mut self, count: u8, receiver: u8, told: Told) {
        let previous = self.last_id();
        let first = self.log.len() as u64 + 1;
        let entries: Vec<LogEntry> = (first..first + u64::from(count)).map(|n| entry(n, receiver.into())).collect();
        self.log.extend(entries.iter().cloned());
        if matches!(told, Told::No) {
            return;
        }
        self.told_up_to = self.last_id();
        let mut effects = Vec::new();
        self.tail.committed(Committed { slot: SLOT, epoch: Epoch::new(1), previous, entries }, &mut effects);
        self.take(effects);
    }

    fn settle(&mut self, place: u8, fate: Fate) {
        if self.under_way.is_empty() {
            return;
        }
        let place = usize::from(place) % self.under_way.len();
        let Some(effect) = self.under_way.remove(place) else { return };
        let mut effects = Vec::new();
        match effect {
            Effect::Send { id, previous, items } => {
                let ids: Vec<EventId> = items.iter().map(|item| item.entry.id()).collect();
                let outcome = match fate {
                    Fate::Good => self.receive(id, previous, &ids),
                    // Lost on the way, or its answer was: the receiver may have it.
                    Fate::Bad => {
                        if id.number % 2 == 0 {
                            self.receive(id, previous, &ids);
                        }
                        Outcome::Failed
                    }
                };
                self.tail.settled(id, outcome, &mut effects);
            }
            Effect::Read { purpose, after, .. } => match fate {
                Fate::Good => {
                    let page =
                        self.log.iter().filter(|e| e.id() > after).take(PAGE_ENTRIES as usize).cloned().collect();
                    self.tail.page(purpose, page, &mut effects);
                }
                Fate::Bad => self.tail.read_failed(purpose, &mut effects),
            },
            Effect::Pause { purpose, number, .. } => self.tail.resume(purpose, number, &mut effects),
            Effect::Cursor { .. } => unreachable!("taken at once"),
        }
        self.take(effects);
    }

    /// As a mailbox slot does: in the order of the stream, or not at all.
    fn receive(&mut self, id: SendId, previous: Option<EventId>, ids: &[EventId]) -> Outcome {
        let (last, seen) = self.mailboxes.entry(id.to).or_default();
        if previous.is_some() && *last != previous {
            return Outcome::Failed;
        }
        for event in ids {
            if !seen.contains(event) {
                assert!(seen.last().is_none_or(|newest| newest < event), "a mailbox sees events in their order");
                seen.push(*event);
            }
        }
        *last = ids.last().copied();
        Outcome::Acknowledged
    }

    /// Everything works from now on.
    fn heal(&mut self) {
        // The next commit that is told of reveals what was not.
        self.commit(1, 0, Told::Yes);
        for _ in 0..100_000 {
            if self.under_way.is_empty() {
                break;
            }
            self.settle(0, Fate::Good);
        }
        assert!(self.under_way.is_empty(), "it comes to rest");
        for entry in &self.log {
            self.assert_received(entry);
        }
        assert_eq!(self.cursor, self.last_id(), "the cursor is at the end of the log");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let told = prop_oneof![6 => Just(Told::Yes), 1 => Just(Told::No)];
    let fate = prop_oneof![4 => Just(Fate::Good), 1 => Just(Fate::Bad)];
    prop_oneof![
        1 => (1..4_u8, 0..6_u8, told).prop_map(|(count, receiver, told)| Step::Commit { count, receiver, told }),
        2 => (any::<u8>(), fate).prop_map(|(place, outcome)| Step::Settle { place, outcome }),
    ]
}

proptest! {
    #[test]
    fn every_mailbox_gets_every_event_in_order_whatever_fails(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Commit { count, receiver, told } => world.commit(count, receiver, told),
                Step::Settle { place, outcome } => world.settle(place, outcome),
            }
        }
        world.heal();
    }
}

#[test]
fn a_stream_that_does_not_keep_up_is_fed_from_the_log_and_the_others_do_not_wait() {
    let mut world = World::new();
    let slow = slots().of_user(UserId::from_u128(100));
    for _ in 0..20 {
        world.commit(200, 0, Told::Yes);
        // Everybody but the slow one answers.
        while let Some(place) =
            world.under_way.iter().position(|e| !matches!(e, Effect::Send { id, .. } if id.to == slow))
        {
            world.settle(place as u8, Fate::Good);
        }
    }
    let to_slow = world.under_way.iter().filter(|e| matches!(e, Effect::Send { .. })).count();
    assert!(to_slow < 20, "at some point nothing more was sent to it");
    let sender = &world.mailboxes[&slots().of_user(SENDER)].1;
    assert_eq!(sender.len(), world.log.len(), "the others have everything");
    world.heal();
}

#[test]
fn after_a_take_over_the_log_is_read_from_the_cursor() {
    let mut effects = Vec::new();
    let taken = TakenSlot {
        slot: SLOT,
        epoch: Epoch::new(2),
        last_entry: EventId::from_u128(50),
        mailbox_cursor: EventId::from_u128(20),
    };
    Tail::new(&taken, slots(), &mut effects);
    assert_eq!(effects, [Effect::Read { slot: SLOT, purpose: Purpose::Head, after: EventId::from_u128(20) }]);
}
