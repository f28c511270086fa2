//! Every shape that crosses between processes comes back as it was, and nothing that does not belong there does harm.

mod samples;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use tertulia_shard_map::{ConversationId, EventId, MapVersion, MessageNo, Seq, SessionId, Slot, UserId};

use super::*;
use crate::{
    EventKind, EventRecord, Target, TraceId,
    cluster::{
        Action, Answer, Append, Authority, Call, ConversationView, Deliver, DeliverEntry, DeliverEvent, DeliverStream,
        Delivery, GroupSize, Membership, Notice, PushBatch, PushItem, PushTarget, Recipient, Refusal,
    },
};

fn user() -> impl Strategy<Value = UserId> {
    any::<u128>().prop_map(UserId::from_u128)
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<u128>().prop_map(SessionId::from_u128)
}

fn conversation() -> impl Strategy<Value = ConversationId> {
    any::<u128>().prop_map(ConversationId::from_u128)
}

fn body() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn trace() -> impl Strategy<Value = Option<TraceId>> {
    any::<u128>().prop_map(TraceId::new)
}

fn record() -> impl Strategy<Value = EventRecord> {
    let target = option::of(any::<(u128, u64)>());
    (any::<u128>(), conversation(), any::<(u64, u64, i64)>(), user(), ".{0,64}", body(), target).prop_map(
        |(id, conversation, (seq, message_no, created_at_ms), sender, temp_id, body, target)| EventRecord {
            id: EventId::from_u128(id),
            conversation,
            seq: Seq::new(seq),
            message_no: MessageNo::new(message_no),
            kind: if target.is_some() { EventKind::Edit } else { EventKind::Message },
            sender,
            created_at_ms,
            temp_id,
            body,
            target: target.map(|(id, seq)| Target { id: EventId::from_u128(id), seq: Seq::new(seq) }),
            since: None,
        },
    )
}

fn append() -> impl Strategy<Value = Append> {
    (conversation(), option::of(user()), user(), option::of(session()), ".{0,64}", body()).prop_map(
        |(conversation, direct_peer, sender, origin, temp_id, body)| Append {
            conversation,
            direct_peer,
            sender,
            authority: Authority::Member,
            origin,
            temp_id,
            action: Action::Message { body },
        },
    )
}

fn deliver() -> impl Strategy<Value = Deliver> {
    let event = (record(), ".{0,20}", option::of(session())).prop_map(|(record, name, origin)| {
        let view = ConversationView::Group { name, size: GroupSize::Small };
        DeliverEntry::Event(DeliverEvent { record, view, origin })
    });
    let recipient = user().prop_map(|user| Recipient { user, membership: Membership::Stays });
    let delivery = (any::<u32>(), vec(recipient, 0..3)).prop_map(|(entry, recipients)| Delivery { entry, recipients });
    let stream =
        (any::<(u16, u16, Option<u128>)>(), vec(delivery, 0..3)).prop_map(|((from, to, previous), deliveries)| {
            DeliverStream {
                from: Slot::new(from),
                to: Slot::new(to),
                previous: previous.map(EventId::from_u128),
                deliveries,
            }
        });
    let entry = prop_oneof![event, prop::sample::select(samples::entries())];
    (vec(entry, 0..3), vec(stream, 0..3)).prop_map(|(entries, streams)| Deliver { entries, streams })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        body().prop_map(Call::Raft),
        append().prop_map(|append| Call::Append(Box::new(append))),
        (any::<u16>(), vec(user(), 0..5)).prop_map(|(slot, users)| Call::Profiles { slot: Slot::new(slot), users }),
        deliver().prop_map(Call::Deliver),
        prop::sample::select(samples::calls()),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![body().prop_map(Answer::Raft), prop::sample::select(samples::answers())]
}

fn frame() -> impl Strategy<Value = Frame> {
    let target = (any::<u32>(), vec(session(), 0..3)).prop_map(|(item, sessions)| PushTarget { item, sessions });
    let item = prop_oneof![record().prop_map(PushItem::Event), prop::sample::select(samples::push_items())];
    let push = (vec(item, 0..3), vec(target, 0..3)).prop_map(|(items, targets)| PushBatch { items, targets });
    prop_oneof![
        (any::<u64>(), trace(), call()).prop_map(|(id, trace, call)| Frame::Call { id, trace, call }),
        (any::<u64>(), answer()).prop_map(|(id, answer)| Frame::Answer { id, answer }),
        push.prop_map(|batch| Frame::Notice(Notice::Push(batch))),
    ]
}

