//! Commands and pushes of a real router, over real sockets, against nodes that do what the test says.

#![allow(clippy::unwrap_used)]

mod fake;

use bytes::Bytes;
use tertulia_router::{
    commands::{self, Caller},
    limits::Limits,
};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq, UserId};
use tertulia_wire::{
    EventKind, GroupBody, ReactionBody, ReactionChange,
    client::{
        BlockChanged, ClientEventKind, Command, DeleteMessage, ErrorCode, Format, Mark, PresenceQuery, PresenceState,
        ProfileQuery, Push, Receipt, Reply, SetTyping, TypingState,
    },
    cluster::{Action, Authority, BlockChange, Presence, PushItem, Refusal, Standing, Typing},
    encode_group, encode_message, encode_reaction,
};

use fake::{
    Cluster,
    client::{TestClient, message, user},
    node::{Act, event, profile},
};

const CONVERSATION: ConversationId = ConversationId::from_u128(1);

/// What comes before the pong is all that was pushed.
async fn pushed(client: &mut TestClient) -> Vec<Push> {
    let id = client.send(&Command::Ping).await;
    let mut pushes = Vec::new();
    loop {
        match client.next().await {
            tertulia_wire::client::Outbound::Push(push) => pushes.push(push),
            tertulia_wire::client::Outbound::Reply { id: Some(it), reply: Reply::Pong } if it == id => return pushes,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn everything_that_is_pushed_has_its_type_in_both_formats() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    for format in Format::ALL {
        let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", format).await;
        let tell = |item| node.push_item(welcome.session_id, item);
        let bob = user("bob");

        let reaction = encode_reaction(&ReactionBody { emoji: "!".into(), change: ReactionChange::Add });
        let group = encode_group(&GroupBody { name: Some("us".into()), ..GroupBody::default() });
        let message = encode_message(&Default::default());
        tell(PushItem::Event(event(1, EventKind::Message, message.clone())));
        tell(PushItem::Event(event(2, EventKind::Edit, message)));
        tell(PushItem::Event(event(3, EventKind::Delete, Bytes::new())));
        tell(PushItem::Event(event(4, EventKind::Reaction, reaction)));
        tell(PushItem::Event(event(5, EventKind::Renamed, group)));
        let Push::New(new) = alice.push().await else { panic!() };
        assert_eq!(new.message.kind, ClientEventKind::Message);
        let Push::Edited(push) = alice.push().await else { panic!() };
        assert_eq!(push.event.kind, ClientEventKind::Edit);
        let Push::Deleted(push) = alice.push().await else { panic!() };
        assert_eq!(push.event.kind, ClientEventKind::Delete);
        let Push::Reacted(push) = alice.push().await else { panic!() };
        assert_eq!(push.event.emoji.as_deref(), Some("!"));
        let Push::ConversationChanged(push) = alice.push().await else { panic!() };
        assert_eq!(push.event.name.as_deref(), Some("us"));

        let (delivered_seq, read_seq, read_message_no) = (Seq::new(3), Seq::new(2), MessageNo::new(1));
        let standing = Standing { user: bob, delivered_seq, read_seq, read_message_no, blocks_peer: true };
        tell(PushItem::Receipt { conversation: CONVERSATION, standing });
        let (conversation_id, user_id) = (CONVERSATION, bob);
        let receipt = Receipt { conversation_id, user_id, delivered_seq, read_seq, read_message_no };
        assert_eq!(alice.push().await, Push::Receipt(receipt));

        tell(PushItem::Blocked { user: bob, change: BlockChange::Block });
        assert_eq!(alice.push().await, Push::BlockChanged(BlockChanged { user_id: bob, blocked: true }));
        for (typing, expires_in_ms) in [(true, 6000), (false, 0)] {
            tell(PushItem::Typing(Typing { conversation: CONVERSATION, user: bob, origin: None, typing }));
            let state = TypingState { conversation_id, user_id, typing, expires_in_ms };
            assert_eq!(alice.push().await, Push::Typing(state));
        }
        tell(PushItem::Profile(profile(user("alice"))));
        let Push::ProfileChanged(changed) = alice.push().await else { panic!() };
        assert_eq!((changed.user_id, changed.shares_presence), (user("alice"), Some(true)));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn an_event_is_acked_as_it_was_committed_and_marks_as_they_are() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::MessagePack).await;
    let (conversation_id, message_id) = (CONVERSATION, EventId::from_u128(9));
    let delete = DeleteMessage { conversation_id, message_id, temp_id: "t".into() };
    let id = alice.send(&Command::Delete(delete)).await;
    let Reply::Ack(ack) = alice.reply(id).await else { panic!("no ack") };
    assert_eq!((ack.temp_id.as_str(), ack.message.kind), ("t", ClientEventKind::Delete));
    let first = node.memory().appends[0].clone();
    assert_eq!((first.action, first.origin), (Action::Delete { message: message_id }, Some(welcome.session_id)));

    let id = alice.send(&Command::Read(Mark { conversation_id, seq: Seq::new(4) })).await;
    let Reply::Marked(marked) = alice.reply(id).await else { panic!("not marked") };
    assert_eq!((marked.delivered_seq, marked.read_seq), (Seq::new(4), Seq::new(4)));
    let id = alice.send(&Command::Typing(SetTyping { conversation_id, typing: true })).await;
    assert_eq!(alice.reply(id).await, Reply::Ok);
    node.until("typing arrived", |memory| memory.typing.len() == 1).await;
    cluster.stop().await;
}

fn users(names: &[&str]) -> PresenceQuery {
    PresenceQuery { user_ids: names.iter().map(|name| user(name)).collect() }
}

fn state(name: &str, online: bool) -> PresenceState {
    PresenceState { user_id: user(name), online, last_seen_ms: None }
}

fn presence(name: &str, online: bool) -> PushItem {
    PushItem::Presence(Presence { user: user(name), online, last_seen_ms: None })
}

async fn subscribe(client: &mut TestClient, names: &[&str]) -> Vec<PresenceState> {
    let id = client.send(&Command::SubscribePresence(users(names))).await;
    match client.reply(id).await {
        Reply::Presence(list) => list.users,
        other => panic!("no presence: {other:?}"),
    }
}

#[tokio::test]
async fn presence_is_pushed_where_it_is_news_until_the_subscription_ends() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    node.memory().online.push(user("bob"));
    let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    assert_eq!(subscribe(&mut alice, &["bob", "carol"]).await, [state("bob", true), state("carol", false)]);

    node.push_item(welcome.session_id, presence("bob", true));
    node.push_item(welcome.session_id, presence("dave", true));
    node.push_item(welcome.session_id, presence("bob", false));
    assert_eq!(alice.push().await, Push::Presence(state("bob", false)), "no news, and nobody asked, come before");

    let id = alice.send(&Command::UnsubscribePresence(users(&["bob"]))).await;
    assert_eq!(alice.reply(id).await, Reply::Ok);
    node.until("the owner was told", |memory| memory.unwatched == [user("bob")]).await;
    node.push_item(welcome.session_id, presence("bob", true));
    node.push_item(welcome.session_id, presence("carol", true));
    assert_eq!(alice.push().await, Push::Presence(state("carol", true)));
    drop(alice);
    node.until("the rest ends with the session", |memory| memory.unwatched.contains(&user("carol"))).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_session_can_watch_two_hundred_users() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, _) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let ids = |range: std::ops::Range<u128>| PresenceQuery { user_ids: range.map(UserId::from_u128).collect() };
    let id = alice.send(&Command::SubscribePresence(ids(1..200))).await;
    assert!(matches!(alice.reply(id).await, Reply::Presence(list) if list.users.len() == 199));
    let id = alice.send(&Command::SubscribePresence(ids(199..202))).await;
    let Reply::Error(error) = alice.reply(id).await else { panic!("no error") };
    assert_eq!(error.code, ErrorCode::LimitReached);
    let watched: usize = node.memory().watches.iter().map(|watch| watch.users.len()).sum();
    assert_eq!(watched, 199, "all or none");
    cluster.stop().await;
}

