//! What a user has: rows, watermarks, several devices, delta sync, blocks.

use tertulia_shard_map::{DirectPair, Rev, Seq};
use tertulia_test_support::{actor::Actor, eventually};
use tertulia_wire::{
    ReactionChange,
    client::{
        BlockQuery, ClientEventKind, Command, ConversationRow, ErrorCode, HistoryQuery, ListBlocks, Mark, Push, Reply,
    },
};

use super::{
    conversations::{add, members, remove, rename},
    messages::{delete, edit, react},
    stage::Stage,
};

/// The row once it has come to this.
async fn row_where(
    actor: &mut Actor,
    conversation: tertulia_shard_map::ConversationId,
    is_so: impl Fn(&ConversationRow) -> bool,
) -> ConversationRow {
    eventually("the row to come to that", async || actor.row(conversation).await.filter(&is_so)).await
}

pub async fn unread_is_what_the_log_says(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let mut last = ana.send(bea.user(), "m1", "1").await;
    let conversation = last.conversation_id;
    for number in 2..=5 {
        last = ana.send(bea.user(), &format!("m{number}"), &number.to_string()).await;
    }
    // Edits and reactions are nothing to read.
    ana.make(edit(&last, "e", "five")).await;
    let reaction = ana.make(react(&last, "r", "👍", ReactionChange::Add)).await;
    let row = row_where(&mut bea, conversation, |row| row.last_seq == reaction.seq).await;
    assert_eq!((row.unread, row.read_seq), (5, Seq::ZERO));
    assert_eq!(bea.sync_page(Rev::ZERO, None).await.unread_total, 5);

    let marked = bea.read(conversation, Seq::new(3)).await;
    assert_eq!((marked.delivered_seq, marked.read_seq), (Seq::new(3), Seq::new(3)), "who has seen it has it");
    let row = row_where(&mut bea, conversation, |row| row.read_seq == Seq::new(3)).await;
    assert_eq!(row.unread, 2);
    // Watermarks only grow.
    assert_eq!(bea.read(conversation, Seq::new(1)).await.read_seq, Seq::new(3));
    let beyond = Mark { conversation_id: conversation, seq: reaction.seq.next() };
    assert_eq!(bea.refused(Command::Read(beyond)).await.code, ErrorCode::BadRequest);
    // Who writes has read.
    let answer = bea.send(ana.user(), "a", "all right").await;
    let row = row_where(&mut bea, conversation, |row| row.last_seq == answer.seq).await;
    assert_eq!((row.unread, row.read_seq), (0, answer.seq));
    assert_eq!(bea.sync_page(Rev::ZERO, None).await.unread_total, 0);
    let row = row_where(&mut ana, conversation, |row| row.last_seq == answer.seq).await;
    assert_eq!(row.unread, 1);
}

pub async fn receipts_reach_the_sender_and_the_readers_other_devices(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let mut tablet = stage.device("bea", 2).await;
    let message = ana.send(bea.user(), "m", "read me").await;
    let conversation = message.conversation_id;
    bea.hear_event(message.id).await;
    let delivered = Mark { conversation_id: conversation, seq: message.seq };
    let Reply::Marked(marked) = bea.call(Command::Delivered(delivered)).await else { panic!("not marked") };
    assert_eq!((marked.delivered_seq, marked.read_seq), (message.seq, Seq::ZERO));
    let receipt = |push: &Push| match push {
        Push::Receipt(receipt) => Some(receipt.clone()),
        _ => None,
    };
    let heard = ana.hear(receipt).await;
    assert_eq!((heard.user_id, heard.delivered_seq, heard.read_seq), (bea.user(), message.seq, Seq::ZERO));

    bea.read(conversation, message.seq).await;
    let read = |push: &Push| receipt(push).filter(|receipt| receipt.read_seq == message.seq);
    let heard = ana.hear(read).await;
    assert_eq!((heard.user_id, heard.read_message_no), (bea.user(), message.message_no));
    assert_eq!(tablet.hear(read).await.user_id, bea.user(), "the tablet forgets its badge");
    // Who was not there sees it in the list, and in the list of members.
    let row = row_where(&mut ana, conversation, |row| row.others_read_seq == message.seq).await;
    assert_eq!(row.others_delivered_seq, message.seq);
    let bea_id = bea.user();
    let member = members(&mut ana, conversation).await.into_iter().find(|member| member.user_id == bea_id);
    assert_eq!(member.expect("a member").read_seq, message.seq);
}

