//! Who may come in: so many connections in all and from each place, and so many handshakes in a second.
//!
//! The decisions are pure: [`pace`], [`origins`], [`forwarded`]. What is here counts, and gives back what was counted.
//! Invariants: a refusal costs no task, and no memory that stays; there is no more to remember than connections are open.
//!
//! Deliberately absent: users and tokens. A user's sessions are counted where its mailbox is.

mod forwarded;
mod origins;
mod pace;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use tertulia_runtime::config::Network;

use self::{
    origins::{Origin, Origins},
    pace::{ComeAgain, Pace},
};

/// After a refusal for want of room a client comes again between this and twice this: when others leave is not known.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// What an [`Admission`] admits.
#[derive(Debug, Clone)]
pub struct AdmissionLimits {
    pub connections: usize,
    pub connections_per_address: usize,
    pub handshakes_per_second: u32,
    pub handshakes_burst: u32,
    pub trusted_proxies: Vec<Network>,
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    connections_max: usize,
    trusted_proxies: Vec<Network>,
    state: Mutex<State>,
}

struct State {
    connections: usize,
    origins: Origins,
    pace: Pace,
}

/// A time to wait, a throw of dice to spread those who wait.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Instant,
    /// From 0 to 1.
    pub dice: f64,
}

impl Moment {
    pub fn read() -> Self {
        Self { now: Instant::now(), dice: rand::random() }
    }
}

/// Why somebody may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The router has all the connections that it takes.
    Full,
    /// It has all that it takes from this address.
    Address,
    /// There are more handshakes in this second than it takes.
    Pace,
}

impl Reason {
    /// As metrics have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::Pace => "pace",
        }
    }

    /// For whoever develops the client.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Full => "this router is full; use another",
            Self::Address => "too many connections from this address",
            Self::Pace => "too many handshakes at the moment",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    pub retry_after: Duration,
}

impl Refused {
    fn no_room(reason: Reason, moment: Moment) -> Self {
        Self { reason, retry_after: ROOM_WAIT.mul_f64(1.0 + moment.dice.clamp(0.0, 1.0)) }
    }

    /// As `Retry-After` has it: whole seconds, at least one.
    pub fn retry_after_seconds(&self) -> u64 {
        (self.retry_after.as_millis().div_ceil(1000) as u64).max(1)
    }
}

/// A place among those that are counted, given back when dropped.
pub struct Permit {
    inner: Arc<Inner>,
    place: Place,
}

enum Place {
    /// One connection, and where it comes from if that is known and counted.
    Connection(Option<Origin>),
    /// What a proxy's connection has become: one of a client's.
    Client(Origin),
}

impl Admission {
    pub fn new(limits: AdmissionLimits, now: Instant) -> Self {
        let state = State {
            connections: 0,
            origins: Origins::new(limits.connections_per_address),
            pace: Pace::new(limits.handshakes_per_second, limits.handshakes_burst, now),
        };
        let AdmissionLimits { connections: connections_max, trusted_proxies, .. } = limits;
        Self { inner: Arc::new(Inner { connections_max, trusted_proxies, state: Mutex::new(state) }) }
    }

    /// A connection was accepted.
    pub fn connection(&self, peer: IpAddr, moment: Moment) -> Result<Permit, Refused> {
        // A proxy's connections are counted for whom they are made, once that is known.
        let origin = if self.is_proxy(peer) { None } else { Origin::of(peer) };
        let mut state = self.state();
        if state.connections >= self.inner.connections_max {
            return Err(Refused::no_room(Reason::Full, moment));
        }
        if origin.is_some_and(|origin| !state.origins.enter(origin)) {
            return Err(Refused::no_room(Reason::Address, moment));
        }
        state.connections += 1;
        Ok(Permit { inner: self.inner.clone(), place: Place::Connection(origin) })
    }

