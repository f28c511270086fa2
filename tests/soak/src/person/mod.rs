//! One person: comes, says what is due, reads, and, where restless, leaves in all the ways there are and comes back at
//! another router.

mod stay;
mod talk;

use std::{rc::Rc, time::Duration};

use rand::Rng;
use tertulia_bench::connection::Session;
use tertulia_wire::client::Format;
use tokio::time::sleep;

use self::{stay::Memory, talk::Talk};
use crate::{tally::add, world::World};

const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a restless person stays, at most, and stays away.
const STAY_MAX: Duration = Duration::from_secs(60);
const AWAY_MAX: Duration = Duration::from_secs(10);
/// Longer than a soak may last.
const FOR_GOOD: Duration = Duration::from_secs(7 * 86_400);

/// How a session ends, or is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// With a close frame.
    Close,
    /// Without a word.
    Drop,
    /// Reads nothing for a while, while others go on writing; then without a word.
    FreezeAndDrop,
    /// The same, but goes on reading then.
    FreezeAndRead,
}

/// Until the world ends.
pub async fn live(world: Rc<World>, me: usize) {
    let mut talk = Talk::new(world.clone(), me);
    talk.make_groups();
    let mut memory = Memory::default();
    let mut router = rand::rng().random_range(0..world.routers.len());
    let mut failures = 0_u32;
    while !world.has_ended() {
        let format = if me % 4 < 2 { Format::MessagePack } else { Format::Json };
        match Session::open(world.routers[router], format, &world.people[me]).await {
            Ok(session) => {
                failures = 0;
                add(&world.tally.joins);
                stay::stay(&world, &mut talk, &mut memory, session, plan(&world, me)).await;
                if world.is_restless(me) {
                    world.pause(world.time_for(AWAY_MAX).mul_f64(rand::random())).await;
                }
            }
            Err(_) => {
                let most = RECONNECT_MAX.min(RECONNECT_FIRST * 2_u32.pow(failures.min(8)));
                failures += 1;
                sleep(most.mul_f64(rand::random())).await;
            }
        }
        router = (router + 1) % world.routers.len();
    }
}

/// How long to stay this time, and how to leave.
fn plan(world: &World, me: usize) -> (Duration, Leaving) {
    if !world.is_restless(me) {
        return (FOR_GOOD, Leaving::Close);
    }
    let ways = [Leaving::Close, Leaving::Drop, Leaving::FreezeAndDrop, Leaving::FreezeAndRead];
    (world.time_for(STAY_MAX).mul_f64(rand::random()), ways[rand::rng().random_range(0..ways.len())])
}
