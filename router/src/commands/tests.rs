//! Every command: what it asks of the cluster, and what its answer becomes.

use bytes::Bytes;
use tertulia_shard_map::{
    ConversationId, DirectPair, EventId, MessageNo, Rev, Seq, SessionId, UserId, derived_group_id,
};
use tertulia_wire::{
    EventKind, EventRecord, GroupBody, GroupMember, MessageBody, ReactionChange, Role,
    client::{self, *},
    cluster::{self, *},
    decode_message, encode_group,
};

use super::*;
use crate::routing::{HoldReason, Key};

const ME: UserId = UserId::from_u128(1);
const OTHER: UserId = UserId::from_u128(2);
const SESSION: SessionId = SessionId::from_u128(77);
const GROUP: ConversationId = ConversationId::from_u128(50);
const MESSAGE: EventId = EventId::from_u128(60);

fn member() -> Caller {
    Caller { user: ME, session: Some(SESSION), authority: Authority::Member }
}

fn direct() -> ConversationId {
    DirectPair::new(ME, OTHER).conversation_id()
}

fn planned(command: Command) -> Planned {
    plan(&member(), command).unwrap()
}

fn refusal(command: Command) -> ErrorCode {
    plan(&member(), command).unwrap_err().code
}

/// The append that a command plans, of `GROUP` and `ME`.
fn action(command: Command) -> Action {
    let Planned::Ordered(ordered) = planned(command) else { panic!("not ordered") };
    let Routed { key, call: Call::Append(append) } = ordered.routed() else { panic!("no append: {ordered:?}") };
    assert_eq!((key, append.conversation, append.sender), (Key::Conversation(GROUP), GROUP, ME));
    assert_eq!((append.origin, append.authority, append.direct_peer), (Some(SESSION), Authority::Member, None));
    assert_eq!(append.temp_id, "t");
    append.action
}

/// What a command asks on its own, and of whom.
fn query(command: Command) -> (Key, Call, Asked) {
    match planned(command) {
        Planned::Query(Query { work: Work::Call(Routed { key, call }), asked }) => (key, call, asked),
        other => panic!("no query: {other:?}"),
    }
}

fn send() -> SendMessage {
    SendMessage {
        conversation_id: Some(GROUP),
        temp_id: "t".into(),
        content: Some("hi".into()),
        ..SendMessage::default()
    }
}

fn members_change(user_ids: Vec<UserId>) -> MembersChange {
    MembersChange { conversation_id: GROUP, temp_id: "t".into(), user_ids }
}

