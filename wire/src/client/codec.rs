//! Frames of the client protocol to and from values, in both formats.
//!
//! Decoding takes two passes: the first cuts the frame into envelopes and reads `id` and `type` only, the second reads
//! the payload as what the type says. So an envelope that is wrong inside is answered under its own `id`, and its
//! neighbours in the frame are carried out.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Command, CommandId, ErrorCode, ErrorReply, Push, Reply,
    envelope::{self, Envelope},
    kinds::{ReadPayload, WritePayload},
};
use crate::limits::{CLIENT_FRAME_BYTES, ERROR_MESSAGE_BYTES, SERVER_FRAME_BYTES};

/// How frames are written; chosen by the WebSocket subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Text frames.
    Json,
    /// Binary frames: maps with the field names of the JSON form, ids as text.
    MessagePack,
}

impl Format {
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "tertulia.v1.json",
            Self::MessagePack => "tertulia.v1.msgpack",
        }
    }

    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.subprotocol() == name)
    }
}

/// Why a whole frame is refused. Nothing in it was carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the frame is larger than {max_bytes} bytes")]
    TooBig { max_bytes: usize },
    #[error("the frame holds too many envelopes")]
    TooManyEnvelopes,
    #[error("the frame ends in the middle of a value")]
    Truncated,
    #[error("the frame goes on after its value")]
    TrailingBytes,
    #[error("not an envelope: {0}")]
    NotAnEnvelope(&'static str),
    #[error("the frame is malformed: {0}")]
    Malformed(String),
}

impl FrameError {
    pub(super) fn malformed(error: serde_json::Error) -> Self {
        Self::Malformed(cut(error.to_string()))
    }

    /// What the client is told; without an `id`, for none could be trusted.
    pub fn to_reply(&self) -> ErrorReply {
        ErrorReply::new(ErrorCode::BadFrame, self.to_string())
    }
}

/// One envelope from a client. An error in it is to be sent as its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedCommand {
    pub id: Option<CommandId>,
    pub command: Result<Command, ErrorReply>,
}

/// One envelope to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    Reply { id: Option<CommandId>, reply: Reply },
    Push(Push),
}

/// Reads a client's frame: its commands in order, at least one.
pub fn decode_commands(format: Format, frame: &[u8]) -> Result<Vec<DecodedCommand>, FrameError> {
    if frame.len() > CLIENT_FRAME_BYTES {
        return Err(FrameError::TooBig { max_bytes: CLIENT_FRAME_BYTES });
    }
    let envelopes = envelope::split(format, frame)?;
    Ok(envelopes.into_iter().map(|it| DecodedCommand { id: it.id, command: command(format, &it) }).collect())
}

fn command(format: Format, envelope: &Envelope<'_>) -> Result<Command, ErrorReply> {
    let kind = envelope.kind.as_ref();
    Command::read(kind, &mut FromClient { format, envelope })
        .unwrap_or_else(|| Err(ErrorReply::new(ErrorCode::UnknownType, cut(format!("there is no command `{kind}`")))))
}

struct FromClient<'a, 'e> {
    format: Format,
    envelope: &'a Envelope<'e>,
}

impl ReadPayload for FromClient<'_, '_> {
    type Error = ErrorReply;

    fn bare(&mut self) -> Result<(), ErrorReply> {
        if self.envelope.data.is_some() {
            payload::<NoFields>(self.format, self.envelope)?;
        }
        Ok(())
    }

    fn payload<T: DeserializeOwned>(&mut self) -> Result<T, ErrorReply> {
        payload(self.format, self.envelope)
    }
}

/// What a command without fields may carry as its data.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

fn payload<T: DeserializeOwned>(format: Format, envelope: &Envelope<'_>) -> Result<T, ErrorReply> {
    let bad = |message: String| ErrorReply::new(ErrorCode::BadRequest, cut(message));
    let data = envelope.data.ok_or_else(|| bad(format!("`{}` needs `data`", envelope.kind)))?;
    if !envelope::is_map(format, data) {
        return Err(bad("`data` must be a map".into()));
    }
    decode_value(format, data).map_err(|()| bad(explain::<T>(format, data)))
}

