//! Moves of slots between stores: what a driver does in each step, and asks the stores for.
//!
//! A driver runs on whoever believes to lead Raft, and knows nothing but the map that it has learned: another one goes on from
//! there. It may be deposed between any two of the things that it does, and not notice. All that keeps it from doing harm
//! then is in the stores: the marks of [`crate::store`], and the fence.
//!
//! ```text
//! Copying   mark, make the partitions anew, fill and catch up, compare all          → SealMove
//! Sealed    seal the fence, drain, close, copy the cursors, compare what changed    → FlipMove or AbortMove
//! Flipped   clean up the source                                                     → EndMove
//! Aborted   clean up the target                                                     → EndMove
//! ```

use std::{collections::BTreeSet, rc::Rc};

use tertulia_shard_map::{AbortReason, Change, MoveEntry, MoveId, MoveStep, Slot, StoreId};

use crate::{
    agenda::{Answer, Ask, Event, Message, Ticket},
    known_fault::KnownFault,
    node::keeper::wanted_of,
    raft::Proposer,
    store::{Compared, Fill, Mark, MarkState, Seal, Store, Wanted},
    time::{Span, Time},
    world::{Process, World},
};

/// Longest time that slots are sealed before the driver proposes to abort.
const STALL_MAX: Span = Span::millis(500);
/// The same for the copy.
const COPY_MAX: Span = Span::millis(4_000);
const LOOK_AGAIN: Span = Span::millis(30);
/// An answer of Raft's that does not come.
const PROPOSE_AGAIN: Span = Span::millis(300);
/// Commits that replication brings at once.
const REPLICATED_MAX: usize = 2;

/// Numbers what a driver does, so that it goes on with the answer to the last of it and with nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn(u32);

#[derive(Debug)]
pub struct Driver {
    step: MoveStep,
    entered: Time,
    stage: Stage,
    turn: Turn,
    /// What the full comparison has found to be the same.
    compared: Option<Compared>,
}

/// What is done next within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Mark,
    Recreate(Fill),
    Fill(Fill),
    Compare(Fill),
    Seal,
    Drain,
    Close(Fill),
    Cursors(Fill),
    CompareRest(Fill),
    /// [`KnownFault::EpochReused`].
    WriteAhead,
    CleanUp,
    Propose(Next),
}

/// The change that ends a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Seal,
    Flip,
    Abort(AbortReason),
    End,
}

/// Something that a driver has done in a store.
#[derive(Debug, Clone)]
pub struct Chore {
    pub id: MoveId,
    pub source: StoreId,
    pub target: StoreId,
    pub slots: Rc<BTreeSet<Slot>>,
    pub deed: Deed,
}

#[derive(Debug, Clone)]
pub enum Deed {
    Mark,
    Recreate(Fill),
    /// How far the target is.
    Look,
    CompareAll(Fill),
    CompareSince(Compared),
    Close(Fill),
    CopyCursors,
    CleanUp,
    /// [`KnownFault::EpochReused`].
    WriteAhead(Vec<Wanted>),
}

#[derive(Debug)]
pub enum Finding {
    Marked(Fill),
    Looked {
        mark: Option<Mark>,
        is_drained: IsDrained,
    },
    Same(Compared),
    Differs,
    Done,
    /// The partitions are not this driver's any more.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsDrained {
    Yes,
    NotYet,
}

impl Driver {
    fn new(step: MoveStep, now: Time) -> Self {
        let mut driver = Self { step, entered: now, stage: Stage::Mark, turn: Turn::default(), compared: None };
        driver.enter(step, now);
        driver
    }

    fn enter(&mut self, step: MoveStep, now: Time) {
        (self.step, self.entered) = (step, now);
        self.stage = match step {
            MoveStep::Copying => Stage::Mark,
            MoveStep::Sealed => Stage::Seal,
            MoveStep::Flipped | MoveStep::Aborted(_) => Stage::CleanUp,
        };
    }

