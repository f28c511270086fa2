use super::*;

#[test]
fn a_send_has_this_form_in_json() {
    let frame = encode_commands(Format::Json, &[(7, &Command::Send(send()))]);
    let want =
        r#"{"id":7,"type":"dm:send","data":{"to":"01JBBBBBBBBBBBBBBBBBBBBBBB","temp_id":"t-1","content":"¿Qué tal?"}}"#;
    assert_eq!(String::from_utf8(frame).unwrap(), want);
}

#[test]
fn a_send_has_this_form_in_message_pack() {
    let frame = encode_commands(Format::MessagePack, &[(7, &Command::Send(send()))]);
    let want = b"\x83\xa2id\x07\xa4type\xa7dm:send\xa4data\x83\xa2to\xba01JBBBBBBBBBBBBBBBBBBBBBBB\xa7temp_id\xa3t-1\xa7content\xab\xc2\xbfQu\xc3\xa9 tal?";
    assert_eq!(frame, want);
}

#[test]
fn every_reply_and_push_has_this_form_in_json() {
    let event = r#"{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"6ZZZZZZZZZZZZZZZZZZZZZZZZZ","seq":12,"message_no":11,"kind":"message","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":1760000000123,"temp_id":"t-1","content":"hi"}"#;
    let reply = |reply| Outbound::Reply { id: Some(7), reply };
    let ack = Ack { temp_id: "t-1".into(), message: super::event() };
    let error = ErrorReply::new(ErrorCode::Overloaded, "full").with_retry_after_ms(200);
    let cases = [
        (reply(Reply::Pong), r#"{"id":7,"type":"pong"}"#.to_owned()),
        (reply(Reply::Ack(ack)), format!(r#"{{"id":7,"type":"dm:ack","data":{{"temp_id":"t-1","message":{event}}}}}"#)),
        (
            reply(Reply::Error(error)),
            r#"{"id":7,"type":"error","error":{"code":"overloaded","message":"full","retryable":true,"retry_after_ms":200}}"#.to_owned(),
        ),
        (
            Outbound::Reply { id: None, reply: Reply::Error(ErrorReply::new(ErrorCode::BadFrame, "no")) },
            r#"{"type":"error","error":{"code":"bad_frame","message":"no","retryable":false}}"#.to_owned(),
        ),
        (
            Outbound::Push(Push::New(NewMessage { message: super::event() })),
            format!(r#"{{"type":"dm:new","data":{{"message":{event}}}}}"#),
        ),
        (
            Outbound::Push(Push::Resync(Resync { reason: ResyncReason::OwnerChanged })),
            r#"{"type":"resync","data":{"reason":"owner_changed"}}"#.to_owned(),
        ),
        (
            Outbound::Push(Push::GoAway(GoAway { retry_after_ms: 3000 })),
            r#"{"type":"goaway","data":{"retry_after_ms":3000}}"#.to_owned(),
        ),
    ];
    for (outbound, want) in cases {
        assert_eq!(String::from_utf8(encode(Format::Json, &outbound)).unwrap(), want);
    }
}

#[test]
fn an_ack_has_this_form_in_message_pack() {
    let ack = Ack { temp_id: "t-1".into(), message: super::event() };
    let mut want = b"\x83\xa2id\xcd\x01\x2c\xa4type\xa6dm:ack\xa4data\x82\xa7temp_id\xa3t-1\xa7message\x89".to_vec();
    want.extend_from_slice(
        b"\xa2id\xba01JCCCCCCCCCCCCCCCCCCCCCCC\xafconversation_id\xba6ZZZZZZZZZZZZZZZZZZZZZZZZZ\xa3seq\x0c",
    );
    want.extend_from_slice(b"\xaamessage_no\x0b\xa4kind\xa7message\xa9sender_id\xba01JAAAAAAAAAAAAAAAAAAAAAAA");
    want.extend_from_slice(b"\xadcreated_at_ms\xcf\x00\x00\x01\x99\xc8\x2c\xc0\x7b\xa7temp_id\xa3t-1\xa7content\xa2hi");
    let got = encode(Format::MessagePack, &Outbound::Reply { id: Some(300), reply: Reply::Ack(ack) });
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&want));
    assert_eq!(got, want);
}

#[test]
fn error_codes_keep_their_spelling() {
    let codes = [
        "bad_frame",
        "bad_request",
        "unknown_type",
        "not_expected",
        "unauthorized",
        "token_expired",
        "client_outdated",
        "not_found",
        "conflict",
        "blocked",
        "forbidden",
        "no_change",
        "limit_reached",
        "rate_limited",
        "overloaded",
        "unavailable",
        "internal",
    ];
    for (code, text) in ErrorCode::ALL.into_iter().zip(codes) {
        assert_eq!(code.as_str(), text);
        assert_eq!(serde_json::to_value(code).unwrap(), text);
    }
}
