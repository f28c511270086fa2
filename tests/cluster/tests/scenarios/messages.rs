//! Messages, and what may become of them.

use tertulia_shard_map::{DirectPair, Seq};
use tertulia_test_support::{
    actor::{Actor, message_in},
    client::message,
};
use tertulia_wire::{
    ReactionChange,
    client::{
        ClientEventKind, Command, DeleteMessage, EditMessage, ErrorCode, Event, FileAttachment, ReactToMessage,
        Reactions, SendMessage,
    },
};

use super::stage::Stage;

pub fn edit(event: &Event, temp_id: &str, content: &str) -> Command {
    Command::Edit(EditMessage::plain(event.conversation_id, event.id, temp_id.into(), content.into()))
}

pub fn delete(event: &Event, temp_id: &str) -> Command {
    let (conversation_id, message_id) = (event.conversation_id, event.id);
    Command::Delete(DeleteMessage { conversation_id, message_id, temp_id: temp_id.into() })
}

pub fn react(event: &Event, temp_id: &str, emoji: &str, change: ReactionChange) -> Command {
    let (conversation_id, message_id) = (event.conversation_id, event.id);
    Command::React(ReactToMessage { conversation_id, message_id, temp_id: temp_id.into(), emoji: emoji.into(), change })
}

/// The message as the history has it now.
async fn stored(actor: &mut Actor, message: &Event) -> Event {
    let history = actor.history(message.conversation_id).await;
    history.into_iter().find(|event| event.id == message.id).expect("the message is in the history")
}

