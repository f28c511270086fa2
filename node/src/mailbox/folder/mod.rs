//! Folds deliveries into inbox rows, mirrors blocks, and keeps profiles: takes whatever queued, loads what it does not know,
//! folds, commits it all in one round trip, and acknowledges.
//!
//! Memory holds only what is committed. What a round makes of it is in its [`Changes`], and enters memory after the commit.

mod changes;
mod commit;
mod events;
mod memory;
mod people;
mod queue;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tertulia_shard_map::{Epoch, Slot};
use tertulia_wire::cluster::{BlockChange, Refusal};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    changes::Changes,
    memory::Memory,
    queue::{Control, Next, Round},
};
use super::{news::News, presence::PresenceHandle};
use crate::{
    clock,
    peers::Peers,
    store::{Lane, Sight},
};

pub(super) use queue::{FoldEntry, FoldItem, FoldJob, PersonJob, PersonWork, Start};
pub use queue::{FolderHandle, FolderInputs};

#[derive(Debug, Clone, Copy)]
pub struct FolderSettings {
    /// Shortest time between two commits, unless somebody waits for one, or a block begins or ends: a row that changes often
    /// is written once.
    pub interval: Duration,
}

/// What a folder works with.
pub struct FolderParts {
    pub lane: Lane,
    pub peers: Peers,
    pub settings: FolderSettings,
    pub presence: PresenceHandle,
    pub(super) news: mpsc::Sender<News>,
}

struct Folder {
    lane: Lane,
    peers: Peers,
    presence: PresenceHandle,
    news: mpsc::Sender<News>,
    slots: HashMap<Slot, Epoch>,
    memory: Memory,
    /// Streams of which a job was given back: what follows on it has a hole, until the stream starts afresh.
    broken: HashSet<(Slot, Slot)>,
}

/// Runs until `stop`, or until this process is found deposed, which is an error: another incarnation of the node runs.
pub async fn run(parts: FolderParts, mut inputs: FolderInputs, stop: CancellationToken) -> anyhow::Result<()> {
    let FolderParts { lane, peers, settings, presence, news } = parts;
    let mut folder =
        Folder { lane, peers, presence, news, slots: HashMap::new(), memory: Memory::new(), broken: HashSet::new() };
    let mut not_before = Instant::now();
    let mut gathering = Round::default();
    loop {
        match inputs.next(&mut gathering, &folder.memory, not_before, &stop).await {
            Next::Control(told) => folder.control(told),
            Next::Round(round) => {
                folder.cycle(round, &mut inputs, &stop).await?;
                not_before = Instant::now() + settings.interval;
            }
            Next::Stopped => break,
        }
    }
    inputs.refuse_all(gathering, &folder.memory).await;
    Ok(())
}

impl Folder {
    fn control(&mut self, told: Control) {
        match told {
            Control::Open(slot, epoch) => {
                self.forget_slot(slot);
                self.slots.insert(slot, epoch);
            }
            Control::Close(slot) => self.forget_slot(slot),
        }
    }

    /// Of a slot that is not open nothing is remembered.
    fn forget_slot(&mut self, slot: Slot) {
        if self.slots.remove(&slot).is_none() {
            return;
        }
        self.memory.forget_slot(slot);
        self.broken.retain(|(_, to)| *to != slot);
    }

    async fn cycle(
        &mut self,
        mut round: Round,
        inputs: &mut FolderInputs,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        // Dropping a ticket unmarked sends its stream again; dropping a responder would be an internal error.
        round.folds.retain(|fold| {
            let stream = (fold.from, fold.slot);
            if fold.start == Start::Afresh {
                self.broken.remove(&stream);
            }
            self.slots.get(&fold.slot) == Some(&fold.epoch) && !self.broken.contains(&stream)
        });
        for stale in round.people.extract_if(.., |person| self.slots.get(&person.slot) != Some(&person.epoch)) {
            stale.reply.refuse(Refusal::NotServing);
        }

        if let Err(error) = self.memory.load(self.lane.store(), &round).await {
            tracing::warn!(store = %self.lane.store_id(), error = %clock::chain(&error), "mailboxes cannot be loaded");
            self.broken.extend(round.folds.iter().map(|fold| (fold.from, fold.slot)));
            round.refuse(&Refusal::StoreUnavailable);
            return Ok(());
        }
        let mut changes = Changes::default();
        self.fold(&mut round, &mut changes).await;
        let decide = |person: &mut PersonJob| !people::decide(&mut self.memory, &mut changes, person);
        let refused: Vec<PersonJob> = round.people.extract_if(.., decide).collect();
        for person in refused {
            self.refuse(person).await;
        }
        // An attachment tells what was loaded, and so acknowledges it.
        let acknowledged =
            round.folds.iter().map(|fold| fold.slot).chain(round.people.iter().map(|person| person.slot));
        let (batch, lost) = changes.batch(acknowledged, &mut self.memory, &self.slots);
        let mut failed = self.commit(batch, inputs, stop).await?;
        failed.extend(lost);

        for fold in round.folds {
            if failed.contains(&fold.slot) {
                self.broken.insert((fold.from, fold.slot));
            } else {
                fold.ticket.commit(fold.stream);
            }
        }
        changes.drop_slots(&failed);
        self.memory.note_blocks(&changes);
        for person in round.people {
            self.answer(person, &failed).await;
        }
        self.tell(changes).await;
        for done in round.flushes {
            let _ = done.send(());
        }
        Ok(())
    }

    /// Tells of what is committed. The sessions never wait for a folder, so that it can wait for them.
    async fn tell(&mut self, changes: Changes) {
        for (_, sight) in changes.begun {
            self.presence.sight_changed(sight);
        }
        for (key, change) in changes.blocks {
            if change.now == change.before {
                continue;
            }
            self.presence.sight_changed(Sight { user: key.user, watcher: key.other });
            if change.now.by_user != change.before.by_user {
                let said = if change.now.by_user { BlockChange::Block } else { BlockChange::Unblock };
                let (slot, user, other) = (key.slot, key.user, key.other);
                self.send(News::Blocked { slot, user, other, change: said, origin: change.origin }).await;
            }
        }
        for (_, (slot, changed)) in changes.profiles {
            if changed.before_shared != changed.profile.record.shares_presence {
                self.presence.user_changed(changed.profile.record.user);
            }
            self.send(News::Profile { slot, record: changed.profile.record, origin: changed.origin }).await;
        }
    }

    async fn send(&self, news: News) {
        // Sessions that have ended take their process down with them: nobody is left to be told.
        let _ = self.news.send(news).await;
    }
}