    /// Before the flip there is a limit to everything.
    fn is_stalled(&self, now: Time) -> bool {
        match self.step {
            MoveStep::Copying => now - self.entered > COPY_MAX,
            MoveStep::Sealed => now - self.entered > STALL_MAX,
            MoveStep::Flipped | MoveStep::Aborted(_) => false,
        }
    }
}

/// Driving.
impl World {
    /// The map is another, or this node leads: each move has a driver that does what its step asks for.
    pub(crate) fn drive_all(&mut self, at: Process) {
        let now = self.now;
        let Some(node) = self.process(at).filter(|node| node.leads) else { return };
        let Some(map) = node.map.clone() else { return };
        node.drivers.retain(|id, _| map.move_entry(*id).is_some());
        let mut begin = Vec::new();
        for (id, entry) in map.moves() {
            let driver = node.drivers.entry(id).or_insert_with(|| {
                begin.push(id);
                Driver::new(entry.step, now)
            });
            if driver.step != entry.step {
                driver.enter(entry.step, now);
                begin.push(id);
            }
        }
        for id in begin {
            self.drive(at, id);
        }
    }

    pub(crate) fn drive_on(&mut self, at: Process, id: MoveId, turn: Turn) {
        if self.driver(at, id).is_some_and(|driver| driver.turn == turn) {
            self.drive(at, id);
        }
    }

    fn driver(&mut self, at: Process, id: MoveId) -> Option<&mut Driver> {
        self.process(at)?.drivers.get_mut(&id)
    }

    fn go_on(&mut self, at: Process, id: MoveId, stage: Stage) {
        if let Some(driver) = self.driver(at, id) {
            driver.stage = stage;
            self.drive(at, id);
        }
    }

    fn look_again(&mut self, at: Process, id: MoveId, pause: Span) {
        if let Some(turn) = self.driver(at, id).map(|driver| driver.turn) {
            self.tell_after(pause, at, Message::Drive(id, turn));
        }
    }

    /// Does what the stage asks for.
    fn drive(&mut self, at: Process, id: MoveId) {
        let now = self.now;
        let Some(driver) = self.driver(at, id) else { return };
        driver.turn.0 += 1;
        if driver.is_stalled(now) {
            driver.stage = Stage::Propose(Next::Abort(AbortReason::Stalled));
        }
        let (stage, step, compared) = (driver.stage, driver.step, driver.compared.clone());
        let Some(map) = self.process(at).and_then(|node| node.map.clone()) else { return };
        let Some(entry) = map.move_entry(id) else { return };
        let deed = match stage {
            Stage::Mark => Deed::Mark,
            Stage::Recreate(fill) => Deed::Recreate(fill),
            Stage::Fill(_) | Stage::Drain => Deed::Look,
            Stage::Compare(fill) => Deed::CompareAll(fill),
            Stage::Close(fill) => Deed::Close(fill),
            Stage::Cursors(_) => Deed::CopyCursors,
            // What was compared before may have been another filling: then there is no way around all of it.
            Stage::CompareRest(fill) => match compared.filter(|compared| compared.fill == fill) {
                Some(compared) => Deed::CompareSince(compared),
                None => Deed::CompareAll(fill),
            },
            Stage::CleanUp => Deed::CleanUp,
            Stage::Seal => {
                let wanted: Vec<Wanted> = entry.slots.iter().filter_map(|slot| wanted_of(&map, *slot)).collect();
                let (turn, source) = (self.turn(at, id), entry.source);
                return self.ask(at, source, Ticket::Move(id, turn), Ask::Take(wanted));
            }
            Stage::WriteAhead => {
                let wanted = entry.slots.iter().filter_map(|slot| wanted_of(&map, *slot));
                let ahead = |it: Wanted| Wanted { epoch: it.epoch.next(), seal: Seal::Open, ..it };
                Deed::WriteAhead(wanted.map(ahead).collect())
            }
            Stage::Propose(next) => return self.propose_next(at, id, next),
        };
        let store = match step {
            MoveStep::Flipped => entry.source,
            MoveStep::Copying | MoveStep::Sealed | MoveStep::Aborted(_) => entry.target,
        };
        self.have_done(at, id, store, entry, deed);
    }