#[test]
fn commands_that_make_an_event_become_its_action() {
    let Action::Message { body } = action(Command::Send(send())) else { panic!() };
    assert_eq!(decode_message(&body).unwrap().content.as_deref(), Some("hi"));

    let edit = command("dm:edit", r#""content":"new""#);
    let Action::Edit { message, body } = action(edit) else { panic!() };
    assert_eq!((message, decode_message(&body).unwrap().content.as_deref()), (MESSAGE, Some("new")));

    let delete = DeleteMessage { conversation_id: GROUP, message_id: MESSAGE, temp_id: "t".into() };
    assert_eq!(action(Command::Delete(delete)), Action::Delete { message: MESSAGE });

    for (change, want) in
        [(r#""emoji":"!""#, ReactionChange::Add), (r#""emoji":"!","change":"remove""#, ReactionChange::Remove)]
    {
        let want = Action::React { message: MESSAGE, emoji: "!".into(), change: want };
        assert_eq!(action(command("dm:react", change)), want);
    }

    let (conversation_id, temp_id, name) = (GROUP, "t".to_owned(), "us".to_owned());
    let create = CreateConversation {
        conversation_id: Some(GROUP),
        temp_id: temp_id.clone(),
        name: name.clone(),
        user_ids: vec![OTHER],
    };
    assert_eq!(action(Command::Create(create)), Action::Create { name: name.clone(), users: vec![OTHER] });
    let rename = RenameConversation { conversation_id, temp_id: temp_id.clone(), name: name.clone() };
    assert_eq!(action(Command::Rename(rename)), Action::Rename { name });
    assert_eq!(action(Command::AddMembers(members_change(vec![OTHER]))), Action::Add { users: vec![OTHER] });
    assert_eq!(action(Command::RemoveMembers(members_change(vec![OTHER]))), Action::Remove { users: vec![OTHER] });
    let role = RoleChange { conversation_id, temp_id: temp_id.clone(), user_id: OTHER, role: RoleName::Admin };
    assert_eq!(action(Command::SetRole(role)), Action::SetRole { user: OTHER, role: Role::Admin });
    assert_eq!(action(Command::Leave(LeaveConversation { conversation_id, temp_id })), Action::Leave);
}

/// As a client writes it, about `MESSAGE` of `GROUP`, with `temp_id` "t".
fn command(kind: &str, fields: &str) -> Command {
    let frame = format!(
        r#"{{"type":"{kind}","data":{{"conversation_id":"{GROUP}","message_id":"{MESSAGE}","temp_id":"t",{fields}}}}}"#
    );
    decode_commands(Format::Json, frame.as_bytes()).unwrap().remove(0).command.unwrap()
}

#[test]
fn a_message_to_a_user_names_the_derived_conversation() {
    let command = SendMessage { conversation_id: None, to: Some(OTHER), ..send() };
    let Planned::Ordered(Ordered::Event { append, .. }) = planned(Command::Send(command)) else { panic!() };
    assert_eq!((append.conversation, append.direct_peer), (direct(), Some(OTHER)));
}

#[test]
fn a_group_without_an_id_gets_the_same_one_at_every_retry() {
    let create = CreateConversation { conversation_id: None, temp_id: "t".into(), name: "us".into(), user_ids: vec![] };
    let Planned::Ordered(ordered) = planned(Command::Create(create)) else { panic!() };
    assert_eq!(ordered.conversation(), derived_group_id(ME, "t"));
}

#[test]
fn the_apps_back_end_acts_in_a_users_name_but_on_its_own_word() {
    let app = Caller { user: ME, session: None, authority: Authority::App };
    let Planned::Ordered(Ordered::Event { append, .. }) = plan(&app, Command::Send(send())).unwrap() else { panic!() };
    assert_eq!((append.sender, append.authority, append.origin), (ME, Authority::App, None));
    let get = Command::Conversation(ConversationQuery { conversation_id: GROUP });
    let Planned::Query(Query { work: Work::Call(routed), .. }) = plan(&app, get).unwrap() else { panic!() };
    assert_eq!(routed.call, Call::Conversation(ConversationRead { conversation: GROUP, reader: Reader::App }));
}

#[test]
fn blocks_are_ordered_with_what_is_written_to_that_user() {
    for (command, change) in [
        (Command::Block(BlockQuery { user_id: OTHER }), BlockChange::Block),
        (Command::Unblock(BlockQuery { user_id: OTHER }), BlockChange::Unblock),
    ] {
        let Planned::Ordered(ordered) = planned(command) else { panic!() };
        let block = Block { conversation: direct(), user: ME, peer: OTHER, origin: Some(SESSION), change };
        assert_eq!(ordered.routed(), Routed { key: Key::Conversation(direct()), call: Call::Block(block) });
        assert_eq!(ordered.reply(Outcome::Answered(Answer::Block)), Reply::Ok);
    }
}

#[test]
fn what_is_held_is_counted_by_its_size() {
    let bytes = |command| match planned(command) {
        Planned::Ordered(ordered) => ordered.bytes(),
        other => panic!("{other:?}"),
    };
    let long = SendMessage { content: Some("x".repeat(10_000)), ..send() };
    assert!((20_000..21_000).contains(&bytes(Command::Send(long))));
    assert_eq!(bytes(Command::AddMembers(members_change(vec![OTHER; 1000]))), 16_000);
}

#[test]
fn marks_say_what_they_raise() {
    let mark = |delivered, read| cluster::Mark {
        conversation: GROUP,
        user: ME,
        origin: Some(SESSION),
        delivered: Seq::new(delivered),
        read: Seq::new(read),
    };
    let command = client::Mark { conversation_id: GROUP, seq: Seq::new(7) };
    assert_eq!(planned(Command::Delivered(command.clone())), Planned::Mark(mark(7, 0)));
    assert_eq!(planned(Command::Read(command)), Planned::Mark(mark(0, 7)));
}

#[test]
fn queries_go_to_the_owner_of_what_they_ask_about() {
    let (of_group, of_me) = (Key::Conversation(GROUP), Key::User(ME));
    let reader = Reader::Member(ME);

    let (key, call, _) = query(Command::Conversation(ConversationQuery { conversation_id: GROUP }));
    assert_eq!((key, call), (of_group, Call::Conversation(ConversationRead { conversation: GROUP, reader })));

    let command = MembersQuery { conversation_id: GROUP, after: Some(OTHER), limit: Some(9) };
    let read = MembersRead { conversation: GROUP, reader, after: Some(OTHER), limit: 9 };
    let (key, call, _) = query(Command::Members(command));
    assert_eq!((key, call), (of_group, Call::Members(read)));

    for (after_seq, before_seq, range) in [
        (None, None, HistoryRange::Latest),
        (Some(Seq::new(4)), None, HistoryRange::After(Seq::new(4))),
        (None, Some(Seq::new(4)), HistoryRange::Before(Seq::new(4))),
    ] {
        let command = HistoryQuery { conversation_id: GROUP, after_seq, before_seq, limit: Some(10) };
        let read = HistoryRead { conversation: GROUP, reader, range, limit: 10 };
        let (key, call, _) = query(Command::History(command));
        assert_eq!((key, call), (of_group, Call::History(read)));
    }

    let (key, call, _) = query(Command::Sync(SyncQuery { rev: Rev::new(3), limit: Some(2) }));
    assert_eq!((key, call), (of_me, Call::Sync(SyncRead { user: ME, after: Rev::new(3), limit: 2 })));

    let (key, call, _) = query(Command::Blocks(ListBlocks { after: None, limit: Some(5) }));
    assert_eq!((key, call), (of_me, Call::Blocks(BlocksRead { user: ME, after: None, limit: 5 })));

    let change =
        ProfileChange { name: Some("Me".into()), avatar_url: Some(String::new()), shares_presence: Some(false) };
    let set = SetProfile {
        user: ME,
        origin: Some(SESSION),
        name: Some("Me".into()),
        avatar_url: Some(String::new()),
        shares_presence: Some(false),
        disabled: None,
    };
    let (key, call, _) = query(Command::SetProfile(change));
    assert_eq!((key, call), (of_me, Call::SetProfile(set)));

    let profiles = Command::Profiles(ProfileQuery { user_ids: vec![ME, OTHER] });
    let work = Work::Profiles(vec![ME, OTHER]);
    assert_eq!(planned(profiles), Planned::Query(Query { work, asked: Asked::Profiles { reader: ME } }));
    let typing = SetTyping { conversation_id: GROUP, typing: true };
    let want = Typing { conversation: GROUP, user: ME, origin: Some(SESSION), typing: true };
    assert_eq!(planned(Command::Typing(typing)), Planned::Typing(want));
}

#[test]
fn subscriptions_need_a_session() {
    let users = PresenceQuery { user_ids: vec![OTHER] };
    assert_eq!(planned(Command::SubscribePresence(users.clone())), Planned::Watch(vec![OTHER]));
    assert_eq!(planned(Command::UnsubscribePresence(users.clone())), Planned::Unwatch(vec![OTHER]));
    let caller = Caller { session: None, ..member() };
    for command in [Command::SubscribePresence(users.clone()), Command::UnsubscribePresence(users), Command::Ping] {
        assert_eq!(plan(&caller, command).unwrap_err().code, ErrorCode::NotExpected);
    }
}

#[test]
fn what_is_beyond_a_limit_is_not_planned() {
    let limits = [
        Command::Send(SendMessage { content: None, ..send() }),
        Command::Send(SendMessage { temp_id: String::new(), ..send() }),
        Command::AddMembers(members_change(vec![])),
        Command::RemoveMembers(members_change(vec![OTHER; 1001])),
        Command::Sync(SyncQuery { rev: Rev::ZERO, limit: Some(0) }),
        Command::Members(MembersQuery { conversation_id: GROUP, after: None, limit: Some(501) }),
        Command::Blocks(ListBlocks { after: None, limit: Some(501) }),
        Command::Profiles(ProfileQuery { user_ids: vec![] }),
        Command::SubscribePresence(PresenceQuery { user_ids: vec![OTHER; 201] }),
        Command::Block(BlockQuery { user_id: UserId::from_u128(1 << 127) }),
        Command::Read(client::Mark { conversation_id: GROUP, seq: Seq::new(1 << 63) }),
        Command::SetProfile(ProfileChange { avatar_url: Some("ftp://x".into()), ..ProfileChange::default() }),
        Command::History(HistoryQuery {
            conversation_id: GROUP,
            after_seq: Some(Seq::ZERO),
            before_seq: Some(Seq::ZERO),
            limit: None,
        }),
    ];
    for command in limits {
        assert_eq!(refusal(command.clone()), ErrorCode::BadRequest, "{command:?}");
    }
}

#[test]
fn every_refusal_has_its_documented_error() {
    let why = || "why".to_owned();
    let cases = [
        (Refusal::NotFound, ErrorCode::NotFound),
        (Refusal::Conflict, ErrorCode::Conflict),
        (Refusal::Blocked, ErrorCode::Blocked),
        (Refusal::NotAllowed(why()), ErrorCode::Forbidden),
        (Refusal::NoChange(why()), ErrorCode::NoChange),
        (Refusal::LimitReached(why()), ErrorCode::LimitReached),
        (Refusal::Invalid(why()), ErrorCode::BadRequest),
        (Refusal::Overloaded { retry_after_ms: 7 }, ErrorCode::Overloaded),
        (Refusal::NotServing, ErrorCode::Unavailable),
        (Refusal::StoreUnavailable, ErrorCode::Unavailable),
        (Refusal::NotInitialised, ErrorCode::Unavailable),
        (Refusal::Forbidden, ErrorCode::Internal),
        (Refusal::Internal, ErrorCode::Internal),
    ];
    for (refusal, code) in cases {
        let error = error_of(Failure::Refused(refusal.clone()));
        assert_eq!((error.code, error.retryable), (code, code.retryable()), "{refusal:?}");
        assert_eq!(error.retry_after_ms, (code == ErrorCode::Overloaded).then_some(7));
        // By whatever way it comes.
        let failed = || Outcome::Failed(Failure::Refused(refusal.clone()));
        let Planned::Ordered(ordered) = planned(Command::Send(send())) else { panic!() };
        assert_eq!(ordered.reply(failed()), Reply::Error(error.clone()));
        assert_eq!(Asked::Sync.reply(failed()), Reply::Error(error));
    }
    assert_eq!(error_of(Failure::Hold(HoldReason::NoOwner)).code, ErrorCode::Unavailable);
}

#[test]
fn an_answer_of_another_kind_is_a_fault() {
    let Reply::Error(error) = Asked::Sync.reply(Outcome::Answered(Answer::Detach)) else { panic!() };
    assert_eq!(error.code, ErrorCode::Internal);
}

fn appended(record: Option<EventRecord>) -> Outcome {
    Outcome::Answered(Answer::Append(Appended {
        id: EventId::from_u128(9),
        seq: Seq::new(4),
        message_no: MessageNo::new(3),
        created_at_ms: 8,
        record: record.map(Box::new),
    }))
}

fn record(kind: EventKind, body: Bytes) -> EventRecord {
    EventRecord {
        id: EventId::from_u128(9),
        conversation: GROUP,
        seq: Seq::new(4),
        message_no: MessageNo::new(3),
        kind,
        sender: ME,
        created_at_ms: 8,
        temp_id: "t".into(),
        body,
        target: None,
        since: None,
    }
}

#[test]
fn the_ack_of_a_message_is_what_the_stored_event_will_be() {
    let attachment = FileAttachment {
        key: "k".into(),
        name: "n".into(),
        content_type: "image/png".into(),
        size_bytes: 1,
        width: Some(2),
        height: None,
        duration_ms: None,
    };
    let plain = SendMessage { attachments: vec![attachment], mentions: vec![OTHER], reply_to: Some(MESSAGE), ..send() };
    let text = || Some("x".to_owned());
    let encrypted = SendMessage {
        content: None,
        ciphertext: text(),
        nonce: text(),
        tag: text(),
        key_version: text(),
        algorithm: text(),
        ..send()
    };
    for command in [plain, encrypted] {
        let Planned::Ordered(ordered) = planned(Command::Send(command)) else { panic!() };
        let Call::Append(append) = ordered.routed().call else { panic!() };
        let Action::Message { body } = append.action else { panic!() };
        let Reply::Ack(ack) = ordered.reply(appended(None)) else { panic!() };
        assert_eq!(ack.message, Event::from_record(&record(EventKind::Message, body)).unwrap());
        assert_eq!(ack.temp_id, "t");
    }
}

#[test]
fn the_ack_of_any_other_event_is_what_was_committed() {
    let leave = || {
        let command = LeaveConversation { conversation_id: GROUP, temp_id: "t".into() };
        let Planned::Ordered(ordered) = planned(Command::Leave(command)) else { panic!() };
        ordered
    };
    let members = vec![GroupMember { user: ME, role: Role::Member }, GroupMember { user: OTHER, role: Role::Owner }];
    let body = encode_group(&GroupBody { members, ..GroupBody::default() });
    let Reply::Ack(ack) = leave().reply(appended(Some(record(EventKind::Left, body)))) else { panic!() };
    assert_eq!((ack.message.kind, ack.message.members.len()), (ClientEventKind::Left, 2));
    for broken in [appended(None), appended(Some(record(EventKind::Left, Bytes::from_static(b"?"))))] {
        assert!(matches!(leave().reply(broken), Reply::Error(error) if error.code == ErrorCode::Internal));
    }
}

fn conversation_record(view: ConversationView) -> Outcome {
    Outcome::Answered(Answer::Conversation(ConversationRecord {
        view,
        created_by: OTHER,
        created_at_ms: 5,
        members: 2,
        role: Role::Member,
        last_seq: Seq::new(9),
    }))
}

#[test]
fn a_conversation_is_shown_as_its_reader_sees_it() {
    let info = |view| match (Asked::Conversation { conversation: GROUP, reader: ME }).reply(conversation_record(view)) {
        Reply::Conversation(info) => (info.kind, info.peer_id, info.name),
        other => panic!("{other:?}"),
    };
    let pair = |a, b| ConversationView::Direct { pair: DirectPair::new(a, b), blocked: false };
    assert_eq!(info(pair(ME, OTHER)), (ConversationKind::Direct, Some(OTHER), None));
    assert_eq!(info(pair(ME, ME)), (ConversationKind::Direct, Some(ME), None));
    assert_eq!(info(pair(OTHER, UserId::from_u128(3))).1, None, "of a reader who is neither");
    let group = |size| ConversationView::Group { name: "us".into(), size };
    assert_eq!(info(group(GroupSize::Small)), (ConversationKind::Group, None, Some("us".into())));
    assert_eq!(info(group(GroupSize::Large)).0, ConversationKind::LargeGroup);
}

#[test]
fn rows_say_what_they_are_and_what_is_unread() {
    let row = InboxRow {
        conversation: GROUP,
        peer: None,
        name: Some("us".into()),
        size: GroupSize::Large,
        joined_seq: Seq::new(1),
        left_seq: None,
        last_seq: Seq::new(9),
        last_event_id: MESSAGE,
        last_at_ms: 5,
        last_message_no: MessageNo::new(7),
        read_seq: Seq::new(3),
        read_message_no: MessageNo::new(2),
        others_delivered_seq: Seq::new(8),
        others_read_seq: Seq::new(6),
    };
    let left = InboxRow { left_seq: Some(Seq::new(9)), size: GroupSize::Small, ..row.clone() };
    let direct = InboxRow { peer: Some(OTHER), size: GroupSize::Small, name: None, ..row.clone() };
    let rows =
        SyncRows { rows: vec![row, left, direct], rev: Rev::new(2), has_more: true, reset: false, unread_total: 10 };
    let Reply::SyncPage(page) = Asked::Sync.reply(Outcome::Answered(Answer::Sync(rows))) else { panic!() };
    let seen: Vec<_> = page.conversations.iter().map(|row| (row.kind, row.unread)).collect();
    use ConversationKind::{Direct, Group, LargeGroup};
    assert_eq!(seen, [(LargeGroup, 5), (Group, 0), (Direct, 5)]);
    assert_eq!((page.unread_total, page.has_more, page.conversations[0].others_read_seq), (10, true, Seq::new(6)));
}

#[test]
fn whether_presence_is_shared_is_shown_to_the_user_alone() {
    let record = |user| ProfileRecord { user, name: None, avatar_url: None, shares_presence: false, disabled: false };
    let answer = Outcome::Answered(Answer::Profiles(vec![record(ME), record(OTHER)]));
    let Reply::Profiles(list) = (Asked::Profiles { reader: ME }).reply(answer) else { panic!() };
    assert_eq!(list.users.iter().map(|it| it.shares_presence).collect::<Vec<_>>(), [Some(false), None]);
    let Reply::Profile(own) = Asked::OwnProfile.reply(Outcome::Answered(Answer::SetProfile(record(ME)))) else {
        panic!()
    };
    assert_eq!(own.shares_presence, Some(false));
}

#[test]
fn presence_is_answered_for_every_user_that_was_asked_for() {
    let known = vec![Presence { user: OTHER, online: true, last_seen_ms: Some(5) }];
    let reply = Asked::Presence(vec![ME, OTHER]).reply(Outcome::Answered(Answer::WatchPresence(known)));
    let Reply::Presence(list) = reply else { panic!() };
    let offline = PresenceState { user_id: ME, online: false, last_seen_ms: None };
    assert_eq!(list.users, [offline, PresenceState { user_id: OTHER, online: true, last_seen_ms: None }]);
}

#[test]
fn the_remaining_answers_are_passed_on() {
    let answered = |asked: Asked, answer| asked.reply(Outcome::Answered(answer));
    let marked = cluster::Marked { delivered: Seq::new(5), read: Seq::new(4) };
    let want = client::Marked { conversation_id: GROUP, delivered_seq: Seq::new(5), read_seq: Seq::new(4) };
    assert_eq!(answered(Asked::Mark(GROUP), Answer::Mark(marked)), Reply::Marked(want));
    assert_eq!(answered(Asked::NoPresence, Answer::UnwatchPresence), Reply::Ok);
    let blocks = BlocksPage { users: vec![OTHER], has_more: true };
    let want = BlockList { user_ids: vec![OTHER], has_more: true };
    assert_eq!(answered(Asked::Blocks, Answer::Blocks(blocks)), Reply::Blocks(want));
    let (joined_seq, delivered_seq, read_seq) = (Seq::new(1), Seq::new(2), Seq::new(3));
    let one = MemberRecord { user: OTHER, role: Role::Owner, joined_seq, delivered_seq, read_seq };
    let page = MembersPage { members: vec![one], has_more: false };
    let Reply::MemberPage(page) = answered(Asked::Members(GROUP), Answer::Members(page)) else { panic!() };
    let want = Member { user_id: OTHER, role: RoleName::Owner, joined_seq, delivered_seq, read_seq };
    assert_eq!((page.conversation_id, page.members), (GROUP, vec![want]));
    let body = tertulia_wire::encode_message(&MessageBody { content: Some("hi".into()), ..MessageBody::default() });
    let read = HistoryEvents {
        events: vec![record(EventKind::Message, body), record(EventKind::Message, Bytes::new())],
        has_more: false,
        last_seq: Seq::new(4),
    };
    let Reply::HistoryPage(page) = answered(Asked::History(GROUP), Answer::History(read)) else { panic!() };
    assert_eq!(page.events.iter().map(|it| it.content.as_deref()).collect::<Vec<_>>(), [Some("hi"), None]);
}
