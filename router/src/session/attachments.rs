//! Keeps every session attached where its mailbox is owned now, and tells mailboxes of sessions that ended.
//!
//! Level-triggered: after any change of the map or of a connection it compares where each session *is* attached with
//! where it *should* be, and attaches what differs, until nothing does. What the mailbox sent between the two owners may
//! be lost, so such a session is told to sync again. The same for those whose presence a session watches, each of whom
//! has an owner of their own.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::{
    client::ResyncReason,
    cluster::{Answer, Attach, Call},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Mailslot, Registry, presence};
use crate::{
    metrics::{DETACHES_DROPPED, REATTACHED, WATCHES_RENEWED},
    routing::{Key, Routes, Verdict},
};

const ATTACHES_AT_ONCE: usize = 64;
const ATTACH_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait before the next round where some sessions could not be attached; doubles up to the second.
const ROUND_WAIT_MIN: Duration = Duration::from_millis(50);
const ROUND_WAIT_MAX: Duration = Duration::from_secs(1);
const DETACHES_AT_ONCE: usize = 64;
const DETACHES_QUEUED_MAX: usize = 16 * 1024;
const DETACH_TIMEOUT: Duration = Duration::from_secs(2);

/// A session that is no more.
#[derive(Debug, Clone)]
pub struct Ended {
    pub user: UserId,
    pub session: SessionId,
    /// Whose presence it watched.
    pub watched: Vec<UserId>,
}

/// Takes note of sessions that ended.
#[derive(Clone)]
pub struct Detacher {
    queue: mpsc::Sender<Ended>,
}

impl Detacher {
    pub fn new() -> (Self, mpsc::Receiver<Ended>) {
        let (queue, ended) = mpsc::channel(DETACHES_QUEUED_MAX);
        (Self { queue }, ended)
    }

    /// Best effort: a mailbox forgets the sessions of a lost connection by itself, and pushes to others go nowhere.
    pub fn ended(&self, session: Ended) {
        if self.queue.try_send(session).is_err() {
            metrics::counter!(DETACHES_DROPPED).increment(1);
        }
    }
}

/// Sends detaches until the last [`Detacher`] is gone or `shutdown`.
pub async fn detach(routes: Arc<Routes>, mut ended: mpsc::Receiver<Ended>, shutdown: CancellationToken) {
    let queue = stream::poll_fn(move |cx| ended.poll_recv(cx));
    let calls = queue
        .map(|Ended { user, session, watched }| {
            let routes = routes.clone();
            async move {
                let call = |_| Call::Detach { user, session };
                let deadline = Instant::now() + DETACH_TIMEOUT;
                if !matches!(routes.attempt(Key::User(user), call, deadline, None).await.0, Verdict::Answered(_)) {
                    metrics::counter!(DETACHES_DROPPED).increment(1);
                }
                if !watched.is_empty() {
                    presence::end(&routes, session, &watched, deadline, None).await;
                }
            }
        })
        .buffer_unordered(DETACHES_AT_ONCE)
        .for_each(|()| std::future::ready(()));
    tokio::select! {
        () = calls => {}
        () = shutdown.cancelled() => {}
    }
}

/// Attaches sessions again, as long as the router lives.
pub async fn reattach(routes: Arc<Routes>, registry: Registry, detacher: Detacher, shutdown: CancellationToken) {
    let mut changes = routes.changes();
    let mut round_wait = ROUND_WAIT_MIN;
    loop {
        changes.mark_unchanged();
        let misplaced = misplaced(&routes, &registry);
        let mut failed = 0_usize;
        if !misplaced.is_empty() {
            let total = misplaced.len();
            let mut attached = stream::iter(misplaced)
                .map(|(mailslot, user)| attach(&routes, mailslot, user))
                .buffer_unordered(ATTACHES_AT_ONCE);
            while let Some(outcome) = attached.next().await {
                match outcome {
                    Ok(mailslot) => moved(&registry, &detacher, &mailslot),
                    Err(NotNow) => failed += 1,
                }
            }
            if failed < total {
                tracing::info!(sessions = total - failed, failed, "attached sessions again");
            }
        }
        failed += renew(&routes, &registry).await;
        let retry = async { if failed > 0 { sleep(round_wait).await } else { std::future::pending().await } };
        tokio::select! {
            () = retry => round_wait = (round_wait * 2).min(ROUND_WAIT_MAX),
            _ = changes.changed() => round_wait = ROUND_WAIT_MIN,
            () = shutdown.cancelled() => return,
        }
    }
}

/// The sessions whose mailbox has another owner, or is behind another connection, than where they are attached. Those
/// whose owner cannot be reached are not among them: the next change brings them back here.
fn misplaced(routes: &Routes, registry: &Registry) -> Vec<(Arc<Mailslot>, UserId)> {
    let mut misplaced = Vec::new();
    registry.for_each(|mailslot| {
        let Some(signed_in) = mailslot.signed_in() else { return };
        // Without an attachment its own session is about to make one.
        let Some(attached) = signed_in.attached else { return };
        if routes.target(Key::User(signed_in.user)).is_ok_and(|target| target.attachment != attached) {
            misplaced.push((mailslot.clone(), signed_in.user));
        }
    });
    misplaced
}

/// Watches anew whom sessions watch elsewhere than they should. How many sessions have to be tried again.
async fn renew(routes: &Routes, registry: &Registry) -> usize {
    let mut watchers = Vec::new();
    registry.for_each(|mailslot| {
        if mailslot.watches_anybody() {
            watchers.push(mailslot.clone());
        }
    });
    let target = |user| routes.target(Key::User(user)).ok().map(|target| target.attachment);
    let renewals = stream::iter(watchers).map(|mailslot| async move {
        let users = mailslot.misplaced_watches(target);
        if users.is_empty() {
            return false;
        }
        let deadline = Instant::now() + ATTACH_TIMEOUT;
        let renewed = presence::renew(routes, &mailslot, &users, deadline).await;
        metrics::counter!(WATCHES_RENEWED).increment(if renewed.is_ok() { users.len() as u64 } else { 0 });
        renewed.is_err()
    });
    renewals.buffer_unordered(ATTACHES_AT_ONCE).filter(|failed| std::future::ready(*failed)).count().await
}

struct NotNow;

async fn attach(routes: &Routes, mailslot: Arc<Mailslot>, user: UserId) -> Result<Arc<Mailslot>, NotNow> {
    let attach = Attach { user, session: mailslot.id, name: None };
    let deadline = Instant::now() + ATTACH_TIMEOUT;
    match routes.attempt(Key::User(user), |_| Call::Attach(attach), deadline, None).await {
        (Verdict::Answered(Answer::Attach(_)), Some(attachment)) => {
            mailslot.set_attached(attachment);
            Ok(mailslot)
        }
        _ => Err(NotNow),
    }
}

fn moved(registry: &Registry, detacher: &Detacher, mailslot: &Mailslot) {
    metrics::counter!(REATTACHED).increment(1);
    mailslot.resync(ResyncReason::OwnerChanged);
    // It may have ended meanwhile, its detach sent to the old owner.
    if registry.get(mailslot.id).is_none()
        && let Some(signed_in) = mailslot.signed_in()
    {
        detacher.ended(Ended { user: signed_in.user, session: mailslot.id, watched: mailslot.take_watches() });
    }
}
