//! Tails the committed log of every slot of this node and sends it to the mailboxes of the members. The committed events
//! are the outbox: there is no other.

mod tail;
#[cfg(test)]
mod tail_tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tertulia_runtime::rpc::CallOptions;
use tertulia_shard_map::{Epoch, EventId, NodeId, ShardMap, Slot, StoreId};
use tertulia_wire::cluster::{Answer, Call, Deliver, DeliverEvent, DeliverStream, Delivery, StreamResult};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    append::Committed,
    clock,
    mailbox::MailboxHandle,
    peers::Peers,
    slots::Lanes,
    store::{LogEntry, Store, StoreError, TakenSlot},
};
use tail::{Addressed, Effect, Outcome, PAGE_EVENTS, Purpose, SEND_BYTES_MAX, SendId, Tail};

/// Longest time from a send to the commit of the inbox rows at its receiver.
const DELIVER_DEADLINE: Duration = Duration::from_secs(10);
/// After a failed send or read.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The pause doubles so often: to 1.6 s.
const RETRY_DOUBLINGS: u32 = 4;
/// What an event and a recipient add to a send beyond the body, in bytes.
const EVENT_BYTES: usize = 256;
const RECIPIENT_BYTES: usize = 32;
/// Outcomes that are taken before the next commits are.
const DONE_AT_ONCE: usize = 256;
/// Group commits that wait; beyond, the lanes wait.
pub const COMMITTED_CHANNEL: usize = 1024;
const COMMITTED_AT_ONCE: usize = 256;

pub enum Control {
    Open { taken: TakenSlot, store: StoreId },
    Close(Slot),
}

/// Tells fan-out of slots. As long as the map changes, no longer: nobody waits.
#[derive(Clone)]
pub struct FanoutHandle(mpsc::UnboundedSender<Control>);

impl FanoutHandle {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Control>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub fn open(&self, taken: TakenSlot, store: StoreId) {
        // Fan-out that has ended takes its process down with it: nobody is left to be told.
        let _ = self.0.send(Control::Open { taken, store });
    }

    pub fn close(&self, slot: Slot) {
        let _ = self.0.send(Control::Close(slot));
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
    Read { slot: Slot, epoch: Epoch, purpose: Purpose, page: Result<Vec<LogEntry>, StoreError> },
    Paused { slot: Slot, epoch: Epoch, purpose: Purpose, number: u32 },
}

struct Driver {
    fanout: Fanout,
    current_map: Option<Arc<ShardMap>>,
    tails: HashMap<Slot, (StoreId, Tail)>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// Runs until `stop`.
pub async fn run(
    fanout: Fanout,
    mut control: mpsc::UnboundedReceiver<Control>,
    mut committed: mpsc::Receiver<Committed>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut map = fanout.map.clone();
    let current_map = map.borrow_and_update().clone();
    let mut driver = Driver { fanout, current_map, tails: HashMap::new(), under_way: FuturesUnordered::new() };
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
            received = committed.recv_many(&mut groups, COMMITTED_AT_ONCE) => {
                if received == 0 {
                    return Ok(());
                }
                for group in groups.drain(..) {
                    if let Some((_, tail)) = driver.tails.get_mut(&group.slot)
                        && tail.epoch() == group.epoch
                    {
                        tail.committed(group, &mut effects);
                    }
                }
            }
            Some(done) = driver.under_way.next() => driver.done(done, &mut effects),
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
            Done::Paused { slot, epoch, purpose, number } => {
                if let Some((_, tail)) = self.tails.get_mut(&slot).filter(|(_, tail)| tail.epoch() == epoch) {
                    tail.resume(purpose, number, effects);
                }
            }
        }
    }

    fn perform(&mut self, effects: &mut Vec<Effect>) {
        let mut outgoing: BTreeMap<Option<NodeId>, Outgoing> = BTreeMap::new();
        let mut unreachable = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { id, previous, items } => {
                    let owner = self.current_map.as_ref().and_then(|map| map.owner(id.to)).map(|owner| owner.node);
                    let of_node = outgoing.entry(owner).or_default();
                    of_node.add(id, previous, items);
                    if of_node.bytes > SEND_BYTES_MAX {
                        let full = std::mem::take(of_node);
                        self.under_way.push(self.send(owner, full));
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
                    let read = async move {
                        let page = store.log_page(slot, after, PAGE_EVENTS).await;
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
        for (owner, of_node) in outgoing {
            if !of_node.sends.is_empty() {
                self.under_way.push(self.send(owner, of_node));
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

/// What goes to one node in one call. An event that several streams carry is sent once.
struct Outgoing {
    sends: Vec<SendId>,
    deliver: Deliver,
    places: HashMap<EventId, u32>,
    bytes: usize,
}

impl Default for Outgoing {
    fn default() -> Self {
        let deliver = Deliver { events: Vec::new(), streams: Vec::new() };
        Self { sends: Vec::new(), deliver, places: HashMap::new(), bytes: 0 }
    }
}

impl Outgoing {
    fn add(&mut self, id: SendId, previous: Option<EventId>, items: Vec<Addressed>) {
        let mut deliveries = Vec::with_capacity(items.len());
        for Addressed { event, recipients } in items {
            let events = &mut self.deliver.events;
            let bytes = &mut self.bytes;
            let place = *self.places.entry(event.record.id).or_insert_with(|| {
                *bytes += EVENT_BYTES + event.record.body.len();
                events.push(DeliverEvent {
                    record: event.record.clone(),
                    direct: Some(event.direct),
                    origin: event.origin,
                });
                (events.len() - 1) as u32
            });
            self.bytes += RECIPIENT_BYTES * recipients.len();
            deliveries.push(Delivery { event: place, recipients });
        }
        self.sends.push(id);
        self.deliver.streams.push(DeliverStream { from: id.from, to: id.to, previous, deliveries });
    }
}
