//! What happens in large groups, for the members that are attached here. No commit, no rev: who misses an event notices.

use tertulia_shard_map::{ConversationId, SessionId, UserId};
use tertulia_wire::{
    EventRecord,
    cluster::{Announcement, Head, PushItem},
};

use super::{super::pushes::Pushes, Sessions};

impl Sessions {
    pub(super) fn announce(&mut self, announcement: Announcement, pushes: &mut Pushes) {
        let Announcement { event, joining, leaving } = announcement;
        let record = &event.record;
        for user in &leaving {
            let dropped = self.large.leaves(*user, record.conversation, record.seq);
            self.interest.remove(dropped);
        }
        self.large.announced(record.conversation, record.seq);
        // They, and the sender, get it by their own stream.
        self.push_to_members(record, event.origin, pushes, |user| {
            user == record.sender || joining.contains(&user) || leaving.contains(&user)
        });
    }

    fn push_to_members(
        &self,
        record: &EventRecord,
        origin: Option<SessionId>,
        pushes: &mut Pushes,
        except: impl Fn(UserId) -> bool,
    ) {
        for user in self.large.members(record.conversation, record.seq).filter(|user| !except(*user)) {
            let Some(slot) = self.slot_of.get(&user) else { continue };
            for attached in self.sessions_of(*slot, user) {
                if Some(attached.session) != origin {
                    let item = || PushItem::Event(record.clone());
                    pushes.add_entry(attached.connection, attached.session, record.id, item);
                }
            }
        }
    }

    /// What the owners say: where they are ahead of what was announced here, something was missed.
    pub(super) fn heads(&mut self, heads: Vec<(ConversationId, Option<Head>)>) {
        for (conversation, head) in heads {
            if let Some(head) = head
                && self.large.is_behind(conversation, &head)
            {
                self.interest.fetch(conversation);
            }
        }
    }

    /// The newest event, for a group that is behind: members repair by its seq.
    pub(super) fn newest(
        &mut self,
        conversation: ConversationId,
        record: Option<Box<EventRecord>>,
        pushes: &mut Pushes,
    ) {
        if self.large.fetched(conversation, record.as_ref().map(|record| record.seq))
            && let Some(record) = record
        {
            self.push_to_members(&record, None, pushes, |_| false);
        }
    }
}
