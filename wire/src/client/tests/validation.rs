use super::*;

fn sealed() -> SendMessage {
    let text = || Some("x".to_owned());
    SendMessage {
        content: None,
        ciphertext: text(),
        nonce: text(),
        tag: text(),
        key_version: text(),
        algorithm: text(),
        ..send()
    }
}

#[test]
fn a_send_with_one_target_and_one_body_is_valid() {
    let valid = send().validate().unwrap();
    assert_eq!(valid.target, SendTarget::User(BRUNO.parse().unwrap()));
    assert_eq!(valid.body.content.as_deref(), Some("¿Qué tal?"));
    assert!(sealed().validate().unwrap().body.encrypted.is_some());
    let longest = SendMessage { content: Some("x".repeat(CONTENT_BYTES)), temp_id: "x".repeat(64), ..send() };
    assert!(longest.validate().is_ok());
}

#[test]
fn a_send_outside_its_limits_is_refused_by_the_name_of_the_field() {
    let conversation: Option<ConversationId> = Some("6ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap());
    let cases = [
        (SendMessage { to: None, ..send() }, "`to`"),
        (SendMessage { conversation_id: conversation, ..send() }, "`to`"),
        (SendMessage { to: Some(UserId::from_u128(u128::MAX)), ..send() }, "data.to"),
        (SendMessage { content: None, ..send() }, "`content`"),
        (SendMessage { content: Some("x".into()), ..sealed() }, "`content`"),
        (SendMessage { content: Some(String::new()), ..send() }, "data.content"),
        (SendMessage { content: Some("x".repeat(CONTENT_BYTES + 1)), ..send() }, "data.content"),
        (SendMessage { temp_id: String::new(), ..send() }, "data.temp_id"),
        (SendMessage { temp_id: "x".repeat(65), ..send() }, "data.temp_id"),
        (SendMessage { temp_id: "a\0b".into(), ..send() }, "data.temp_id"),
        (SendMessage { nonce: None, ..sealed() }, "`nonce`"),
        (SendMessage { tag: Some("x".repeat(257)), ..sealed() }, "data.tag"),
    ];
    for (send, field) in cases {
        let error = send.validate().unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert!(error.message.contains(field), "{field}: {}", error.message);
    }
}

#[test]
fn queries_have_defaults_and_limits() {
    let history = HistoryQuery {
        conversation_id: "6ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap(),
        after_seq: None,
        before_seq: None,
        limit: None,
    };
    assert_eq!(history.validate().unwrap().position, HistoryPosition::Latest);
    assert_eq!(history.validate().unwrap().limit, 50);
    let both = HistoryQuery { after_seq: Some(Seq::new(1)), before_seq: Some(Seq::new(9)), ..history.clone() };
    assert!(both.validate().is_err());
    for limit in [0, 201, u32::MAX] {
        assert!(HistoryQuery { limit: Some(limit), ..history.clone() }.validate().is_err());
        assert!(SyncQuery { rev: Rev::ZERO, limit: Some(limit) }.validate().is_err());
    }
    assert!(SyncQuery { rev: Rev::new(u64::MAX), limit: None }.validate().is_err());
    assert!(ProfileQuery { user_ids: vec![] }.validate().is_err());
    assert!(ProfileQuery { user_ids: vec![ANA.parse().unwrap(); 101] }.validate().is_err());
}