    /// A WebSocket is asked for, on an accepted connection. The permit, where there is one, is the client's that a proxy
    /// connects for, and is to be kept as long as the connection's own.
    pub fn handshake(&self, peer: IpAddr, headers: &HeaderMap, moment: Moment) -> Result<Option<Permit>, Refused> {
        let client = if self.is_proxy(peer) {
            forwarded::client(peer, headers, &self.inner.trusted_proxies).and_then(Origin::of)
        } else {
            None
        };
        let mut state = self.state();
        if client.is_some_and(|client| !state.origins.enter(client)) {
            return Err(Refused::no_room(Reason::Address, moment));
        }
        match state.pace.take(moment.now, moment.dice) {
            Ok(()) => Ok(client.map(|client| Permit { inner: self.inner.clone(), place: Place::Client(client) })),
            Err(ComeAgain(retry_after)) => {
                if let Some(client) = client {
                    state.origins.leave(client);
                }
                Err(Refused { reason: Reason::Pace, retry_after })
            }
        }
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.inner.trusted_proxies.iter().any(|network| network.contains(peer))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and every field is valid at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        match self.place {
            Place::Connection(origin) => {
                state.connections -= 1;
                if let Some(origin) = origin {
                    state.origins.leave(origin);
                }
            }
            Place::Client(origin) => state.origins.leave(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, connections_per_address: usize, burst: u32) -> (Admission, Moment) {
        let moment = Moment { now: Instant::now(), dice: 0.0 };
        let limits = AdmissionLimits {
            connections,
            connections_per_address,
            handshakes_per_second: 10,
            handshakes_burst: burst,
            trusted_proxies: vec![Network::try_from("10.0.0.0/8".to_owned()).unwrap()],
        };
        (Admission::new(limits, moment.now), moment)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn reason<T>(outcome: Result<T, Refused>) -> Option<Reason> {
        outcome.err().map(|refused| refused.reason)
    }

    #[test]
    fn connections_are_bounded_in_all_and_from_each_address() {
        let (admission, moment) = admission(4, 2, 100);
        let connect = |peer: &str| admission.connection(address(peer), moment);
        let first = connect("192.0.2.1").unwrap();
        let _second = connect("192.0.2.1").unwrap();
        assert_eq!(reason(connect("192.0.2.1")), Some(Reason::Address));
        let _third = connect("192.0.2.2").unwrap();
        let _fourth = connect("127.0.0.1").unwrap();
        assert_eq!(reason(connect("192.0.2.3")), Some(Reason::Full));
        drop(first);
        let _fifth = connect("192.0.2.1").unwrap();
    }

    #[test]
    fn behind_a_proxy_it_is_the_client_that_is_counted() {
        let (admission, moment) = admission(100, 2, 100);
        let proxy = address("10.0.0.1");
        let _connections: Vec<Permit> = (0..10).map(|_| admission.connection(proxy, moment).unwrap()).collect();
        let handshake = |client: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", client.parse().unwrap());
            admission.handshake(proxy, &headers, moment)
        };
        let permits = [handshake("192.0.2.1").unwrap(), handshake("192.0.2.1").unwrap()];
        assert!(permits.iter().all(Option::is_some));
        assert_eq!(reason(handshake("192.0.2.1")), Some(Reason::Address));
        assert!(handshake("192.0.2.2").unwrap().is_some());
        drop(permits);
        assert!(handshake("192.0.2.1").is_ok());
        assert!(admission.handshake(proxy, &HeaderMap::new(), moment).unwrap().is_none());
    }

    #[test]
    fn handshakes_beyond_the_pace_are_refused_and_count_for_nobody() {
        let (admission, moment) = admission(100, 2, 3);
        let proxy = address("10.0.0.1");
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            admission.handshake(proxy, &headers, moment).unwrap();
        }
        let refused = admission.handshake(proxy, &headers, moment).err().unwrap();
        assert_eq!((refused.reason, refused.retry_after_seconds()), (Reason::Pace, 1));
        assert_eq!(admission.state().origins.len(), 0);
    }

    #[test]
    fn nothing_is_remembered_of_those_who_have_left() {
        let (admission, moment) = admission(100, 2, 3);
        for n in 0..100_000_u32 {
            drop(admission.connection(IpAddr::V4(n.into()), moment));
        }
        let state = admission.state();
        assert_eq!((state.origins.len(), state.connections), (0, 0));
    }
}
