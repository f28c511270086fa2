//! One of each command, reply and push, as it is written: golden, and material for the other tests.

use super::*;

/// Each with as many of its fields as can be there together.
const COMMANDS: &[&str] = &[
    r#"{"id":7,"type":"ping"}"#,
    r#"{"id":7,"type":"hello","data":{"token":"t","client":{"platform":"ios","version":"1"},"rev":3}}"#,
    r#"{"id":7,"type":"dm:send","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","temp_id":"t","content":"hi","reply_to":"01JCCCCCCCCCCCCCCCCCCCCCCC","attachments":[{"key":"k","name":"cat.jpg","content_type":"image/jpeg","size_bytes":9,"width":4,"height":3,"duration_ms":2}],"mentions":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}"#,
    r#"{"id":7,"type":"dm:edit","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","message_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","temp_id":"t","ciphertext":"c","nonce":"n","tag":"t","key_version":"k","algorithm":"a","reply_to":"01JCCCCCCCCCCCCCCCCCCCCCCC"}}"#,
    r#"{"id":7,"type":"dm:delete","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","message_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","temp_id":"t"}}"#,
    r#"{"id":7,"type":"dm:react","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","message_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","temp_id":"t","emoji":"👍","change":"remove"}}"#,
    r#"{"id":7,"type":"dm:delivered","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":4}}"#,
    r#"{"id":7,"type":"dm:read","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":4}}"#,
    r#"{"id":7,"type":"dm:typing","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","typing":true}}"#,
    r#"{"id":7,"type":"conversation:create","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","temp_id":"t","name":"us","user_ids":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}"#,
    r#"{"id":7,"type":"conversation:rename","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","temp_id":"t","name":"them"}}"#,
    r#"{"id":7,"type":"conversation:add","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","temp_id":"t","user_ids":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}"#,
    r#"{"id":7,"type":"conversation:remove","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","temp_id":"t","user_ids":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}"#,
    r#"{"id":7,"type":"conversation:role","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","temp_id":"t","user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","role":"admin"}}"#,
    r#"{"id":7,"type":"conversation:leave","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","temp_id":"t"}}"#,
    r#"{"id":7,"type":"conversation:get","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD"}}"#,
    r#"{"id":7,"type":"conversation:members","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","after":"01JAAAAAAAAAAAAAAAAAAAAAAA","limit":9}}"#,
    r#"{"id":7,"type":"sync","data":{"rev":3,"limit":9}}"#,
    r#"{"id":7,"type":"history","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","after_seq":3,"limit":9}}"#,
    r#"{"id":7,"type":"profile:get","data":{"user_ids":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}"#,
    r#"{"id":7,"type":"profile:set","data":{"name":"Ana","avatar_url":"https://example.org/a.png","shares_presence":false}}"#,
    r#"{"id":7,"type":"presence:subscribe","data":{"user_ids":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}"#,
    r#"{"id":7,"type":"presence:unsubscribe","data":{"user_ids":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}"#,
    r#"{"id":7,"type":"block","data":{"user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB"}}"#,
    r#"{"id":7,"type":"unblock","data":{"user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB"}}"#,
    r#"{"id":7,"type":"block:list","data":{"after":"01JAAAAAAAAAAAAAAAAAAAAAAA","limit":9}}"#,
];

const REPLIES: &[&str] = &[
    r#"{"id":7,"type":"pong"}"#,
    r#"{"id":7,"type":"ok"}"#,
    r#"{"id":7,"type":"welcome","data":{"user":{"user_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","name":"Ana","avatar_url":"https://example.org/a.png","shares_presence":true},"session_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","rev":4,"in_large_group":true,"ping_interval_ms":25000,"limits":{"frame_bytes":1,"frame_envelopes":2,"content_bytes":3,"ciphertext_bytes":4,"temp_id_bytes":5,"commands_in_flight":6}}}"#,
    r#"{"id":7,"type":"dm:ack","data":{"temp_id":"t","message":{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":12,"message_no":11,"kind":"message","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"temp_id":"t","content":"hi"}}}"#,
    r#"{"id":7,"type":"dm:marked","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","delivered_seq":4,"read_seq":3}}"#,
    r#"{"id":7,"type":"conversation","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","kind":"large_group","name":"us","created_by":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"members":2,"role":"owner","last_seq":12}}"#,
    r#"{"id":7,"type":"member:page","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","members":[{"user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","role":"member","joined_seq":1,"delivered_seq":3,"read_seq":2}],"has_more":true}}"#,
    r#"{"id":7,"type":"sync:page","data":{"conversations":[{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","kind":"group","name":"us","joined_seq":1,"left_seq":12,"last_seq":12,"last_event_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","last_at_ms":5,"last_message_no":11,"read_seq":3,"unread":2,"others_delivered_seq":9,"others_read_seq":8}],"rev":4,"has_more":false,"reset":false,"unread_total":2}}"#,
    r#"{"id":7,"type":"history:page","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","events":[{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":12,"message_no":11,"kind":"message","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"temp_id":"t","content":"hi","edited_at_ms":6,"reactions":[{"emoji":"👍","count":2,"mine":true}]}],"has_more":false,"last_seq":12}}"#,
    r#"{"id":7,"type":"profile:list","data":{"users":[{"user_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","name":"Ana","avatar_url":"https://example.org/a.png","shares_presence":true}]}}"#,
    r#"{"id":7,"type":"profile","data":{"user_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","name":"Ana","avatar_url":"https://example.org/a.png","shares_presence":true}}"#,
    r#"{"id":7,"type":"presence:list","data":{"users":[{"user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","online":false,"last_seen_ms":5}]}}"#,
    r#"{"id":7,"type":"block:page","data":{"user_ids":["01JBBBBBBBBBBBBBBBBBBBBBBB"],"has_more":false}}"#,
    r#"{"id":7,"type":"error","error":{"code":"limit_reached","message":"no","retryable":false}}"#,
];

