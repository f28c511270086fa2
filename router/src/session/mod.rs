//! Sessions: one client on one WebSocket each.
//!
//! A session is one task. Its [`core`] decides (pure), its [`driver`] does; pushes reach it through its [`mailslot`],
//! which the [`registry`] finds by session id. Memory counts: a router holds tens of thousands of idle ones.

mod attachments;
mod core;
mod detaches;
mod drain;
mod driver;
mod fragments;
mod held;
mod lanes;
mod mailslot;
mod marks;
mod meter;
mod perform;
mod presence;
mod pushes;
mod registry;
mod sessions;
mod watches;

pub use self::{
    attachments::reattach,
    core::{Core, Effect, Job, Now, Policy, Shared, Standing},
    detaches::{Detacher, Ended, detach},
    drain::{Drain, Leave, let_go},
    held::HeldBytes,
    lanes::Ticket,
    mailslot::{Mailslot, Pushed, SignedIn, Taken},
    meter::Meter,
    perform::perform,
    pushes::{RouterInbox, unix_ms},
    registry::Registry,
    sessions::{Client, Sessions},
};
pub(crate) use self::{
    driver::resync_name,
    sessions::{End, new_session_id},
};
