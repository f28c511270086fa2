//! Users: profiles, presence, typing.

use tertulia_shard_map::{ConversationId, Seq, UserId};
use tertulia_test_support::{actor::Actor, eventually};
use tertulia_wire::client::{
    BlockQuery, Command, PresenceQuery, PresenceState, Profile, ProfileChange, ProfileQuery, Push, Reply, SetTyping,
};

use super::stage::Stage;

async fn subscribe(actor: &mut Actor, user: UserId) -> PresenceState {
    match actor.call(Command::SubscribePresence(PresenceQuery { user_ids: vec![user] })).await {
        Reply::Presence(list) => list.users.into_iter().next().expect("who was asked for"),
        other => panic!("no presence, but {other:?}"),
    }
}

fn presence(push: &Push) -> Option<PresenceState> {
    match push {
        Push::Presence(state) => Some(state.clone()),
        _ => None,
    }
}

async fn type_in(actor: &mut Actor, conversation_id: ConversationId, typing: bool) {
    let reply = actor.call(Command::Typing(SetTyping { conversation_id, typing })).await;
    assert_eq!(reply, Reply::Ok);
}

async fn set_profile(actor: &mut Actor, change: ProfileChange) -> Profile {
    match actor.call(Command::SetProfile(change)).await {
        Reply::Profile(profile) => profile,
        other => panic!("no profile, but {other:?}"),
    }
}

pub async fn presence_is_told_to_those_who_may_know(stage: &Stage<'_>) {
    let (mut ana, bea) = stage.two().await;
    let bea_id = bea.user();
    assert!(!subscribe(&mut ana, bea_id).await.online, "strangers do not see each other");
    ana.send(bea_id, "m", "hello").await;
    // The conversation reaches the mailbox that decides it within moments.
    eventually("Bea to be seen", async || subscribe(&mut ana, bea_id).await.online.then_some(())).await;

    bea.close().await;
    let gone = ana.hear(|push| presence(push).filter(|state| !state.online)).await;
    assert_eq!(gone.user_id, bea_id);
    assert!(gone.last_seen_ms.is_some());
    let bea = stage.device("bea", 1).await;
    let back = ana.hear(|push| presence(push).filter(|state| state.online)).await;
    assert_eq!((back.user_id, back.last_seen_ms), (bea_id, None));

    let unsubscribe = Command::UnsubscribePresence(PresenceQuery { user_ids: vec![bea_id] });
    assert_eq!(ana.call(unsubscribe).await, Reply::Ok);
    bea.close().await;
}

pub async fn typing_is_shown_and_a_switch_hides_it(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let conversation = ana.send(bea.user(), "m", "hello").await.conversation_id;
    let ana_id = ana.user();
    let typing = |push: &Push| match push {
        Push::Typing(state) => Some(state.clone()),
        _ => None,
    };
    type_in(&mut ana, conversation, true).await;
    let seen = bea.hear(typing).await;
    assert_eq!((seen.user_id, seen.conversation_id, seen.typing), (ana_id, conversation, true));
    assert_eq!(seen.expires_in_ms, 6000);
    type_in(&mut ana, conversation, false).await;
    assert!(!bea.hear(typing).await.typing);

    let hidden = ProfileChange { shares_presence: Some(false), ..ProfileChange::default() };
    assert_eq!(set_profile(&mut ana, hidden).await.shares_presence, Some(false));
    type_in(&mut ana, conversation, true).await;
    let then = ana.send(bea.user(), "m2", "now").await;
    let mut seen = Vec::new();
    bea.hear(|push| {
        seen.extend(typing(push));
        tertulia_test_support::actor::event_of(push).filter(|event| event.id == then.id).map(drop)
    })
    .await;
    assert!(seen.is_empty(), "{seen:?}");
    assert!(!subscribe(&mut bea, ana_id).await.online, "nor is she seen");
}

pub async fn a_profile_is_set_and_seen(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let ana_id = ana.user();
    let get =
        async |actor: &mut Actor| match actor.call(Command::Profiles(ProfileQuery { user_ids: vec![ana_id] })).await {
            Reply::Profiles(list) => list.users.into_iter().next(),
            other => panic!("no profiles, but {other:?}"),
        };
    eventually("the name of the token", async || {
        get(&mut bea).await.filter(|profile| profile.name.as_deref() == Some(ana.name()))
    })
    .await;
    let change = ProfileChange {
        name: Some("Ana María".into()),
        avatar_url: Some("https://example.org/ana.png".into()),
        shares_presence: None,
    };
    let own = set_profile(&mut ana, change).await;
    assert_eq!((own.name.as_deref(), own.shares_presence), (Some("Ana María"), Some(true)));
    let seen = get(&mut bea).await.expect("she has signed in");
    assert_eq!(seen.name.as_deref(), Some("Ana María"));
    assert_eq!(seen.avatar_url.as_deref(), Some("https://example.org/ana.png"));
    assert_eq!(seen.shares_presence, None, "nobody else's business");
    // Signing in anew does not bring the token's name back.
    ana.close().await;
    let mut ana = stage.device("ana", 0).await;
    assert_eq!(get(&mut ana).await.and_then(|profile| profile.name).as_deref(), Some("Ana María"));
    let no_avatar = ProfileChange { avatar_url: Some(String::new()), ..ProfileChange::default() };
    assert_eq!(set_profile(&mut ana, no_avatar).await.avatar_url, None);
}

pub async fn a_block_hides_presence_typing_and_receipts(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let (ana_id, bea_id) = (ana.user(), bea.user());
    let message = bea.send(ana_id, "m", "hello").await;
    ana.hear_event(message.id).await;
    let conversation = message.conversation_id;
    eventually("Ana to be seen", async || subscribe(&mut bea, ana_id).await.online.then_some(())).await;

    assert_eq!(ana.call(Command::Block(BlockQuery { user_id: bea_id })).await, Reply::Ok);
    // Whoever watched sees her leave.
    let gone = bea.hear(|push| presence(push).filter(|state| !state.online)).await;
    assert_eq!((gone.user_id, gone.last_seen_ms), (ana_id, None));
    assert!(!subscribe(&mut bea, ana_id).await.online);
    // Nor does she see him, once his mailbox knows.
    eventually("Bea to be hidden too", async || (!subscribe(&mut ana, bea_id).await.online).then_some(())).await;
    bea.pushes_so_far().await;
    type_in(&mut ana, conversation, true).await;
    ana.read(conversation, Seq::new(1)).await;
    // What was told before this was told: by a route that all of it shares.
    let note = bea.send(bea_id, "note", "anything?").await;
    assert_eq!(note.seq, Seq::new(1));
    eventually("her own list to know", async || ana.row(conversation).await.filter(|row| row.read_seq == Seq::new(1)))
        .await;
    let heard = bea.pushes_so_far().await;
    let leaked: Vec<_> =
        heard.iter().filter(|push| matches!(push, Push::Typing(_) | Push::Receipt(_) | Push::Presence(_))).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    let row = bea.row(conversation).await.expect("the conversation is there");
    assert_eq!(row.others_read_seq, Seq::ZERO);
}
