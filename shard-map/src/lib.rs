//! The pure heart of the cluster: what a key hashes to, where a slot should live, where it does live, and which
//! changes of that are allowed.
//!
//! Nothing here knows of a clock, a socket, a task or a database: every function is a function of its arguments, so the
//! same change applied to the same map gives the same map on every node, in every test and in the simulation.
//!
//! Deliberately absent: who proposes a change and how it is agreed (Raft, in `node`), and how data moves.

mod balance;
mod change;
mod dev_user;
mod direct;
#[cfg(test)]
mod fixtures;
mod group;
mod ids;
mod map;
mod moves;
#[cfg(feature = "openapi")]
mod openapi;
mod plan;
mod ring;
mod slot;
mod weight;

pub use change::{Change, ChangeRefused, NewNode, NewStore, OwnerChange, apply};
pub use dev_user::{DevName, InvalidDevName};
pub use direct::DirectPair;
pub use group::derived_group_id;
pub use ids::{
    ClusterId, ConversationId, Epoch, EventId, Incarnation, InvalidId, MapVersion, MessageNo, MoveId, NodeId, Rev,
    RouterId, Seq, SessionId, StoreId, UserId,
};
pub use map::{
    MAX_ADDRESS_BYTES, MAX_NAME_BYTES, MAX_NODES, MAX_RETIRED_IDS, MAX_STORES, NodeEntry, NodeState, Owner, ShardMap,
    SlotEntry, StoreEntry, StoreState, UnsoundMap,
};
pub use moves::{AbortReason, MAX_MOVES, MAX_SLOTS_PER_MOVE, MoveEntry, MoveStep, MovingSlot, NewMove};
pub use plan::{MoveReason, OwnerReason, Plan, PlannedOwnerChange, STORE_SLACK_PERCENT, StoreMove, plan, take_over};
pub use slot::{InvalidSlotCount, Slot, SlotCount};
pub use weight::{InvalidWeight, Weight};
