//! Everybody together, from the first sign-in to the last answer.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tertulia_bench::connection::SignIn;
use tokio::task::{JoinHandle, spawn_local};

use crate::{deaf, person, world::World};

/// After the last event: until everything is answered.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
const SIGN_IN_AT: usize = 0;

/// Who chats.
#[derive(Debug, Clone, Args)]
pub struct Crowd {
    /// People, in pairs.
    #[arg(long, default_value_t = Crowd::default().people, value_parser = parse_people)]
    pub people: u32,
    /// Groups that they have, and members of each.
    #[arg(long, default_value_t = Crowd::default().groups, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub groups: u32,
    #[arg(long, default_value_t = Crowd::default().group_size, value_parser = clap::value_parser!(u32).range(2..=400))]
    pub group_size: u32,
    /// Of a hundred people: how many come and go, and now and then stop reading.
    #[arg(long, default_value_t = Crowd::default().restless_percent, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub restless_percent: u32,
    /// People with a second session that never reads anything.
    #[arg(long, default_value_t = Crowd::default().deaf)]
    pub deaf: u32,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { people: 400, groups: 20, group_size: 8, restless_percent: 25, deaf: 8 }
    }
}

fn parse_people(text: &str) -> Result<u32, String> {
    let people: u32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (2..=10_000).contains(&people) && people.is_multiple_of(2) {
        Ok(people)
    } else {
        Err("want an even number from 2 to 10000".to_owned())
    }
}

/// The people, connected. Wants a [`tokio::task::LocalSet`].
pub struct Chat {
    pub world: Rc<World>,
    tasks: Vec<JoinHandle<()>>,
}

impl Chat {
    /// Signs everybody in who is to chat for this time, and waits until the groups are made.
    pub async fn start(crowd: &Crowd, routers: Vec<SocketAddr>, time: Duration) -> anyhow::Result<Self> {
        let run: u32 = rand::random();
        let mut sign_in = SignIn::connect(routers[SIGN_IN_AT]).await?;
        let mut people = Vec::new();
        for number in 0..crowd.people {
            people.push(sign_in.sign_in(&format!("soak-{run:08x}-{number}")).await?);
        }
        drop(sign_in);
        let world = Rc::new(World::new(crowd, routers, time, run, people));
        let mut tasks = Vec::new();
        for person in 0..crowd.people as usize {
            tasks.push(spawn_local(person::live(world.clone(), person)));
        }
        world.wait_for_groups().await?;
        for person in 0..crowd.deaf.min(crowd.people) as usize {
            tasks.push(spawn_local(deaf::live(world.clone(), person)));
        }
        Ok(Self { world, tasks })
    }

    /// Nobody says anything new any more; when all is answered, or should have been, everybody leaves.
    pub async fn finish(self) -> anyhow::Result<Rc<World>> {
        self.world.stop_sending();
        // What is not answered by then is seen as such.
        let _ = tokio::time::timeout(SETTLE_LIMIT, self.world.settled()).await;
        self.world.end();
        for task in self.tasks {
            task.await.context("a person")?;
        }
        Ok(self.world)
    }
}
