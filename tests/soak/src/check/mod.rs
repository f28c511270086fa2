//! Reads everything back: from the stores all of it, through the routers what members see; and holds it against what was
//! written down.

mod reader;
mod stores;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    pin::pin,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tertulia_shard_map::{EventId, Seq};
use tertulia_test_invariants::{
    ConversationCheck, ExpectedRow, InboxRow, Invariant, MailboxCheck, Mirror, Outcome, ReaderCheck, Sent, SlotCheck,
    StoredEvent, Violations,
};
use tokio::time::{Instant, sleep};

use self::{reader::Reader, stores::Stores};
use crate::{records::Record, world::World};

/// Conversations, or mailboxes, that are looked at together.
const AT_ONCE: usize = 4;
/// Inbox rows follow the log within moments: when they must have.
const FOLD_LIMIT: Duration = Duration::from_secs(30);
const FOLD_POLL: Duration = Duration::from_millis(500);
/// Members of each conversation who read it, each through another router.
const READERS: usize = 2;

struct Check<'a> {
    world: &'a World,
    stores: Stores,
    violations: RefCell<Violations>,
    /// Of each person: what the rows must be.
    expected: RefCell<HashMap<usize, Vec<ExpectedRow>>>,
}

/// `stores`: connection strings of all of them.
pub async fn run(stores: &[String], world: &World) -> anyhow::Result<Violations> {
    let check = Check {
        world,
        stores: Stores::connect(stores).await?,
        violations: RefCell::new(world.live.take()),
        expected: RefCell::default(),
    };
    check.owners().await?;
    let conversations = stream::iter(0..world.conversations.len() as u32).map(|number| check.conversation(number));
    conversations.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    // One for all: where many rows never follow, each is not waited for as long.
    let deadline = Instant::now() + FOLD_LIMIT;
    let mailboxes = stream::iter(0..world.people.len()).map(|person| check.mailbox(person, deadline));
    mailboxes.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(check.violations.into_inner())
}

impl Check<'_> {
    /// I5, for everything that is in the stores, of earlier runs too.
    async fn owners(&self) -> anyhow::Result<()> {
        let mut stores_of = BTreeMap::new();
        for (store, slot) in self.stores.slots() {
            if let Some(other) = stores_of.insert(slot, store) {
                self.violations.borrow_mut().add(Invariant::OneOwnerPerEpoch, || {
                    format!("slot {slot} is in two stores, the {other}. and the {store}. of those given")
                });
            }
            let mut check = SlotCheck::new(slot);
            let mut events = pin!(self.stores.transactions(store, slot).await?);
            while let Some((id, transaction)) = events.try_next().await? {
                check.event(id, transaction, &mut self.violations.borrow_mut());
            }
        }
        Ok(())
    }

    /// I1 to I4 of a conversation, in the store and as its members read it.
    async fn conversation(&self, number: u32) -> anyhow::Result<()> {
        let conversation = self.world.conversation(number);
        let (mut mirror, mut log) = (Mirror::new(conversation.id), Vec::new());
        let mut check = ConversationCheck::new(conversation.id);
        let mut events = pin!(self.stores.events(conversation.id).await?);
        while let Some(stored) = events.try_next().await? {
            let record = self.world.record_of(stored.sender, &stored.temp_id);
            // A record of another conversation is not this event's.
            let sent = record.filter(|(_, _, record)| record.conversation == number).map(|(person, place, record)| {
                Sent { outcome: record.outcome(), content_hash: self.world.content_hash(person, place) }
            });
            let event = StoredEvent {
                seq: stored.seq,
                id: stored.id,
                kind: stored.kind,
                sender: stored.sender,
                temp_id: &stored.temp_id,
                target: stored.target,
                content_hash: stored.content_hash,
            };
            check.event(&event, sent.as_ref(), &mut self.violations.borrow_mut());
            mirror.event(stored.id, stored.message_no, stored.sender);
            log.push(stored.id);
        }
        for member in self.stores.members(conversation.id).await? {
            mirror.member(member);
        }
        let acked = self.acked(number);
        let acked = acked.iter().map(|(user, temp_id, sent)| (*user, temp_id.as_str(), sent));
        check.finish(acked, &mut self.violations.borrow_mut());
        for &member in &conversation.members {
            let (delivered, read) = self.world.marks(member, number);
            if delivered.max(read) > Seq::ZERO {
                let user = self.world.user(member);
                mirror.check_marked(user, delivered, read, &mut self.violations.borrow_mut());
            }
        }
        for (user, row) in mirror.rows() {
            if let Some(person) = self.world.person(user) {
                self.expected.borrow_mut().entry(person).or_default().push(row);
            }
        }
        drop(mirror);
        self.readers(number, &log).await
    }

    /// Everything that was acked in this conversation.
    fn acked(&self, number: u32) -> Vec<(tertulia_shard_map::UserId, String, Sent)> {
        let mut acked = Vec::new();
        for &member in &self.world.conversation(number).members {
            let user = self.world.user(member);
            let sent = |record: &Record| Sent { outcome: record.outcome(), content_hash: 0 };
            self.world.with_records(member, |records| {
                let all = records.iter().enumerate().filter(|(_, record)| record.conversation == number);
                let all = all.filter(|(_, record)| matches!(record.outcome(), Outcome::Acked { .. }));
                acked.extend(all.map(|(place, record)| (user, self.world.temp_id(place), sent(record))));
            });
        }
        acked
    }

    async fn readers(&self, number: u32, log: &[EventId]) -> anyhow::Result<()> {
        let conversation = self.world.conversation(number);
        if log.is_empty() {
            return Ok(());
        }
        // Not the guest, who may be away, and may not read all of it.
        let members = conversation.members.iter().copied().filter(|member| conversation.guest() != Some(*member));
        for (place, person) in
            members.cycle().skip(number as usize % 2).take(READERS.min(conversation.members.len())).enumerate()
        {
            let router = self.world.routers[(number as usize + place) % self.world.routers.len()];
            let mut reader = Reader::open(router, &self.world.people[person]).await?;
            let mut check = ReaderCheck::new(conversation.id, self.world.user(person), Seq::new(1), log);
            let mut after = Seq::ZERO;
            loop {
                let page = reader.history(conversation.id, after).await?;
                for event in &page.events {
                    check.event(event.seq, event.id, &mut self.violations.borrow_mut());
                    after = event.seq;
                }
                if !page.has_more || page.events.is_empty() {
                    break;
                }
            }
            check.finish(&mut self.violations.borrow_mut());
        }
        Ok(())
    }

    /// I7 of a mailbox: of what is stored, and of what `sync` tells.
    async fn mailbox(&self, person: usize, deadline: Instant) -> anyhow::Result<()> {
        let expected = self.expected.borrow_mut().remove(&person).unwrap_or_default();
        let user = self.world.user(person);
        let router = self.world.routers[person % self.world.routers.len()];
        let mut reader = Reader::open(router, &self.world.people[person]).await?;
        loop {
            let mut found = Violations::default();
            let mut check = |rows: Vec<InboxRow>| {
                let mut check = MailboxCheck::new(user, &expected);
                rows.iter().for_each(|row| check.row(row, &mut found));
                check.finish(&mut found);
            };
            check(self.stores.inbox(user).await?);
            check(reader.rows().await?);
            if found.is_empty() || Instant::now() > deadline {
                self.violations.borrow_mut().merge(found);
                return Ok(());
            }
            sleep(FOLD_POLL).await;
        }
    }
}
