//! Sessions that never read anything: a second device of some people. They say something now and then, so that they are
//! not taken for dead; a router must bound what it keeps for them, and may close them.

use std::{rc::Rc, time::Duration};

use tertulia_bench::connection::{Receive, Session};
use tertulia_wire::client::{Command, Format};
use tokio::time::sleep;

use crate::{tally::add, world::World};

const PING_EVERY: Duration = Duration::from_secs(5);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// A session after the other, at routers in turns, until nobody sends any more.
pub async fn live(world: Rc<World>, person: usize) {
    let mut router = person;
    while world.is_sending() {
        router = (router + 1) % world.routers.len();
        let opening =
            Session::open_with(world.routers[router], Format::Json, &world.people[person], Receive::Little).await;
        let Ok(mut session) = opening else {
            sleep(RECONNECT_AFTER).await;
            continue;
        };
        add(&world.tally.deaf);
        // A router that takes nothing from a client that reads nothing makes this one wait, too: that is no end.
        while world.is_sending() {
            match tokio::time::timeout(PING_EVERY, session.send(&Command::Ping)).await {
                Ok(Err(_)) => {
                    add(&world.tally.deaf_closed);
                    break;
                }
                Ok(Ok(())) => world.pause(PING_EVERY).await,
                Err(_) => {}
            }
        }
    }
}