    fn turn(&mut self, at: Process, id: MoveId) -> Turn {
        self.driver(at, id).map_or(Turn::default(), |driver| driver.turn)
    }

    fn have_done(&mut self, at: Process, id: MoveId, store: StoreId, entry: &MoveEntry, deed: Deed) {
        self.note(|| format!("{at} drives move {id} ({}): {deed:?} in store {store}", entry.step));
        let (source, target, slots) = (entry.source, entry.target, Rc::new(entry.slots.clone()));
        let turn = self.turn(at, id);
        self.ask(at, store, Ticket::Move(id, turn), Ask::Move(Chore { id, source, target, slots, deed }));
    }

    fn propose_next(&mut self, at: Process, id: MoveId, next: Next) {
        let change = match next {
            Next::Seal => Change::SealMove { id },
            Next::Flip => Change::FlipMove { id },
            Next::Abort(reason) => Change::AbortMove { id, reason },
            Next::End => Change::EndMove { id },
        };
        self.propose(change, Proposer::Leader(at));
        self.look_again(at, id, PROPOSE_AGAIN);
    }

    pub(crate) fn driver_hears(&mut self, at: Process, id: MoveId, turn: Turn, answer: Answer) {
        let Some(driver) = self.driver(at, id).filter(|driver| driver.turn == turn) else { return };
        let stage = driver.stage;
        match (stage, answer) {
            (Stage::Seal, Answer::Taken(taken)) => {
                let wants = self.process(at).and_then(|node| Some(node.map.as_ref()?.move_entry(id)?.slots.len()));
                // Where an owner has changed meanwhile, a newer map is on its way.
                match wants == Some(taken.len()) {
                    true => self.go_on(at, id, Stage::Drain),
                    false => self.look_again(at, id, LOOK_AGAIN),
                }
            }
            (_, Answer::Move(finding)) => self.has_done(at, id, stage, finding),
            // Everything is idempotent: done again, whether it was done or not.
            _ => self.look_again(at, id, LOOK_AGAIN),
        }
    }

    fn has_done(&mut self, at: Process, id: MoveId, stage: Stage, finding: Finding) {
        let differs = Stage::Propose(Next::Abort(AbortReason::VerificationFailed));
        match (stage, finding) {
            (Stage::Mark, Finding::Marked(fill)) => self.go_on(at, id, Stage::Recreate(fill)),
            (Stage::Recreate(fill), Finding::Done) => self.go_on(at, id, Stage::Fill(fill)),
            (Stage::Fill(fill), Finding::Looked { is_drained: IsDrained::Yes, .. }) => {
                self.go_on(at, id, Stage::Compare(fill));
            }
            (Stage::Compare(_), Finding::Same(compared)) => {
                if let Some(driver) = self.driver(at, id) {
                    driver.compared = Some(compared);
                }
                self.go_on(at, id, Stage::Propose(Next::Seal));
            }
            (Stage::Drain, Finding::Looked { mark: None, .. }) | (_, Finding::Differs) => self.go_on(at, id, differs),
            (Stage::Drain, Finding::Looked { mark: Some(mark), is_drained }) => match (mark.state, is_drained) {
                (MarkState::Closed, _) => self.go_on(at, id, Stage::Cursors(mark.fill)),
                (MarkState::Filling, IsDrained::Yes) => self.go_on(at, id, Stage::Close(mark.fill)),
                (MarkState::Filling, IsDrained::NotYet) => self.look_again(at, id, LOOK_AGAIN),
            },
            (Stage::Close(fill), Finding::Done) => self.go_on(at, id, Stage::Cursors(fill)),
            // Somebody has begun to fill it anew.
            (Stage::Close(_), Finding::Refused) => self.go_on(at, id, Stage::Drain),
            (Stage::Cursors(fill), Finding::Done) => self.go_on(at, id, Stage::CompareRest(fill)),
            (Stage::CompareRest(_), Finding::Same(_)) if self.has(KnownFault::EpochReused) => {
                self.go_on(at, id, Stage::WriteAhead);
            }
            (Stage::CompareRest(_) | Stage::WriteAhead, _) => self.go_on(at, id, Stage::Propose(Next::Flip)),
            (Stage::CleanUp, Finding::Done) => self.go_on(at, id, Stage::Propose(Next::End)),
            // Another driver is farther. If not: the copy begins anew.
            (Stage::Recreate(_) | Stage::Fill(_), Finding::Refused) => {
                if let Some(driver) = self.driver(at, id) {
                    driver.stage = Stage::Mark;
                }
                self.look_again(at, id, LOOK_AGAIN);
            }
            _ => self.look_again(at, id, LOOK_AGAIN),
        }
    }
}

