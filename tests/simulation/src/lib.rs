//! The cluster in one thread, with virtual time: the pure parts of `tertulia-shard-map` and `tertulia-node`, and models of
//! what is between them, under faults that may come between any two steps.
//!
//! A run follows from its seed alone, so one that fails is run again, and tells its [`course`]. Whatever happens is an
//! [`agenda::Event`]; the [`world`] takes one after the other. When so many have happened, everything is healed, and has
//! to come to rest; then the whole history is [checked](check).
//!
//! | real | a model |
//! |---|---|
//! | changes of the map, plans, take-overs | [`raft`]: a log into which proposals come late, twice, or never |
//! | `append::Log`, `fanout::Tail`, `mailbox::fold` | [`node`]: their drivers, without tasks and sockets |
//! | the invariants | [`store`]: fences, unique indexes and replication of Postgres |
//! | | [`mover`]: who drives moves between stores |
//!
//! Always: no clock, no thread, no hash map whose order shows. Deliberately absent: groups, blocks, edits, sessions, pushes to
//! them, Redis, and the real SQL, which `node/tests` and `scripts/chaos` are for.

mod agenda;
mod check;
mod clients;
mod controller;
mod course;
mod dice;
mod figures;
mod known_fault;
mod mover;
mod network;
mod node;
mod postgres;
mod raft;
mod store;
mod time;
mod trouble;
mod world;

pub use course::{Course, Keep};
pub use figures::Figures;
pub use known_fault::KnownFault;
pub use tertulia_test_invariants::Violations;
pub use world::Options;

/// Things that happen before the faults are healed, where nobody says otherwise.
pub const STEPS: u32 = 1_000;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    pub violations: Violations,
    pub course: Course,
    pub figures: Figures,
}

/// The same options make the same run.
pub fn run(options: Options) -> Report {
    let mut world = world::World::new(options);
    world.run(options.steps);
    let figures = world.figures();
    Report { violations: world.violations, course: world.course, figures }
}
