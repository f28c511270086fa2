//! Two people chat across the cluster: acks, live delivery, history, the conversation list, retries, strangers.

use tertulia_shard_map::{DirectPair, Rev, Seq};
use tertulia_test_support::{Cluster, client::message, eventually};
use tertulia_wire::client::{Command, ErrorCode, Event, Format, HistoryQuery, ProfileQuery, Reply, SendMessage};

fn contents(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.content.as_deref().unwrap_or("?")).collect()
}

#[tokio::test]
async fn two_people_chat_across_two_routers_in_both_formats() {
    let cluster = Cluster::builder().start().await;
    let mut ana = cluster.connect_as(1, "ana", Format::Json).await;
    let mut bea = cluster.connect_as(2, "bea", Format::MessagePack).await;

    let first = ana.send(bea.user(), "t1", "hello, Bea").await;
    assert_eq!((first.seq, first.sender_id), (Seq::new(1), ana.user()));
    assert_eq!(first.conversation_id, DirectPair::new(ana.user(), bea.user()).conversation_id());
    let heard = bea.new_message().await;
    assert_eq!(heard, first, "what is heard is what was acknowledged");

    let second = bea.send(ana.user(), "t1", "¡hola, Ana! 🙂").await;
    assert_eq!(second.seq, Seq::new(2));
    assert_eq!(ana.new_message().await, second);

    // Order is the sender's order, without a hole, however fast it goes.
    let ids = {
        let mut ids = Vec::new();
        for number in 0..50 {
            let message = message(bea.user(), &format!("burst-{number}"), &number.to_string());
            ids.push(ana.begin(&Command::Send(message)).await);
        }
        ids
    };
    for (number, id) in ids.into_iter().enumerate() {
        let Reply::Ack(ack) = ana.reply(id).await else { panic!("no ack") };
        assert_eq!(ack.message.seq, Seq::new(3 + number as u64));
    }
    for number in 0..50 {
        let event = bea.new_message().await;
        assert_eq!((event.seq, event.content), (Seq::new(3 + number), Some(number.to_string())));
    }
    cluster.assert_no_errors();
}

