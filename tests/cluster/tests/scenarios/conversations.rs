//! Groups: how they begin, who is in them, who may what.

use tertulia_shard_map::{ConversationId, Seq, UserId};
use tertulia_test_support::actor::{Actor, message_in};
use tertulia_wire::client::{
    ClientEventKind, Command, ConversationInfo, ConversationKind, ConversationQuery, CreateConversation, ErrorCode,
    HistoryQuery, LeaveConversation, Member, MemberPage, MemberRole, MembersChange, MembersQuery, RenameConversation,
    Reply, RoleChange, RoleName,
};

use super::{
    messages::{delete, edit},
    stage::Stage,
};

pub fn add(conversation_id: ConversationId, temp_id: &str, users: &[UserId]) -> Command {
    Command::AddMembers(MembersChange { conversation_id, temp_id: temp_id.into(), user_ids: users.to_vec() })
}

pub fn remove(conversation_id: ConversationId, temp_id: &str, users: &[UserId]) -> Command {
    Command::RemoveMembers(MembersChange { conversation_id, temp_id: temp_id.into(), user_ids: users.to_vec() })
}

pub fn rename(conversation_id: ConversationId, temp_id: &str, name: &str) -> Command {
    Command::Rename(RenameConversation { conversation_id, temp_id: temp_id.into(), name: name.into() })
}

fn leave(conversation_id: ConversationId, temp_id: &str) -> Command {
    Command::Leave(LeaveConversation { conversation_id, temp_id: temp_id.into() })
}

fn set_role(conversation_id: ConversationId, temp_id: &str, user_id: UserId, role: RoleName) -> Command {
    Command::SetRole(RoleChange { conversation_id, temp_id: temp_id.into(), user_id, role })
}

async fn info(actor: &mut Actor, conversation_id: ConversationId) -> ConversationInfo {
    match actor.call(Command::Conversation(ConversationQuery { conversation_id })).await {
        Reply::Conversation(info) => info,
        other => panic!("no conversation, but {other:?}"),
    }
}

async fn page(actor: &mut Actor, conversation_id: ConversationId, after: Option<UserId>, limit: u32) -> MemberPage {
    let query = MembersQuery { conversation_id, after, limit: Some(limit) };
    match actor.call(Command::Members(query)).await {
        Reply::MemberPage(page) => page,
        other => panic!("no members, but {other:?}"),
    }
}

pub async fn members(actor: &mut Actor, conversation: ConversationId) -> Vec<Member> {
    page(actor, conversation, None, 500).await.members
}

async fn is_nothing(actor: &mut Actor, conversation_id: ConversationId) {
    let query = HistoryQuery { conversation_id, after_seq: None, before_seq: None, limit: None };
    let commands = [
        Command::History(query),
        Command::Conversation(ConversationQuery { conversation_id }),
        Command::Members(MembersQuery { conversation_id, after: None, limit: None }),
        Command::Send(message_in(conversation_id, "intrusion", "let me in")),
        rename(conversation_id, "intrusion", "mine"),
        add(conversation_id, "intrusion", &[actor.user()]),
        leave(conversation_id, "intrusion"),
    ];
    for command in commands {
        let what = command.type_name();
        assert_eq!(actor.refused(command).await.code, ErrorCode::NotFound, "{what}");
    }
}

pub async fn a_group_begins_and_everybody_hears_of_it(stage: &Stage<'_>) {
    let (mut ana, mut bea, mut caro) = stage.three().await;
    let created = ana.create("g", "the three", &[bea.user(), caro.user()]).await;
    assert_eq!(
        (created.kind, created.seq, created.name.as_deref()),
        (ClientEventKind::Created, Seq::new(1), Some("the three"))
    );
    assert_eq!(bea.hear_event(created.id).await, created);
    assert_eq!(caro.hear_event(created.id).await, created);
    let group = created.conversation_id;
    assert!(!group.is_direct());

    let hello = bea.send_in(group, "h", "hello, you two").await;
    assert_eq!((hello.seq, hello.message_no.get()), (Seq::new(2), 1));
    assert_eq!(ana.hear_event(hello.id).await, hello);
    assert_eq!(caro.hear_event(hello.id).await, hello);
    for member in [&mut ana, &mut bea, &mut caro] {
        let log = member.history(group).await;
        assert_eq!(log.iter().map(|event| event.id).collect::<Vec<_>>(), [created.id, hello.id]);
    }

    let about = info(&mut bea, group).await;
    assert_eq!((about.kind, about.members, about.role), (ConversationKind::Group, 3, RoleName::Member));
    assert_eq!((about.name.as_deref(), about.created_by), (Some("the three"), ana.user()));
    let renamed = ana.make(rename(group, "n", "us three")).await;
    assert_eq!(caro.hear_event(renamed.id).await.name.as_deref(), Some("us three"));
    assert_eq!(ana.refused(rename(group, "n2", "us three")).await.code, ErrorCode::NoChange);
    let row = tertulia_test_support::eventually("the new name in the list", async || {
        caro.row(group).await.filter(|row| row.name.as_deref() == Some("us three"))
    })
    .await;
    assert_eq!((row.kind, row.peer_id), (ConversationKind::Group, None));
}

