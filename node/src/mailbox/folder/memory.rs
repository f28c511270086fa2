//! What a folder remembers of the store: committed things only.

use std::collections::HashSet;

use tertulia_shard_map::{Slot, UserId};
use tertulia_wire::cluster::{ConversationView, GroupSize, InboxRow};

use super::{
    changes::{BlockSeen, Changes, RowKey},
    queue::{FoldEntry, FoldItem, Round},
};
use crate::{
    generations::Generations,
    mailbox::fold::peer_of,
    store::{BlockKey, FoldBatch, InboxKey, MailboxHead, Store, StoreError, StoredBlock, StoredProfile},
};

/// What is remembered, per generation of each cache.
const REMEMBERED: usize = 64 * 1024;

pub(super) struct Memory {
    rows: Generations<RowKey, (Slot, Option<InboxRow>)>,
    heads: Generations<UserId, (Slot, MailboxHead)>,
    blocks: Generations<BlockKey, (StoredBlock, BlockSeen)>,
    profiles: Generations<UserId, (Slot, Option<StoredProfile>)>,
}

/// The block that a standing tells the mailbox of a recipient of: its key there.
pub(super) fn block_key(slot: Slot, item: &FoldItem) -> Option<BlockKey> {
    let FoldEntry::Standing(told) = &*item.entry else { return None };
    let ConversationView::Direct { .. } = &told.view else { return None };
    let other = peer_of(&told.view, item.user).filter(|other| *other != item.user)?;
    Some(BlockKey { slot, user: item.user, other })
}

impl Memory {
    pub fn new() -> Self {
        Self {
            rows: Generations::new(REMEMBERED),
            heads: Generations::new(REMEMBERED),
            blocks: Generations::new(REMEMBERED),
            profiles: Generations::new(REMEMBERED),
        }
    }

    pub fn forget_slot(&mut self, slot: Slot) {
        self.rows.retain(|_, (of, _)| *of != slot);
        self.heads.retain(|_, (of, _)| *of != slot);
        self.blocks.retain(|key, _| key.slot != slot);
        self.profiles.retain(|_, (of, _)| *of != slot);
    }

    /// `None` where it is not known whether there is one.
    pub fn row(&mut self, key: &RowKey) -> Option<Option<&InboxRow>> {
        self.rows.get_mut(key).map(|(_, row)| row.as_ref())
    }

    pub fn head(&mut self, user: UserId) -> Option<&MailboxHead> {
        self.heads.get_mut(&user).map(|(_, head)| &*head)
    }

    pub fn block(&mut self, key: &BlockKey) -> Option<(StoredBlock, BlockSeen)> {
        self.blocks.get_mut(key).copied()
    }

    /// Whether the standing tells of another block than is remembered. Where nothing is, whether it tells of one.
    pub fn would_change_block(&self, slot: Slot, item: &FoldItem) -> bool {
        let Some(key) = block_key(slot, item) else { return false };
        let FoldEntry::Standing(told) = &*item.entry else { return false };
        let (is_own, blocks) = (told.standing.user == item.user, told.standing.blocks_peer);
        match self.blocks.peek(&key) {
            Some((known, _)) if is_own => known.by_user != blocks,
            Some((known, _)) => known.by_other != blocks,
            None => blocks || matches!(told.view, ConversationView::Direct { blocked: true, .. }),
        }
    }

    /// `None` where it is not known whether there is one.
    pub fn profile(&mut self, user: UserId) -> Option<Option<&StoredProfile>> {
        self.profiles.get_mut(&user).map(|(_, profile)| profile.as_ref())
    }

    /// What the round touches and is not here.
    ///
    /// What is here counts as used now, so that loading the others does not push it out.
    pub async fn load(&mut self, store: &Store, round: &Round) -> Result<(), StoreError> {
        let mut wanted = Wanted::default();
        for fold in &round.folds {
            for item in &fold.items {
                self.want(fold.slot, item, &mut wanted);
            }
        }
        for person in &round.people {
            self.want_head(person.slot, person.user, &mut wanted);
            if self.profiles.get_mut(&person.user).is_none() && wanted.seen_profiles.insert(person.user) {
                wanted.profiles.push((person.slot, person.user));
            }
        }
        let (heads, rows, blocks, profiles) = tokio::try_join!(
            async { if wanted.heads.is_empty() { Ok(Vec::new()) } else { store.load_mailboxes(&wanted.heads).await } },
            async { if wanted.rows.is_empty() { Ok(Vec::new()) } else { store.load_inbox_rows(&wanted.rows).await } },
            async { if wanted.blocks.is_empty() { Ok(Vec::new()) } else { store.load_blocks(&wanted.blocks).await } },
            async {
                if wanted.profiles.is_empty() { Ok(Vec::new()) } else { store.load_profiles(&wanted.profiles).await }
            },
        )?;
        for ((slot, user), head) in wanted.heads.into_iter().zip(heads) {
            self.heads.insert(user, (slot, head));
        }
        for (key, row) in wanted.rows.into_iter().zip(rows) {
            self.rows.insert((key.user, key.conversation), (key.slot, row.map(|stored| stored.row)));
        }
        for (key, block) in wanted.blocks.into_iter().zip(blocks) {
            self.blocks.insert(key, (block, BlockSeen::default()));
        }
        for ((slot, user), profile) in wanted.profiles.into_iter().zip(profiles) {
            self.profiles.insert(user, (slot, profile));
        }
        Ok(())
    }

