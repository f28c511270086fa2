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
        (ErrorCode::BadFrame, "bad_frame"),
        (ErrorCode::BadRequest, "bad_request"),
        (ErrorCode::UnknownType, "unknown_type"),
        (ErrorCode::NotExpected, "not_expected"),
        (ErrorCode::Unauthorized, "unauthorized"),
        (ErrorCode::TokenExpired, "token_expired"),
        (ErrorCode::NotFound, "not_found"),
        (ErrorCode::Conflict, "conflict"),
        (ErrorCode::Overloaded, "overloaded"),
        (ErrorCode::Unavailable, "unavailable"),
        (ErrorCode::Internal, "internal"),
    ];
    for (code, text) in codes {
        assert_eq!(serde_json::to_value(code).unwrap(), text);
    }
}

/// `docs/PROTOCOL.md`, from which others write their clients.
const CONTRACT: &str = include_str!("../../../../docs/PROTOCOL.md");

#[test]
fn the_contract_names_every_type_code_and_limit() {
    let types = [
        "hello",
        "welcome",
        "ping",
        "pong",
        "dm:send",
        "dm:ack",
        "sync",
        "sync:page",
        "history",
        "history:page",
        "profile:get",
        "profile:list",
        "dm:new",
        "resync",
        "goaway",
        "error",
    ];
    let codes = [
        "bad_frame",
        "bad_request",
        "unknown_type",
        "not_expected",
        "unauthorized",
        "token_expired",
        "not_found",
        "conflict",
        "overloaded",
        "unavailable",
        "internal",
        "overflow",
        "owner_changed",
    ];
    let subprotocols = Format::ALL.map(Format::subprotocol);
    for name in types.iter().chain(&codes).chain(&subprotocols) {
        assert!(CONTRACT.contains(&format!("`{name}`")) || CONTRACT.contains(&format!("\"{name}\"")), "{name}");
    }
    let close_codes = [
        CloseCode::GoingAway,
        CloseCode::WrongFrameType,
        CloseCode::TooBig,
        CloseCode::Unauthorized,
        CloseCode::HelloTimeout,
        CloseCode::PingTimeout,
        CloseCode::TooSlow,
    ];
    for code in close_codes {
        assert!(CONTRACT.contains(&format!("| {} |", code.code())), "{code:?}");
    }
    for limit in
        ["65,536 bytes", "1–16,384 bytes", "1–32,768 bytes", "1–256 bytes", "1–64 bytes", "8,192 bytes", "4 MiB"]
    {
        assert!(CONTRACT.contains(limit), "{limit}");
    }
}

#[test]
fn the_examples_of_the_contract_are_right() {
    let pair = tertulia_shard_map::DirectPair::new(
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        "01BX5ZZKBKACTAV9WEVGEMMVRZ".parse().unwrap(),
    );
    assert!(CONTRACT.contains(&format!("have `{}`", pair.conversation_id())));

    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    assert!(CONTRACT.contains(&hex(encode_commands(Format::MessagePack, &[(7, &Command::Ping)]))));
    let pong = Outbound::Reply { id: Some(7), reply: Reply::Pong };
    assert!(CONTRACT.contains(&hex(encode(Format::MessagePack, &pong))));

    let session = CONTRACT.split("### A session, frame by frame").nth(1).unwrap().split("```").nth(1).unwrap();
    let mut frames = Vec::<String>::new();
    for line in session.lines().skip(1) {
        match line.strip_prefix(['→', '←']) {
            Some(_) => frames.push(line.to_owned()),
            None => frames.last_mut().unwrap().push_str(line.trim_start()),
        }
    }
    assert_eq!(frames.len(), 11);
    for frame in frames.iter().filter(|frame| !frame.contains('…') && !frame.contains("nonsense")) {
        match frame.strip_prefix("→ ") {
            Some(sent) => assert!(json(sent).remove(0).command.is_ok(), "{frame}"),
            None => {
                let received = frame.trim_start_matches("← ");
                assert_eq!(decode_outbound(Format::Json, received.as_bytes()).unwrap().len(), 1, "{frame}");
            }
        }
    }
    assert_eq!(json_error(frames[9].trim_start_matches("→ ")).code, ErrorCode::BadRequest);
}
