//! A group of ten thousand: its messages reach everybody who is there, and write to nobody's inbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tertulia_shard_map::{ConversationId, Rev, Seq, UserId};
use tertulia_test_support::{
    Cluster, Member,
    actor::{Actor, Skin, event_of},
    eventually, within,
};
use tertulia_wire::client::{
    Command, ConversationKind, ConversationQuery, ConversationRow, ErrorCode, Event, HistoryQuery, MembersChange,
    MembersQuery, Push, Reply,
};

const MEMBERS: usize = 10_000;
const STEP: usize = 1_000;
/// Members who are there, on both routers; the others are ids that never sign in.
const ATTACHED: usize = 50;
const MESSAGES: u64 = 40;
/// I9: from when the killed node serves again.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

/// An id that nobody signs in with.
fn absent(number: usize) -> UserId {
    UserId::from_u128((1 << 100) + number as u128)
}

fn change(conversation_id: ConversationId, temp_id: &str, users: &[UserId]) -> MembersChange {
    MembersChange { conversation_id, temp_id: temp_id.into(), user_ids: users.to_vec() }
}

/// The stored rows of a conversation: each user's `rev`, and whether the row says that the group is large.
async fn stored_rows(cluster: &Cluster, conversation: ConversationId) -> BTreeMap<UserId, (i64, bool)> {
    let mut rows = BTreeMap::new();
    for store in 1..=2 {
        let sql = cluster.sql(store).await;
        let query = "SELECT user_id::text, rev, large FROM inbox WHERE conversation_id = $1::text::uuid";
        let id = format!("{:032x}", conversation.to_u128());
        for row in sql.query(query, &[&id]).await.expect("the rows") {
            let user = u128::from_str_radix(&row.get::<_, String>(0).replace('-', ""), 16).expect("a uuid");
            rows.insert(UserId::from_u128(user), (row.get(1), row.get(2)));
        }
    }
    rows
}

/// The last page of a sync, which holds the rows of large groups whatever has changed.
async fn large_row(actor: &mut Actor, conversation: ConversationId) -> Option<ConversationRow> {
    let mut rev = Rev::ZERO;
    loop {
        let page = actor.sync_page(rev, None).await;
        rev = page.rev;
        if !page.has_more {
            return page.conversations.into_iter().rfind(|row| row.conversation_id == conversation);
        }
    }
}

async fn everybody_hears(actors: &mut [Actor], event: &Event) {
    for actor in actors {
        let heard = actor.hear_event(event.id).await;
        assert_eq!(heard, *event, "{}", actor.name());
    }
}

