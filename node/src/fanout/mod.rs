//! Tails the committed log of every slot of this node and sends it to the mailboxes of the members. The committed events
//! are the outbox: there is no other.

mod announce;
mod interest;
mod outgoing;
pub mod tail;
#[cfg(test)]
mod tail_tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tertulia_runtime::rpc::CallOptions;
use tertulia_shard_map::{ConversationId, Epoch, NodeId, ShardMap, Slot, StoreId};
use tertulia_wire::cluster::{Answer, Call, DeliverTyping, StreamResult};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    append::Committed,
    clock,
    entry::LogEntry,
    mailbox::MailboxHandle,
    peers::Peers,
    slots::Lanes,
    store::{Store, StoreError, TakenSlot},
};
use announce::{Announcer, Told};
use outgoing::Outgoing;
use tail::{Effect, Outcome, PAGE_ENTRIES, Purpose, SEND_BYTES_MAX, SendId, Tail};

/// Longest time from a send to the commit of the inbox rows at its receiver.
const DELIVER_DEADLINE: Duration = Duration::from_secs(10);
/// After a failed send or read.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The pause doubles so often: to 1.6 s.
const RETRY_DOUBLINGS: u32 = 4;
/// Outcomes that are taken before the next commits are.
const DONE_AT_ONCE: usize = 256;
/// Group commits that wait; beyond, the lanes wait.
pub const COMMITTED_CHANNEL: usize = 1024;
const COMMITTED_AT_ONCE: usize = 256;
const DECLARED_AT_ONCE: usize = 16;
/// Pages of the log that are read from one store at the same time.
const PAGES_AT_ONCE: usize = 2;

/// Declarations of interest that wait; beyond, they are dropped and come again.
const INTERESTS_WAITING_MAX: usize = 1024;
/// What waits of typing; beyond, it is dropped.
pub const TYPING_CHANNEL: usize = 256;

enum Control {
    Open { taken: TakenSlot, store: StoreId },
    Close(Slot),
}

/// A node wants to hear of these large groups.
struct Declared {
    node: NodeId,
    conversations: Vec<ConversationId>,
}

/// Tells fan-out of slots, as long as the map changes, no longer: nobody waits; and of who wants to hear of large groups.
#[derive(Clone)]
pub struct FanoutHandle {
    control: mpsc::UnboundedSender<Control>,
    interest: mpsc::Sender<Declared>,
}

/// The other end of a [`FanoutHandle`], and of what the lanes tell; for [`run`].
pub struct FanoutInputs {
    control: mpsc::UnboundedReceiver<Control>,
    interest: mpsc::Receiver<Declared>,
}

impl FanoutHandle {
    pub fn new() -> (Self, FanoutInputs) {
        let (control, told) = mpsc::unbounded_channel();
        let (interest, declared) = mpsc::channel(INTERESTS_WAITING_MAX);
        (Self { control, interest }, FanoutInputs { control: told, interest: declared })
    }

    pub fn open(&self, taken: TakenSlot, store: StoreId) {
        // Fan-out that has ended takes its process down with it: nobody is left to be told.
        let _ = self.control.send(Control::Open { taken, store });
    }

    pub fn close(&self, slot: Slot) {
        let _ = self.control.send(Control::Close(slot));
    }

    /// From now on the node is told of new events of these groups, for a while.
    pub fn declare_interest(&self, node: NodeId, conversations: Vec<ConversationId>) {
        // Where there is no room it comes again.
        let _ = self.interest.try_send(Declared { node, conversations });
    }
}

/// What fan-out works with.
pub struct Fanout {
    pub node: NodeId,
    pub stores: Arc<BTreeMap<StoreId, Store>>,
    pub lanes: Lanes,
    pub mailboxes: MailboxHandle,
    pub peers: Peers,
    pub map: watch::Receiver<Option<Arc<ShardMap>>>,
}

enum Done {
    Sent(Vec<(SendId, Outcome)>),
    Read {
        slot: Slot,
        epoch: Epoch,
        purpose: Purpose,
        page: Result<Vec<LogEntry>, StoreError>,
    },
    Paused {
        slot: Slot,
        epoch: Epoch,
        purpose: Purpose,
        number: u32,
    },
    /// An announcement, or typing, is off.
    Told(Told),
}

struct Driver {
    fanout: Fanout,
    current_map: Option<Arc<ShardMap>>,
    tails: HashMap<Slot, (StoreId, Tail)>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    announcer: Announcer,
    /// Per store: whose turn it is to read the log.
    turns: HashMap<StoreId, Arc<Semaphore>>,
}

