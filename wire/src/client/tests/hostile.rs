use super::*;

#[test]
fn an_unknown_type_is_answered_under_its_id_and_its_neighbours_are_carried_out() {
    let commands =
        json(r#"[{"id":1,"type":"ping"},{"id":2,"type":"dm:fly","data":{"x":[[]]}},{"type":"ping","data":{}}]"#);
    assert_eq!(commands[0], DecodedCommand { id: Some(1), command: Ok(Command::Ping) });
    assert_eq!(commands[1].id, Some(2));
    assert_eq!(commands[1].command.as_ref().unwrap_err().code, ErrorCode::UnknownType);
    assert_eq!(commands[2], DecodedCommand { id: None, command: Ok(Command::Ping) });
}

#[test]
fn bad_data_is_a_bad_request_that_names_the_field() {
    let cases = [
        (r#"{"id":1,"type":"dm:send","data":{}}"#, "missing field `temp_id`"),
        (
            r#"{"id":1,"type":"dm:send","data":{"temp_id":3}}"#,
            "`data.temp_id`: invalid type: integer `3`, expected a string",
        ),
        (r#"{"id":1,"type":"dm:send","data":{"temp_id":"a","to":"bob"}}"#, "`data.to`: not a valid UserId"),
        (r#"{"id":1,"type":"dm:send","data":{"temp_id":"a","text":"x"}}"#, "unknown field `text`"),
        (r#"{"id":1,"type":"dm:send","data":{"temp_id":"a","temp_id":"b"}}"#, "duplicate field `temp_id`"),
        (r#"{"id":1,"type":"dm:send","data":{"temp_id":"\ud800"}}"#, "`data.temp_id`"),
        (r#"{"id":1,"type":"dm:send","data":["a"]}"#, "must be a map"),
        (r#"{"id":1,"type":"dm:send","data":"a"}"#, "must be a map"),
        (r#"{"id":1,"type":"dm:send","data":null}"#, "needs `data`"),
        (r#"{"id":1,"type":"dm:send"}"#, "needs `data`"),
        (r#"{"id":1,"type":"hello","data":{"client":{"platform":"web","version":1}}}"#, "`data.client.version`"),
        (r#"{"id":1,"type":"sync","data":{"rev":-1}}"#, "`data.rev`"),
        (r#"{"id":1,"type":"sync","data":{"rev":1.5}}"#, "`data.rev`"),
        (r#"{"id":1,"type":"ping","data":{"x":1}}"#, "unknown field `x`"),
    ];
    for (frame, want) in cases {
        let error = json_error(frame);
        assert_eq!(error.code, ErrorCode::BadRequest, "{frame}");
        assert!(error.message.contains(want), "{frame}: {}", error.message);
        assert!(!error.message.contains(" at line "), "{}", error.message);
    }
}

#[test]
fn message_pack_errors_name_the_field_too() {
    let frame = b"\x83\xa2id\x01\xa4type\xa7dm:send\xa4data\x81\xa7temp_id\x03";
    let error = decode_commands(Format::MessagePack, frame).unwrap().remove(0).command.unwrap_err();
    assert!(error.message.contains("`data.temp_id`"), "{}", error.message);
}

#[test]
fn what_is_no_envelope_is_a_bad_frame() {
    let frames = [
        "",
        " ",
        "null",
        "7",
        "\"x\"",
        "{}",
        "[]",
        "[[]]",
        "[1]",
        "{",
        "{\"type\":\"ping\"",
        "{\"type\":7}",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"ping\"}{\"type\":\"ping\"}",
        "{\"id\":-1,\"type\":\"ping\"}",
        "{\"id\":\"1\",\"type\":\"ping\"}",
        "{\"id\":1.5,\"type\":\"ping\"}",
        "{\"id\":1,\"id\":2,\"type\":\"ping\"}",
        "{\"type\":\"\\ud800\"}",
        "[{\"type\":\"ping\"},7]",
        "{\"id\":18446744073709551616,\"type\":\"ping\"}",
    ];
    for frame in frames {
        let error = decode_commands(Format::Json, frame.as_bytes()).unwrap_err();
        assert_eq!(error.to_reply().code, ErrorCode::BadFrame, "{frame}");
    }
    assert!(decode_commands(Format::Json, b"{\"type\":\"\xff\"}").is_err());
    assert!(decode_commands(Format::Json, b"\x81\xa4type\xa4ping").is_err());
}

#[test]
fn what_is_no_envelope_is_a_bad_frame_in_message_pack() {
    let frames: [&[u8]; 12] = [
        b"",
        b"\xc0",
        b"\x80",
        b"\x90",
        b"\x91\xc0",
        b"\xc1",
        b"\x81\xa4type\x07",
        b"\x81\x07\xa4ping",
        b"\x82\xa4type\xa4ping\xa4type\xa4ping",
        b"\x81\xa4type\xa4ping\xc0",
        b"\x82\xa2id\xff\xa4type\xa4ping",
        b"{\"type\":\"ping\"}",
    ];
    for frame in frames {
        assert!(decode_commands(Format::MessagePack, frame).is_err(), "{frame:?}");
    }
    assert!(decode_commands(Format::MessagePack, b"\x81\xa4type\xa4ping").is_ok());
}

#[test]
fn deep_nesting_neither_overflows_the_stack_nor_passes() {
    let depth = CLIENT_FRAME_BYTES / 2 - 64;
    let nested =
        format!(r#"{{"id":1,"type":"dm:send","data":{{"temp_id":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(json_error(&nested).code, ErrorCode::BadRequest);
    assert!(decode_commands(Format::Json, "[".repeat(CLIENT_FRAME_BYTES).as_bytes()).is_err());
    assert!(decode_commands(Format::MessagePack, &[0x91; CLIENT_FRAME_BYTES]).is_err());
    assert!(decode_commands(Format::MessagePack, &[0x81; CLIENT_FRAME_BYTES]).is_err());

    let mut frame = b"\x83\xa2id\x01\xa4type\xa7dm:send\xa4data\x81\xa7temp_id".to_vec();
    frame.extend(std::iter::repeat_n(0x91, 60_000));
    frame.push(0xc0);
    let commands = decode_commands(Format::MessagePack, &frame).unwrap();
    assert_eq!(commands[0].command.as_ref().unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn huge_declared_lengths_are_refused_without_being_allocated() {
    let frames: [&[u8]; 6] = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa4type\xdb\xff\xff\xff\xff",
        b"\x82\xa4type\xa4ping\xa4data\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xa4ping\xa4data\xdf\xff\xff\xff\xff\x01",
        b"\x82\xa4type\xa4ping\xa4data\xc6\xff\xff\xff\xff",
    ];
    for frame in frames {
        assert!(decode_commands(Format::MessagePack, frame).is_err(), "{frame:?}");
    }
}

#[test]
fn frames_have_limits_of_size_and_of_count() {
    let big = vec![b' '; CLIENT_FRAME_BYTES + 1];
    assert_eq!(decode_commands(Format::Json, &big), Err(FrameError::TooBig { max_bytes: CLIENT_FRAME_BYTES }));
    let many = |count| vec![(1, &Command::Ping); count];
    for format in Format::ALL {
        assert!(decode_commands(format, &encode_commands(format, &many(CLIENT_FRAME_ENVELOPES))).is_ok());
        let error = decode_commands(format, &encode_commands(format, &many(CLIENT_FRAME_ENVELOPES + 1)));
        assert_eq!(error, Err(FrameError::TooManyEnvelopes));
    }
}

#[test]
fn errors_quote_no_more_than_a_few_words_of_what_was_sent() {
    let long = "ñ".repeat(10_000);
    for frame in [
        format!(r#"{{"type":"{long}"}}"#),
        format!(r#"{{"type":"dm:send","data":{{"{long}":1}}}}"#),
        format!(r#"{{"type":"sync","data":{{"rev":"{long}"}}}}"#),
    ] {
        assert!(json_error(&frame).message.len() <= ERROR_MESSAGE_BYTES + '…'.len_utf8());
    }
}

#[test]
fn a_client_ignores_types_and_fields_that_it_does_not_know() {
    let frame =
        br#"[{"type":"dm:future","data":{}},{"type":"goaway","data":{"retry_after_ms":1,"why":"x"},"extra":1}]"#;
    let want = vec![Outbound::Push(Push::GoAway(GoAway { retry_after_ms: 1 }))];
    assert_eq!(decode_outbound(Format::Json, frame).unwrap(), want);
}
