//! One message to a client on its way out, in frames of bounded size.
//!
//! A page may have megabytes. Written as one frame, all of it would wait in the socket's buffer, and a client that reads
//! slowly, but does, would seem to be stuck until the last byte.

use bytes::Bytes;
use tertulia_wire::client::Format;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

/// The payload of one frame.
pub const FRAGMENT_BYTES: usize = 64 * 1024;

/// What is left of a message. None where it is empty: an empty message is not sent.
pub struct Fragments {
    rest: Bytes,
    next: Data,
}

impl Default for Fragments {
    fn default() -> Self {
        Self { rest: Bytes::new(), next: Data::Continue }
    }
}

impl Fragments {
    pub fn new(format: Format, payload: Bytes) -> Self {
        // Our own encoder writes UTF-8; a frame may end within a character.
        let next = match format {
            Format::Json => Data::Text,
            Format::MessagePack => Data::Binary,
        };
        Self { rest: payload, next }
    }

    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    pub fn next(&mut self) -> Option<Message> {
        if self.rest.is_empty() {
            return None;
        }
        let payload = self.rest.split_to(self.rest.len().min(FRAGMENT_BYTES));
        let kind = std::mem::replace(&mut self.next, Data::Continue);
        let is_final = self.rest.is_empty();
        if is_final {
            // The message's memory is not kept until the next one.
            self.rest = Bytes::new();
        }
        Some(Message::Frame(Frame::message(payload, OpCode::Data(kind), is_final)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind, the length, and whether it is the last, of each frame.
    fn frames(format: Format, bytes: usize) -> Vec<(Data, usize, bool)> {
        let mut fragments = Fragments::new(format, vec![b'x'; bytes].into());
        let mut frames = Vec::new();
        while let Some(message) = fragments.next() {
            let Message::Frame(frame) = message else { panic!("{message:?}") };
            let OpCode::Data(kind) = frame.header().opcode else { panic!("{frame:?}") };
            frames.push((kind, frame.payload().len(), frame.header().is_final));
        }
        assert_eq!(fragments.bytes_left(), 0);
        frames
    }

    #[test]
    fn what_fits_is_one_frame() {
        assert_eq!(frames(Format::Json, FRAGMENT_BYTES), [(Data::Text, FRAGMENT_BYTES, true)]);
        assert_eq!(frames(Format::MessagePack, 1), [(Data::Binary, 1, true)]);
        assert_eq!(frames(Format::Json, 0), []);
    }

    #[test]
    fn what_does_not_is_parted_without_losing_a_byte() {
        let want =
            [(Data::Binary, FRAGMENT_BYTES, false), (Data::Continue, FRAGMENT_BYTES, false), (Data::Continue, 5, true)];
        assert_eq!(frames(Format::MessagePack, 2 * FRAGMENT_BYTES + 5), want);
    }
}
