//! People who come and go, chat, read, fall silent and stop reading; and the check of every invariant over all that they
//! said and heard: the load of the soak, and of the chaos runs.
//!
//! One thread, like the bench. Events go out when they are due, whatever the answers do. What is remembered of each is a few
//! bytes, and bounded.

pub mod chat;
pub mod check;
mod deaf;
mod person;
pub mod records;
pub mod tally;
pub mod world;
