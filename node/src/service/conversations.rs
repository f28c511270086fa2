//! Calls about conversations, to the owner of their slots.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::try_join_all;
use tertulia_runtime::{
    PeerName,
    rpc::{Connection, Responder},
};
use tertulia_shard_map::{ConversationId, Slot};
use tertulia_wire::{
    TraceId,
    cluster::{Answer, Call, ConversationRead, Head, HistoryRead, MembersRead, Refusal},
    limits::{HISTORY_PAGE_MAX, MEMBERS_PAGE_MAX},
};

use super::{NodeService, Shared};
use crate::{append::Request, slots::Serving, store::Store};

/// Groups in one question for heads, or one declaration of interest.
const HEADS_MAX: usize = 16 * 1024;

impl NodeService {
    pub(super) fn conversation_call(&self, from: &Connection, trace: Option<TraceId>, call: Call, reply: Responder) {
        match call {
            Call::Append(append) => self.write(Request::Append(append), reply),
            Call::Mark(mark) => self.write(Request::Mark(mark), reply),
            Call::Block(block) => self.write(Request::Block(block), reply),
            Call::Typing(typing) => self.write(Request::Typing(typing), reply),
            Call::History(read) => match self.slot(|map| map.slot_of_conversation(read.conversation)) {
                Ok((slot, serving)) => {
                    self.read_for(from.peer(), trace, reply, |shared| history(shared, slot, serving, read));
                }
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Conversation(read) => match self.slot(|map| map.slot_of_conversation(read.conversation)) {
                Ok((slot, serving)) => self.read(trace, reply, |shared| conversation(shared, slot, serving, read)),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Members(read) => match self.slot(|map| map.slot_of_conversation(read.conversation)) {
                Ok((slot, serving)) => self.read(trace, reply, |shared| members(shared, slot, serving, read)),
                Err(refusal) => reply.refuse(refusal),
            },
            Call::Interest(conversations) => {
                let PeerName::Node(node) = from.peer() else { return reply.refuse(Refusal::Forbidden) };
                // Declared before the heads are read: what comes in between is told twice, never missed.
                self.shared.fanout.declare_interest(node, conversations.clone());
                self.read(
                    trace,
                    reply,
                    |shared| async move { heads(shared, conversations).await.map(Answer::Interest) },
                );
            }
            Call::Heads(conversations) => {
                self.read_for(from.peer(), trace, reply, |shared| async move {
                    heads(shared, conversations).await.map(Answer::Heads)
                });
            }
            _ => reply.refuse(Refusal::Internal),
        }
    }

    /// In the order of the calls on a connection.
    fn write(&self, request: Request, reply: Responder) {
        match self.slot(|map| map.slot_of_conversation(request.conversation())) {
            Ok((slot, serving)) => match self.shared.lanes.of(serving.store, slot) {
                Some(lane) => lane.request(slot, request, reply),
                None => reply.refuse(Refusal::Internal),
            },
            Err(refusal) => reply.refuse(refusal),
        }
    }
}

impl Shared {
    fn store(&self, serving: Serving) -> Result<&Store, Refusal> {
        self.stores.get(&serving.store).ok_or(Refusal::Internal)
    }
}

async fn history(shared: Arc<Shared>, slot: Slot, serving: Serving, mut read: HistoryRead) -> Result<Answer, Refusal> {
    read.limit = read.limit.clamp(1, HISTORY_PAGE_MAX);
    let page = shared.store(serving)?.history(slot, serving.epoch, &read).await;
    page.map_err(|error| shared.refusal(&error))?.map(Answer::History).ok_or(Refusal::NotFound)
}

async fn conversation(
    shared: Arc<Shared>,
    slot: Slot,
    serving: Serving,
    read: ConversationRead,
) -> Result<Answer, Refusal> {
    let record = shared.store(serving)?.conversation(slot, serving.epoch, &read).await;
    record.map_err(|error| shared.refusal(&error))?.map(Answer::Conversation).ok_or(Refusal::NotFound)
}

async fn members(shared: Arc<Shared>, slot: Slot, serving: Serving, mut read: MembersRead) -> Result<Answer, Refusal> {
    read.limit = read.limit.clamp(1, MEMBERS_PAGE_MAX);
    let page = shared.store(serving)?.members(slot, serving.epoch, &read).await;
    page.map_err(|error| shared.refusal(&error))?.map(Answer::Members).ok_or(Refusal::NotFound)
}

/// All slots at the same time; `None` for what is not served here.
async fn heads(shared: Arc<Shared>, conversations: Vec<ConversationId>) -> Result<Vec<Option<Head>>, Refusal> {
    if conversations.len() > HEADS_MAX {
        return Err(Refusal::Invalid("too many conversations".into()));
    }
    let mut by_slot: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
    {
        let map = shared.map.borrow();
        let map = map.as_ref().ok_or(Refusal::NotInitialised)?;
        for (place, conversation) in conversations.iter().enumerate() {
            by_slot.entry(map.slot_of_conversation(*conversation)).or_default().push(place);
        }
    }
    let (of_slot, conversations) = (&shared, &conversations);
    let asked = by_slot.into_iter().filter_map(|(slot, places)| {
        let serving = of_slot.table.get(slot)?;
        Some(async move {
            let ids: Vec<ConversationId> = places.iter().map(|&place| conversations[place]).collect();
            let found = of_slot.store(serving)?.heads(slot, serving.epoch, &ids).await;
            Ok::<_, Refusal>((places, found.map_err(|error| of_slot.refusal(&error))?))
        })
    });
    let mut heads = vec![None; conversations.len()];
    for (places, found) in try_join_all(asked).await? {
        for (place, head) in places.into_iter().zip(found) {
            heads[place] = head;
        }
    }
    Ok(heads)
}