/// Runs until `stop`.
pub async fn run(
    fanout: Fanout,
    inputs: FanoutInputs,
    mut committed: mpsc::Receiver<Committed>,
    mut typing: mpsc::Receiver<DeliverTyping>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let FanoutInputs { mut control, mut interest } = inputs;
    let mut map = fanout.map.clone();
    let current_map = map.borrow_and_update().clone();
    let (tails, under_way) = (HashMap::new(), FuturesUnordered::new());
    let announcer = Announcer::new(fanout.node, fanout.mailboxes.clone(), fanout.peers.clone());
    let mut driver = Driver { fanout, current_map, tails, under_way, announcer, turns: HashMap::new() };
    if let Some(map) = &driver.current_map {
        driver.fanout.peers.connect_all(map);
    }
    let mut groups = Vec::new();
    let mut effects = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(control) = control.recv() => driver.control(control, &mut effects),
            Ok(()) = map.changed() => {
                driver.current_map = map.borrow_and_update().clone();
                if let Some(map) = &driver.current_map {
                    driver.fanout.peers.connect_all(map);
                }
                for (_, tail) in driver.tails.values_mut() {
                    for to in tail.paused_streams() {
                        tail.resume_stream(to, &mut effects);
                    }
                }
            }
            received = committed.recv_many(&mut groups, COMMITTED_AT_ONCE) => {
                if received == 0 {
                    return Ok(());
                }
                driver.announce(&groups);
                for group in groups.drain(..) {
                    if let Some((_, tail)) = driver.tails.get_mut(&group.slot)
                        && tail.epoch() == group.epoch
                    {
                        tail.committed(group, &mut effects);
                    }
                }
            }
            Some(done) = driver.under_way.next() => driver.done(done, &mut effects),
            Some(Declared { node, conversations }) = interest.recv() => driver.announcer.declare(node, &conversations),
            Some(typing) = typing.recv() => driver.tell_typing(&typing),
        }
        // Commits that do not cease keep neither waiting.
        for _ in 0..DECLARED_AT_ONCE {
            let Ok(Declared { node, conversations }) = interest.try_recv() else { break };
            driver.announcer.declare(node, &conversations);
        }
        if let Ok(typing) = typing.try_recv() {
            driver.tell_typing(&typing);
        }
        // Sends start when they are polled: none of them waits for the commits to cease.
        for _ in 0..DONE_AT_ONCE {
            // What could not be performed pauses, which can.
            while !effects.is_empty() {
                driver.perform(&mut effects);
            }
            match driver.under_way.next().now_or_never() {
                Some(Some(done)) => driver.done(done, &mut effects),
                _ => break,
            }
        }
        while !effects.is_empty() {
            driver.perform(&mut effects);
        }
    }
}

impl Driver {
    fn control(&mut self, control: Control, effects: &mut Vec<Effect>) {
        match control {
            Control::Open { taken, store } => {
                // Not the current map, which may not be here yet: whoever opened the slot has seen one.
                let Some(slots) = self.fanout.map.borrow().as_ref().map(|map| map.slot_count()) else { return };
                let tail = Tail::new(&taken, slots, effects);
                self.tails.insert(taken.slot, (store, tail));
            }
            Control::Close(slot) => {
                self.tails.remove(&slot);
            }
        }
    }

    /// To whoever wants to hear of large groups at once.
    fn announce(&mut self, groups: &[Committed]) {
        let entries = groups.iter().flat_map(|group| &group.entries);
        let told = self.announcer.announce(entries);
        self.under_way.extend(told.into_iter().map(|told| told.map(Done::Told).boxed()));
    }

    fn tell_typing(&mut self, typing: &DeliverTyping) {
        let Some(map) = &self.current_map else { return };
        let told = self.announcer.typing(typing, map);
        self.under_way.extend(told.into_iter().map(|told| told.map(Done::Told).boxed()));
    }

    fn done(&mut self, done: Done, effects: &mut Vec<Effect>) {
        match done {
            Done::Sent(results) => {
                for (id, outcome) in results {
                    if let Some((_, tail)) = self.tails.get_mut(&id.from)
                        && tail.epoch() == id.epoch
                    {
                        tail.settled(id, outcome, effects);
                    }
                }
            }
            Done::Read { slot, epoch, purpose, page } => {
                let Some((store, tail)) = self.tails.get_mut(&slot).filter(|(_, tail)| tail.epoch() == epoch) else {
                    return;
                };
                match page {
                    Ok(entries) => tail.page(purpose, entries, effects),
                    Err(error) => {
                        tracing::warn!(%slot, %store, error = %clock::chain(&error), "the log cannot be read");
                        tail.read_failed(purpose, effects);
                    }
                }
            }
            Done::Told(told) => self.announcer.told(told),
            Done::Paused { slot, epoch, purpose, number } => {
                if let Some((_, tail)) = self.tails.get_mut(&slot).filter(|(_, tail)| tail.epoch() == epoch) {
                    tail.resume(purpose, number, effects);
                }
            }
        }
    }

