//! Where a command goes: the shard map, a connection to every node that it names, and what to do when the right node
//! cannot be found or does not answer.
//!
//! Invariants: only newer maps of the same cluster are accepted; a command goes to the owner that the newest map names;
//! sends are idempotent by `temp_id`, so an unknown outcome is retried.
//!
//! Deliberately absent: any copy of the nodes' data. A router can be killed at any time and loses nothing.

mod follow;
mod routes;
mod verdict;

pub use follow::{Follower, Offers, Seed};
pub use routes::{Attachment, Health, Key, Routes, Target};
pub use verdict::{HoldReason, Verdict, backoff, judge};