fn encoded(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode_frame(frame, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn frames_survive_the_stream_in_pieces_of_any_size(frames in vec(frame(), 1..4), piece in 1usize..700) {
        let mut stream = BytesMut::new();
        for frame in &frames {
            encode_frame(frame, &mut stream).unwrap();
        }
        let (mut input, mut decoded) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(frame) = decode_frame(&mut input).unwrap() {
                decoded.push(frame);
            }
        }
        prop_assert!(input.is_empty());
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn random_bytes_are_refused_or_understood_but_never_harm(body in vec(any::<u8>(), 0..200)) {
        let mut input = BytesMut::new();
        input.put_u32(body.len() as u32);
        input.extend_from_slice(&body);
        // Whatever it says, it comes back, without a panic and without a large allocation.
        let _outcome = decode_frame(&mut input);
    }

    #[test]
    fn a_frame_with_a_byte_changed_never_harms(frame in frame(), position: prop::sample::Index, byte: u8) {
        let mut input = encoded(&frame);
        let position = LENGTH_BYTES + position.index(input.len() - LENGTH_BYTES);
        input[position] = byte;
        let _outcome = decode_frame(&mut input);
    }

    #[test]
    fn a_frame_that_was_cut_short_is_malformed(frame in frame(), cut: prop::sample::Index) {
        let whole = encoded(&frame);
        let kept = cut.index(whole.len() - LENGTH_BYTES);
        let mut input = BytesMut::new();
        input.put_u32(kept as u32);
        input.extend_from_slice(&whole[LENGTH_BYTES..LENGTH_BYTES + kept]);
        prop_assert!(matches!(decode_frame(&mut input), Err(CodecError::Malformed(_))));
    }
}

#[test]
fn every_call_answer_and_push_comes_back_as_it_was() {
    let frames = (samples::calls().into_iter().map(|call| Frame::Call { id: 1, trace: None, call }))
        .chain(samples::answers().into_iter().map(|answer| Frame::Answer { id: 2, answer }));
    for frame in frames {
        assert_eq!(decode_frame(&mut encoded(&frame)).unwrap().as_ref(), Some(&frame));
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_by_its_length_alone() {
    let mut input = BytesMut::from(&(CLUSTER_FRAME_BYTES as u32 + 1).to_be_bytes()[..]);
    assert!(
        matches!(decode_frame(&mut input), Err(CodecError::TooLarge { bytes }) if bytes == CLUSTER_FRAME_BYTES + 1)
    );
    assert!(input.capacity() < 1024, "{} bytes were set aside", input.capacity());
    let mut input = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
    assert!(matches!(decode_frame(&mut input), Err(CodecError::TooLarge { .. })));
}

#[test]
fn a_frame_that_is_too_large_to_send_leaves_the_buffer_as_it_was() {
    let ping = Frame::Call { id: 1, trace: None, call: Call::Ping };
    let mut buffer = encoded(&ping);
    let before = buffer.clone();
    let large = Frame::Call { id: 2, trace: None, call: Call::Raft(vec![0; CLUSTER_FRAME_BYTES].into()) };
    assert!(matches!(encode_frame(&large, &mut buffer), Err(CodecError::TooLarge { .. })));
    assert_eq!(buffer, before);
}

#[test]
fn bytes_after_the_end_of_a_frame_are_refused() {
    let mut input = encoded(&Frame::Answer { id: 1, answer: Answer::Ping });
    let longer = (input.len() - LENGTH_BYTES + 2) as u32;
    input[..LENGTH_BYTES].copy_from_slice(&longer.to_be_bytes());
    input.extend_from_slice(&[0xc0, 0xc0]);
    assert!(matches!(decode_frame(&mut input), Err(CodecError::TrailingBytes { bytes: 2 })));
}

#[test]
fn a_list_that_claims_four_billion_items_is_refused() {
    // Frame::Call { 1, None, Profiles { slot 0, users: an array32 of 2^32 - 1 } }
    let mut body = vec![0x81, 0xa4];
    body.extend_from_slice(b"Call");
    body.extend_from_slice(&[0x93, 0x01, 0xc0, 0x81, 0xa8]);
    body.extend_from_slice(b"Profiles");
    body.extend_from_slice(&[0x92, 0x00, 0xdd, 0xff, 0xff, 0xff, 0xff]);
    let mut input = BytesMut::new();
    input.put_u32(body.len() as u32);
    input.extend_from_slice(&body);
    assert!(matches!(decode_frame(&mut input), Err(CodecError::Malformed(_))));
}

#[test]
fn frames_on_the_wire_are_what_they_were_in_version_1() {
    let hex = |frame: &Frame| encoded(frame).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let id = 0x0193_5d6e_8f2a_7b3c_4d5e_6f70_8192_a3b4;
    let append = Frame::Call {
        id: 7,
        trace: TraceId::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        call: Call::Append(Box::new(Append {
            conversation: ConversationId::from_u128(id),
            direct_peer: None,
            sender: UserId::from_u128(id + 1),
            authority: Authority::Member,
            origin: Some(SessionId::from_u128(id + 2)),
            temp_id: "t1".to_owned(),
            action: Action::Message { body: Bytes::from_static(&[1, 0x80, 0xff]) },
        })),
    };
    let golden = [
        (Frame::Call { id: 0, trace: None, call: Call::Ping }, &["0000000e", "81a443616c6c9300c0a450696e67"][..]),
        (
            append,
            &[
                "00000073",
                "81a443616c6c9307c4100af7651916cd43dd8448eb211c80319c81a6417070656e6497c41001935d6e8f2a7b3c4d5e",
                "6f708192a3b4c0c41001935d6e8f2a7b3c4d5e6f708192a3b5a64d656d626572c41001935d6e8f2a7b3c4d5e6f7081",
                "92a3b6a2743181a74d65737361676591c4030180ff",
            ][..],
        ),
        (
            Frame::Answer { id: 300, answer: Answer::Refused(Refusal::NotOwner { version: MapVersion::new(9) }) },
            &["00000021", "81a6416e7377657292cd012c81a75265667573656481a84e6f744f776e65729109"][..],
        ),
        (
            Frame::Notice(Notice::Push(PushBatch { items: vec![], targets: vec![] })),
            &["00000011", "81a64e6f7469636581a450757368929090"][..],
        ),
    ];
    for (frame, expected) in golden {
        assert_eq!(hex(&frame), expected.concat(), "{frame:?}");
    }
}
