//! What one round makes of the mailboxes, before it is committed.

use std::collections::{BTreeMap, HashMap, HashSet};

use tertulia_shard_map::{ConversationId, Epoch, EventId, Rev, SessionId, Slot, UserId};
use tertulia_wire::cluster::InboxRow;

use super::memory::Memory;
use crate::store::{BlockKey, FoldBatch, Sight, StoredBlock, StoredInboxRow, StoredProfile};

pub(super) type RowKey = (UserId, ConversationId);

#[derive(Default)]
pub(super) struct Changes {
    pub rows: BTreeMap<RowKey, (Slot, InboxRow)>,
    pub blocks: BTreeMap<BlockKey, ChangedBlock>,
    pub profiles: BTreeMap<UserId, (Slot, ChangedProfile)>,
    /// Direct conversations of which the user has the first row.
    pub begun: Vec<(Slot, Sight)>,
}

pub(super) struct ChangedBlock {
    /// As committed.
    pub before: StoredBlock,
    pub now: StoredBlock,
    pub seen: BlockSeen,
    /// Of the newest change by the user.
    pub origin: Option<SessionId>,
}

/// The newest standings that told of a block, so that an older one that comes late does not bring it back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BlockSeen {
    pub by_user: Option<EventId>,
    pub by_other: Option<EventId>,
}

pub(super) struct ChangedProfile {
    pub profile: StoredProfile,
    /// Whether presence was shared before.
    pub before_shared: bool,
    /// `None` where several said so.
    pub origin: Option<SessionId>,
}

impl Changes {
    /// The commit, with the rows taken out of here, each with the next rev of its mailbox; and the slots of which something
    /// is missing, because memory has lost it meanwhile. It is fenced for all that it acknowledges, also where that changes
    /// nothing: an owner that was deposed acknowledges nothing.
    pub fn batch(
        &mut self,
        acknowledged: impl IntoIterator<Item = Slot>,
        memory: &mut Memory,
        slots: &HashMap<Slot, Epoch>,
    ) -> (FoldBatch, HashSet<Slot>) {
        let mut batch = FoldBatch::default();
        let mut lost = HashSet::new();
        let mut revs: HashMap<UserId, Rev> = HashMap::new();
        let mut touched: HashSet<Slot> = acknowledged.into_iter().collect();
        for ((user, _), (slot, row)) in std::mem::take(&mut self.rows) {
            let newest = match revs.get(&user) {
                Some(rev) => *rev,
                None => match memory.head(user) {
                    Some(head) => head.rev,
                    None => {
                        lost.insert(slot);
                        continue;
                    }
                },
            };
            let rev = newest.next();
            revs.insert(user, rev);
            touched.insert(slot);
            batch.rows.push((slot, user, StoredInboxRow { row, rev }));
        }
        for (key, change) in self.blocks.iter().filter(|(_, change)| change.now != change.before) {
            touched.insert(key.slot);
            batch.blocks.push((*key, change.now));
        }
        for (slot, changed) in self.profiles.values() {
            touched.insert(*slot);
            batch.profiles.push((*slot, changed.profile.clone()));
        }
        batch.slots = touched.into_iter().filter_map(|slot| Some((slot, *slots.get(&slot)?))).collect();
        (batch, lost)
    }

    /// Of these nothing, or not all, is committed.
    pub fn drop_slots(&mut self, failed: &HashSet<Slot>) {
        self.begun.retain(|(slot, _)| !failed.contains(slot));
        self.blocks.retain(|key, _| !failed.contains(&key.slot));
        self.profiles.retain(|_, (slot, _)| !failed.contains(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_is_fenced_like_what_does() {
        let (slot, epoch) = (Slot::new(5), Epoch::new(1));
        let slots = HashMap::from([(slot, epoch), (Slot::new(6), epoch)]);
        let (batch, lost) = Changes::default().batch([slot], &mut Memory::new(), &slots);
        assert_eq!((batch.slots, batch.rows.len(), lost.len()), (vec![(slot, epoch)], 0, 0));
    }
}