pub async fn two_people_chat(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let first = ana.send(bea.user(), "t1", "hello, Bea").await;
    assert_eq!((first.seq, first.kind, first.sender_id), (Seq::new(1), ClientEventKind::Message, ana.user()));
    assert_eq!(first.conversation_id, DirectPair::new(ana.user(), bea.user()).conversation_id());
    assert_eq!(bea.hear_event(first.id).await, first, "what is heard is what was acknowledged");
    let second = bea.send(ana.user(), "t1", "¡hola, Ana! 🙂").await;
    assert_eq!(second.seq, Seq::new(2));
    assert_eq!(ana.hear_event(second.id).await, second);
    for number in 3..=12 {
        let event = ana.send_in(first.conversation_id, &format!("t{number}"), &number.to_string()).await;
        assert_eq!(event.seq, Seq::new(number));
        assert_eq!(bea.hear_event(event.id).await, event);
    }
    let log = ana.history(first.conversation_id).await;
    assert_eq!(log.iter().map(|event| event.seq.get()).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert_eq!(log, bea.history(first.conversation_id).await);
}

pub async fn a_retry_is_harmless_and_another_payload_is_a_conflict(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let first = ana.send(bea.user(), "once", "only once").await;
    assert_eq!(ana.send(bea.user(), "once", "only once").await, first);
    let other = ana.refused(Command::Send(message(bea.user(), "once", "something else"))).await;
    assert_eq!((other.code, other.retryable), (ErrorCode::Conflict, false));

    // Every event is idempotent, not messages only.
    let commands = [
        (edit(&first, "edit", "twice"), edit(&first, "edit", "thrice")),
        (react(&first, "react", "👍", ReactionChange::Add), react(&first, "react", "👎", ReactionChange::Add)),
        (react(&first, "back", "👍", ReactionChange::Remove), react(&first, "back", "👎", ReactionChange::Remove)),
        (delete(&first, "delete"), edit(&first, "delete", "not a deletion")),
    ];
    let mut seq = first.seq;
    for (command, another) in commands {
        let made = ana.make(command.clone()).await;
        seq = seq.next();
        assert_eq!(made.seq, seq, "a retry takes no seq");
        assert_eq!(ana.make(command).await, made);
        assert_eq!(ana.refused(another).await.code, ErrorCode::Conflict);
    }
    // Its temp_ids belong to the sender.
    assert_eq!(bea.send(ana.user(), "once", "mine").await.seq, seq.next());
}

pub async fn an_edit_is_seen_by_all_and_stays_in_the_history(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let message = ana.send(bea.user(), "m", "helo").await;
    let edited = ana.make(edit(&message, "e", "hello")).await;
    assert_eq!((edited.kind, edited.seq), (ClientEventKind::Edit, Seq::new(2)));
    assert_eq!((edited.message_id, edited.message_seq), (Some(message.id), Some(message.seq)));
    assert_eq!(edited.message_no, message.message_no, "an edit is no message");
    assert_eq!(bea.hear_event(edited.id).await, edited);
    let now = stored(&mut bea, &message).await;
    assert_eq!((now.content.as_deref(), now.edited_at_ms), (Some("hello"), Some(edited.created_at_ms)));

    let forbidden = bea.refused(edit(&message, "e", "hola")).await;
    assert_eq!(forbidden.code, ErrorCode::Forbidden, "another's message");
    let nothing = ana.refused(edit(&edited, "e2", "an edit is not edited")).await;
    assert_eq!(nothing.code, ErrorCode::NotFound);
}

pub async fn a_deletion_erases_the_content_and_keeps_the_place(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let message = ana.send(bea.user(), "m", "a secret").await;
    ana.make(edit(&message, "e", "a better secret")).await;
    bea.make(react(&message, "r", "😮", ReactionChange::Add)).await;
    assert_eq!(bea.refused(delete(&message, "d")).await.code, ErrorCode::Forbidden, "another's message");
    let deleted = ana.make(delete(&message, "d")).await;
    assert_eq!((deleted.kind, deleted.message_id), (ClientEventKind::Delete, Some(message.id)));
    assert_eq!(bea.hear_event(deleted.id).await, deleted);

    let history = bea.history(message.conversation_id).await;
    assert_eq!(history.len(), 4);
    assert_eq!((history[0].id, history[0].seq), (message.id, message.seq));
    assert_eq!(history[0].deleted_at_ms, Some(deleted.created_at_ms));
    assert!(history.iter().all(|event| event.content.is_none()), "{history:?}");
    assert!(history[0].reactions.is_empty());

    assert_eq!(ana.refused(delete(&message, "d2")).await.code, ErrorCode::NoChange);
    assert_eq!(ana.refused(edit(&message, "e2", "back")).await.code, ErrorCode::NotFound);
    assert_eq!(bea.refused(react(&message, "r2", "👍", ReactionChange::Add)).await.code, ErrorCode::NotFound);
    // The retry of a message that was deleted is still one.
    let again = ana.send(bea.user(), "m", "a secret").await;
    assert_eq!((again.id, again.seq), (message.id, message.seq));
}

pub async fn reactions_come_and_go_once_each(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let message = ana.send(bea.user(), "m", "look").await;
    let liked = bea.make(react(&message, "r1", "👍", ReactionChange::Add)).await;
    assert_eq!((liked.kind, liked.emoji.as_deref()), (ClientEventKind::Reaction, Some("👍")));
    assert_eq!(ana.hear_event(liked.id).await, liked);
    assert_eq!(bea.refused(react(&message, "r2", "👍", ReactionChange::Add)).await.code, ErrorCode::NoChange);
    ana.make(react(&message, "r1", "👍", ReactionChange::Add)).await;
    bea.make(react(&message, "r3", "❤️", ReactionChange::Add)).await;

    let reactions = |count, mine| Reactions { emoji: "👍".into(), count, mine };
    let seen = stored(&mut ana, &message).await.reactions;
    assert!(seen.contains(&reactions(2, true)), "{seen:?}");
    assert!(seen.contains(&Reactions { emoji: "❤️".into(), count: 1, mine: false }), "{seen:?}");

    let back = bea.make(react(&message, "r4", "👍", ReactionChange::Remove)).await;
    assert_eq!(back.change, Some(ReactionChange::Remove));
    assert_eq!(ana.hear_event(back.id).await, back);
    assert_eq!(bea.refused(react(&message, "r5", "👍", ReactionChange::Remove)).await.code, ErrorCode::NoChange);
    let seen = stored(&mut bea, &message).await.reactions;
    assert!(seen.contains(&reactions(1, false)), "{seen:?}");
}

pub async fn replies_attachments_and_mentions_pass_through(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let question = ana.send(bea.user(), "q", "which one?").await;
    let photo = FileAttachment {
        key: "attachments/x/y/cat.jpg".into(),
        name: "the cat 🐈.jpg".into(),
        content_type: "image/jpeg".into(),
        size_bytes: 123_456,
        width: Some(1024),
        height: Some(768),
        duration_ms: None,
    };
    let answer = SendMessage {
        reply_to: Some(question.id),
        attachments: vec![photo.clone()],
        mentions: vec![ana.user()],
        content: None,
        ..message_in(question.conversation_id, "a", "")
    };
    let answer = bea.make(Command::Send(answer)).await;
    assert_eq!((answer.reply_to, &answer.attachments), (Some(question.id), &vec![photo]));
    let heard = ana.hear_event(answer.id).await;
    assert_eq!(heard, answer);
    assert_eq!(heard.mentions, [ana.user()]);
    assert_eq!(stored(&mut ana, &answer).await, answer);
}

pub async fn encrypted_content_is_relayed_as_it_came(stage: &Stage<'_>) {
    let (mut ana, mut bea) = stage.two().await;
    let some = |text: &str| Some(text.to_owned());
    let sealed = SendMessage {
        content: None,
        ciphertext: some("b3BhcXVl"),
        nonce: some("bm9uY2U="),
        tag: some("dGFn"),
        key_version: some("k-7"),
        algorithm: some("xchacha20-poly1305"),
        ..message(bea.user(), "e", "")
    };
    let sent = ana.make(Command::Send(sealed)).await;
    assert_eq!(sent.content, None);
    assert_eq!((sent.ciphertext.as_deref(), sent.key_version.as_deref()), (Some("b3BhcXVl"), Some("k-7")));
    assert_eq!(bea.hear_event(sent.id).await, sent);
    assert_eq!(stored(&mut bea, &sent).await, sent);
}

pub async fn notes_to_oneself_work(stage: &Stage<'_>) {
    let mut ana = stage.device("ana", 0).await;
    let me = ana.user();
    let note = ana.send(me, "n", "buy bread").await;
    assert_eq!(ana.history(note.conversation_id).await, [note]);
}

pub async fn bad_input_is_refused_by_name(stage: &Stage<'_>) {
    let (mut ana, bea) = stage.two().await;
    let (valid, text) = (|| message(bea.user(), "t", "x"), |bytes| Some("x".repeat(bytes)));
    let cases = [
        (SendMessage { temp_id: "x".repeat(65), ..valid() }, "temp_id"),
        (SendMessage { temp_id: "a\u{0}b".into(), ..valid() }, "temp_id"),
        (SendMessage { content: text(16 * 1024 + 1), ..valid() }, "content"),
        (SendMessage { nonce: text(3), ..valid() }, "nonce"),
        (SendMessage { content: None, ..valid() }, "content"),
        (SendMessage { mentions: vec![bea.user(); 51], ..valid() }, "mentions"),
    ];
    for (send, field) in cases {
        let error = ana.refused(Command::Send(send)).await;
        assert_eq!((error.code, error.retryable), (ErrorCode::BadRequest, false), "{field}");
        assert!(error.message.contains(field), "{field}: {}", error.message);
    }
    // Nothing of it was carried out, and the session goes on.
    assert_eq!(ana.send(bea.user(), "t", "x").await.seq, Seq::new(1));
}
