//! Whose presence a session has subscribed to, where each subscription is known, and what the client was told last.
//!
//! A user is watched where their mailbox is owned: with a new owner, or over a new connection, the subscription begins
//! anew (see [`attachments`](super::attachments)). Pure.

use std::collections::BTreeMap;

use tertulia_shard_map::UserId;
use tertulia_wire::{cluster::Presence, limits::PRESENCE_USERS_MAX};

use crate::routing::Attachment;

/// A session's subscriptions: at most [`PRESENCE_USERS_MAX`].
#[derive(Debug, Default)]
pub struct Watches {
    users: BTreeMap<UserId, Watch>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Watch {
    /// `None` until the owner has answered.
    at: Option<Attachment>,
    /// What the client knows.
    told: Option<State>,
    /// An owner spoke of the user after it was asked last: its answer, when it is looked at, is older.
    heard: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    online: bool,
    last_seen_ms: Option<i64>,
}

impl From<&Presence> for State {
    fn from(presence: &Presence) -> Self {
        Self { online: presence.online, last_seen_ms: presence.last_seen_ms }
    }
}

/// The session would watch more users than one may.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyWatched;

impl Watches {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.users.keys().copied()
    }

    pub fn has(&self, user: UserId) -> bool {
        self.users.contains_key(&user)
    }

    /// Adds all of them or none; their owners are about to be asked. Those that are new.
    pub fn add(&mut self, users: &[UserId]) -> Result<Vec<UserId>, TooManyWatched> {
        let mut new: Vec<UserId> = users.iter().copied().filter(|user| !self.has(*user)).collect();
        new.sort_unstable();
        new.dedup();
        if self.users.len() + new.len() > PRESENCE_USERS_MAX {
            return Err(TooManyWatched);
        }
        self.users.extend(new.iter().map(|user| (*user, Watch::default())));
        self.asked(users);
        Ok(new)
    }

    pub fn remove(&mut self, users: &[UserId]) {
        for user in users {
            self.users.remove(user);
        }
    }

    /// Their owners are about to be asked.
    pub fn asked(&mut self, users: &[UserId]) {
        for user in users {
            if let Some(watch) = self.users.get_mut(user) {
                watch.heard = false;
            }
        }
    }

    /// An owner has answered about these users. Those of the states that are news to the client.
    pub fn answered(&mut self, users: &[UserId], states: &[Presence], at: Attachment) -> Vec<Presence> {
        for user in users {
            if let Some(watch) = self.users.get_mut(user) {
                watch.at = Some(at);
            }
        }
        let current = |it: &&Presence| self.users.get(&it.user).is_some_and(|watch| !watch.heard);
        states.iter().filter(current).filter(|it| self.is_news(it)).copied().collect()
    }

    /// Whether the client asked for it and does not know it.
    pub fn is_news(&self, presence: &Presence) -> bool {
        self.users.get(&presence.user).is_some_and(|watch| watch.told != Some(presence.into()))
    }

    /// The client is told so.
    pub fn tell(&mut self, presence: &Presence) {
        if let Some(watch) = self.users.get_mut(&presence.user) {
            watch.told = Some(presence.into());
            watch.heard = true;
        }
    }

    /// What the client was told of these users.
    pub fn told(&self, users: &[UserId]) -> Vec<Presence> {
        let told = |user: &UserId| {
            let State { online, last_seen_ms } = self.users.get(user)?.told?;
            Some(Presence { user: *user, online, last_seen_ms })
        };
        users.iter().filter_map(told).collect()
    }

    /// The users who are watched elsewhere than `target` says they should be. Those without an answer yet are not among
    /// them: their subscription is under way.
    pub fn misplaced(&self, target: impl Fn(UserId) -> Option<Attachment>) -> Vec<UserId> {
        let misplaced = |watch: &Watch, user| watch.at.is_some_and(|at| target(user).is_some_and(|it| it != at));
        self.users.iter().filter(|(user, watch)| misplaced(watch, **user)).map(|(user, _)| *user).collect()
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{Epoch, NodeId};

    use super::*;

    fn user(id: u128) -> UserId {
        UserId::from_u128(id)
    }

    fn at(epoch: u64) -> Attachment {
        Attachment { node: NodeId::new(1), epoch: Epoch::new(epoch), generation: 1 }
    }

    fn online(id: u128) -> Presence {
        Presence { user: user(id), online: true, last_seen_ms: None }
    }

    fn ids(range: std::ops::Range<u128>) -> Vec<UserId> {
        range.map(user).collect()
    }

    #[test]
    fn a_session_watches_a_bounded_number_of_users() {
        let mut watches = Watches::default();
        assert_eq!(watches.add(&ids(0..150)).unwrap().len(), 150);
        assert_eq!(watches.add(&ids(100..201)), Err(TooManyWatched));
        assert!(!watches.has(user(200)), "all or none");
        assert_eq!(watches.add(&ids(100..200)).unwrap(), ids(150..200), "those it had count once");
        watches.remove(&ids(0..1));
        assert!(watches.add(&[user(300), user(300)]).is_ok());
    }

    #[test]
    fn only_news_of_watched_users_is_told() {
        let mut watches = Watches::default();
        watches.add(&[user(1)]).unwrap();
        assert!(!watches.is_news(&online(2)), "nobody asked");
        assert!(watches.is_news(&online(1)));
        watches.tell(&online(1));
        assert!(!watches.is_news(&online(1)), "the client knows");
        assert!(watches.is_news(&Presence { online: false, ..online(1) }));
        assert_eq!(watches.told(&ids(1..3)), [online(1)]);
    }

    #[test]
    fn a_watch_is_renewed_where_its_owner_is_another_and_differences_are_told() {
        let mut watches = Watches::default();
        watches.add(&ids(1..4)).unwrap();
        assert!(watches.misplaced(|_| Some(at(1))).is_empty(), "their subscription is under way");
        let news = watches.answered(&ids(1..3), &[online(1), online(2)], at(1));
        assert_eq!(news, [online(1), online(2)]);
        news.iter().for_each(|it| watches.tell(it));
        assert!(watches.misplaced(|_| None).is_empty(), "an owner that is away is waited for");
        assert_eq!(watches.misplaced(|_| Some(at(2))), ids(1..3));
        watches.asked(&ids(1..3));
        let now = [online(1), Presence { online: false, ..online(2) }];
        assert_eq!(watches.answered(&ids(1..3), &now, at(2)), [now[1]]);
        assert!(watches.misplaced(|_| Some(at(2))).is_empty());
    }

    #[test]
    fn what_an_owner_said_later_is_not_undone_by_its_answer() {
        let mut watches = Watches::default();
        watches.add(&[user(1)]).unwrap();
        let left = Presence { online: false, ..online(1) };
        watches.tell(&left);
        assert!(watches.answered(&[user(1)], &[online(1)], at(1)).is_empty());
        assert_eq!(watches.told(&[user(1)]), [left]);
    }
}
