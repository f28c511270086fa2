//! Attachments and profiles: what concerns a user and no conversation.

use std::collections::HashSet;

use tertulia_shard_map::{Slot, UserId};
use tertulia_wire::cluster::{Answer, Attached, ProfileRecord, Refusal, SetProfile};

use super::{
    Folder,
    changes::{ChangedProfile, Changes},
    memory::Memory,
    queue::{PersonJob, PersonWork},
};
use crate::{
    mailbox::news::News,
    store::{NameFrom, StoredProfile},
};

/// Adds to the changes what the job asks for. False where the user may not sign in.
pub(super) fn decide(memory: &mut Memory, changes: &mut Changes, job: &PersonJob) -> bool {
    let committed = match memory.profile(job.user) {
        Some(committed) => committed.cloned(),
        // Not known any more: its answer will be that the store is not available.
        None => return true,
    };
    let changed = changes.profiles.get(&job.user).map(|(_, changed)| &changed.profile);
    let known = changed.cloned().or_else(|| committed.clone());
    let before_shared = committed.as_ref().is_none_or(|profile| profile.record.shares_presence);
    let (next, origin) = match &job.what {
        PersonWork::Attach { .. } if known.as_ref().is_some_and(|profile| profile.record.disabled) => return false,
        PersonWork::Attach { session, name } => (named(known.clone(), job.user, name.as_deref()), Some(*session)),
        PersonWork::SetProfile(change) => (set(known.clone(), change), change.origin),
    };
    if known.as_ref() != Some(&next) {
        let origin = match changes.profiles.get(&job.user) {
            Some((_, earlier)) if earlier.origin != origin => None,
            _ => origin,
        };
        changes.profiles.insert(job.user, (job.slot, ChangedProfile { profile: next, before_shared, origin }));
    }
    true
}

/// Of a user who was never here.
fn new_profile(user: UserId) -> StoredProfile {
    let record = ProfileRecord { user, name: None, avatar_url: None, shares_presence: true, disabled: false };
    StoredProfile { record, name_from: NameFrom::Token }
}

fn named(known: Option<StoredProfile>, user: UserId, token_name: Option<&str>) -> StoredProfile {
    let mut profile = known.unwrap_or_else(|| new_profile(user));
    if profile.name_from == NameFrom::Token
        && let Some(name) = token_name
        && profile.record.name.as_deref() != Some(name)
    {
        profile.record.name = Some(name.to_owned());
    }
    profile
}

fn set(known: Option<StoredProfile>, change: &SetProfile) -> StoredProfile {
    let mut profile = known.unwrap_or_else(|| new_profile(change.user));
    if let Some(name) = &change.name {
        profile.record.name = Some(name.clone());
        profile.name_from = NameFrom::Own;
    }
    if let Some(url) = &change.avatar_url {
        profile.record.avatar_url = (!url.is_empty()).then(|| url.clone());
    }
    profile.record.shares_presence = change.shares_presence.unwrap_or(profile.record.shares_presence);
    profile.record.disabled = change.disabled.unwrap_or(profile.record.disabled);
    profile
}

impl Folder {
    pub(super) async fn refuse(&self, job: PersonJob) {
        if let PersonWork::Attach { session, .. } = job.what {
            self.send(News::Refused { slot: job.slot, user: job.user, session }).await;
        }
        job.reply.refuse(Refusal::NotAllowed("this user is disabled".to_owned()));
    }

    pub(super) async fn answer(&mut self, job: PersonJob, failed: &HashSet<Slot>) {
        let PersonJob { slot, epoch, user, what, reply } = job;
        let profile = match self.memory.profile(user) {
            Some(Some(profile)) if !failed.contains(&slot) => profile.record.clone(),
            _ => return reply.refuse(Refusal::StoreUnavailable),
        };
        match what {
            PersonWork::SetProfile(_) => reply.send(Answer::SetProfile(profile)),
            PersonWork::Attach { session, .. } => {
                let Some(head) = self.memory.head(user) else { return reply.refuse(Refusal::StoreUnavailable) };
                let (rev, large) = (head.rev, head.large.clone());
                let attached = Attached { rev, in_large_group: !large.is_empty(), profile, epoch };
                // Before the answer: whoever is told of being attached is pushed what happens in large groups.
                self.send(News::Attached { slot, epoch, user, session, large }).await;
                reply.send(Answer::Attach(attached));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_u128(1);

    fn change() -> SetProfile {
        SetProfile { user: ANA, origin: None, name: None, avatar_url: None, shares_presence: None, disabled: None }
    }

    #[test]
    fn the_name_of_the_token_counts_until_the_user_has_one_of_its_own() {
        let first = named(None, ANA, Some("ana"));
        assert_eq!((first.record.name.as_deref(), first.record.shares_presence), (Some("ana"), true));
        let other = named(Some(first), ANA, Some("anna"));
        assert_eq!(other.record.name.as_deref(), Some("anna"));
        assert_eq!(named(Some(other.clone()), ANA, None), other);
        let own = set(Some(other), &SetProfile { name: Some("Ana María".into()), ..change() });
        assert_eq!(named(Some(own.clone()), ANA, Some("ana")), own);
    }

    #[test]
    fn what_is_left_out_of_a_change_stays_and_an_empty_avatar_is_none() {
        let url = Some("https://example.org/a.png".to_owned());
        let first = set(None, &SetProfile { avatar_url: url.clone(), shares_presence: Some(false), ..change() });
        assert_eq!((&first.record.avatar_url, first.record.shares_presence), (&url, false));
        let disabled = set(Some(first.clone()), &SetProfile { disabled: Some(true), ..change() });
        assert_eq!((&disabled.record.avatar_url, disabled.record.shares_presence), (&url, false));
        assert!(disabled.record.disabled);
        let none = set(Some(first), &SetProfile { avatar_url: Some(String::new()), ..change() });
        assert_eq!(none.record.avatar_url, None);
    }
}
