//! How many connections there are from where.
//!
//! Invariant: no more entries than connections, for each entry counts at least one.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr},
};

/// What counts as one place: an IPv4 address, or an IPv6 /64, of which one customer has all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    V4(Ipv4Addr),
    /// The upper half.
    V6(u64),
}

impl Origin {
    /// `None` for this machine itself: behind such an address are proxies, probes and an operator's tools.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V4(address) => Some(Self::V4(address)),
            IpAddr::V6(address) => Some(Self::V6((address.to_bits() >> 64) as u64)),
        }
    }
}

pub(super) struct Origins {
    each_max: usize,
    open: HashMap<Origin, usize>,
}

impl Origins {
    pub fn new(each_max: usize) -> Self {
        Self { each_max, open: HashMap::new() }
    }

    /// Whether there is room for one more; if so, it is counted.
    #[must_use]
    pub fn enter(&mut self, origin: Origin) -> bool {
        let open = self.open.entry(origin).or_default();
        let room = *open < self.each_max;
        *open += usize::from(room);
        room
    }

    pub fn leave(&mut self, origin: Origin) {
        if let Entry::Occupied(mut open) = self.open.entry(origin) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Option<Origin> {
        Origin::of(text.parse().unwrap())
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_place_and_this_machine_is_none() {
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        for own in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(origin(own), None);
        }
    }

    #[test]
    fn each_place_has_its_own_bound_and_is_forgotten_when_all_have_left() {
        let mut origins = Origins::new(2);
        let (one, two) = (origin("192.0.2.1").unwrap(), origin("192.0.2.2").unwrap());
        assert_eq!([one, one, one, two].map(|origin| origins.enter(origin)), [true, true, false, true]);
        origins.leave(one);
        assert!(origins.enter(one) && !origins.enter(one));
        for origin in [one, one, two] {
            origins.leave(origin);
        }
        assert_eq!(origins.len(), 0);
    }
}