#[tokio::test]
async fn watches_follow_the_map_and_what_changed_is_told() {
    let mut cluster = Cluster::start(&[]).await;
    let (one, two) = (cluster.node(1).await, cluster.node(2).await);
    let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    assert_eq!(subscribe(&mut alice, &["bob", "carol"]).await, [state("bob", false), state("carol", false)]);
    two.memory().online.push(user("carol"));
    let map = cluster.give_all_to(2);
    one.publish(map.clone());
    two.publish(map);
    let watched = |memory: &fake::node::Memory| memory.watches.iter().flat_map(|watch| &watch.users).count();
    two.until("both are watched there", |memory| watched(memory) == 2).await;
    assert!(two.memory().watches.iter().all(|it| it.session == welcome.session_id && it.watcher == user("alice")));
    // Beside the word that the session's own mailbox moved.
    let mut told = Vec::new();
    while told.is_empty() {
        told.extend(pushed(&mut alice).await.into_iter().filter(|push| matches!(push, Push::Presence(_))));
    }
    assert_eq!(told, [Push::Presence(state("carol", true))]);
    cluster.stop().await;
}

#[tokio::test]
async fn an_owner_of_another_epoch_cannot_attach_a_session() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    node.memory().stale_attaches = 3;
    let (_alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    assert_eq!(node.memory().attaches, 4);
    assert!(node.memory().attached.contains_key(&welcome.session_id));
    cluster.stop().await;
}