pub async fn the_senders_other_devices_see_what_it_sent(stage: &Stage<'_>) {
    let (mut phone, mut bea) = stage.two().await;
    let mut laptop = stage.device("ana", 3).await;
    let sent = phone.send(bea.user(), "m1", "from the phone").await;
    assert_eq!(laptop.hear_event(sent.id).await, sent);
    assert_eq!(bea.hear_event(sent.id).await, sent);
    let edited = laptop.make(edit(&sent, "e", "from the laptop")).await;
    assert_eq!(phone.hear_event(edited.id).await, edited);
    // The session that did it was told by its ack alone.
    let heard = laptop.pushes_so_far().await;
    assert!(heard.iter().all(|push| tertulia_test_support::actor::event_of(push).is_none()), "{heard:?}");
}

pub async fn a_delta_sync_covers_everything(stage: &Stage<'_>) {
    let (mut ana, mut bea, caro) = stage.three().await;
    let message = ana.send(bea.user(), "m", "one").await;
    let direct = message.conversation_id;
    let group = ana.create("g", "we", &[bea.user()]).await.conversation_id;
    row_where(&mut bea, group, |row| row.last_seq == Seq::new(1)).await;
    let (rows, mut rev) = bea.sync(Rev::ZERO).await;
    assert_eq!(rows.len(), 2);
    let (nothing, same) = bea.sync(rev).await;
    assert_eq!((nothing.len(), same), (0, rev));

    let (text, kind) = (|content| edit(&message, "e", content), ClientEventKind::Edit);
    let changes = [
        (direct, text("uno"), kind),
        (direct, react(&message, "r", "👍", ReactionChange::Add), ClientEventKind::Reaction),
        (direct, delete(&message, "d"), ClientEventKind::Delete),
        (group, rename(group, "n", "all of us"), ClientEventKind::Renamed),
        (group, add(group, "a", &[caro.user()]), ClientEventKind::Joined),
        (group, remove(group, "x", &[caro.user()]), ClientEventKind::Left),
    ];
    let mut read = Seq::ZERO;
    for (conversation, command, kind) in changes {
        let made = ana.make(command).await;
        let since = rev;
        let row = eventually("the change in a delta sync", async || {
            let (rows, newer) = bea.sync(since).await;
            rev = newer;
            rows.into_iter().find(|row| row.conversation_id == conversation && row.last_seq == made.seq)
        })
        .await;
        let query = HistoryQuery {
            conversation_id: row.conversation_id,
            after_seq: Some(if conversation == direct { read.max(message.seq) } else { Seq::new(made.seq.get() - 1) }),
            before_seq: None,
            limit: None,
        };
        let Reply::HistoryPage(page) = bea.call(Command::History(query)).await else { panic!("no history") };
        assert_eq!(page.events.last().map(|event| (event.id, event.kind)), Some((made.id, kind)));
        read = if conversation == direct { made.seq } else { read };
    }
    // Receipts too: Bea's of the message is news for Ana.
    let (_, before) = ana.sync(Rev::ZERO).await;
    bea.read(direct, message.seq).await;
    eventually("the receipt in a delta sync", async || {
        let (rows, _) = ana.sync(before).await;
        rows.into_iter().find(|row| row.conversation_id == direct && row.others_read_seq == message.seq)
    })
    .await;
}

