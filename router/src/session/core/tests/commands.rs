//! What becomes of commands.

use super::*;

#[test]
fn a_send_goes_to_the_direct_conversation_and_is_acked() {
    let mut it = Fixture::attached();
    let effects = it.send(9);
    let (ticket, append, attempt) = append(&effects);
    assert_eq!((append.conversation, attempt), (DirectPair::new(alice(), bob()).conversation_id(), 0));
    assert_eq!((append.direct_peer, append.sender, append.origin), (Some(bob()), alice(), Some(SESSION)));
    assert_eq!(append.authority, Authority::Member);
    let effects = it.done(ticket, appended(4));
    let [Effect::Reply { id: Some(9), reply: Reply::Ack(ack) }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(ack.temp_id, "hi");
    assert_eq!((ack.message.seq.get(), ack.message.content.as_deref()), (4, Some("hello")));
    assert_eq!(it.core.shared.held.held(), 0);
}

#[test]
fn a_held_send_is_tried_again_with_the_same_temp_id_and_later_ones_wait() {
    let mut it = Fixture::attached();
    let first = it.send(1);
    let effects = it.done(ticket(&first), held());
    let (again, append, attempt) = append(&effects);
    assert_eq!((append.temp_id.as_str(), attempt), ("hi", 1));
    assert!(it.send(2).is_empty());
    let effects = it.done(again, appended(1));
    assert!(matches!(&effects[..], [Effect::Reply { id: Some(1), .. }, Effect::Start { .. }]), "{effects:?}");
}

#[test]
fn commands_about_presence_are_carried_out_one_after_another() {
    let mut it = Fixture::attached();
    let users = PresenceQuery { user_ids: vec![bob()] };
    let first = ticket(&it.command(1, &Command::SubscribePresence(users.clone())));
    assert!(it.command(2, &Command::SubscribePresence(users.clone())).is_empty());
    assert!(it.command(3, &Command::UnsubscribePresence(users)).is_empty());
    let effects = it.done(first, held());
    let [Effect::Reply { id: Some(1), .. }, Effect::Start { ticket, job: Job::Watch(_), .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let effects = it.done(ticket, Outcome::Answered(Answer::WatchPresence(vec![])));
    assert!(
        matches!(effects[..], [Effect::Reply { id: Some(2), .. }, Effect::Start { job: Job::Unwatch(_), .. }]),
        "{effects:?}"
    );
}

#[test]
fn a_page_is_answered_and_the_next_one_read() {
    let mut it = Fixture::attached();
    let sync = Command::Sync(SyncQuery { rev: Rev::ZERO, limit: None });
    let started: Vec<_> = (0..6).map(|id| it.command(id, &sync)).filter(|effects| !effects.is_empty()).collect();
    let rows = SyncRows { rows: vec![], rev: Rev::new(1), has_more: false, reset: false, unread_total: 0 };
    let effects = it.done(ticket(&started[0]), Outcome::Answered(Answer::Sync(rows)));
    let [Effect::Reply { id: Some(0), reply: Reply::SyncPage(_) }, Effect::Start { .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
}

#[test]
fn commands_of_every_way_are_started_as_planned() {
    let mut it = Fixture::attached();
    let conversation_id = ConversationId::from_u128(8);
    let query = HistoryQuery { conversation_id, after_seq: Some(Seq::new(4)), before_seq: None, limit: Some(10) };
    assert!(matches!(call(&it.command(1, &Command::History(query))), Call::History(_)));
    let mark = Mark { conversation_id, seq: Seq::new(4) };
    assert!(matches!(call(&it.command(2, &Command::Read(mark))), Call::Mark(_)));
    let users = PresenceQuery { user_ids: vec![bob()] };
    let effects = it.command(3, &Command::SubscribePresence(users.clone()));
    assert!(matches!(&effects[..], [Effect::Start { job: Job::Watch(_), .. }]), "{effects:?}");
    it.done(ticket(&effects), held());
    let effects = it.command(4, &Command::UnsubscribePresence(users));
    assert!(matches!(&effects[..], [Effect::Start { job: Job::Unwatch(_), .. }]), "{effects:?}");
}

#[test]
fn marks_of_a_conversation_are_merged_and_each_is_answered() {
    let mut it = Fixture::attached();
    let conversation_id = ConversationId::from_u128(8);
    let mark = |seq| Mark { conversation_id, seq: Seq::new(seq) };
    let first = it.command(1, &Command::Delivered(mark(3)));
    assert!(it.command(2, &Command::Delivered(mark(4))).is_empty());
    assert!(it.command(3, &Command::Read(mark(2))).is_empty());
    let marked = |delivered, read| {
        Outcome::Answered(Answer::Mark(Marked { delivered: Seq::new(delivered), read: Seq::new(read) }))
    };
    let effects = it.done(ticket(&first), marked(3, 0));
    assert!(matches!(effects[0], Effect::Reply { id: Some(1), reply: Reply::Marked(_) }), "{effects:?}");
    let Call::Mark(merged) = call(&effects) else { panic!("{effects:?}") };
    assert_eq!((merged.delivered, merged.read), (Seq::new(4), Seq::new(2)));
    let effects = it.done(ticket(&effects), marked(4, 2));
    let [Effect::Reply { id: Some(2), reply }, Effect::Reply { id: Some(3), reply: other }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(reply, other);
    assert_eq!(it.core.in_flight(), 0);
}

#[test]
fn a_merged_mark_is_given_up_when_its_own_time_is_over() {
    let mut it = Fixture::attached();
    let conversation_id = ConversationId::from_u128(8);
    let mark = |seq| Command::Delivered(Mark { conversation_id, seq: Seq::new(seq) });
    let first = it.command(1, &mark(1));
    it.command(2, &mark(2));
    it.pass(Duration::from_secs(4));
    it.command(3, &mark(3));
    let marked = Marked { delivered: Seq::new(1), read: Seq::ZERO };
    let merged = it.done(ticket(&first), Outcome::Answered(Answer::Mark(marked)));
    let Some(Effect::Start { ticket, .. }) = merged.last() else { panic!("{merged:?}") };
    it.pass(Duration::from_secs(1));
    let effects = it.done(*ticket, held());
    assert_eq!(error(&effects), (Some(2), ErrorCode::Unavailable));
    let Effect::Start { deadline, .. } = effects[1] else { panic!("{effects:?}") };
    assert_eq!(deadline, it.start + Duration::from_secs(9), "the other has four more seconds");
}

#[test]
fn typing_is_answered_at_once_and_passed_on_once_a_second() {
    let mut it = Fixture::attached();
    let ok = Effect::Reply { id: Some(1), reply: Reply::Ok };
    let effects = typing(&mut it, 5);
    assert!(matches!(call(&effects), Call::Typing(typing) if typing.typing && typing.origin == Some(SESSION)));
    assert_eq!(effects.last(), Some(&ok));
    assert_eq!(typing(&mut it, 5), [ok]);
    assert_eq!(typing(&mut it, 6).len(), 2, "another conversation");
    it.pass(Duration::from_secs(1));
    let effects = typing(&mut it, 5);
    assert_eq!(effects.len(), 2);
    assert!(it.done(ticket(&effects), held()).is_empty(), "nobody waits for its end");
    assert_eq!(it.core.in_flight(), 0);
}

#[test]
fn typing_of_a_user_who_does_not_share_presence_stays_here() {
    let mut it = Fixture::attached();
    let standing = Standing { shares_presence: false, disabled: false };
    assert!(it.standing(standing).is_empty());
    assert_eq!(typing(&mut it, 5).len(), 1);
    // The user's own change counts too.
    let change = ProfileChange { shares_presence: Some(true), ..ProfileChange::default() };
    let set = it.command(2, &Command::SetProfile(change));
    let Outcome::Answered(Answer::Attach(attached)) = attached(|_| ()) else { panic!() };
    let effects = it.done(ticket(&set), Outcome::Answered(Answer::SetProfile(attached.profile)));
    assert!(matches!(&effects[..], [Effect::Reply { id: Some(2), reply: Reply::Profile(_) }]), "{effects:?}");
    assert_eq!(typing(&mut it, 5).len(), 2);
}

#[test]
fn typing_is_dropped_while_the_session_is_busy() {
    let mut it = Fixture::attached();
    (0..5).for_each(|id| drop(it.send(id)));
    assert_eq!(typing(&mut it, 5), [Effect::Reply { id: Some(1), reply: Reply::Ok }]);
}

#[test]
fn wrong_frames_are_told_and_the_session_goes_on() {
    let mut it = Fixture::attached();
    assert_eq!(error(&it.frame(b"{")), (None, ErrorCode::BadFrame));
    assert_eq!(error(&it.frame(br#"{"id":3,"type":"dance","data":{}}"#)), (Some(3), ErrorCode::UnknownType));
    assert_eq!(error(&it.frame(br#"{"id":4,"type":"sync","data":{"rev":"x"}}"#)), (Some(4), ErrorCode::BadRequest));
    assert_eq!(error(&it.command(5, &Command::Send(send("")))), (Some(5), ErrorCode::BadRequest));
    let effects = it.frame(br#"[{"id":6,"type":"nope"},{"id":7,"type":"ping"}]"#);
    assert_eq!(error(&effects), (Some(6), ErrorCode::UnknownType));
    assert_eq!(effects[1], Effect::Reply { id: Some(7), reply: Reply::Pong }, "its neighbour is carried out");
}

#[test]
fn the_ack_shows_what_the_stored_event_will() {
    let mut it = Fixture::attached();
    let effects = it.send(1);
    let (ticket, append, _) = append(&effects);
    let Action::Message { body } = &append.action else { panic!("{append:?}") };
    let record = EventRecord {
        id: EventId::from_u128(5),
        conversation: append.conversation,
        seq: Seq::new(4),
        message_no: MessageNo::new(4),
        kind: append.action.kind(),
        sender: append.sender,
        created_at_ms: 1,
        temp_id: append.temp_id.clone(),
        body: Bytes::clone(body),
        target: None,
        since: None,
    };
    let effects = it.done(ticket, appended(4));
    let [Effect::Reply { reply: Reply::Ack(ack), .. }] = &effects[..] else { panic!() };
    assert_eq!(ack.message, client::Event::from_record(&record).unwrap());
}
