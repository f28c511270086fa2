//! Tells mailboxes of sessions that ended, however they did.
//!
//! Invariant: a session is told of after it can no longer be found here, so that whoever attaches it meanwhile sees that
//! it is gone. Best effort: a mailbox forgets the sessions of a lost connection by itself, and pushes to others go nowhere.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tertulia_shard_map::{SessionId, UserId};
use tertulia_wire::cluster::Call;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Mailslot, presence, registry::Registration};
use crate::{
    metrics::DETACHES_DROPPED,
    routing::{Key, Routes, Verdict},
};

const DETACHES_AT_ONCE: usize = 256;
/// By then the mailbox has an owner again, or the connection that knew of the session is lost.
const DETACH_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// With room for `sessions_max`, for all may end at once.
    pub fn new(sessions_max: usize) -> (Self, mpsc::Receiver<Ended>) {
        let (queue, ended) = mpsc::channel(sessions_max.max(1));
        (Self { queue }, ended)
    }

    pub fn ended(&self, session: Ended) {
        if self.queue.try_send(session).is_err() {
            metrics::counter!(DETACHES_DROPPED).increment(1);
        }
    }

    /// Has the end of a session noted, also where its task panics.
    pub(super) fn attend(&self, registration: Registration) -> Attendance {
        let mailslot = registration.mailslot().clone();
        Attendance { registration: Some(registration), mailslot, detacher: self.clone() }
    }
}

/// When dropped the session cannot be found any more, and its end is noted.
pub(super) struct Attendance {
    registration: Option<Registration>,
    mailslot: Arc<Mailslot>,
    detacher: Detacher,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        drop(self.registration.take());
        if let Some(signed_in) = self.mailslot.signed_in() {
            let (session, watched) = (self.mailslot.id, self.mailslot.take_watches());
            self.detacher.ended(Ended { user: signed_in.user, session, watched });
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
                let mailbox = async {
                    if !matches!(routes.hold(Key::User(user), call, deadline, None).await.0, Verdict::Answered(_)) {
                        metrics::counter!(DETACHES_DROPPED).increment(1);
                    }
                };
                tokio::join!(mailbox, presence::end(&routes, session, &watched, deadline, None));
            }
        })
        .buffer_unordered(DETACHES_AT_ONCE)
        .for_each(|()| std::future::ready(()));
    tokio::select! {
        () = calls => {}
        () = shutdown.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use tertulia_wire::client::Format;

    use super::{super::Registry, *};

    #[test]
    fn the_end_of_a_session_whose_task_panics_is_noted_after_it_is_gone() {
        let (detacher, mut ended) = Detacher::new(1);
        let (registry, user) = (Registry::new(), UserId::from_u128(9));
        let mailslot = Arc::new(Mailslot::new(SessionId::from_u128(1), Format::Json, 1000));
        mailslot.sign_in(user);
        mailslot.watch(&[UserId::from_u128(2)]).unwrap();
        let attendance = detacher.attend(registry.register(mailslot.clone()));
        let task = std::thread::spawn(move || {
            let _attendance = attendance;
            std::panic::resume_unwind(Box::new("a fault"));
        });
        assert!(task.join().is_err());
        assert!(registry.is_empty());
        let noted = ended.try_recv().unwrap();
        assert_eq!((noted.user, noted.session, noted.watched), (user, mailslot.id, vec![UserId::from_u128(2)]));
    }

    #[test]
    fn a_session_that_never_said_who_it_is_needs_no_detach() {
        let (detacher, mut ended) = Detacher::new(1);
        let mailslot = Arc::new(Mailslot::new(SessionId::from_u128(1), Format::Json, 1000));
        drop(detacher.attend(Registry::new().register(mailslot)));
        assert!(ended.try_recv().is_err());
    }
}