/// In the stores.
impl World {
    /// At one instant, also where two stores are compared: what a real driver reads of a store one after the other, it reads
    /// in one snapshot, or while nobody writes.
    ///
    /// # Panics
    /// Where there is no such store.
    pub(crate) fn chore(&mut self, store: StoreId, chore: &Chore) -> Finding {
        let Chore { id, source, target, slots, deed } = chore;
        let (from, to) = (&self.stores[source], &self.stores[target]);
        match deed {
            Deed::Look => {
                let drained = to.is_drained(from, slots, *id);
                let is_drained = if drained { IsDrained::Yes } else { IsDrained::NotYet };
                Finding::Looked { mark: to.mark_of(slots, *id), is_drained }
            }
            Deed::CompareAll(fill) => to.compare(from, slots, *id, *fill).map_or(Finding::Differs, Finding::Same),
            Deed::CompareSince(before) => match to.compare_since(from, slots, before) {
                true => Finding::Same(before.clone()),
                false => Finding::Differs,
            },
            Deed::CopyCursors => {
                let cursors: Vec<_> = slots.iter().map(|slot| (*slot, from.cursor(*slot))).collect();
                self.change(store).copy_cursors(&cursors);
                Finding::Done
            }
            Deed::Mark => self.change(store).mark_filling(slots, *id).map_or(Finding::Refused, Finding::Marked),
            Deed::Recreate(fill) => {
                let (id, source, target, fill) = (*id, *source, *target, *fill);
                if self.change(store).recreate(slots, id, fill).is_err() {
                    return Finding::Refused;
                }
                let at = self.soon();
                self.agenda.put(at, Event::Replicates { id, source, target, fill });
                Finding::Done
            }
            Deed::Close(fill) => {
                self.change(store).close(slots, *id, *fill).map_or(Finding::Refused, |()| Finding::Done)
            }
            Deed::CleanUp => {
                self.change(store).clean_up(slots, *id);
                Finding::Done
            }
            Deed::WriteAhead(wanted) => {
                let taken = self.change(store).take(wanted);
                for (wanted, taken) in wanted.iter().zip(taken) {
                    self.tell(wanted.owner, Message::MayServe(store, taken));
                }
                Finding::Done
            }
        }
    }

    fn change(&mut self, store: StoreId) -> &mut Store {
        self.stores.get_mut(&store).expect("moves are between stores that there are")
    }

    /// Goes on for as long as the target is subscribed.
    pub(crate) fn replicates(&mut self, id: MoveId, source: StoreId, target: StoreId, fill: Fill) {
        let Some(mut here) = self.stores.remove(&target) else { return };
        let is_subscribed = here.subscription(id).is_some_and(|subscription| subscription.fill == fill);
        if is_subscribed {
            here.replicate(&self.stores[&source], id, REPLICATED_MAX);
        }
        self.stores.insert(target, here);
        if is_subscribed {
            let pause = Span::micros(self.dice.within(2_000..30_000));
            self.agenda.put(self.now + pause, Event::Replicates { id, source, target, fill });
        }
    }
}
