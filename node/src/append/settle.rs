//! What becomes of refused commands: a retry of what was committed may look like something that is not allowed, and then
//! its first answer counts. Looked up beside the lane, which does not wait for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tertulia_shard_map::{Epoch, Slot};
use tertulia_wire::cluster::{Answer, Refusal};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{backlog::Command, log::answer_duplicate};
use crate::{
    clock,
    store::{DuplicateKey, Store, StoreError},
};

/// Look-ups of one lane at the same time; with one more the lane waits.
const LOOK_UPS_MAX: usize = 4;

/// A command that was refused from what the lane of this epoch remembered.
pub(super) struct Refused {
    pub command: Command,
    pub epoch: Epoch,
    pub refusal: Refusal,
}

pub(super) struct Settler {
    store: Store,
    queued_bytes: Arc<AtomicUsize>,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Settler {
    pub fn new(store: Store, queued_bytes: Arc<AtomicUsize>) -> Self {
        Self { store, queued_bytes, room: Arc::new(Semaphore::new(LOOK_UPS_MAX)), tasks: TaskTracker::new() }
    }

    pub fn answer(&self, command: Command, result: Result<Answer, Refusal>) {
        answer(&self.queued_bytes, command, result);
    }

    pub async fn settle(&self, refused: Vec<Refused>) {
        if refused.is_empty() {
            return;
        }
        let Ok(permit) = self.room.clone().acquire_owned().await else { return };
        let (store, queued_bytes) = (self.store.clone(), self.queued_bytes.clone());
        self.tasks.spawn(async move {
            look_up(&store, &queued_bytes, refused).await;
            drop(permit);
        });
    }

    /// Until everybody is told.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn answer(queued_bytes: &AtomicUsize, command: Command, result: Result<Answer, Refusal>) {
    queued_bytes.fetch_sub(command.request.cost(), Ordering::Relaxed);
    command.reply.send(result.unwrap_or_else(Answer::Refused));
}

async fn look_up(store: &Store, queued_bytes: &AtomicUsize, refused: Vec<Refused>) {
    let mut slots: BTreeMap<Slot, Epoch> = BTreeMap::new();
    let commands = refused
        .into_iter()
        .map(|Refused { command, epoch, refusal }| {
            slots.insert(command.slot, epoch);
            (command, refusal)
        })
        .collect();
    let tell = |command, result| answer(queued_bytes, command, result);
    let open = match answer_known(store, commands, tell).await {
        Ok(open) => open,
        Err((open, error)) => return unavailable(store, &error, open, tell),
    };
    // Afterwards: who owns a slot now owned it when the refusal was decided, and knew all there was.
    match store.owned(&slots.into_iter().collect::<Vec<_>>()).await {
        Ok(owned) => {
            for (command, refusal) in open {
                let still = owned.contains(&command.slot);
                tell(command, Err(if still { refusal } else { Refusal::NotServing }));
            }
        }
        Err(error) => unavailable(store, &error, open, tell),
    }
}

fn unavailable(
    store: &Store,
    error: &StoreError,
    commands: Vec<(Command, Refusal)>,
    tell: impl Fn(Command, Result<Answer, Refusal>),
) {
    tracing::warn!(store = %store.id(), error = %clock::chain(error), "refusals cannot be confirmed");
    for (command, _) in commands {
        tell(command, Err(Refusal::StoreUnavailable));
    }
}

/// Answers those commands under whose keys the store has an event, and gives back the others.
pub(super) async fn answer_known<T>(
    store: &Store,
    commands: Vec<(Command, T)>,
    tell: impl Fn(Command, Result<Answer, Refusal>),
) -> Result<Vec<(Command, T)>, (Vec<(Command, T)>, StoreError)> {
    let keys: Vec<DuplicateKey<'_>> = commands.iter().filter_map(|(command, _)| command.key()).collect();
    let mut found = match store.find_duplicates(&keys).await {
        Ok(found) => found.into_iter(),
        Err(error) => return Err((commands, error)),
    };
    let mut open = Vec::new();
    for (command, with) in commands {
        let stored = command.append().and_then(|_| found.next().flatten());
        match command.append().zip(stored) {
            Some((append, stored)) => {
                let result = answer_duplicate(append, &stored).map(Answer::Append);
                tell(command, result);
            }
            None => open.push((command, with)),
        }
    }
    Ok(open)
}
