//! Which slots have more to do than others: what the nodes say of their slots, and from when on one is hot.
//!
//! A slot is hot where it has more than [`HOT_FACTOR`] times the events of the mean slot, and [`HOT_EVENTS_PER_S`] at
//! least: in a cluster where little goes on, one lively conversation is no reason to do anything. The mean is of all
//! slots whose rate is known, idle ones included.
//!
//! To move a slot does not cool it: its node, or its store, then has less beside it. A single conversation cannot be
//! split, for its order is made by one owner.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};
use tertulia_shard_map::{NodeId, ShardMap, Slot, StoreId};
use tertulia_wire::cluster::NodeLoad;

use crate::{nodes::Nodes, output};

pub const HOT_FACTOR: f64 = 4.0;
pub const HOT_EVENTS_PER_S: f64 = 10.0;

/// Events a second, by slot. Of a slot that nobody serves, or whose node does not answer, nothing is known.
pub type Rates = BTreeMap<Slot, f64>;

/// A slot with its rate, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BusySlot {
    pub slot: Slot,
    #[serde(serialize_with = "rounded")]
    pub events_per_s: f64,
    pub owner: Option<NodeId>,
    pub store: StoreId,
    pub hot: bool,
}

fn rounded<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(output::rounded(*number))
}

/// The newest map that any node has, and the rates that all nodes say.
pub async fn map_and_rates(nodes: &Nodes) -> anyhow::Result<(Box<ShardMap>, Rates)> {
    let (map, loads) = tokio::join!(nodes.newest_map(), nodes.loads());
    Ok((map?, rates(&loads)))
}

/// What all nodes say together. A slot that changes hands may be told by both: the one that writes says more.
pub fn rates(loads: &[(NodeId, NodeLoad)]) -> Rates {
    let mut rates = Rates::new();
    for load in loads.iter().flat_map(|(_, load)| &load.slots) {
        let rate = rates.entry(load.slot).or_default();
        *rate = load.events_per_s.max(*rate);
    }
    rates
}

/// Those in which anything goes on, the busiest first.
pub fn busy_slots(map: &ShardMap, rates: &Rates) -> Vec<BusySlot> {
    let limit = hot_from(rates);
    let of = |(&slot, &events_per_s): (&Slot, &f64)| {
        let entry = map.get(slot)?;
        let hot = is_hot(events_per_s, limit);
        Some(BusySlot { slot, events_per_s, owner: entry.owner, store: entry.store, hot })
    };
    let mut busy: Vec<BusySlot> = rates.iter().filter(|(_, rate)| **rate > 0.0).filter_map(of).collect();
    busy.sort_by(|a, b| b.events_per_s.total_cmp(&a.events_per_s).then(a.slot.cmp(&b.slot)));
    busy
}

/// The hot ones among them.
pub fn hot_slots(map: &ShardMap, rates: &Rates) -> Vec<BusySlot> {
    busy_slots(map, rates).into_iter().filter(|slot| slot.hot).collect()
}

/// The rate above which a slot is hot.
fn hot_from(rates: &Rates) -> f64 {
    HOT_FACTOR * rates.values().sum::<f64>() / rates.len().max(1) as f64
}

fn is_hot(rate: f64, limit: f64) -> bool {
    rate > limit && rate >= HOT_EVENTS_PER_S
}

impl fmt::Display for BusySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heat = if self.hot { "hot" } else { "busy" };
        write!(f, "{heat}: slot {}, {:.1} events/s, ", self.slot, self.events_per_s)?;
        match self.owner {
            Some(owner) => write!(f, "on node-{owner}, ")?,
            None => f.write_str("on no node, ")?,
        }
        write!(f, "in store {}", self.store)
    }
}

#[cfg(test)]
mod tests {
    use tertulia_wire::cluster::SlotLoad;

    use super::*;

    /// So many slots of one event a second, and one of this rate.
    fn with_one_of(rate: f64, others: u16) -> Rates {
        let others = (1..=others).map(|slot| (Slot::new(slot), 1.0));
        others.chain([(Slot::new(0), rate)]).collect()
    }

    fn is_slot_0_hot(rates: &Rates) -> bool {
        is_hot(rates[&Slot::new(0)], hot_from(rates))
    }

    #[test]
    fn a_slot_is_hot_where_it_has_four_times_the_mean_and_ten_events_a_second() {
        assert!(is_slot_0_hot(&with_one_of(10.0, 63)));
        assert!(!is_slot_0_hot(&with_one_of(9.9, 63)), "little goes on");
        assert!(!is_slot_0_hot(&with_one_of(100.0, 3)), "four slots: it makes the mean itself");
        let even: Rates = (0..64).map(|slot| (Slot::new(slot), 500.0)).collect();
        assert!(!is_slot_0_hot(&even), "all have as much to do");
    }

    #[test]
    fn the_rate_of_a_slot_that_two_nodes_tell_is_the_higher_one() {
        let load = |events_per_s| {
            let slots = vec![SlotLoad { slot: Slot::new(7), events_per_s }];
            NodeLoad { slots, stores: Vec::new() }
        };
        let rates = rates(&[(NodeId::new(1), load(3.0)), (NodeId::new(2), load(1.0))]);
        assert_eq!(rates, Rates::from([(Slot::new(7), 3.0)]));
    }
}
