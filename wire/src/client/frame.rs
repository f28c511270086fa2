//! Packs encoded envelopes into as few frames as possible.

use bytes::Bytes;

use super::Format;
use crate::limits::CLIENT_FRAME_ENVELOPES;

/// Where the envelopes begin in the buffer: what is before is the room for the list's head, written by `finish`.
const JSON_HEAD_BYTES: usize = 1;
const MESSAGE_PACK_HEAD_BYTES: usize = 3;

/// Collects encoded envelopes into one frame: the envelope itself where there is one, a list where there are more.
/// Copies each once and never re-encodes.
#[derive(Debug)]
pub struct FrameBuilder {
    format: Format,
    max_bytes: usize,
    envelopes: usize,
    buffer: Vec<u8>,
}

impl FrameBuilder {
    /// `max_bytes` bounds a list; a first envelope above it still makes a frame of its own.
    pub fn new(format: Format, max_bytes: usize) -> Self {
        Self { format, max_bytes, envelopes: 0, buffer: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.envelopes == 0
    }

    /// How many envelopes it holds.
    pub fn len(&self) -> usize {
        self.envelopes
    }

    /// Whether an envelope of this many bytes may be pushed; if not, `finish` first. Always true for an empty frame.
    pub fn fits(&self, envelope_bytes: usize) -> bool {
        // One byte more for a comma, and one for the end of the list.
        self.is_empty()
            || (self.envelopes < CLIENT_FRAME_ENVELOPES
                && self.buffer.len().saturating_add(envelope_bytes).saturating_add(2) <= self.max_bytes)
    }

    /// Adds one encoded envelope of the same format. The caller asked [`fits`](Self::fits).
    pub fn push(&mut self, envelope: &[u8]) {
        if self.is_empty() {
            self.buffer.reserve(MESSAGE_PACK_HEAD_BYTES + envelope.len() + 1);
            match self.format {
                Format::Json => self.buffer.push(b'['),
                Format::MessagePack => self.buffer.extend_from_slice(&[0xdc, 0, 0]),
            }
        } else if self.format == Format::Json {
            self.buffer.push(b',');
        }
        self.buffer.extend_from_slice(envelope);
        self.envelopes += 1;
    }

    /// The frame; empty where nothing was pushed. The builder is empty afterwards.
    pub fn finish(&mut self) -> Bytes {
        let mut buffer = std::mem::take(&mut self.buffer);
        let envelopes = std::mem::take(&mut self.envelopes);
        match (self.format, envelopes) {
            (_, 0) => Bytes::new(),
            (Format::Json, 1) => Bytes::from(buffer).slice(JSON_HEAD_BYTES..),
            (Format::MessagePack, 1) => Bytes::from(buffer).slice(MESSAGE_PACK_HEAD_BYTES..),
            (Format::Json, _) => {
                buffer.push(b']');
                Bytes::from(buffer)
            }
            (Format::MessagePack, count) => {
                let count = u16::try_from(count).expect("a frame holds far fewer envelopes than 65,536");
                buffer[1..MESSAGE_PACK_HEAD_BYTES].copy_from_slice(&count.to_be_bytes());
                Bytes::from(buffer)
            }
        }
    }
}
