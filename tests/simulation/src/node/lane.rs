//! The append path: `tertulia_node::append::Log` decides, this commits in the store and answers.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    rc::Rc,
};

use tertulia_node::{
    append::{Committed, Cursors, Decision, Details, Draft, Due, Log, Moment, Request, answer_duplicate, appended},
    entry::LogEntry,
    store::{AppendBatch, TakenSlot},
};
use tertulia_shard_map::{Epoch, EventId, Slot, StoreId};
use tertulia_wire::cluster::{Answer as Told, Refusal};

use super::link::{Link, Next};
use crate::{
    agenda::{Answer, Ask, Command, Event, Message, Ticket},
    clients::{CommandId, Reply},
    known_fault::KnownFault,
    network::Fate,
    store::{Batch, Fence, LaneKind, NotCommitted, Seal, Store},
    time::Span,
    world::{Process, World},
};

/// Small, so that batches of several slots are as frequent as batches of one.
const BATCH_MAX: usize = 4;
/// A command that this often could neither be committed nor found is given up.
const ATTEMPTS_MAX: u32 = 5;
const FANOUT_LIMIT: u64 = 500;
const CURSOR_INTERVAL: Span = Span::millis(100);

pub struct Lane {
    log: Log,
    link: Link,
    backlog: VecDeque<Command>,
    /// So many at the head were in a batch with a duplicate: they go again among themselves.
    settling: usize,
    controls: Vec<Control>,
    cursors: Cursors,
    under_way: Option<UnderWay>,
}

/// What the node tells a lane.
pub enum Control {
    Open(TakenSlot),
    Close(Slot),
    /// How far fan-out has come.
    Cursor {
        slot: Slot,
        epoch: Epoch,
        event: EventId,
    },
}

/// A batch whose outcome is open.
struct UnderWay {
    batch: Rc<AppendBatch>,
    entries: BTreeMap<Slot, Vec<LogEntry>>,
    previous: BTreeMap<Slot, EventId>,
    awaiting: Vec<(Command, Verdict)>,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The first attempt is under way.
    First,
    /// Nobody knows what became of an earlier attempt.
    Again,
}

enum Verdict {
    Due(Due),
    Known(Told),
    Refused(Refusal),
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            log: Log::new(FANOUT_LIMIT),
            link: Link::default(),
            backlog: VecDeque::new(),
            settling: 0,
            controls: Vec::new(),
            cursors: Cursors::default(),
            under_way: None,
        }
    }
}

impl Lane {
    pub fn is_idle(&self) -> bool {
        self.backlog.is_empty() && self.controls.is_empty() && self.cursors.is_empty() && self.under_way.is_none()
    }

    /// Takes effect between two batches.
    pub fn told(&mut self, control: Control) {
        self.controls.push(control);
    }

    /// Gives back the commands of slots that are not open.
    fn obey(&mut self) -> Vec<Command> {
        for control in mem::take(&mut self.controls) {
            match control {
                Control::Open(taken) => self.log.open_slot(&taken),
                Control::Close(slot) => self.close_slot(slot),
                Control::Cursor { slot, epoch, event } if self.log.epoch(slot) == Some(epoch) => {
                    self.cursors.advance(slot, epoch, event);
                }
                Control::Cursor { .. } => {}
            }
        }
        let log = &self.log;
        let is_open = |command: &Command| log.epoch(command.slot).is_some();
        let (kept, gone): (Vec<_>, Vec<_>) = mem::take(&mut self.backlog).into_iter().partition(is_open);
        self.backlog = kept.into();
        gone
    }

    fn close_slot(&mut self, slot: Slot) {
        self.log.close_slot(slot);
        self.cursors.close(slot);
    }

    fn back(&mut self, commands: impl DoubleEndedIterator<Item = Command>) {
        commands.rev().for_each(|command| self.backlog.push_front(command));
    }
}

impl World {
    fn lane(&mut self, at: Process, store: StoreId) -> Option<&mut Lane> {
        Some(self.process(at)?.lanes.entry(store).or_default())
    }