/// The fast path: says only whether it worked.
fn decode_value<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, ()> {
    match format {
        Format::Json => serde_json::from_slice(bytes).map_err(|_| ()),
        Format::MessagePack => T::deserialize(&mut message_pack_reader(bytes)).map_err(|_| ()),
    }
}

/// The slow path: what is wrong and where, for a payload that [`decode_value`] refused.
fn explain<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> String {
    let (path, problem) = match format {
        Format::Json => {
            let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(bytes))
            else {
                return "`data` is malformed".into();
            };
            let problem = error.inner().to_string();
            // Positions are relative to `data`, not to the frame: they would mislead.
            let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(before, _)| before).to_owned();
            (error.path().to_string(), problem)
        }
        Format::MessagePack => {
            let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut message_pack_reader(bytes)) else {
                return "`data` is malformed".into();
            };
            (error.path().to_string(), error.inner().to_string())
        }
    };
    if path == "." { format!("`data`: {problem}") } else { format!("`data.{path}`: {problem}") }
}

type MessagePackReader<'a> = rmp_serde::Deserializer<
    rmp_serde::decode::ReadRefReader<'a, [u8]>,
    rmp_serde::config::HumanReadableConfig<rmp_serde::config::DefaultConfig>,
>;

/// Deeper than any payload of the protocol.
const MESSAGE_PACK_DEPTH: usize = 16;

fn message_pack_reader(bytes: &[u8]) -> MessagePackReader<'_> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    reader.set_max_depth(MESSAGE_PACK_DEPTH);
    reader
}

/// Appends one encoded envelope to `buffer`.
pub fn encode_outbound(format: Format, outbound: &Outbound, buffer: &mut Vec<u8>) {
    match outbound {
        Outbound::Reply { id, reply } => encode_reply(format, *id, reply, buffer),
        Outbound::Push(push) => encode_push(format, push, buffer),
    }
}

/// Appends one encoded reply to `buffer`.
pub fn encode_reply(format: Format, id: Option<CommandId>, reply: &Reply, buffer: &mut Vec<u8>) {
    reply.write(&mut EnvelopeWriter { format, id, buffer });
}

/// Appends one encoded push to `buffer`. The bytes are the same for every session of the format.
pub fn encode_push(format: Format, push: &Push, buffer: &mut Vec<u8>) {
    push.write(&mut EnvelopeWriter { format, id: None, buffer });
}

struct EnvelopeWriter<'a> {
    format: Format,
    id: Option<CommandId>,
    buffer: &'a mut Vec<u8>,
}

impl WritePayload for EnvelopeWriter<'_> {
    fn bare(&mut self, kind: &'static str) {
        write_bare(self.format, self.id, kind, self.buffer);
    }

    fn payload<T: Serialize>(&mut self, kind: &'static str, payload: &T) {
        write_envelope(self.format, self.id, kind, payload, self.buffer);
    }
}

/// The one type whose payload is not `data`, so that no client takes an error for an answer.
const ERROR: &str = "error";

/// A client's frame: one envelope, or a list where there are several. For a client's side: the SDK, tests, load.
pub fn encode_commands(format: Format, commands: &[(CommandId, &Command)]) -> Vec<u8> {
    let mut frame = super::FrameBuilder::new(format, usize::MAX);
    let mut envelope = Vec::with_capacity(256);
    for (id, command) in commands {
        envelope.clear();
        command.write(&mut EnvelopeWriter { format, id: Some(*id), buffer: &mut envelope });
        frame.push(&envelope);
    }
    frame.finish().into()
}

/// Reads a frame from a router: its envelopes in order, without those of a type that this version does not know, which
/// a client must ignore. For a client's side.
pub fn decode_outbound(format: Format, frame: &[u8]) -> Result<Vec<Outbound>, FrameError> {
    if frame.len() > SERVER_FRAME_BYTES {
        return Err(FrameError::TooBig { max_bytes: SERVER_FRAME_BYTES });
    }
    let envelopes = envelope::split(format, frame)?;
    envelopes.iter().filter_map(|envelope| outbound(format, envelope).transpose()).collect()
}

