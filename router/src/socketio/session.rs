//! A session from its admission to its end.

use std::{sync::Arc, time::Instant};

use socketioxide::extract::SocketRef;
use tertulia_wire::client::{Command, CommandId, ErrorReply, Format, Hello, Reply};

use super::{driver::Driver, link::Link};
use crate::{
    limits::Turnstile,
    session::{Core, Effect, Job, Now, Sessions, Ticket, new_session_id, perform},
};

/// The `hello` that the connection itself is. Commands count from 1.
pub(super) const HELLO: CommandId = 0;

/// A client whose token is good, before it knows.
pub(super) struct Admitted {
    pub(super) core: Core,
    /// To be done first.
    pub(super) effects: Vec<Effect>,
    /// Said again where the cluster cannot be reached yet: an app does not do it.
    pub(super) hello: Hello,
    pub(super) now: Now,
}

impl Admitted {
    pub(super) fn admit(sessions: &Sessions, hello: Hello, link: &Link) -> Result<Self, ErrorReply> {
        let now = Now::read();
        let shared = sessions.shared.clone();
        let mut core = Core::new(shared, new_session_id(), Format::Json, link.bearer.clone(), now);
        let mut effects = Vec::new();
        core.command(Some(HELLO), Command::Hello(hello.clone()), now, &mut effects);
        let refused = effects.iter().find_map(|effect| match effect {
            Effect::Reply { reply: Reply::Error(error), .. } => Some(error.clone()),
            _ => None,
        });
        match refused {
            Some(error) => Err(error),
            None => Ok(Self { core, effects, hello, now }),
        }
    }

    /// Runs the session to its end. `socket` is connected.
    pub(super) async fn run(self: Box<Self>, sessions: &Sessions, socket: SocketRef, link: Arc<Link>) {
        let trace = link.trace;
        let open = sessions.open(self.core.id(), Format::Json, trace);
        let (routes, mailslot) = (sessions.routes.clone(), open.mailslot.clone());
        let slot = mailslot.clone();
        let turnstile = Turnstile::new(sessions.shared.limits.clone());
        let start = move |ticket: Ticket, job: Job, deadline: Instant| {
            perform(routes.clone(), turnstile.clone(), slot.clone(), ticket, job, deadline.into(), trace)
        };
        let end = Box::pin(Driver::new(*self, socket, link, mailslot, sessions.shared.clone(), start)).await;
        open.end(end);
    }
}