#[tokio::test]
async fn a_user_who_becomes_disabled_is_disconnected() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node(1).await;
    let (mut alice, welcome) = TestClient::sign_in(cluster.router.address, "alice", Format::Json).await;
    let record = tertulia_wire::cluster::ProfileRecord { disabled: true, ..profile(user("alice")) };
    node.push_item(welcome.session_id, PushItem::Profile(record));
    assert_eq!(alice.error().await.code, ErrorCode::Forbidden);
    assert_eq!(u16::from(alice.closed().await.code), 4401);
    node.until("the session ended", |memory| memory.detached.contains(&welcome.session_id)).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_command_without_a_session_is_held_and_retried_too() {
    let cluster = Cluster::start(&[]).await;
    let routes = cluster.router.sessions.routes.clone();
    let caller = Caller { user: user("alice"), session: None, authority: Authority::App };
    let execute = async |command| {
        let deadline = tokio::time::Instant::now() + fake::WITHIN;
        commands::execute(&routes, &Limits::none(), &caller, command, deadline, None).await.0
    };
    let profiles = Command::Profiles(ProfileQuery { user_ids: (1..50).map(UserId::from_u128).collect() });
    // Before there is a node, and so a map.
    let (reply, node) = tokio::join!(execute(profiles), cluster.node(1));
    assert!(matches!(reply, Reply::Profiles(list) if list.users.len() == 49));
    node.script([Act::Refuse(Refusal::NotServing), Act::Refuse(Refusal::StoreUnavailable)]);
    assert!(matches!(execute(message(user("bob"), "t", "hello")).await, Reply::Ack(_)));
    assert_eq!(node.memory().appends.iter().map(|it| it.authority).collect::<Vec<_>>(), [Authority::App; 3]);
    let (conversation_id, typing) = (CONVERSATION, true);
    assert_eq!(execute(Command::Typing(SetTyping { conversation_id, typing })).await, Reply::Ok);
    node.until("it arrived", |memory| memory.typing.len() == 1).await;
    node.memory().refuses_typing = true;
    let refused = execute(Command::Typing(SetTyping { conversation_id, typing })).await;
    assert_eq!(refused, Reply::Ok, "whatever becomes of it");
    let Reply::Error(error) = execute(Command::SubscribePresence(users(&["bob"]))).await else { panic!("no error") };
    assert_eq!(error.code, ErrorCode::NotExpected);
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_sent_along_with_hello_is_carried_out_after_the_welcome() {
    let cluster = Cluster::start(&[]).await;
    let address = cluster.router.address;
    let mut alice = TestClient::connect(address, Format::Json).await;
    let hello = alice.send(&fake::client::hello(Some(fake::client::token(address, "alice").await))).await;
    let send = alice.send(&message(user("bob"), "t", "hello")).await;
    let _node = cluster.node(1).await;
    assert!(matches!(alice.reply(hello).await, Reply::Welcome(_)));
    assert!(matches!(alice.reply(send).await, Reply::Ack(_)));
    cluster.stop().await;
}