    pub(super) fn reply(&mut self, id: CommandId, reply: Reply) {
        if self.weather.fate(&mut self.dice) == Fate::Arrives {
            let at = self.soon();
            self.agenda.put(at, Event::ClientHears { id, reply });
        }
    }

    pub(super) fn refuse(&mut self, commands: impl IntoIterator<Item = Command>, refusal: &Refusal) {
        for command in commands {
            self.reply(command.id, Reply::Refused(refusal.clone()));
        }
    }

    pub(super) fn take_command(&mut self, at: Process, command: Command) {
        let Some(node) = self.process(at) else { return };
        let Some(store) = node.held.get(&command.slot).map(|held| held.store) else {
            return self.refuse([command], &Refusal::NotServing);
        };
        node.lanes.entry(store).or_default().backlog.push_back(command);
        self.cycle(at, store);
    }

    /// Carried along with a batch, or written alone after a while.
    pub(super) fn move_cursor(&mut self, at: Process, store: StoreId, slot: Slot, epoch: Epoch, event: EventId) {
        let Some(lane) = self.lane(at, store) else { return };
        let was_idle = lane.is_idle();
        lane.told(Control::Cursor { slot, epoch, event });
        if was_idle {
            self.tell_after(CURSOR_INTERVAL, at, Message::FlushCursors(store));
        }
    }

