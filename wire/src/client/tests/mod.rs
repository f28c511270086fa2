mod contract;
mod events;
mod frames;
mod golden;
mod hostile;
mod round_trips;
mod samples;
mod validation;

use proptest::{option, prelude::*};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Rev, Seq, SessionId, UserId};

use super::*;
use crate::{
    EventKind, EventRecord, MessageBody, encode_message,
    limits::{CLIENT_FRAME_BYTES, CLIENT_FRAME_ENVELOPES, CONTENT_BYTES, ERROR_MESSAGE_BYTES},
};

const ANA: &str = "01JAAAAAAAAAAAAAAAAAAAAAAA";
const BRUNO: &str = "01JBBBBBBBBBBBBBBBBBBBBBBB";

fn send() -> SendMessage {
    SendMessage {
        to: Some(BRUNO.parse().unwrap()),
        temp_id: "t-1".into(),
        content: Some("¿Qué tal?".into()),
        ..SendMessage::default()
    }
}

fn event() -> Event {
    let record = EventRecord {
        id: "01JCCCCCCCCCCCCCCCCCCCCCCC".parse().unwrap(),
        conversation: "6ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap(),
        seq: Seq::new(12),
        message_no: MessageNo::new(11),
        kind: EventKind::Message,
        sender: ANA.parse().unwrap(),
        created_at_ms: 1_760_000_000_123,
        temp_id: "t-1".into(),
        body: encode_message(&MessageBody { content: Some("hi".into()), ..MessageBody::default() }),
        target: None,
        since: None,
    };
    Event::from_record(&record).unwrap()
}

/// The commands of a JSON frame; the frame itself must be valid.
fn json(frame: &str) -> Vec<DecodedCommand> {
    decode_commands(Format::Json, frame.as_bytes()).unwrap()
}

/// The one error of a JSON frame with one envelope.
fn json_error(frame: &str) -> ErrorReply {
    json(frame).remove(0).command.unwrap_err()
}

fn encode(format: Format, outbound: &Outbound) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_outbound(format, outbound, &mut bytes);
    bytes
}