fn outbound(format: Format, envelope: &Envelope<'_>) -> Result<Option<Outbound>, FrameError> {
    let (kind, mut reader) = (envelope.kind.as_ref(), FromRouter { format, envelope });
    if let Some(reply) = Reply::read(kind, &mut reader) {
        return Ok(Some(Outbound::Reply { id: envelope.id, reply: reply? }));
    }
    Push::read(kind, &mut reader).map(|push| Ok(Outbound::Push(push?))).transpose()
}

struct FromRouter<'a, 'e> {
    format: Format,
    envelope: &'a Envelope<'e>,
}

impl ReadPayload for FromRouter<'_, '_> {
    type Error = FrameError;

    fn bare(&mut self) -> Result<(), FrameError> {
        Ok(())
    }

    fn payload<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        let envelope = self.envelope;
        let bytes = if envelope.kind == ERROR { envelope.error } else { envelope.data };
        let bytes = bytes.ok_or(FrameError::NotAnEnvelope("the payload is missing"))?;
        decode_value(self.format, bytes).map_err(|()| FrameError::Malformed(cut(explain::<T>(self.format, bytes))))
    }
}

/// Writing into memory can fail only on a value that is no map of plain fields; no payload is.
const ENCODES: &str = "payloads always encode into memory";

fn write_envelope<T: Serialize>(format: Format, id: Option<CommandId>, kind: &str, payload: &T, buffer: &mut Vec<u8>) {
    let payload_key = if kind == ERROR { "error" } else { "data" };
    match format {
        Format::Json => {
            write_json_head(id, kind, buffer);
            buffer.extend_from_slice(b",\"");
            buffer.extend_from_slice(payload_key.as_bytes());
            buffer.extend_from_slice(b"\":");
            serde_json::to_writer(&mut *buffer, payload).expect(ENCODES);
            buffer.push(b'}');
        }
        Format::MessagePack => {
            write_message_pack_head(2, id, kind, buffer);
            rmp::encode::write_str(buffer, payload_key).expect(ENCODES);
            let mut serializer = rmp_serde::Serializer::new(&mut *buffer).with_struct_map().with_human_readable();
            payload.serialize(&mut serializer).expect(ENCODES);
        }
    }
}

fn write_bare(format: Format, id: Option<CommandId>, kind: &str, buffer: &mut Vec<u8>) {
    match format {
        Format::Json => {
            write_json_head(id, kind, buffer);
            buffer.push(b'}');
        }
        Format::MessagePack => write_message_pack_head(1, id, kind, buffer),
    }
}

/// Everything before the payload. Type names need no escape.
fn write_json_head(id: Option<CommandId>, kind: &str, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(b"{");
    if let Some(id) = id {
        buffer.extend_from_slice(b"\"id\":");
        serde_json::to_writer(&mut *buffer, &id).expect(ENCODES);
        buffer.push(b',');
    }
    buffer.extend_from_slice(b"\"type\":\"");
    buffer.extend_from_slice(kind.as_bytes());
    buffer.push(b'"');
}

fn write_message_pack_head(other_entries: u32, id: Option<CommandId>, kind: &str, buffer: &mut Vec<u8>) {
    rmp::encode::write_map_len(buffer, other_entries + u32::from(id.is_some())).expect(ENCODES);
    if let Some(id) = id {
        rmp::encode::write_str(buffer, "id").expect(ENCODES);
        rmp::encode::write_uint(buffer, id).expect(ENCODES);
    }
    rmp::encode::write_str(buffer, "type").expect(ENCODES);
    rmp::encode::write_str(buffer, kind).expect(ENCODES);
}

/// Error texts quote what a client sent: keeps them short.
fn cut(mut message: String) -> String {
    if message.len() > ERROR_MESSAGE_BYTES {
        let end = (0..=ERROR_MESSAGE_BYTES).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}