pub async fn members_come_and_go(stage: &Stage<'_>) {
    let (mut ana, mut bea, mut caro) = stage.three().await;
    let group = ana.create("g", "two", &[bea.user()]).await.conversation_id;
    ana.send_in(group, "m1", "before").await;
    let joined = ana.make(add(group, "a", &[caro.user(), bea.user()])).await;
    assert_eq!(joined.members, [MemberRole { user_id: caro.user(), role: RoleName::Member }], "Bea was one already");
    assert_eq!(caro.hear_event(joined.id).await, joined);
    assert_eq!(ana.refused(add(group, "a2", &[caro.user()])).await.code, ErrorCode::NoChange);

    // She sees what follows, not what was before.
    let after = bea.send_in(group, "m2", "after").await;
    assert_eq!(caro.hear_event(after.id).await, after);
    let seen: Vec<_> = caro.history(group).await.into_iter().map(|event| event.id).collect();
    assert_eq!(seen, [joined.id, after.id]);

    // The removal is the last that she hears.
    let removed = ana.make(remove(group, "r", &[caro.user()])).await;
    assert_eq!(removed.kind, ClientEventKind::Left);
    if caro.skin().is_live() {
        // Who has to ask may not read it any more: the row below says it.
        assert_eq!(caro.hear_event(removed.id).await, removed);
    }
    let secret = ana.send_in(group, "m3", "without her").await;
    assert_eq!(bea.hear_event(secret.id).await, secret);
    is_nothing(&mut caro, group).await;
    let row = tertulia_test_support::eventually("the row to say so", async || {
        caro.row(group).await.filter(|row| row.left_seq.is_some())
    })
    .await;
    assert_eq!((row.left_seq, row.last_seq, row.unread), (Some(removed.seq), removed.seq, 0));
    let heard = caro.pushes_so_far().await;
    assert!(heard.is_empty(), "{heard:?}");
    assert_eq!(ana.refused(remove(group, "r2", &[caro.user()])).await.code, ErrorCode::NoChange);

    // And back again: from there on, as one who is new.
    let back = ana.make(add(group, "a3", &[caro.user()])).await;
    assert_eq!(caro.hear_event(back.id).await, back);
    assert_eq!(caro.history(group).await, std::slice::from_ref(&back));
    let row = tertulia_test_support::eventually("the row to come back", async || {
        caro.row(group).await.filter(|row| row.left_seq.is_none())
    })
    .await;
    assert_eq!((row.joined_seq, row.unread), (back.seq, 0));
}

pub async fn roles_decide_who_may_what(stage: &Stage<'_>) {
    let (mut ana, mut bea, mut caro) = stage.three().await;
    let created = ana.create("g", "roles", &[bea.user(), caro.user()]).await;
    let group = created.conversation_id;
    let stranger = stage.device("dora", 3).await.user();
    for command in [
        rename(group, "1", "mine"),
        add(group, "2", &[stranger]),
        remove(group, "3", &[caro.user()]),
        set_role(group, "4", bea.user(), RoleName::Owner),
    ] {
        let what = command.type_name();
        assert_eq!(bea.refused(command).await.code, ErrorCode::Forbidden, "{what}");
    }
    let word = caro.send_in(group, "w", "a bad word").await;
    assert_eq!(bea.refused(delete(&word, "5")).await.code, ErrorCode::Forbidden);

    let promoted = ana.make(set_role(group, "p", bea.user(), RoleName::Admin)).await;
    assert_eq!(promoted.members, [MemberRole { user_id: bea.user(), role: RoleName::Admin }]);
    assert_eq!(bea.hear_event(promoted.id).await.kind, ClientEventKind::RoleChanged);
    bea.make(rename(group, "6", "ours")).await;
    bea.make(add(group, "7", &[stranger])).await;
    bea.make(delete(&word, "8")).await;
    assert_eq!(bea.refused(edit(&word, "9", "a good word")).await.code, ErrorCode::NotFound);
    bea.make(remove(group, "10", &[stranger])).await;
    for command in [remove(group, "11", &[ana.user()]), set_role(group, "12", caro.user(), RoleName::Admin)] {
        let what = command.type_name();
        assert_eq!(bea.refused(command).await.code, ErrorCode::Forbidden, "{what} by an admin");
    }
    let roles: Vec<_> = {
        let mut roles: Vec<_> = members(&mut ana, group).await.iter().map(|m| (m.user_id, m.role)).collect();
        roles.sort_by_key(|(user, _)| *user);
        roles
    };
    let mut expected =
        vec![(ana.user(), RoleName::Owner), (bea.user(), RoleName::Admin), (caro.user(), RoleName::Member)];
    expected.sort_by_key(|(user, _)| *user);
    assert_eq!(roles, expected);
    assert_eq!(ana.refused(set_role(group, "13", bea.user(), RoleName::Admin)).await.code, ErrorCode::NoChange);
}

