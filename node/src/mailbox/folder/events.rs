//! Folds the entries of a round, and asks for what is missing.

use std::time::Duration;

use tertulia_shard_map::{Slot, UserId};
use tertulia_wire::cluster::{DeliverStanding, InboxRow, Membership, Reader};
use tokio::time::timeout;

use super::{
    Folder,
    changes::{ChangedBlock, Changes, RowKey},
    memory::block_key,
    queue::{FoldEntry, FoldItem, Round},
};
use crate::{
    mailbox::fold::{EventFacts, Folded, apply, fill, fold, is_told, peer_of, stand},
    metrics as names,
    store::Sight,
};

/// Questions about missing events that one round asks, and how long each may take.
const GAPS_PER_ROUND: u32 = 4;
const GAP_TIMEOUT: Duration = Duration::from_secs(1);

impl Folder {
    /// Folds in memory. A stream with a gap that cannot be filled now is dropped from the round, to be sent again.
    pub(super) async fn fold(&mut self, round: &mut Round, changes: &mut Changes) {
        let mut kept = Vec::with_capacity(round.folds.len());
        let mut questions = GAPS_PER_ROUND;
        for job in round.folds.drain(..) {
            let mut whole = !self.broken.contains(&(job.from, job.slot));
            for item in &job.items {
                whole = whole
                    && match &*item.entry {
                        FoldEntry::Event(event) => {
                            let recipient = (job.slot, item.user, item.membership);
                            self.fold_event(recipient, event, changes, &mut questions).await
                        }
                        FoldEntry::Standing(told) => self.fold_standing(job.slot, item, told, changes),
                    };
            }
            if whole {
                kept.push(job);
            } else {
                self.broken.insert((job.from, job.slot));
            }
        }
        round.folds = kept;
    }

    /// The row as this round has left it. `None` where it is not known.
    fn row<'a>(&'a mut self, changes: &'a Changes, key: &RowKey) -> Option<Option<&'a InboxRow>> {
        match changes.rows.get(key) {
            Some((_, row)) => Some(Some(row)),
            None => self.memory.row(key),
        }
    }

    /// False where the event cannot be folded now.
    async fn fold_event(
        &mut self,
        (slot, user, membership): (Slot, UserId, Membership),
        event: &EventFacts,
        changes: &mut Changes,
        questions: &mut u32,
    ) -> bool {
        let key = (user, event.conversation);
        let Some(row) = self.row(changes, &key) else { return false };
        let is_new = row.is_none();
        let (changed, whole) = match fold(row, user, membership, event) {
            Folded::Unchanged => return true,
            Folded::Changed(changed) => (changed, true),
            Folded::Gap { .. } => {
                let row = row.cloned();
                match self.fill_gap(row, (user, membership), event, questions).await {
                    Filled::Wholly(changed) => (changed, true),
                    Filled::InPart(changed) => (changed, false),
                    Filled::Not => return false,
                }
            }
        };
        if is_new && let Some(watcher) = changed.peer {
            changes.begun.push((slot, Sight { user, watcher }));
        }
        changes.rows.insert(key, (slot, changed));
        whole
    }

    /// What is acknowledged is committed, and a stream is in order: so the store has lost something, as after a fail-over to
    /// a standby that was behind. The conversation's owner has it all the same.
    async fn fill_gap(
        &self,
        mut row: Option<InboxRow>,
        (user, membership): (UserId, Membership),
        event: &EventFacts,
        questions: &mut u32,
    ) -> Filled {
        metrics::counter!(names::INBOX_GAPS_TOTAL).increment(1);
        tracing::warn!(conversation = %event.conversation, seq = %event.seq, "a gap in a mailbox: asking the conversation's owner");
        let mut answered = false;
        while let Folded::Gap { after } = fold(row.as_ref(), user, membership, event) {
            if *questions == 0 {
                return match row {
                    // What was found is kept: the next round needs to ask for less.
                    Some(row) if answered => Filled::InPart(row),
                    _ => Filled::Not,
                };
            }
            *questions -= 1;
            let asking = self.peers.events_after(event.conversation, Reader::Mailbox(user), after);
            let Ok(Some(missing)) = timeout(GAP_TIMEOUT, asking).await else { return Filled::Not };
            answered = true;
            let before = missing.partition_point(|record| record.seq < event.seq);
            let filled = fill(row.as_ref(), user, &missing[..before], &event.view);
            if filled == row {
                break;
            }
            row = filled;
        }
        Filled::Wholly(apply(row.as_ref(), user, membership, event))
    }

    fn fold_standing(&mut self, slot: Slot, item: &FoldItem, told: &DeliverStanding, changes: &mut Changes) -> bool {
        let key = (item.user, told.conversation);
        let Some(row) = self.row(changes, &key) else { return false };
        if let Some(row) = row
            && is_told(item.user, told)
            && let Some(changed) = stand(row, item.user, &told.standing)
        {
            changes.rows.insert(key, (slot, changed));
        }
        self.mirror_block(slot, item, told, changes)
    }

    fn mirror_block(&mut self, slot: Slot, item: &FoldItem, told: &DeliverStanding, changes: &mut Changes) -> bool {
        let Some(key) = block_key(slot, item) else { return true };
        let change = match changes.blocks.get_mut(&key) {
            Some(change) => change,
            None => {
                let Some((before, seen)) = self.memory.block(&key) else { return false };
                changes.blocks.entry(key).or_insert(ChangedBlock { before, now: before, seen, origin: None })
            }
        };
        let is_own = told.standing.user == item.user;
        if !is_own && peer_of(&told.view, item.user) != Some(told.standing.user) {
            return true;
        }
        let seen = if is_own { &mut change.seen.by_user } else { &mut change.seen.by_other };
        if *seen >= Some(told.id) {
            return true;
        }
        *seen = Some(told.id);
        if is_own {
            if change.now.by_user != told.standing.blocks_peer {
                change.origin = told.origin;
            }
            change.now.by_user = told.standing.blocks_peer;
        } else {
            change.now.by_other = told.standing.blocks_peer;
        }
        true
    }
}

enum Filled {
    Wholly(InboxRow),
    InPart(InboxRow),
    Not,
}