    /// One commit: of the oldest commands, up to the bounds.
    pub(super) fn cycle(&mut self, at: Process, store: StoreId) {
        let Some(node) = self.nodes.get_mut(&at.node) else { return };
        let now_ms = node.clock_ms(self.now);
        let lane = node.lanes.entry(store).or_default();
        if lane.under_way.is_some() {
            return;
        }
        let homeless = lane.obey();
        if lane.backlog.is_empty() && lane.cursors.is_empty() {
            return self.refuse(homeless, &Refusal::NotServing);
        }
        let bound = match mem::take(&mut lane.settling) {
            0 => BATCH_MAX,
            settling => settling,
        };
        let count = lane.backlog.len().min(bound);
        let commands: Vec<Command> = lane.backlog.drain(..count).collect();
        let requests: Vec<Rc<Request>> = commands.iter().map(|command| command.request.clone()).collect();
        let pairs: Vec<(Slot, &Request)> =
            commands.iter().zip(&requests).map(|(command, request)| (command.slot, request.as_ref())).collect();
        let held = &self.stores[&store];
        let mut details = look_up(&mut lane.log, &pairs, held);
        let previous: BTreeMap<Slot, EventId> =
            pairs.iter().filter_map(|&(slot, _)| Some((slot, lane.log.last_entry(slot)?))).collect();
        let dice = &mut self.dice;
        let mut entropy = || u128::from(dice.number());
        let (decisions, draft) = lane.log.assign(&pairs, &mut details, Moment { now_ms, entropy: &mut entropy });
        let Draft { mut batch, entries, .. } = draft;
        lane.cursors.go_with(&mut batch);
        let (mut awaiting, mut later, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for (command, decision) in commands.into_iter().zip(decisions) {
            match decision {
                Decision::Reject(refusal) => rejected.push((command, refusal)),
                Decision::Later => later.push(command),
                Decision::Known(answer) => awaiting.push((command, Verdict::Known(answer))),
                Decision::Refuse(refusal) => awaiting.push((command, Verdict::Refused(refusal))),
                Decision::Commit(due) => awaiting.push((command, Verdict::Due(due))),
                Decision::Tell(_) => unreachable!("nobody types here"),
            }
        }
        lane.back(later.into_iter());
        self.refuse(homeless, &Refusal::NotServing);
        let is_empty = batch.is_empty();
        let under_way = UnderWay { batch: Rc::new(batch), entries, previous, awaiting, outcome: Outcome::First };
        for (command, refusal) in rejected {
            self.refuse([command], &refusal);
        }
        if is_empty {
            self.hand_over(at, store, under_way);
            return self.cycle(at, store);
        }
        self.send_batch(at, store, under_way);
    }

    fn send_batch(&mut self, at: Process, store: StoreId, mut under_way: UnderWay) {
        if self.has(KnownFault::AckBeforeCommit) {
            let awaiting = mem::take(&mut under_way.awaiting);
            self.tell_everybody(at, store, &under_way.batch.clone(), awaiting);
        }
        if let Some(lane) = self.lane(at, store) {
            lane.under_way = Some(under_way);
            self.write_batch(at, store);
        }
    }

    fn write_batch(&mut self, at: Process, store: StoreId) {
        let Some(lane) = self.lane(at, store) else { return };
        let Some(under_way) = &lane.under_way else { return };
        let batch = Batch::Append(under_way.batch.clone());
        let ask = match lane.link.next() {
            Next::Open => Ask::OpenLane(LaneKind::Append, lane.link.token),
            Next::Write => Ask::Write(LaneKind::Append, lane.link.token, batch),
            Next::Wait => return,
        };
        self.ask(at, store, Ticket::Lane(store, LaneKind::Append), ask);
    }

    pub(super) fn lane_hears(&mut self, at: Process, store: StoreId, answer: Answer) {
        let Some(lane) = self.lane(at, store) else { return };
        match answer {
            Answer::LaneIsOpen => {
                lane.link.opened();
                self.write_batch(at, store);
            }
            // Nothing else of this lane may commit before this is settled: the very same batch is tried again.
            Answer::Unknown | Answer::NotCommitted(NotCommitted::LaneFenced) => {
                lane.link.shut();
                if let Some(under_way) = &mut lane.under_way {
                    under_way.outcome = Outcome::Again;
                }
                self.write_batch(at, store);
            }
            Answer::Committed => {
                let Some(under_way) = lane.under_way.take() else { return };
                lane.log.confirm(&under_way.batch);
                self.hand_over(at, store, under_way);
                self.cycle(at, store);
            }
            Answer::NotCommitted(why) => {
                let Some(under_way) = lane.under_way.take() else { return };
                self.not_committed(at, store, under_way, &why);
                self.cycle(at, store);
            }
            Answer::Taken(_) | Answer::Page(_) | Answer::Move(_) => unreachable!("a lane asks for nothing of that"),
        }
    }

    /// None of what was decided holds: not what was to be written, nor what was known or refused beside it.
    fn not_committed(&mut self, at: Process, store: StoreId, under_way: UnderWay, why: &NotCommitted) {
        let UnderWay { batch, previous, awaiting, outcome, .. } = under_way;
        let is_stale = self.has(KnownFault::StaleSeq);
        let Some(lane) = self.lane(at, store) else { return };
        match outcome {
            Outcome::First if is_stale => {}
            Outcome::First => lane.log.take_back(&batch, &previous),
            Outcome::Again => {
                lane.log.forget(&batch);
                self.have_log_read(at, store, &batch);
            }
        }
        let Some(lane) = self.lane(at, store) else { return };
        lane.cursors.take_back(&batch);
        let commands: Vec<Command> = awaiting.into_iter().map(|(command, _)| command).collect();
        match why {
            NotCommitted::SlotsFenced(slots) => {
                lane.back(commands.into_iter());
                slots.iter().for_each(|slot| lane.close_slot(*slot));
                self.note(|| format!("{at} finds slots {slots:?} fenced in store {store}"));
            }
            NotCommitted::Duplicate => self.settle_duplicates(at, store, commands),
            NotCommitted::LaneFenced => unreachable!("the lane is opened anew"),
        }
    }

    /// Something of the batch is in the store already: answers what is found, and queues the rest again.
    fn settle_duplicates(&mut self, at: Process, store: StoreId, commands: Vec<Command>) {
        let (mut open, mut found) = (Vec::new(), false);
        for command in commands {
            match self.answer_known(store, &command) {
                Some(reply) => {
                    found = true;
                    self.reply(command.id, reply);
                }
                None => open.push(command),
            }
        }
        // Nothing was found, so a seq or an id was stale: with what is loaded anew it should not be.
        let attempt = u32::from(!found);
        open.iter_mut().for_each(|command| command.attempts += attempt);
        let (given_up, again): (Vec<_>, Vec<_>) = open.into_iter().partition(|it| it.attempts > ATTEMPTS_MAX);
        self.refuse(given_up, &Refusal::Internal);
        if let Some(lane) = self.lane(at, store) {
            lane.settling = if found { again.len() } else { 0 };
            lane.back(again.into_iter());
        }
    }

    fn answer_known(&self, store: StoreId, command: &Command) -> Option<Reply> {
        let Request::Append(append) = command.request.as_ref() else { return None };
        let partition = self.stores[&store].partition(command.slot)?;
        let stored = partition.duplicate(append.conversation, append.sender, &append.temp_id)?;
        Some(answer_duplicate(append, &stored).map_or_else(Reply::Refused, Reply::Appended))
    }

    /// Our own, committed before their answer was lost: an empty group whose predecessor nobody has seen makes fan-out read
    /// the log.
    fn have_log_read(&mut self, at: Process, store: StoreId, batch: &AppendBatch) {
        for &(slot, epoch) in &batch.slots {
            if let Some(previous) = self.lane(at, store).and_then(|lane| lane.log.last_entry(slot)) {
                self.fan_out(at, Committed { slot, epoch, previous, entries: Vec::new() });
            }
        }
    }

    /// The batch is committed, or there was nothing to commit.
    fn hand_over(&mut self, at: Process, store: StoreId, under_way: UnderWay) {
        let UnderWay { batch, mut entries, previous, awaiting, .. } = under_way;
        self.tell_everybody(at, store, &batch, awaiting);
        for &(slot, epoch) in &batch.slots {
            if let (Some(entries), Some(&previous)) = (entries.remove(&slot), previous.get(&slot)) {
                self.fan_out(at, Committed { slot, epoch, previous, entries });
            }
        }
    }

    fn tell_everybody(&mut self, at: Process, store: StoreId, batch: &AppendBatch, awaiting: Vec<(Command, Verdict)>) {
        for (command, verdict) in awaiting {
            let reply = match verdict {
                Verdict::Due(Due::Event(place)) => Reply::Appended(appended(&batch.events[place].record)),
                Verdict::Due(Due::Answer(answer)) | Verdict::Known(answer) => Reply::from(answer),
                Verdict::Refused(refusal) => self.confirm_refusal(at, store, &command, refusal),
            };
            self.reply(command.id, reply);
        }
    }

    /// A retry of what was committed may look like something that is not allowed; and who does not own the slot any more
    /// did not know all there was.
    fn confirm_refusal(&mut self, at: Process, store: StoreId, command: &Command, refusal: Refusal) -> Reply {
        if let Some(known) = self.answer_known(store, command) {
            return known;
        }
        let epoch = self.lane(at, store).and_then(|lane| lane.log.epoch(command.slot));
        let fence = epoch.map(|epoch| Fence { epoch, owner: at, seal: Seal::Open });
        let is_owner = fence.is_some() && self.stores[&store].fence(command.slot) == fence;
        Reply::Refused(if is_owner { refusal } else { Refusal::NotServing })
    }
}

/// Everything that deciding these commands needs from the store. Read before the batch is written, so it may be stale.
fn look_up(log: &mut Log, pairs: &[(Slot, &Request)], store: &Store) -> Details {
    for key in log.missing(pairs.iter().copied()) {
        if let Some(stored) = store.partition(key.slot).and_then(|partition| partition.conversation(key.id)) {
            log.load(key.slot, stored);
        }
    }
    let mut details = Details::default();
    for key in log.wanted(pairs.iter().copied()).positions {
        if let Some(partition) = store.partition(key.slot) {
            partition.position(key, &mut details);
        }
    }
    details
}