/// Live, or by looking after having been told to: a session that was attached anew may have missed it.
async fn everybody_learns(actors: &mut [Actor], event: &Event) {
    for actor in actors {
        let heard = actor
            .hear(|push| match push {
                Push::Resync(_) => Some(None),
                push => event_of(push).filter(|it| it.id == event.id).map(|it| Some(it.clone())),
            })
            .await;
        match heard {
            Some(heard) => assert_eq!(heard, *event, "{}", actor.name()),
            None => {
                eventually("the event in the history", async || {
                    actor.history(event.conversation_id).await.contains(event).then_some(())
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn a_group_of_ten_thousand_chats_without_a_write_per_member() {
    let cluster = Cluster::builder().start().await;
    let mut attached = Vec::new();
    for number in 0..ATTACHED {
        let skin = [Skin::NativeJson, Skin::NativeMessagePack][number / 2 % 2];
        attached.push(Actor::connect(&cluster, 1 + number as u32 % 2, &format!("m{number}"), skin).await);
    }
    let mut ana = Actor::connect(&cluster, 1, "ana", Skin::NativeJson).await;

    // Half of those who are there from the first event on, the others from the last step on.
    let (early, late) = attached.split_at_mut(ATTACHED / 2);
    let mut everybody: Vec<UserId> = early.iter().map(Actor::user).collect();
    everybody.extend((0..MEMBERS - 1 - ATTACHED).map(absent));
    everybody.extend(late.iter().map(Actor::user));
    let mut steps = everybody.chunks(STEP);
    let created = ana.create("g", "the whole town", steps.next().expect("a first step")).await;
    let group = created.conversation_id;
    assert!(created.became_large, "the limit of 500 is crossed with the first event");
    assert_eq!(created.members.len(), STEP + 1, "with the one who made it");
    everybody_hears(early, &created).await;

    let mut newest = created.clone();
    for (number, users) in steps.enumerate() {
        newest = ana.make(Command::AddMembers(change(group, &format!("a{number}"), users))).await;
        assert!(!newest.became_large, "once, and for good");
        assert_eq!(newest.members.len(), users.len());
    }
    everybody_hears(early, &newest).await;
    everybody_hears(late, &newest).await;
    let info = ana.call(Command::Conversation(ConversationQuery { conversation_id: group })).await;
    let Reply::Conversation(info) = info else { panic!("{info:?}") };
    assert_eq!((info.kind, info.members), (ConversationKind::LargeGroup, MEMBERS as u64));

    // Everybody has a row, also who was never there, and each row says that the group is a large one.
    let mut before = BTreeMap::new();
    let rows = eventually("everybody's row", async || {
        let rows = stored_rows(&cluster, group).await;
        let settled = rows == before;
        before.clone_from(&rows);
        (settled && rows.len() == MEMBERS && rows.values().all(|(_, large)| *large)).then_some(rows)
    })
    .await;

    // Messages reach everybody who is there, live; and move no row but the sender's.
    for number in 1..=MESSAGES {
        newest = ana.send_in(group, &format!("m{number}"), &format!("message {number}")).await;
        assert_eq!(newest.message_no.get(), number);
        if number % 10 == 0 {
            everybody_hears(&mut attached, &newest).await;
        }
    }
    for actor in &mut attached {
        let row = eventually("the row to be derived", async || {
            large_row(actor, group).await.filter(|row| row.last_seq == newest.seq)
        })
        .await;
        assert_eq!(
            (row.kind, row.last_event_id, row.last_message_no),
            (ConversationKind::LargeGroup, newest.id, newest.message_no)
        );
        assert_eq!(row.unread, MESSAGES, "{}", actor.name());
        assert_eq!((row.others_delivered_seq, row.others_read_seq), (Seq::ZERO, Seq::ZERO), "nobody is told");
    }
    let now = stored_rows(&cluster, group).await;
    let moved: Vec<_> = rows.iter().filter(|(user, row)| now.get(user) != Some(row)).map(|(user, _)| *user).collect();
    assert!(moved.iter().all(|user| *user == ana.user()), "{} rows were written", moved.len());

    // Reading is one's own affair.
    let reader = &mut attached[0];
    reader.read(group, newest.seq).await;
    eventually("the reader to have read", async || {
        large_row(reader, group).await.filter(|row| row.unread == 0 && row.read_seq == newest.seq)
    })
    .await;
    let heard = ana.pushes_so_far().await;
    assert!(!heard.iter().any(|push| matches!(push, Push::Receipt(_))), "no receipts in a large group: {heard:?}");

    members_are_listed_in_pages(&mut ana, group, &everybody).await;
    a_removed_member_hears_that_and_nothing_more(&mut ana, &mut attached, group).await;
    a_killed_node_comes_back_and_everybody_hears_again(&cluster, &mut ana, &mut attached, group).await;
    cluster.assert_no_errors();
}

async fn members_are_listed_in_pages(ana: &mut Actor, conversation_id: ConversationId, everybody: &[UserId]) {
    let mut expected: BTreeSet<UserId> = everybody.iter().copied().collect();
    expected.insert(ana.user());
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let query = MembersQuery { conversation_id, after, limit: Some(500) };
        let page = match ana.call(Command::Members(query)).await {
            Reply::MemberPage(page) => page,
            other => panic!("no members, but {other:?}"),
        };
        pages += 1;
        assert!(page.members.iter().all(|it| it.user_id == ana.user() || it.read_seq == Seq::ZERO));
        found.extend(page.members.iter().map(|member| member.user_id));
        after = found.last().copied();
        if !page.has_more {
            break;
        }
    }
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "everybody once, in order");
    assert_eq!(pages, MEMBERS.div_ceil(500));
}

async fn a_removed_member_hears_that_and_nothing_more(
    ana: &mut Actor,
    attached: &mut Vec<Actor>,
    group: ConversationId,
) {
    let mut gone = attached.pop().expect("somebody is there");
    gone.pushes_so_far().await;
    let removed = ana.make(Command::RemoveMembers(change(group, "r", &[gone.user()]))).await;
    assert_eq!(gone.hear_event(removed.id).await, removed);
    let secret = ana.send_in(group, "secret", "without them").await;
    everybody_hears(attached, &secret).await;
    let heard = gone.pushes_so_far().await;
    assert!(heard.iter().all(|push| event_of(push).is_none()), "{heard:?}");
    let query = HistoryQuery { conversation_id: group, after_seq: None, before_seq: None, limit: None };
    assert_eq!(gone.refused(Command::History(query)).await.code, ErrorCode::NotFound);
    let row =
        eventually("the row to say so", async || gone.row(group).await.filter(|row| row.left_seq == Some(removed.seq)))
            .await;
    assert_eq!((row.last_seq, row.unread), (removed.seq, 0), "nothing after the removal");
}

async fn a_killed_node_comes_back_and_everybody_hears_again(
    cluster: &Cluster,
    ana: &mut Actor,
    attached: &mut [Actor],
    group: ConversationId,
) {
    for node in 1..=3 {
        cluster.kill(Member::Node(node));
        cluster.start(Member::Node(node));
        cluster.wait_ready(Member::Node(node)).await;
        let hearing = async {
            let mut attempt = 0;
            let sent = loop {
                attempt += 1;
                // Until the node's slots serve again the answer may be that they do not.
                let message = tertulia_test_support::actor::message_in(group, &format!("back {node}"), "here again");
                match ana.try_make(Command::Send(message)).await {
                    Ok(sent) => break sent,
                    Err(error) => assert!(error.retryable, "attempt {attempt}: {error:?}"),
                }
            };
            everybody_learns(attached, &sent).await;
        };
        within(&format!("everybody to hear after node {node} came back"), SERVES_WITHIN, hearing).await;
    }
}

#[tokio::test]
async fn a_group_that_grows_over_the_limit_says_so_in_one_event() {
    let cluster = Cluster::builder().start().await;
    let mut ana = Actor::connect(&cluster, 1, "ana", Skin::NativeJson).await;
    let mut bea = Actor::connect(&cluster, 2, "bea", Skin::NativeMessagePack).await;
    let mut users: Vec<UserId> = (0..449).map(absent).collect();
    users.push(bea.user());
    let created = ana.create("g", "growing", &users).await;
    let group = created.conversation_id;
    assert!(!created.became_large);
    let small = ana.send_in(group, "m1", "while it is small").await;
    assert_eq!(bea.hear_event(small.id).await, small);
    let row = eventually("the row", async || bea.row(group).await.filter(|row| row.last_seq == small.seq)).await;
    assert_eq!((row.kind, row.unread), (ConversationKind::Group, 1));

    let more: Vec<UserId> = (449..600).map(absent).collect();
    let crossing = ana.make(Command::AddMembers(change(group, "a", &more))).await;
    assert!(crossing.became_large);
    assert_eq!(bea.hear_event(crossing.id).await, crossing);
    let large = ana.send_in(group, "m2", "now that it is large").await;
    assert_eq!(bea.hear_event(large.id).await, large);
    let row =
        eventually("the row", async || large_row(&mut bea, group).await.filter(|row| row.last_seq == large.seq)).await;
    assert_eq!((row.kind, row.unread), (ConversationKind::LargeGroup, 2), "what was unread stays so");

    // For good: also where many go again.
    let fewer = ana.make(Command::RemoveMembers(change(group, "r", &more))).await;
    assert!(!fewer.became_large);
    assert_eq!(bea.hear_event(fewer.id).await, fewer);
    let row =
        eventually("the row", async || large_row(&mut bea, group).await.filter(|row| row.last_seq == fewer.seq)).await;
    assert_eq!(row.kind, ConversationKind::LargeGroup);
    // A session that begins now is told that its user is in one: see `welcome`.
    assert!(cluster.connect(1, "bea").await.welcome().in_large_group);
    cluster.assert_no_errors();
}
