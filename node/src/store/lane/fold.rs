//! The commit of the mailbox path.

use tertulia_shard_map::{Epoch, Slot, UserId};
use tertulia_wire::cluster::GroupSize;
use tokio_postgres::types::ToSql;

use super::{Lane, collect, fence_columns};
use crate::store::{
    BlockKey, NameFrom, StoreError, StoredBlock, StoredInboxRow, StoredProfile, column, conversation_column,
    event_column, slot_column, user_column,
};

pub(super) const STATEMENT: &str = "SELECT fold_inbox($1,$2,$3,$4,$5,$6, \
     $7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23, $24,$25,$26,$27,$28, $29,$30,$31,$32,$33,$34,$35)";

/// One commit of folded mailboxes. At most one row of each key.
#[derive(Debug, Default)]
pub struct FoldBatch {
    /// Every slot that the batch touches, once, with the epoch under which it does.
    pub slots: Vec<(Slot, Epoch)>,
    pub rows: Vec<(Slot, UserId, StoredInboxRow)>,
    pub blocks: Vec<(BlockKey, StoredBlock)>,
    pub profiles: Vec<(Slot, StoredProfile)>,
}

impl Lane {
    pub async fn fold(&mut self, batch: &FoldBatch) -> Result<(), StoreError> {
        let (slots, epochs) = fence_columns(&batch.slots);
        let (rows, blocks, profiles) = (&batch.rows, &batch.blocks, &batch.profiles);
        let (node, incarnation) = self.store.writer_columns();
        let params: [&(dyn ToSql + Sync); 35] = [
            &node,
            &self.id.0,
            &incarnation,
            &self.token,
            &slots,
            &epochs,
            &collect(rows, |r| slot_column(r.0)),
            &collect(rows, |r| user_column(r.1)),
            &collect(rows, |r| conversation_column(r.2.row.conversation)),
            &collect(rows, |r| r.2.row.peer.map(user_column)),
            &collect(rows, |r| r.2.row.name.as_deref()),
            &collect(rows, |r| r.2.row.size == GroupSize::Large),
            &collect(rows, |r| column(r.2.row.joined_seq.get())),
            &collect(rows, |r| r.2.row.left_seq.map(|left| column(left.get()))),
            &collect(rows, |r| event_column(r.2.row.last_event_id)),
            &collect(rows, |r| column(r.2.row.last_seq.get())),
            &collect(rows, |r| column(r.2.row.last_message_no.get())),
            &collect(rows, |r| r.2.row.last_at_ms),
            &collect(rows, |r| column(r.2.row.read_seq.get())),
            &collect(rows, |r| column(r.2.row.read_message_no.get())),
            &collect(rows, |r| column(r.2.row.others_delivered_seq.get())),
            &collect(rows, |r| column(r.2.row.others_read_seq.get())),
            &collect(rows, |r| column(r.2.rev.get())),
            &collect(blocks, |b| slot_column(b.0.slot)),
            &collect(blocks, |b| user_column(b.0.user)),
            &collect(blocks, |b| user_column(b.0.other)),
            &collect(blocks, |b| b.1.by_user),
            &collect(blocks, |b| b.1.by_other),
            &collect(profiles, |p| slot_column(p.0)),
            &collect(profiles, |p| user_column(p.1.record.user)),
            &collect(profiles, |p| p.1.record.name.as_deref()),
            &collect(profiles, |p| p.1.name_from == NameFrom::Own),
            &collect(profiles, |p| p.1.record.avatar_url.as_deref()),
            &collect(profiles, |p| p.1.record.shares_presence),
            &collect(profiles, |p| p.1.record.disabled),
        ];
        let open = self.open.as_ref().ok_or(StoreError::Unavailable(None))?;
        self.run(&open.fold, &params).await
    }
}
