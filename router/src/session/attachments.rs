//! Keeps every session attached where its mailbox is owned now.
//!
//! Level-triggered: after any change of the map or of a connection it compares where each session *is* attached with
//! where it *should* be, and attaches what differs, until nothing does. What the mailbox sent between the two owners may
//! be lost, so such a session is told to sync again. The same for those whose presence a session watches, each of whom
//! has an owner of their own.
//!
//! Each node has rounds of its own, one at a time: a node that hangs delays nobody whose owner is another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use tertulia_shard_map::{NodeId, UserId};
use tertulia_wire::{
    client::ResyncReason,
    cluster::{Answer, Attach, Call, Refusal},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Detacher, Ended, Mailslot, Registry, Standing, presence};
use crate::{
    metrics::{REATTACHED, WATCHES_RENEWED},
    routing::{Key, Routes, Verdict},
};

/// In one round.
const ATTACHES_AT_ONCE: usize = 64;
const ATTACH_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait before a node's next round where some sessions could not be attached; doubles up to the second.
const ROUND_WAIT_MIN: Duration = Duration::from_millis(50);
const ROUND_WAIT_MAX: Duration = Duration::from_secs(1);

/// Attaches sessions again, as long as the router lives.
pub async fn reattach(routes: Arc<Routes>, registry: Registry, detacher: Detacher, shutdown: CancellationToken) {
    let at_work = Reattachment { routes, registry, detacher };
    let mut changes = at_work.routes.changes();
    let mut rounds = FuturesUnordered::new();
    // The nodes with a round, and the wait after it should it fail.
    let mut under_way: BTreeMap<NodeId, Duration> = BTreeMap::new();
    // Nodes whose last round failed.
    let mut waits: BTreeMap<NodeId, Duration> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        for (node, misplaced) in at_work.misplaced(&under_way.keys().copied().collect()) {
            let wait = waits.remove(&node).unwrap_or(ROUND_WAIT_MIN);
            under_way.insert(node, wait);
            rounds.push(at_work.round(node, misplaced, wait));
        }
        tokio::select! {
            Some((node, end)) = rounds.next() => {
                let wait = under_way.remove(&node);
                if let (RoundEnd::Failed, Some(wait)) = (end, wait) {
                    waits.insert(node, (wait * 2).min(ROUND_WAIT_MAX));
                }
            }
            _ = changes.changed() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// What is to be done at one node.
#[derive(Default)]
struct Misplaced {
    /// Sessions whose mailbox it owns.
    sessions: Vec<(Arc<Mailslot>, UserId)>,
    /// Sessions that watch users whose mailbox it owns.
    watchers: Vec<Arc<Mailslot>>,
}

enum RoundEnd {
    Done,
    /// For some sessions.
    Failed,
}

struct NotNow;

struct Reattachment {
    routes: Arc<Routes>,
    registry: Registry,
    detacher: Detacher,
}

impl Reattachment {
    /// By node, what has another owner, or is behind another connection, than where it is known. Nodes that cannot be
    /// reached are not among them: the next change brings them back here.
    fn misplaced(&self, except: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Misplaced> {
        let mut misplaced: BTreeMap<NodeId, Misplaced> = BTreeMap::new();
        self.registry.for_each(|mailslot| {
            // Without an attachment its own session is about to make one.
            if let Some(signed_in) = mailslot.signed_in()
                && let Some(attached) = signed_in.attached
                && let Ok(target) = self.routes.target(Key::User(signed_in.user))
                && target.attachment != attached
            {
                let node = misplaced.entry(target.attachment.node).or_default();
                node.sessions.push((mailslot.clone(), signed_in.user));
            }
            if mailslot.watches_anybody() {
                let target = |user| self.routes.target(Key::User(user)).ok().map(|target| target.attachment);
                let users = mailslot.misplaced_watches(target);
                let nodes: BTreeSet<NodeId> = users.into_iter().filter_map(target).map(|it| it.node).collect();
                for node in nodes {
                    misplaced.entry(node).or_default().watchers.push(mailslot.clone());
                }
            }
        });
        misplaced.retain(|node, _| !except.contains(node));
        misplaced
    }

    /// One attempt for each. Where some failed it lasts until they are to be tried again.
    async fn round(&self, node: NodeId, misplaced: Misplaced, wait: Duration) -> (NodeId, RoundEnd) {
        let mut changes = self.routes.changes();
        let (sessions, mut failed) = (misplaced.sessions.len(), 0_usize);
        let mut attached = stream::iter(misplaced.sessions)
            .map(|(mailslot, user)| async move { self.attach(&mailslot, user).await })
            .buffer_unordered(ATTACHES_AT_ONCE);
        while let Some(outcome) = attached.next().await {
            failed += usize::from(outcome.is_err());
        }
        if failed < sessions {
            tracing::info!(%node, sessions = sessions - failed, failed, "attached sessions again");
        }
        failed += self.renew(node, misplaced.watchers).await;
        if failed == 0 {
            return (node, RoundEnd::Done);
        }
        tokio::select! {
            () = sleep(wait) => {}
            _ = changes.changed() => {}
        }
        (node, RoundEnd::Failed)
    }

    /// Watches anew whom these sessions watch elsewhere than at the node. How many sessions have to be tried again.
    async fn renew(&self, node: NodeId, watchers: Vec<Arc<Mailslot>>) -> usize {
        let target = |user| {
            let target = self.routes.target(Key::User(user)).ok()?.attachment;
            (target.node == node).then_some(target)
        };
        let renewals = stream::iter(watchers).map(|mailslot| async move {
            let users = mailslot.misplaced_watches(target);
            if users.is_empty() {
                return false;
            }
            let deadline = Instant::now() + ATTACH_TIMEOUT;
            let renewed = presence::renew(&self.routes, &mailslot, &users, deadline).await;
            metrics::counter!(WATCHES_RENEWED).increment(if renewed.is_ok() { users.len() as u64 } else { 0 });
            renewed.is_err()
        });
        renewals.buffer_unordered(ATTACHES_AT_ONCE).filter(|failed| std::future::ready(*failed)).count().await
    }

    async fn attach(&self, mailslot: &Mailslot, user: UserId) -> Result<(), NotNow> {
        let attach = Attach { user, session: mailslot.id, name: None };
        let deadline = Instant::now() + ATTACH_TIMEOUT;
        mailslot.ask_standing();
        match self.routes.attempt(Key::User(user), |_| Call::Attach(attach), deadline, None).await {
            (Verdict::Answered(Answer::Attach(attached)), Some(attachment)) => {
                let (shares_presence, disabled) = (attached.profile.shares_presence, attached.profile.disabled);
                mailslot.answer_standing(Standing { shares_presence, disabled });
                mailslot.set_attached(attachment);
                self.moved(mailslot);
                Ok(())
            }
            // It ends by that.
            (Verdict::Refused(Refusal::NotAllowed(_)), Some(attachment)) => {
                mailslot.set_standing(Standing { shares_presence: false, disabled: true });
                mailslot.set_attached(attachment);
                Ok(())
            }
            _ => Err(NotNow),
        }
    }

    fn moved(&self, mailslot: &Mailslot) {
        metrics::counter!(REATTACHED).increment(1);
        mailslot.resync(ResyncReason::OwnerChanged);
        // It may have ended meanwhile, its detach sent to the old owner.
        if self.registry.get(mailslot.id).is_none()
            && let Some(signed_in) = mailslot.signed_in()
        {
            let watched = mailslot.take_watches();
            self.detacher.ended(Ended { user: signed_in.user, session: mailslot.id, watched });
        }
    }
}
