//! Where a scenario is played: one cluster for all of them, users of its own for each.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, time::Instant};

use futures_util::FutureExt;
use tertulia_test_support::{
    Cluster,
    actor::{Actor, Skin},
};

pub struct Scenario {
    pub name: &'static str,
    pub needs: Needs,
    pub play: for<'a> fn(&'a Stage<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// What a scenario needs of the skins it is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Anything,
    /// To be told of things as they happen, also of those that are not stored.
    Live,
}

/// Which actor is on which skin.
#[derive(Debug, Clone, Copy)]
pub enum Casting {
    All(Skin),
    /// Each on another one, in turns.
    Mixed,
}

pub struct Stage<'a> {
    cluster: &'a Cluster,
    casting: Casting,
    /// Live skins only.
    needs: Needs,
    /// Keeps the users of scenarios apart.
    number: usize,
}

impl Stage<'_> {
    /// A device of the user. Devices of one scenario are spread over routers, and over skins where those are mixed: a
    /// `place` is the number of the device in the scenario.
    pub async fn device(&self, name: &str, place: usize) -> Actor {
        let live: Vec<Skin> =
            Skin::ALL.into_iter().filter(|skin| self.needs == Needs::Anything || skin.is_live()).collect();
        let skin = match self.casting {
            Casting::All(skin) => skin,
            Casting::Mixed => live[(self.number + place) % live.len()],
        };
        let router = (place % 2) as u32 + 1;
        Actor::connect(self.cluster, router, &self.user(name), skin).await
    }

    /// The development name of a user of this scenario.
    pub fn user(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    pub async fn two(&self) -> (Actor, Actor) {
        (self.device("ana", 0).await, self.device("bea", 1).await)
    }

    pub async fn three(&self) -> (Actor, Actor, Actor) {
        let (ana, bea) = self.two().await;
        (ana, bea, self.device("caro", 2).await)
    }
}

/// Plays all scenarios that the skins can, one after the other; fails with the names of those that failed.
pub async fn play(scenarios: &[Scenario], casting: Casting) {
    let cluster = Cluster::builder().start().await;
    let mut failed = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        if matches!(casting, Casting::All(skin) if scenario.needs == Needs::Live && !skin.is_live()) {
            continue;
        }
        let stage = Stage { cluster: &cluster, casting, needs: scenario.needs, number };
        let started = Instant::now();
        let outcome = AssertUnwindSafe((scenario.play)(&stage)).catch_unwind().await;
        println!("{:>6} ms  {}", started.elapsed().as_millis(), scenario.name);
        if outcome.is_err() {
            failed.push(scenario.name);
        }
    }
    assert!(failed.is_empty(), "{casting:?}: these scenarios failed: {failed:#?}");
    let verified = cluster.ctl(&["verify", "--no-rest"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    cluster.assert_no_errors();
}