pub async fn a_group_without_owner_gets_one(stage: &Stage<'_>) {
    let (mut ana, mut bea, mut caro) = stage.three().await;
    let group = ana.create("g", "leaving", &[bea.user(), caro.user()]).await.conversation_id;
    ana.make(set_role(group, "p", caro.user(), RoleName::Admin)).await;
    let left = ana.make(leave(group, "l")).await;
    assert_eq!(left.kind, ClientEventKind::Left);
    assert!(left.members.contains(&MemberRole { user_id: caro.user(), role: RoleName::Owner }), "{left:?}");
    assert_eq!(bea.hear_event(left.id).await, left);
    is_nothing(&mut ana, group).await;
    assert_eq!(info(&mut caro, group).await.role, RoleName::Owner);
    caro.make(rename(group, "n", "Caro's")).await;
    // The last one turns off the light.
    bea.make(leave(group, "l")).await;
    caro.make(leave(group, "l")).await;
    is_nothing(&mut caro, group).await;
}

pub async fn a_stranger_cannot_tell_a_conversation_from_none(stage: &Stage<'_>) {
    let (mut ana, bea, mut eve) = stage.three().await;
    let direct = ana.send(bea.user(), "t", "private").await.conversation_id;
    let group = ana.create("g", "private", &[bea.user()]).await.conversation_id;
    let nowhere = ConversationId::from_u128(group.to_u128() ^ 1);
    for conversation in [direct, group, nowhere] {
        is_nothing(&mut eve, conversation).await;
    }
    let (rows, _) = eve.sync(tertulia_shard_map::Rev::ZERO).await;
    assert!(rows.is_empty(), "{rows:?}");
}

pub async fn a_member_list_pages_without_a_hole(stage: &Stage<'_>) {
    let mut ana = stage.device("ana", 0).await;
    let users: Vec<UserId> = (1..=9).map(|number| UserId::from_u128(number << 64 | stage_salt(&ana))).collect();
    let group = ana.create("g", "ten", &users).await.conversation_id;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = page(&mut ana, group, after, 4).await;
        found.extend(page.members.iter().map(|member| member.user_id));
        after = found.last().copied();
        if !page.has_more {
            break;
        }
    }
    let mut expected = users;
    expected.push(ana.user());
    expected.sort();
    assert_eq!(found, expected);
}

/// Ids that no other scenario uses.
fn stage_salt(actor: &Actor) -> u128 {
    actor.user().to_u128() & 0xffff_ffff
}

pub async fn creating_twice_makes_one_group(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let created = ana.create("g", "once", &[bea.user()]).await;
    assert_eq!(ana.create("g", "once", &[bea.user()]).await, created);
    // An id of the client's own making.
    let id = ConversationId::from_u128(bea.user().to_u128() ^ 0x5555);
    let chosen = |temp_id: &str, name: &str| {
        Command::Create(CreateConversation {
            conversation_id: Some(id),
            temp_id: temp_id.into(),
            name: name.into(),
            user_ids: Vec::new(),
        })
    };
    assert_eq!(ana.make(chosen("c", "mine")).await.conversation_id, id);
    assert_eq!(ana.refused(chosen("c2", "mine again")).await.code, ErrorCode::Conflict);
    assert_eq!(bea.refused(chosen("c", "hers")).await.code, ErrorCode::Conflict);
}