    fn perform(&mut self, effects: &mut Vec<Effect>) {
        // Not across stores: one that is away must not hold up what the others have committed.
        let mut outgoing: BTreeMap<Option<(NodeId, StoreId)>, Outgoing> = BTreeMap::new();
        let mut unreachable = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { id, previous, items } => {
                    let owner = self.current_map.as_ref().and_then(|map| map.owner(id.to));
                    let to = owner.map(|owner| (owner.node, owner.store));
                    let of_store = outgoing.entry(to).or_default();
                    of_store.add(id, previous, items);
                    if of_store.bytes > SEND_BYTES_MAX {
                        let full = std::mem::take(of_store);
                        self.under_way.push(self.send(to.map(|(node, _)| node), full));
                    }
                }
                Effect::Read { slot, purpose, after } => {
                    if let Purpose::Stream(to) = purpose
                        && !self.is_reachable(to)
                    {
                        unreachable.push((slot, purpose));
                        continue;
                    }
                    let Some((store, tail)) = self.tails.get(&slot) else { continue };
                    let Some(store) = self.fanout.stores.get(store).cloned() else { continue };
                    let epoch = tail.epoch();
                    let turn = self.turns.entry(store.id()).or_insert_with(|| Arc::new(Semaphore::new(PAGES_AT_ONCE)));
                    let turn = turn.clone();
                    let read = async move {
                        // Never closed: at worst the read goes out of turn.
                        let _turn = turn.acquire().await;
                        let page = store.log_page(slot, epoch, after, PAGE_ENTRIES).await;
                        Done::Read { slot, epoch, purpose, page }
                    };
                    self.under_way.push(read.boxed());
                }
                Effect::Pause { slot, purpose, number } => {
                    let Some((_, tail)) = self.tails.get(&slot) else { continue };
                    let epoch = tail.epoch();
                    let pause = RETRY_PAUSE * 2_u32.pow(number.saturating_sub(1).min(RETRY_DOUBLINGS));
                    let paused = move |()| Done::Paused { slot, epoch, purpose, number };
                    self.under_way.push(sleep(pause).map(paused).boxed());
                }
                Effect::Cursor { slot, epoch, event } => {
                    let Some((store, _)) = self.tails.get(&slot) else { continue };
                    if let Some(lane) = self.fanout.lanes.of(*store, slot) {
                        lane.advance_cursor(slot, epoch, event);
                    }
                }
            }
        }
        for (to, of_store) in outgoing {
            if !of_store.sends.is_empty() {
                self.under_way.push(self.send(to.map(|(node, _)| node), of_store));
            }
        }
        for (slot, purpose) in unreachable {
            if let Some((_, tail)) = self.tails.get_mut(&slot) {
                tail.read_failed(purpose, effects);
            }
        }
    }

    /// Whether reading the log for this mailbox slot can lead to anything now.
    fn is_reachable(&self, to: Slot) -> bool {
        match self.current_map.as_ref().and_then(|map| map.owner(to)) {
            Some(owner) if owner.node == self.fanout.node => true,
            Some(owner) => self.fanout.peers.data(owner.node).is_some_and(|client| client.generation().is_some()),
            None => false,
        }
    }

    fn send(&self, owner: Option<NodeId>, outgoing: Outgoing) -> BoxFuture<'static, Done> {
        let Outgoing { sends, deliver, .. } = outgoing;
        let answer: BoxFuture<'static, Option<Vec<StreamResult>>> = match owner {
            Some(node) if node == self.fanout.node => self.fanout.mailboxes.deliver_locally(deliver).boxed(),
            // Only over a connection that is up: calls that wait for one do not keep their order, and what arrives out of
            // order is sent again.
            Some(node) => match self.fanout.peers.data(node).filter(|client| client.generation().is_some()) {
                Some(client) => async move {
                    let answer = client.call(Call::Deliver(deliver), CallOptions::within(DELIVER_DEADLINE)).await;
                    if let Ok(Answer::Deliver(results)) = answer { Some(results) } else { None }
                }
                .boxed(),
                None => std::future::ready(None).boxed(),
            },
            None => std::future::ready(None).boxed(),
        };
        answer
            .map(move |results| {
                let result = |place| match results.as_ref().and_then(|results| results.get(place)) {
                    Some(StreamResult::Committed) => Outcome::Acknowledged,
                    Some(StreamResult::Retry) | None => Outcome::Failed,
                };
                Done::Sent(sends.into_iter().enumerate().map(|(place, id)| (id, result(place))).collect())
            })
            .boxed()
    }
}
