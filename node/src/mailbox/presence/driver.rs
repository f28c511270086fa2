//! Does what the board says: looks up who may see whom, answers routers, pushes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tertulia_runtime::rpc::{Connection, ConnectionId, Responder};
use tertulia_shard_map::{SessionId, StoreId, UserId};
use tertulia_wire::cluster::{Answer, PushItem, Refusal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    super::{notify_ephemeral, pushes::Pushes},
    Fact, PresenceInputs, RedisHandle, Request,
    board::{Board, Effect, Load, Now, Ticket},
    loads::Loads,
};
use crate::{
    clock,
    store::{Store, StoreError},
};

const TICK: Duration = Duration::from_millis(250);
const FACTS_AT_ONCE: usize = 1024;
const REQUESTS_AT_ONCE: usize = 256;
/// Pushes that busy connections did not take, until the next tick; beyond, they are lost.
const MISSED_MAX: usize = 64 * 1024;
const LOAD_TIMEOUT: Duration = Duration::from_secs(3);

pub struct PresenceParts {
    pub(in super::super) inputs: PresenceInputs,
    pub(in super::super) stores: Arc<BTreeMap<StoreId, Store>>,
    pub(in super::super) redis: RedisHandle,
}

struct Driver {
    board: Board<ConnectionId>,
    connections: HashMap<ConnectionId, Connection>,
    replies: HashMap<Ticket, Responder>,
    next_ticket: Ticket,
    redis: RedisHandle,
    /// Sessions that do not know how it is with a user.
    missed: HashSet<(ConnectionId, SessionId, UserId)>,
}

type Loaded = (Load, Result<Vec<bool>, Refusal>);

/// Runs until `stop`.
pub async fn run(parts: PresenceParts, stop: CancellationToken) -> anyhow::Result<()> {
    let PresenceParts { mut inputs, stores, redis } = parts;
    let mut driver = Driver {
        board: Board::new(),
        connections: HashMap::new(),
        replies: HashMap::new(),
        next_ticket: 0,
        redis,
        missed: HashSet::new(),
    };
    let mut loads = Loads::default();
    let mut under_way: FuturesUnordered<BoxFuture<'static, Loaded>> = FuturesUnordered::new();
    let (mut facts, mut requests) = (Vec::new(), Vec::new());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut effects = Vec::new();
        tokio::select! {
            () = stop.cancelled() => break,
            _ = inputs.facts.recv_many(&mut facts, FACTS_AT_ONCE) => {}
            _ = inputs.requests.recv_many(&mut requests, REQUESTS_AT_ONCE) => {}
            Some((load, found)) = under_way.next() => {
                loads.done(load.store);
                driver.board.loaded(load, found, now(), &mut effects);
            }
            _ = tick.tick() => {
                driver.board.tick(now(), &mut effects);
                for (connection, session, user) in driver.missed.drain() {
                    driver.board.tell_again(connection, session, user, &mut effects);
                }
            }
        }
        for fact in facts.drain(..) {
            driver.fact(fact, &mut effects);
        }
        for request in requests.drain(..) {
            driver.request(request, &mut effects);
        }
        driver.perform(effects);
        driver.board.take_loads().into_iter().for_each(|load| loads.add(load));
        while let Some(load) = loads.start() {
            let store = stores.get(&load.store).cloned();
            under_way.push(look_up(store, load).boxed());
        }
    }
    // Whoever waits is told at once to look for another owner.
    for (_, reply) in driver.replies {
        reply.refuse(Refusal::NotServing);
    }
    inputs.requests.close();
    while let Some(request) = inputs.requests.recv().await {
        if let Request::Watch { reply, .. } = request {
            reply.refuse(Refusal::NotServing);
        }
    }
    Ok(())
}

fn now() -> Now {
    Now { at: Instant::now(), unix_ms: clock::unix_ms() }
}

async fn look_up(store: Option<Store>, load: Load) -> Loaded {
    let Some(store) = store else { return (load, Err(Refusal::Internal)) };
    let asking = store.presence_is_shared(load.slot, load.epoch, &load.sights);
    let found = match timeout(LOAD_TIMEOUT, asking).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(StoreError::NotOwner)) => Err(Refusal::NotServing),
        Ok(Err(error)) => {
            tracing::warn!(store = %store.id(), error = %clock::chain(&error), "who may see whom cannot be looked up");
            Err(Refusal::StoreUnavailable)
        }
        Err(_) => Err(Refusal::StoreUnavailable),
    };
    (load, found)
}

impl Driver {
    fn fact(&mut self, fact: Fact, effects: &mut Vec<Effect<ConnectionId>>) {
        match fact {
            Fact::Open { slot, epoch, store } => self.board.open(slot, epoch, store, now(), effects),
            Fact::Close(slot) => self.board.close(slot, effects),
            Fact::Attached { slot, user } => self.board.attached(slot, user, now(), effects),
            Fact::Left { slot, user } => self.board.left(slot, user, now()),
            Fact::SightChanged(sight) => self.board.sight_changed(sight),
            Fact::UserChanged(user) => self.board.user_changed(user),
        }
    }

    fn request(&mut self, request: Request, effects: &mut Vec<Effect<ConnectionId>>) {
        match request {
            Request::Watch { watch, connection, reply, .. } => {
                if connection.is_closed() {
                    return reply.refuse(Refusal::NotServing);
                }
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                let id = connection.id();
                self.connections.entry(id).or_insert(connection);
                self.replies.insert(ticket, reply);
                self.board.watch(ticket, watch, id, now(), effects);
            }
            Request::Unwatch { unwatch, connection } => self.board.unwatch(&unwatch, connection),
            Request::ConnectionClosed(connection) => {
                self.board.connection_closed(connection);
                self.connections.remove(&connection);
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect<ConnectionId>>) {
        let mut pushes = Pushes::default();
        let mut told: HashMap<ConnectionId, Vec<(SessionId, UserId)>> = HashMap::new();
        for effect in effects {
            match effect {
                Effect::Push { connection, session, presence } => {
                    told.entry(connection).or_default().push((session, presence.user));
                    pushes.add(connection, vec![session], PushItem::Presence(presence));
                }
                Effect::Answer { ticket, states } => {
                    if let Some(reply) = self.replies.remove(&ticket) {
                        reply.send(Answer::WatchPresence(states));
                    }
                }
                Effect::Refuse { ticket, refusal } => {
                    if let Some(reply) = self.replies.remove(&ticket) {
                        reply.refuse(refusal);
                    }
                }
                Effect::Online(user) => self.redis.online(user),
                Effect::Offline(user) => self.redis.offline(user),
                Effect::Gone(user) => self.redis.gone(user),
            }
        }
        for (id, batch) in pushes.into_batches() {
            let Some(connection) = self.connections.get(&id) else { continue };
            if !notify_ephemeral(connection, batch) {
                let missed = told.remove(&id).unwrap_or_default();
                let room = MISSED_MAX.saturating_sub(self.missed.len());
                self.missed.extend(missed.into_iter().take(room).map(|(session, user)| (id, session, user)));
            }
        }
    }
}
