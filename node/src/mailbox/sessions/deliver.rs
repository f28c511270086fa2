//! Deliveries: pushed to the attached sessions at once, and handed on to be folded.

use std::sync::Arc;

use tertulia_shard_map::{Slot, UserId};
use tertulia_wire::cluster::{
    Deliver, DeliverEntry, DeliverEvent, DeliverStanding, DeliverStream, GroupSize, Membership, PushItem, Recipient,
};

use super::{
    super::{
        delivery::{DeliverReply, Ticket},
        fold::{EventFacts, is_pushed, size_of},
        folder::{FoldEntry, FoldItem, FoldJob, Start},
        pushes::Pushes,
    },
    Sessions,
};
use crate::clock;

impl Sessions {
    pub(super) fn deliver(&mut self, deliver: Deliver, reply: DeliverReply, bytes: usize, pushes: &mut Pushes) {
        let Deliver { entries, streams } = deliver;
        // Fan-out sends what is for one store.
        let mailboxes = streams.iter().find_map(|stream| self.slots.get(&stream.to));
        let folder = mailboxes.and_then(|mailboxes| self.folders.get(&mailboxes.store));
        let Some(bytes) = folder.and_then(|folder| folder.reserve(bytes)) else { return reply.retry(streams.len()) };
        let ticket = Ticket::new(streams.len(), reply, bytes);
        let shared: Vec<Arc<FoldEntry>> = entries.iter().map(|entry| Arc::new(fold_entry(entry))).collect();
        for (place, stream) in streams.iter().enumerate() {
            let Some(mailboxes) = self.slots.get(&stream.to) else { continue };
            // Out of order, because what was sent before was lost with a connection: the sender will start again there.
            if stream.previous.is_some() && mailboxes.streams.get(&stream.from).copied() != stream.previous {
                continue;
            }
            let epoch = mailboxes.epoch;
            let Some(folder) = self.folders.get(&mailboxes.store).cloned() else { continue };
            let items = self.take(stream, &entries, &shared, pushes);
            let start = if stream.previous.is_none() { Start::Afresh } else { Start::Following };
            let (from, slot) = (stream.from, stream.to);
            let job = FoldJob { from, slot, epoch, start, items, ticket: ticket.clone(), stream: place };
            if !folder.fold(job)
                && let Some(mailboxes) = self.slots.get_mut(&slot)
            {
                // Nothing is promised for this stream, so what follows on it must not be taken either.
                mailboxes.streams.remove(&from);
            }
        }
    }

    /// Pushes what a stream brought; what of it is to be folded.
    fn take(
        &mut self,
        stream: &DeliverStream,
        entries: &[DeliverEntry],
        shared: &[Arc<FoldEntry>],
        pushes: &mut Pushes,
    ) -> Vec<FoldItem> {
        let mut items = Vec::with_capacity(stream.deliveries.iter().map(|delivery| delivery.recipients.len()).sum());
        let mut last = None;
        for delivery in &stream.deliveries {
            let place = delivery.entry as usize;
            let (Some(entry), Some(to_fold)) = (entries.get(place), shared.get(place)) else { continue };
            for recipient in &delivery.recipients {
                let Recipient { user, membership } = *recipient;
                match entry {
                    DeliverEntry::Event(event) => self.take_event(stream.to, *recipient, event, pushes),
                    DeliverEntry::Standing(told) => self.take_standing(stream.to, user, told, pushes),
                }
                items.push(FoldItem { user, membership, entry: to_fold.clone() });
            }
            last = Some(match entry {
                DeliverEntry::Event(event) => event.record.id,
                DeliverEntry::Standing(told) => told.id,
            });
        }
        if let (Some(last), Some(mailboxes)) = (last, self.slots.get_mut(&stream.to)) {
            mailboxes.streams.insert(stream.from, last);
        }
        items
    }

    fn take_event(&mut self, slot: Slot, to: Recipient, event: &DeliverEvent, pushes: &mut Pushes) {
        for attached in self.sessions_of(slot, to.user) {
            if Some(attached.session) != event.origin {
                let item = || PushItem::Event(event.record.clone());
                pushes.add_entry(attached.connection, attached.session, event.record.id, item);
            }
        }
        if size_of(&event.view) == GroupSize::Large {
            let (conversation, seq) = (event.record.conversation, event.record.seq);
            if to.membership == Membership::Leaves {
                let dropped = self.large.leaves(to.user, conversation, seq);
                self.interest.remove(dropped);
            } else {
                // Also the event with which the group became large, and the user's own, which prove a membership.
                let added = self.large.joins(to.user, conversation, seq, clock::unix_ms());
                self.interest.add(added);
            }
        }
    }

    fn take_standing(&self, slot: Slot, user: UserId, told: &DeliverStanding, pushes: &mut Pushes) {
        if !is_pushed(user, told) {
            return;
        }
        for attached in self.sessions_of(slot, user) {
            if Some(attached.session) != told.origin {
                let item = || PushItem::Receipt { conversation: told.conversation, standing: told.standing };
                pushes.add_entry(attached.connection, attached.session, told.id, item);
            }
        }
    }
}

fn fold_entry(entry: &DeliverEntry) -> FoldEntry {
    match entry {
        DeliverEntry::Event(event) => FoldEntry::Event(EventFacts::from(event)),
        DeliverEntry::Standing(told) => FoldEntry::Standing(told.clone()),
    }
}
