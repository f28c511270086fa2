//! The group commit of the append path: everything that it may write, in one round trip.

use tertulia_shard_map::{ConversationId, DirectPair, Epoch, EventId, Seq, Slot, UserId};
use tertulia_wire::{EventRecord, Role, cluster::Standing};
use tokio_postgres::types::ToSql;

use super::{Lane, StoreError, collect, fence_columns};
use crate::store::{column, conversation_column, event_column, slot_column, user_column};

pub(super) const STATEMENT: &str = "SELECT append_events($1,$2,$3,$4,$5,$6, $7,$8,$9,$10,$11,$12,$13,$14,$15,$16, \
     $17,$18,$19,$20,$21,$22, $23,$24,$25,$26,$27,$28,$29,$30,$31,$32,$33,$34,$35, $36,$37,$38,$39,$40,$41, \
     $42,$43,$44,$45,$46,$47,$48,$49, $50,$51,$52)";

/// A conversation that is new, or whose name, size or number of members changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenConversation {
    pub slot: Slot,
    pub id: ConversationId,
    pub kind: WrittenKind,
    pub members: u64,
    pub created_by: UserId,
    pub created_at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrittenKind {
    Direct(DirectPair),
    Group { name: String, large: bool },
}

/// A membership as it is from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenMember {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub user: UserId,
    pub role: Role,
    pub joined_seq: Seq,
    pub left_seq: Option<Seq>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub slot: Slot,
    pub record: EventRecord,
    pub payload_hash: i64,
}

/// A reaction that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenReaction {
    pub slot: Slot,
    pub conversation: ConversationId,
    pub message_seq: Seq,
    pub user: UserId,
    pub emoji: String,
    pub change: tertulia_wire::ReactionChange,
}

/// A member's standing as it is from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenStanding {
    pub slot: Slot,
    pub conversation: ConversationId,
    /// Its place in the slot's log.
    pub id: EventId,
    pub standing: Standing,
}

/// One group commit. At most one entry for each conversation, member and standing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AppendBatch {
    /// Every slot that the batch touches, once, with the epoch under which it does.
    pub slots: Vec<(Slot, Epoch)>,
    pub conversations: Vec<WrittenConversation>,
    pub members: Vec<WrittenMember>,
    pub events: Vec<NewEvent>,
    pub reactions: Vec<WrittenReaction>,
    pub standings: Vec<WrittenStanding>,
    /// Where consumers of a slot's log have come to.
    pub cursors: Vec<(Slot, &'static str, EventId)>,
}

impl AppendBatch {
    /// A batch that only touches slots is committed too: it says that they are still this owner's.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl Lane {
    pub async fn append(&mut self, batch: &AppendBatch) -> Result<(), StoreError> {
        let (slots, epochs) = fence_columns(&batch.slots);
        let AppendBatch { conversations, members, events, reactions, standings, cursors, .. } = batch;
        let (node, incarnation) = self.store.writer_columns();
        let pair = |kind: &WrittenKind, of: fn(DirectPair) -> UserId| match kind {
            WrittenKind::Direct(pair) => Some(user_column(of(*pair))),
            WrittenKind::Group { .. } => None,
        };
        let name = |kind: &'_ WrittenKind| match kind {
            WrittenKind::Direct(_) => None,
            WrittenKind::Group { name, .. } => Some(name.clone()),
        };
        let params: [&(dyn ToSql + Sync); 52] = [
            &node,
            &self.id.0,
            &incarnation,
            &self.token,
            &slots,
            &epochs,
            &collect(conversations, |c| slot_column(c.slot)),
            &collect(conversations, |c| conversation_column(c.id)),
            &collect(conversations, |c| if matches!(c.kind, WrittenKind::Direct(_)) { DIRECT } else { GROUP }),
            &collect(conversations, |c| pair(&c.kind, DirectPair::lo)),
            &collect(conversations, |c| pair(&c.kind, DirectPair::hi)),
            &collect(conversations, |c| name(&c.kind)),
            &collect(conversations, |c| column(c.members)),
            &collect(conversations, |c| matches!(c.kind, WrittenKind::Group { large: true, .. })),
            &collect(conversations, |c| user_column(c.created_by)),
            &collect(conversations, |c| c.created_at_ms),
            &collect(members, |m| slot_column(m.slot)),
            &collect(members, |m| conversation_column(m.conversation)),
            &collect(members, |m| user_column(m.user)),
            &collect(members, |m| i16::from(u8::from(m.role))),
            &collect(members, |m| column(m.joined_seq.get())),
            &collect(members, |m| m.left_seq.map(|seq| column(seq.get()))),
            &collect(events, |e| slot_column(e.slot)),
            &collect(events, |e| conversation_column(e.record.conversation)),
            &collect(events, |e| column(e.record.seq.get())),
            &collect(events, |e| event_column(e.record.id)),
            &collect(events, |e| column(e.record.message_no.get())),
            &collect(events, |e| i16::from(u8::from(e.record.kind))),
            &collect(events, |e| user_column(e.record.sender)),
            &collect(events, |e| e.record.created_at_ms),
            &collect(events, |e| e.record.temp_id.as_str()),
            &collect(events, |e| e.payload_hash),
            &collect(events, |e| e.record.target.map(|target| column(target.seq.get()))),
            &collect(events, |e| e.record.target.map(|target| event_column(target.id))),
            &collect(events, |e| &e.record.body[..]),
            &collect(reactions, |r| slot_column(r.slot)),
            &collect(reactions, |r| conversation_column(r.conversation)),
            &collect(reactions, |r| column(r.message_seq.get())),
            &collect(reactions, |r| user_column(r.user)),
            &collect(reactions, |r| r.emoji.as_str()),
            &collect(reactions, |r| r.change == tertulia_wire::ReactionChange::Add),
            &collect(standings, |s| slot_column(s.slot)),
            &collect(standings, |s| conversation_column(s.conversation)),
            &collect(standings, |s| user_column(s.standing.user)),
            &collect(standings, |s| event_column(s.id)),
            &collect(standings, |s| column(s.standing.delivered_seq.get())),
            &collect(standings, |s| column(s.standing.read_seq.get())),
            &collect(standings, |s| column(s.standing.read_message_no.get())),
            &collect(standings, |s| s.standing.blocks_peer),
            &collect(cursors, |k| slot_column(k.0)),
            &collect(cursors, |k| k.1),
            &collect(cursors, |k| event_column(k.2)),
        ];
        let open = self.open.as_ref().ok_or(StoreError::Unavailable(None))?;
        self.run(&open.append, &params).await
    }
}

/// `conversation.kind`.
pub const DIRECT: i16 = 1;
pub const GROUP: i16 = 2;
