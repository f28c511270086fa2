//! The promises, checked: what must hold at every step where it may break, and the whole history once all is at rest.

use std::collections::BTreeMap;

use tertulia_node::{append::Request, store::NewEvent};
use tertulia_shard_map::{MessageNo, ShardMap, Slot, UserId};
use tertulia_test_invariants::{
    ConversationCheck, ExpectedRow, InboxRow, Invariant, MailboxCheck, Mirror, Outcome, Sent, StoredEvent,
};
use tertulia_wire::{EventKind, cluster};

use crate::{
    clients::{Said, State, content_hash},
    store::Partition,
    world::World,
};

impl World {
    /// I1: what was acked is in the store that the map names, under the place that was acked.
    pub(crate) fn check_acked(&mut self, slot: Slot) {
        let partition = self.named(slot);
        let is_lost = |said: &&Said| match said.state {
            State::Acked(Outcome::Acked { id, seq }) if said.slot == slot => {
                let event = partition.and_then(|partition| partition.event(said.conversation, seq));
                event.is_none_or(|event| event.record.id != id)
            }
            _ => false,
        };
        if let Some(lost) = self.clients.said().iter().find(is_lost) {
            let (state, store) = (lost.state, self.raft.map().slot(slot).store);
            self.violate(Invariant::AckedIsDurable, || format!("{state:?} of slot {slot} is not in store {store}"));
        }
    }

    /// What the newest map names as a slot's.
    fn named(&self, slot: Slot) -> Option<&Partition> {
        self.stores[&self.raft.map().slot(slot).store].partition(slot)
    }

    /// A map is sound, and an epoch of a slot means one owner, one store and one seal.
    pub(crate) fn check_map(&mut self, before: &ShardMap, after: &ShardMap) {
        if let Err(unsound) = after.check() {
            self.violate(Invariant::OneOwnerPerEpoch, || format!("map {}: {unsound}", after.version()));
        }
        for (slot, entry) in after.slots() {
            let was = before.slot(slot);
            let meant = (was.store, was.sealed_by, before.owner(slot));
            if was.epoch == entry.epoch && meant != (entry.store, entry.sealed_by, after.owner(slot)) {
                self.violate(Invariant::OneOwnerPerEpoch, || {
                    format!("slot {slot}: epoch {} meant {was:?} and means {entry:?}", entry.epoch)
                });
            }
            if was.epoch > entry.epoch {
                self.violate(Invariant::OneOwnerPerEpoch, || format!("slot {slot}: the epoch went back"));
            }
            if was.store != entry.store {
                self.check_acked(slot);
            }
        }
    }

    /// I1 to I4, and I7. Everything is at rest.
    pub(crate) fn check_everything(&mut self) {
        let slots: Vec<Slot> = self.raft.map().slots().map(|(slot, _)| slot).collect();
        let mut violations = std::mem::take(&mut self.violations);
        let mut expected: BTreeMap<UserId, Vec<ExpectedRow>> = BTreeMap::new();
        for &slot in &slots {
            let Some(partition) = self.named(slot) else { continue };
            for conversation in partition.conversations() {
                let mut mirror = Mirror::new(conversation);
                let mut check = ConversationCheck::new(conversation);
                let said = || self.clients.said().iter().filter(|said| said.conversation == conversation);
                let sent: Vec<(UserId, &str, Sent)> = said().filter_map(|said| said.sent()).collect();
                for event in partition.log_of(conversation) {
                    let record = &event.record;
                    let key = (record.sender, record.temp_id.as_str());
                    let recorded = sent.iter().find(|(user, temp_id, _)| (*user, *temp_id) == key).map(|it| &it.2);
                    check.event(&stored(event), recorded, &mut violations);
                    mirror.event(record.id, record.message_no, record.sender);
                }
                check.finish(sent.iter().map(|(user, temp_id, sent)| (*user, *temp_id, sent)), &mut violations);
                partition.member_rows(conversation).for_each(|member| mirror.member(member));
                for said in said() {
                    if let (State::Marked { delivered, read }, Request::Mark(mark)) = (said.state, &*said.request) {
                        mirror.check_marked(mark.user, delivered, read, &mut violations);
                    }
                }
                for (user, row) in mirror.rows() {
                    expected.entry(user).or_default().push(row);
                }
            }
        }
        for user in self.clients.users() {
            let expected = expected.remove(&user).unwrap_or_default();
            let mut check = MailboxCheck::new(user, &expected);
            let mailbox = self.named(self.raft.map().slot_of_user(user));
            for row in mailbox.into_iter().flat_map(|partition| partition.inbox_of(user)) {
                check.row(&inbox_row(row), &mut violations);
            }
            check.finish(&mut violations);
        }
        if !violations.is_empty() {
            self.note(|| format!("BROKEN\n{violations}"));
        }
        self.violations = violations;
        slots.into_iter().for_each(|slot| self.check_acked(slot));
    }
}

fn stored(event: &NewEvent) -> StoredEvent<'_> {
    let record = &event.record;
    StoredEvent {
        seq: record.seq,
        id: record.id,
        kind: record.kind,
        sender: record.sender,
        temp_id: &record.temp_id,
        target: None,
        content_hash: (record.kind == EventKind::Message).then(|| content_hash(&record.body)),
    }
}

fn inbox_row(row: &cluster::InboxRow) -> InboxRow {
    let read_message_no: MessageNo = row.read_message_no;
    InboxRow {
        conversation: row.conversation,
        joined_seq: row.joined_seq,
        left_seq: row.left_seq,
        last_seq: row.last_seq,
        last_event: row.last_event_id,
        last_message_no: row.last_message_no,
        read_seq: row.read_seq,
        read_message_no: Some(read_message_no),
        others_delivered_seq: row.others_delivered_seq,
        others_read_seq: row.others_read_seq,
        rev: None,
    }
}
