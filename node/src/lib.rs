//! The slot owner: commits conversations' events into its slots' partitions, keeps its users' mailboxes, and agrees with
//! the other nodes on the shard map by Raft.
//!
//! A request's way through the modules: [`service`] takes a call off the wire and finds the slot in [`slots`];
//! [`append`] commits events in groups; [`fanout`] tails the committed log and sends it to the mailboxes of the members;
//! [`mailbox`] pushes to attached sessions and folds inbox rows. [`controller`] watches who is alive and gives slots to others; [`moves`] takes
//! slots from one store to another. All SQL is in
//! [`store`]; all of openraft in [`raft`].

pub mod admin;
pub mod append;
mod clock;
pub mod controller;
pub mod entry;
pub mod fanout;
mod generations;
mod known_faults;
mod load;
pub mod mailbox;
mod metrics;
mod moves;
pub mod peers;
pub mod process;
pub mod raft;
pub mod service;
pub mod slots;
pub mod store;