    fn want(&mut self, slot: Slot, item: &FoldItem, wanted: &mut Wanted) {
        self.want_head(slot, item.user, wanted);
        let conversation = match &*item.entry {
            FoldEntry::Event(event) => event.conversation,
            FoldEntry::Standing(told) => told.conversation,
        };
        let row = (item.user, conversation);
        if self.rows.get_mut(&row).is_none() && wanted.seen_rows.insert(row) {
            wanted.rows.push(InboxKey { slot, user: item.user, conversation });
        }
        if let Some(key) = block_key(slot, item)
            && self.blocks.get_mut(&key).is_none()
            && wanted.seen_blocks.insert(key)
        {
            wanted.blocks.push(key);
        }
    }

    fn want_head(&mut self, slot: Slot, user: UserId, wanted: &mut Wanted) {
        if self.heads.get_mut(&user).is_none() && wanted.seen_heads.insert(user) {
            wanted.heads.push((slot, user));
        }
    }

    /// What a batch holds is committed.
    pub fn committed(&mut self, batch: FoldBatch) {
        for (slot, user, stored) in batch.rows {
            let row = stored.row;
            if let Some((_, head)) = self.heads.get_mut(&user) {
                head.rev = head.rev.max(stored.rev);
                head.large.retain(|(conversation, _)| *conversation != row.conversation);
                if row.size == GroupSize::Large && row.left_seq.is_none() {
                    head.large.push((row.conversation, row.joined_seq));
                }
            }
            self.rows.insert((user, row.conversation), (slot, Some(row)));
        }
        for (slot, profile) in batch.profiles {
            self.profiles.insert(profile.record.user, (slot, Some(profile)));
        }
    }

    /// The same for blocks, also for those of which only the time is new.
    pub fn note_blocks(&mut self, changes: &Changes) {
        for (key, change) in &changes.blocks {
            self.blocks.insert(*key, (change.now, change.seen));
        }
    }
}

#[derive(Default)]
struct Wanted {
    heads: Vec<(Slot, UserId)>,
    rows: Vec<InboxKey>,
    blocks: Vec<BlockKey>,
    profiles: Vec<(Slot, UserId)>,
    seen_heads: HashSet<UserId>,
    seen_rows: HashSet<RowKey>,
    seen_blocks: HashSet<BlockKey>,
    seen_profiles: HashSet<UserId>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tertulia_shard_map::{DirectPair, EventId, MessageNo, Seq};
    use tertulia_wire::cluster::{DeliverStanding, Membership, Standing};

    use super::*;

    const SLOT: Slot = Slot::new(5);
    const ANA: UserId = UserId::from_u128(1);
    const BEA: UserId = UserId::from_u128(2);

    /// Ana's mailbox is told where Bea stands.
    fn told(by: UserId, blocks_peer: bool) -> FoldItem {
        let pair = DirectPair::new(ANA, BEA);
        let seq = Seq::new(1);
        let marks =
            Standing { user: by, delivered_seq: seq, read_seq: seq, read_message_no: MessageNo::new(1), blocks_peer };
        let entry = FoldEntry::Standing(DeliverStanding {
            id: EventId::from_u128(1),
            conversation: pair.conversation_id(),
            view: ConversationView::Direct { pair, blocked: blocks_peer },
            standing: marks,
            origin: None,
        });
        FoldItem { user: ANA, membership: Membership::Stays, entry: Arc::new(entry) }
    }

    #[test]
    fn a_block_that_begins_or_ends_is_noticed_before_it_is_folded() {
        let mut memory = Memory::new();
        for by in [ANA, BEA] {
            assert!(memory.would_change_block(SLOT, &told(by, true)));
            assert!(!memory.would_change_block(SLOT, &told(by, false)), "a mark, as there are many");
        }
        let key = BlockKey { slot: SLOT, user: ANA, other: BEA };
        memory.blocks.insert(key, (StoredBlock { by_user: true, by_other: false }, BlockSeen::default()));
        assert!(!memory.would_change_block(SLOT, &told(ANA, true)));
        assert!(memory.would_change_block(SLOT, &told(ANA, false)), "an unblock");
        assert!(memory.would_change_block(SLOT, &told(BEA, true)));
        assert!(!memory.would_change_block(SLOT, &told(BEA, false)));
    }
}