const PUSHES: &[&str] = &[
    r#"{"type":"dm:new","data":{"message":{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":12,"message_no":11,"kind":"message","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"temp_id":"t","reply_to":"01JCCCCCCCCCCCCCCCCCCCCCCC","attachments":[{"key":"k","name":"cat.jpg","content_type":"image/jpeg","size_bytes":9,"width":4,"height":3,"duration_ms":2}],"mentions":["01JBBBBBBBBBBBBBBBBBBBBBBB"]}}}"#,
    r#"{"type":"dm:edited","data":{"event":{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":12,"message_no":11,"kind":"edit","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"temp_id":"t","content":"ho","message_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","message_seq":3}}}"#,
    r#"{"type":"dm:deleted","data":{"event":{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":12,"message_no":11,"kind":"delete","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"temp_id":"t","message_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","message_seq":3}}}"#,
    r#"{"type":"dm:reacted","data":{"event":{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":12,"message_no":11,"kind":"reaction","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"temp_id":"t","message_id":"01JCCCCCCCCCCCCCCCCCCCCCCC","message_seq":3,"emoji":"👍","change":"add"}}}"#,
    r#"{"type":"conversation:changed","data":{"event":{"id":"01JCCCCCCCCCCCCCCCCCCCCCCC","conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","seq":12,"message_no":11,"kind":"created","sender_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","created_at_ms":5,"temp_id":"t","name":"us","members":[{"user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","role":"member"}],"became_large":true}}}"#,
    r#"{"type":"dm:receipt","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","delivered_seq":4,"read_seq":3,"read_message_no":2}}"#,
    r#"{"type":"dm:typing","data":{"conversation_id":"01JDDDDDDDDDDDDDDDDDDDDDDD","user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","typing":true,"expires_in_ms":6000}}"#,
    r#"{"type":"presence","data":{"user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","online":true}}"#,
    r#"{"type":"profile:changed","data":{"user_id":"01JAAAAAAAAAAAAAAAAAAAAAAA","name":"Ana","avatar_url":"https://example.org/a.png","shares_presence":true}}"#,
    r#"{"type":"block:changed","data":{"user_id":"01JBBBBBBBBBBBBBBBBBBBBBBB","blocked":true}}"#,
    r#"{"type":"resync","data":{"reason":"overflow"}}"#,
    r#"{"type":"goaway","data":{"retry_after_ms":3000}}"#,
];

pub fn frames() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().chain(REPLIES).chain(PUSHES).copied()
}

pub fn commands() -> Vec<Command> {
    COMMANDS.iter().map(|frame| json(frame).remove(0).command.unwrap()).collect()
}

pub fn replies() -> Vec<Reply> {
    let reply = |frame: &&str| match decode_outbound(Format::Json, frame.as_bytes()).unwrap().remove(0) {
        Outbound::Reply { reply, .. } => reply,
        Outbound::Push(push) => panic!("{push:?}"),
    };
    REPLIES.iter().map(reply).collect()
}

pub fn pushes() -> Vec<Push> {
    let push = |frame: &&str| match decode_outbound(Format::Json, frame.as_bytes()).unwrap().remove(0) {
        Outbound::Push(push) => push,
        Outbound::Reply { reply, .. } => panic!("{reply:?}"),
    };
    PUSHES.iter().map(push).collect()
}

#[test]
fn every_command_is_written_like_this() {
    for (frame, command) in COMMANDS.iter().zip(commands()) {
        assert_eq!(String::from_utf8(encode_commands(Format::Json, &[(7, &command)])).unwrap(), *frame);
    }
    assert_eq!(commands().iter().map(Command::type_name).collect::<Vec<_>>(), Command::TYPES);
}

#[test]
fn every_reply_and_push_is_written_like_this() {
    for (frame, reply) in REPLIES.iter().zip(replies()) {
        let bytes = encode(Format::Json, &Outbound::Reply { id: Some(7), reply });
        assert_eq!(String::from_utf8(bytes).unwrap(), *frame);
    }
    for (frame, push) in PUSHES.iter().zip(pushes()) {
        assert_eq!(String::from_utf8(encode(Format::Json, &Outbound::Push(push))).unwrap(), *frame);
    }
    assert_eq!(replies().iter().map(Reply::type_name).collect::<Vec<_>>(), Reply::TYPES);
    assert_eq!(pushes().iter().map(Push::type_name).collect::<Vec<_>>(), Push::TYPES);
}
