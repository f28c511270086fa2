//! Calls about users, to the owner of their slots, and what owners of conversations send to mailboxes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tertulia_runtime::rpc::{Connection, Responder};
use tertulia_shard_map::{ConversationId, Seq, Slot, StoreId, UserId};
use tertulia_wire::{
    TraceId,
    cluster::{
        Answer, BlocksRead, Call, Head, InboxPosition, InboxRead, InboxRow, InboxRows, Refusal, SetProfile, SyncRead,
        SyncRows,
    },
    limits::{AVATAR_URL_BYTES, BLOCKS_PAGE_MAX, NAME_BYTES, PROFILES_MAX, SYNC_PAGE_MAX},
};
use tokio::time::timeout;

use super::{NodeService, Shared};
use crate::{slots::Serving, store::InboxPage};

/// How long a read waits for what is being folded.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a read waits for the owners of large groups.
const HEADS_TIMEOUT: Duration = Duration::from_secs(2);

impl NodeService {
    pub(super) fn mailbox_call(&self, from: &Connection, trace: Option<TraceId>, call: Call, reply: Responder) {
        let mailboxes = &self.shared.mailboxes;
        match call {
            Call::Deliver(deliver) => mailboxes.deliver(deliver, reply),
            Call::DeliverTyping(typing) => {
                mailboxes.typing(typing);
                reply.send(Answer::DeliverTyping);
            }
            Call::Announce(announcements) => {
                mailboxes.announce(announcements);
                reply.send(Answer::Announce);
            }
            Call::Attach(attach) => match self.slot(|map| map.slot_of_user(attach.user)) {
                Ok((slot, _)) => mailboxes.attach(slot, attach, from.clone(), reply),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Detach { user, session } => match self.slot(|map| map.slot_of_user(user)) {
                Ok((slot, _)) => mailboxes.detach(slot, user, session, reply),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Sync(read) => match self.slot(|map| map.slot_of_user(read.user)) {
                Ok((slot, serving)) => self.read(trace, reply, |shared| sync(shared, slot, serving, read)),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Inbox(read) => match self.slot(|map| map.slot_of_user(read.user)) {
                Ok((slot, serving)) => self.read(trace, reply, |shared| inbox(shared, slot, serving, read)),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Blocks(read) => match self.slot(|map| map.slot_of_user(read.user)) {
                Ok((slot, serving)) => self.read(trace, reply, |shared| blocks(shared, slot, serving, read)),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Profiles { slot, users } => match self.slot(|_| slot) {
                Ok((slot, serving)) => self.read(trace, reply, |shared| profiles(shared, slot, serving, users)),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::SetProfile(change) => match self.slot(|map| map.slot_of_user(change.user)) {
                Ok((slot, serving)) => match check_profile(&change) {
                    Ok(()) => mailboxes.set_profile(slot, serving.epoch, serving.store, change, reply),
                    Err(refusal) => reply.refuse(refusal),
                },
                Err(refusal) => reply.refuse(refusal),
            },
            Call::WatchPresence(watch) => match self.slot(|_| watch.slot) {
                Ok(_) if !self.are_of(watch.slot, &watch.users) => {
                    reply.refuse(Refusal::Invalid("a user of another slot".to_owned()));
                }
                Ok(_) => mailboxes.watch(watch, from.clone(), reply),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::UnwatchPresence(unwatch) => mailboxes.unwatch(unwatch, from, reply),
            _ => reply.refuse(Refusal::Internal),
        }
    }

    fn are_of(&self, slot: Slot, users: &[UserId]) -> bool {
        let map = self.shared.map.borrow();
        map.as_ref().is_some_and(|map| users.iter().all(|user| map.slot_of_user(*user) == slot))
    }
}

fn check_profile(change: &SetProfile) -> Result<(), Refusal> {
    // The store could not hold it, and refusing it there would fail all that is committed along with it.
    let fits =
        |text: &Option<String>, bytes: usize| text.as_ref().is_none_or(|it| it.len() <= bytes && !it.contains('\0'));
    if !fits(&change.name, NAME_BYTES) || change.name.as_ref().is_some_and(String::is_empty) {
        return Err(Refusal::Invalid(format!("a name has 1 to {NAME_BYTES} bytes")));
    }
    if !fits(&change.avatar_url, AVATAR_URL_BYTES) {
        return Err(Refusal::Invalid(format!("the URL of an avatar has at most {AVATAR_URL_BYTES} bytes")));
    }
    Ok(())
}

/// What was delivered before this call is part of its answer.
async fn flush(shared: &Shared, store: StoreId) -> Result<(), Refusal> {
    let folder = shared.mailboxes.folder(store).ok_or(Refusal::Internal)?;
    match timeout(FLUSH_TIMEOUT, folder.flush()).await {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Refusal::StoreUnavailable),
    }
}

async fn sync(shared: Arc<Shared>, slot: Slot, serving: Serving, read: SyncRead) -> Result<Answer, Refusal> {
    let store = shared.stores.get(&serving.store).ok_or(Refusal::Internal)?;
    flush(&shared, serving.store).await?;
    let limit = read.limit.clamp(1, SYNC_PAGE_MAX);
    let page = store.sync_page(slot, serving.epoch, read.user, read.after, limit).await;
    let page = page.map_err(|error| shared.refusal(&error))?;
    let rev = match page.rows.last() {
        Some(last) if page.has_more => last.rev,
        _ => page.rev,
    };
    let mut rows: Vec<InboxRow> = page.rows.into_iter().map(|stored| stored.row).collect();
    // Large groups are on the last page: until then their owners are not asked, and count as they are stored.
    let large = if page.has_more { page.large } else { derive(&shared, page.large).await? };
    let unread_total = page.unread + unread(&large);
    if !page.has_more {
        rows.extend(large);
    }
    let reset = read.after > page.rev;
    Ok(Answer::Sync(SyncRows { rows, rev, has_more: page.has_more, reset, unread_total }))
}

async fn inbox(shared: Arc<Shared>, slot: Slot, serving: Serving, read: InboxRead) -> Result<Answer, Refusal> {
    let store = shared.stores.get(&serving.store).ok_or(Refusal::Internal)?;
    flush(&shared, serving.store).await?;
    let limit = read.limit.clamp(1, SYNC_PAGE_MAX);
    let page = store.inbox_page(slot, serving.epoch, read.user, read.before, limit).await;
    let InboxPage { rows, has_more, mut large, unread: of_others, .. } =
        page.map_err(|error| shared.refusal(&error))?;
    let above = take_those_above(&mut large, read.before);
    let large = derive(&shared, large).await?;
    let unread_total = of_others + unread(&above) + unread(&large);
    let rows = rows.into_iter().map(|stored| stored.row).collect();
    let (rows, has_more) = merge(rows, has_more, large, read.before, limit as usize);
    Ok(Answer::Inbox(InboxRows { rows, has_more, unread_total }))
}

fn unread(rows: &[InboxRow]) -> u64 {
    rows.iter().map(InboxRow::unread).sum()
}

fn position(row: &InboxRow) -> InboxPosition {
    InboxPosition { last_at_ms: row.last_at_ms, conversation: row.conversation }
}

/// Large groups that were above the page when they were stored have only risen: the page does not show them, and their
/// owners are not asked. They count as they are stored.
fn take_those_above(large: &mut Vec<InboxRow>, before: Option<InboxPosition>) -> Vec<InboxRow> {
    large.extract_if(.., |row| before.is_some_and(|before| position(row) >= before)).collect()
}

/// The rows of large groups among the others, the newest first.
fn merge(
    mut rows: Vec<InboxRow>,
    has_more: bool,
    large: Vec<InboxRow>,
    before: Option<InboxPosition>,
    limit: usize,
) -> (Vec<InboxRow>, bool) {
    rows.extend(large.into_iter().filter(|row| before.is_none_or(|before| position(row) < before)));
    rows.sort_by_key(|row| std::cmp::Reverse(position(row)));
    let has_more = has_more || rows.len() > limit;
    rows.truncate(limit);
    (rows, has_more)
}

/// The rows of large groups as their owners say they are now. Never a stale one: where an owner says nothing, nor do we.
async fn derive(shared: &Shared, rows: Vec<InboxRow>) -> Result<Vec<InboxRow>, Refusal> {
    if rows.is_empty() {
        return Ok(rows);
    }
    let conversations = rows.iter().map(|row| row.conversation).collect();
    let heads = timeout(HEADS_TIMEOUT, shared.peers.heads(conversations)).await.map_err(|_| Refusal::NotServing)?;
    let heads: HashMap<ConversationId, Option<Head>> = heads.into_iter().collect();
    rows.into_iter()
        .map(|row| match heads.get(&row.conversation) {
            Some(Some(head)) => Ok(derived(row, head)),
            Some(None) | None => Err(Refusal::NotServing),
        })
        .collect()
}

fn derived(row: InboxRow, head: &Head) -> InboxRow {
    // Nobody is told of others' watermarks; those are from when the group was small.
    let row = InboxRow { others_delivered_seq: Seq::ZERO, others_read_seq: Seq::ZERO, ..row };
    if head.last_seq < row.last_seq {
        return row;
    }
    InboxRow {
        name: Some(head.name.clone()),
        last_seq: head.last_seq,
        last_event_id: head.last_event_id,
        last_at_ms: head.last_at_ms,
        last_message_no: head.last_message_no,
        ..row
    }
}

async fn blocks(shared: Arc<Shared>, slot: Slot, serving: Serving, read: BlocksRead) -> Result<Answer, Refusal> {
    let store = shared.stores.get(&serving.store).ok_or(Refusal::Internal)?;
    flush(&shared, serving.store).await?;
    let limit = read.limit.clamp(1, BLOCKS_PAGE_MAX);
    let page = store.blocks_page(slot, serving.epoch, read.user, read.after, limit).await;
    page.map(Answer::Blocks).map_err(|error| shared.refusal(&error))
}

async fn profiles(shared: Arc<Shared>, slot: Slot, serving: Serving, users: Vec<UserId>) -> Result<Answer, Refusal> {
    if users.len() > PROFILES_MAX {
        return Err(Refusal::Invalid("too many users".to_owned()));
    }
    let store = shared.stores.get(&serving.store).ok_or(Refusal::Internal)?;
    store.profiles(slot, serving.epoch, &users).await.map(Answer::Profiles).map_err(|error| shared.refusal(&error))
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{EventId, MessageNo};
    use tertulia_wire::cluster::GroupSize;

    use super::*;

    fn row(conversation: u128, last_at_ms: i64, size: GroupSize) -> InboxRow {
        InboxRow {
            conversation: ConversationId::from_u128(conversation),
            peer: None,
            name: Some("us".into()),
            size,
            joined_seq: Seq::new(1),
            left_seq: None,
            last_seq: Seq::new(4),
            last_event_id: EventId::from_u128(4),
            last_at_ms,
            last_message_no: MessageNo::new(3),
            read_seq: Seq::new(2),
            read_message_no: MessageNo::new(1),
            others_delivered_seq: Seq::ZERO,
            others_read_seq: Seq::ZERO,
        }
    }

    #[test]
    fn pages_of_the_inbox_meet_without_a_hole_large_groups_among_them() {
        let small: Vec<InboxRow> = (1..=7).map(|number| row(number, 10 * number as i64, GroupSize::Small)).collect();
        let large = [row(20, 35, GroupSize::Large), row(21, 70, GroupSize::Large)];
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let mut page: Vec<InboxRow> =
                small.iter().filter(|row| before.is_none_or(|before| position(row) < before)).cloned().collect();
            page.reverse();
            let more = page.len() > 2;
            page.truncate(2);
            let (rows, has_more) = merge(page, more, large.to_vec(), before, 2);
            before = rows.last().map(position);
            found.extend(rows.into_iter().map(|row| row.conversation.to_u128()));
            if !has_more {
                break;
            }
        }
        assert_eq!(found, [21, 7, 6, 5, 4, 20, 3, 2, 1]);
    }

    #[test]
    fn owners_of_large_groups_above_a_page_are_not_asked() {
        let stored = [row(20, 35, GroupSize::Large), row(21, 70, GroupSize::Large)];
        for (before, asked) in [(None, vec![20, 21]), (Some(70), vec![20]), (Some(30), vec![])] {
            let before = before.map(|last_at_ms| InboxPosition { last_at_ms, conversation: stored[0].conversation });
            let mut large = stored.to_vec();
            let above = take_those_above(&mut large, before);
            let ids: Vec<u128> = large.iter().map(|row| row.conversation.to_u128()).collect();
            assert_eq!((ids, unread(&above) + unread(&large)), (asked, 4));
        }
    }

    #[test]
    fn the_row_of_a_large_group_is_what_its_owner_says() {
        let head = |last_seq| Head {
            name: "all".into(),
            last_seq: Seq::new(last_seq),
            last_event_id: EventId::from_u128(last_seq.into()),
            last_at_ms: 90,
            last_message_no: MessageNo::new(8),
        };
        let derived_row = derived(row(20, 35, GroupSize::Large), &head(9));
        assert_eq!((derived_row.last_seq, derived_row.last_at_ms, derived_row.unread()), (Seq::new(9), 90, 7));
        assert_eq!(derived_row.name.as_deref(), Some("all"));
        assert_eq!(derived(row(20, 35, GroupSize::Large), &head(3)), row(20, 35, GroupSize::Large));
    }

    #[test]
    fn a_profile_that_the_store_cannot_hold_is_refused() {
        let change = |name: &str| SetProfile {
            user: UserId::from_u128(1),
            origin: None,
            name: Some(name.into()),
            avatar_url: None,
            shares_presence: None,
            disabled: None,
        };
        assert!(check_profile(&change("Ana María")).is_ok());
        for name in ["", "a\0b", &"x".repeat(NAME_BYTES + 1)] {
            assert!(matches!(check_profile(&change(name)), Err(Refusal::Invalid(_))), "{name:?}");
        }
    }
}
