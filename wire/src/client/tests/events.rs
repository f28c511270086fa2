//! What clients see of stored events.

use crate::{
    GroupBody, GroupMember, ReactionBody, ReactionChange, ReactionCount, Role, Since, Target, encode_group,
    encode_reaction,
};

use super::*;

fn record(kind: EventKind, body: Vec<u8>) -> EventRecord {
    EventRecord {
        id: EventId::from_u128(1),
        conversation: ConversationId::from_u128(2),
        seq: Seq::new(3),
        message_no: MessageNo::new(2),
        kind,
        sender: ANA.parse().unwrap(),
        created_at_ms: 4,
        temp_id: "t".into(),
        body: body.into(),
        target: Some(Target { id: EventId::from_u128(5), seq: Seq::new(1) }),
        since: None,
    }
}

#[test]
fn a_message_shows_what_became_of_it() {
    let body = encode_message(&MessageBody { content: Some("new".into()), ..MessageBody::default() });
    let mut stored = EventRecord { target: None, ..record(EventKind::Message, body.to_vec()) };
    let reactions = vec![ReactionCount { emoji: "👍".into(), count: 2, mine: true }];
    stored.since = Some(Box::new(Since { edited_at_ms: Some(9), deleted_at_ms: None, reactions }));
    let event = Event::from_record(&stored).unwrap();
    assert_eq!((event.content.as_deref(), event.edited_at_ms), (Some("new"), Some(9)));
    assert_eq!(event.reactions, [Reactions { emoji: "👍".into(), count: 2, mine: true }]);
}

#[test]
fn what_was_deleted_has_no_content_but_keeps_its_place() {
    let mut stored = EventRecord { target: None, ..record(EventKind::Message, Vec::new()) };
    stored.since = Some(Box::new(Since { deleted_at_ms: Some(9), ..Since::default() }));
    let event = Event::from_record(&stored).unwrap();
    assert_eq!((event.seq, event.content, event.deleted_at_ms), (Seq::new(3), None, Some(9)));
    // An edit of it, erased along with it.
    let edit = Event::from_record(&record(EventKind::Edit, Vec::new())).unwrap();
    assert_eq!((edit.kind, edit.content, edit.message_seq), (ClientEventKind::Edit, None, Some(Seq::new(1))));
}

#[test]
fn a_reaction_names_its_message_and_a_group_change_its_members() {
    let body = ReactionBody { emoji: "👍".into(), change: ReactionChange::Remove };
    let event = Event::from_record(&record(EventKind::Reaction, encode_reaction(&body).to_vec())).unwrap();
    assert_eq!((event.emoji.as_deref(), event.change), (Some("👍"), Some(ReactionChange::Remove)));
    assert_eq!(event.message_id, Some(EventId::from_u128(5)));

    let member = GroupMember { user: BRUNO.parse().unwrap(), role: Role::Admin };
    let body = GroupBody { name: Some("us".into()), members: vec![member], became_large: true };
    let event = Event::from_record(&record(EventKind::Created, encode_group(&body).to_vec())).unwrap();
    assert_eq!(event.name.as_deref(), Some("us"));
    assert_eq!(event.members, [MemberRole { user_id: member.user, role: RoleName::Admin }]);
    assert!(event.became_large);
}

#[test]
fn a_body_that_this_version_cannot_read_is_an_error() {
    for kind in EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Delete) {
        assert!(Event::from_record(&record(kind, b"\x07?".to_vec())).is_err(), "{kind:?}");
    }
}