pub async fn a_rev_of_another_life_asks_for_a_reset(stage: &Stage<'_>) {
    let mut ana = stage.device("ana", 0).await;
    let me = ana.user();
    ana.send(me, "n", "a note").await;
    assert!(ana.sync_page(Rev::new(1 << 40), None).await.reset);
    assert!(!ana.sync_page(Rev::ZERO, None).await.reset);
}

pub async fn pages_of_sync_and_history_meet_without_a_hole(stage: &Stage<'_>) {
    let (mut ana, bea) = stage.two().await;
    let mut conversations = Vec::new();
    for number in 0..7 {
        let create = ana.create(&format!("g{number}"), &format!("group {number}"), &[bea.user()]).await;
        conversations.push(create.conversation_id);
    }
    let last = *conversations.last().expect("there are seven");
    row_where(&mut ana, last, |_| true).await;
    let (mut found, mut rev) = (Vec::new(), Rev::ZERO);
    loop {
        let page = ana.sync_page(rev, Some(3)).await;
        assert!(page.conversations.len() <= 3);
        found.extend(page.conversations.iter().map(|row| row.conversation_id));
        rev = page.rev;
        if !page.has_more {
            break;
        }
    }
    found.sort();
    conversations.sort();
    assert_eq!(found, conversations);

    for number in 2..=10 {
        assert_eq!(ana.send_in(last, &format!("m{number}"), "x").await.seq, Seq::new(number));
    }
    let mut page = async |after_seq: Option<u64>, before_seq: Option<u64>| {
        let (after_seq, before_seq) = (after_seq.map(Seq::new), before_seq.map(Seq::new));
        let query = HistoryQuery { conversation_id: last, after_seq, before_seq, limit: Some(4) };
        let Reply::HistoryPage(page) = ana.call(Command::History(query)).await else { panic!("no history") };
        (page.events.iter().map(|event| event.seq.get()).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(page(None, None).await, (vec![7, 8, 9, 10], true));
    assert_eq!(page(None, Some(7)).await, (vec![3, 4, 5, 6], true));
    assert_eq!(page(None, Some(3)).await, (vec![1, 2], false));
    assert_eq!(page(Some(0), None).await, (vec![1, 2, 3, 4], true));
    assert_eq!(page(Some(8), None).await, (vec![9, 10], false));
}

pub async fn a_block_stops_both_ways(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let conversation = DirectPair::new(ana.user(), bea.user()).conversation_id();
    let (ana_id, bea_id) = (ana.user(), bea.user());
    let blocks = async |actor: &mut Actor| match actor.call(Command::Blocks(ListBlocks::default())).await {
        Reply::Blocks(list) => list.user_ids,
        other => panic!("no list, but {other:?}"),
    };
    // Before a word was said.
    assert_eq!(ana.call(Command::Block(BlockQuery { user_id: bea_id })).await, Reply::Ok);
    let refused = bea.refused(Command::Send(tertulia_test_support::client::message(ana_id, "m", "hello?"))).await;
    assert_eq!((refused.code, refused.retryable), (ErrorCode::Blocked, false));
    let refused = ana.refused(Command::Send(tertulia_test_support::client::message(bea_id, "m", "hello?"))).await;
    assert_eq!(refused.code, ErrorCode::Blocked);
    eventually("the block in the list", async || (blocks(&mut ana).await == [bea_id]).then_some(())).await;
    assert!(blocks(&mut bea).await.is_empty(), "the other is not told");
    // Again is no fault.
    assert_eq!(ana.call(Command::Block(BlockQuery { user_id: bea_id })).await, Reply::Ok);

    assert_eq!(ana.call(Command::Unblock(BlockQuery { user_id: bea_id })).await, Reply::Ok);
    let sent = bea.send(ana_id, "m", "hello?").await;
    assert_eq!((sent.conversation_id, sent.seq), (conversation, Seq::new(1)));
    assert_eq!(ana.hear_event(sent.id).await, sent);
    eventually("the list to be empty", async || blocks(&mut ana).await.is_empty().then_some(())).await;
}