#[tokio::test]
async fn what_was_missed_is_in_the_list_and_in_the_history() {
    let cluster = Cluster::builder().start().await;
    let mut ana = cluster.connect(1, "ana").await;
    let bea = cluster.login("bea").await;
    for number in 1..=7 {
        ana.send(bea.user, &format!("t{number}"), &format!("message {number}")).await;
    }
    let conversation = DirectPair::new(ana.user(), bea.user).conversation_id();

    let mut bea = cluster.connect(2, "bea").await;
    let rows = eventually("the row of the conversation", async || {
        let (rows, _) = bea.sync(None).await;
        (rows.len() == 1 && rows[0].last_seq == Seq::new(7)).then_some(rows)
    })
    .await;
    assert_eq!((rows[0].conversation_id, rows[0].peer_id, rows[0].unread), (conversation, Some(ana.user()), 7));
    assert_eq!(contents(&bea.history(conversation).await), (1..=7).map(|n| format!("message {n}")).collect::<Vec<_>>());

    // Pages in both directions meet without a hole.
    let query =
        |after_seq, before_seq| HistoryQuery { conversation_id: conversation, after_seq, before_seq, limit: Some(3) };
    let newest = bea.history_page(query(None, None)).await.expect("a member reads");
    assert_eq!((contents(&newest.events), newest.has_more), (vec!["message 5", "message 6", "message 7"], true));
    let older = bea.history_page(query(None, Some(Seq::new(5)))).await.expect("a member reads");
    assert_eq!((contents(&older.events), older.has_more), (vec!["message 2", "message 3", "message 4"], true));
    let later = bea.history_page(query(Some(Seq::new(4)), None)).await.expect("a member reads");
    assert_eq!((contents(&later.events), later.has_more), (vec!["message 5", "message 6", "message 7"], false));

    // The sender has read what she wrote; a delta sync tells only of what changed.
    let (rows, rev) = ana.sync(None).await;
    assert_eq!((rows.len(), rows[0].unread), (1, 0));
    let (nothing, same) = ana.sync(Some(rev)).await;
    assert_eq!((nothing.len(), same), (0, rev));
    bea.send(ana.user(), "answer", "yes").await;
    let event = ana.new_message().await;
    let changed = eventually("the changed row", async || {
        let (rows, _) = ana.sync(Some(rev)).await;
        rows.into_iter().next()
    })
    .await;
    assert_eq!((changed.last_seq, changed.unread), (event.seq, 1));

    // A rev of another life asks the client to start anew.
    let page = ana.sync_page(Some(Rev::new(1 << 40)), None).await;
    assert!(page.reset);

    let names = ana.call(Command::Profiles(ProfileQuery { user_ids: vec![ana.user(), bea.user()] })).await;
    let Reply::Profiles(list) = names else { panic!("{names:?}") };
    let mut names: Vec<_> = list.users.into_iter().filter_map(|user| user.name).collect();
    names.sort();
    assert_eq!(names, ["ana", "bea"]);
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_retry_returns_the_first_ack_for_ever_and_another_payload_is_a_conflict() {
    let cluster = Cluster::builder().start().await;
    let mut ana = cluster.connect(1, "ana").await;
    let mut bea = cluster.connect(2, "bea").await;
    let first = ana.send(bea.user(), "once", "only once").await;
    assert_eq!(ana.send(bea.user(), "once", "only once").await, first);
    // Many at once, as an impatient client does.
    let again = message(bea.user(), "twice", "the same");
    let ids = [ana.begin(&Command::Send(again.clone())).await, ana.begin(&Command::Send(again)).await];
    let mut acks = Vec::new();
    for id in ids {
        let Reply::Ack(ack) = ana.reply(id).await else { panic!("no ack") };
        acks.push(ack.message);
    }
    assert_eq!(acks[0], acks[1]);

    // Other conversations push the first one out of the owner's memory of recent commits; the store remembers.
    for number in 0..10 {
        ana.send(bea.user(), &format!("t{number}"), "more").await;
    }
    assert_eq!(ana.send(bea.user(), "once", "only once").await, first);
    let conflict = ana.try_send(message(bea.user(), "once", "something else")).await.expect_err("a conflict");
    assert_eq!((conflict.code, conflict.retryable), (ErrorCode::Conflict, false));
    // The temp_id belongs to its sender: another may use the same.
    let other = bea.send(ana.user(), "once", "mine").await;
    assert_eq!(other.seq, Seq::new(13));

    let history = bea.history(first.conversation_id).await;
    let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
    assert_eq!(seqs, (1..=13).collect::<Vec<_>>(), "a retry takes no seq");
    cluster.assert_no_errors();
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_conversation_from_none() {
    let cluster = Cluster::builder().start().await;
    let mut ana = cluster.connect(1, "ana").await;
    let bea = cluster.login("bea").await;
    let event = ana.send(bea.user, "t", "private").await;
    let mut eve = cluster.connect(2, "eve").await;

    let nowhere = DirectPair::new(eve.user(), bea.user).conversation_id();
    for conversation_id in [event.conversation_id, nowhere] {
        let query = HistoryQuery { conversation_id, after_seq: None, before_seq: None, limit: None };
        let read = eve.history_page(query).await.expect_err("a stranger");
        assert_eq!(read.code, ErrorCode::NotFound);
        let intrusion = SendMessage {
            conversation_id: Some(conversation_id),
            temp_id: "t".into(),
            content: Some("let me in".into()),
            ..SendMessage::default()
        };
        let write = eve.try_send(intrusion).await.expect_err("a stranger");
        assert_eq!((write.code, write.message), (ErrorCode::NotFound, read.message));
    }
    assert_eq!(ana.history(event.conversation_id).await, [event]);
    assert!(eve.sync(None).await.0.is_empty());
    cluster.assert_no_errors();
}

#[tokio::test]
async fn the_senders_other_device_sees_what_was_sent_and_notes_to_oneself_work() {
    let cluster = Cluster::builder().start().await;
    let mut phone = cluster.connect(1, "ana").await;
    let mut laptop = cluster.connect(2, "ana").await;
    let mut bea = cluster.connect(2, "bea").await;
    let sent = phone.send(bea.user(), "t1", "from the phone").await;
    assert_eq!(laptop.new_message().await, sent);
    assert_eq!(bea.new_message().await, sent);

    let note = laptop.send(phone.user(), "n1", "buy bread").await;
    assert_eq!(phone.new_message().await, note);
    // The session that sent was told by its ack alone.
    laptop.send(bea.user(), "t2", "last").await;
    assert_eq!(bea.new_message().await.seq, Seq::new(2));
    assert!(laptop.pushes_so_far().await.is_empty());
    cluster.assert_no_errors();
}
