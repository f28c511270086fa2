//! WebSocket frames, as far as the skin has to look at them itself: which of its packets the library has written, and the
//! one frame that ends a connection.

/// Counts the packets of a session among the bytes that a server writes: events, acks and the disconnect. The handshake,
/// pings and refusals are frames of the library's own.
#[derive(Debug, Default)]
pub(super) struct FrameCounter {
    /// The frame's head and the first bytes of its payload, as far as they were written.
    start: [u8; START_BYTES_MAX],
    have: usize,
    /// What is left of a frame whose start is known.
    rest: Option<Rest>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    bytes: u64,
    is_ours: bool,
}

/// Two bytes, eight of an extended length.
const HEAD_BYTES_MAX: usize = 10;
/// A packet's kind: Engine.IO's digit, then Socket.IO's.
const KIND_BYTES: usize = 2;
const START_BYTES_MAX: usize = HEAD_BYTES_MAX + KIND_BYTES;

/// Disconnect, event and ack, each in an Engine.IO message.
const OURS: [&[u8]; 3] = [b"41", b"42", b"43"];

impl FrameCounter {
    /// Takes what was written next, and says how many packets it completes.
    pub(super) fn written(&mut self, mut bytes: &[u8]) -> usize {
        let mut completed = 0;
        loop {
            if let Some(rest) = &mut self.rest {
                let taken = rest.bytes.min(bytes.len() as u64);
                rest.bytes -= taken;
                bytes = &bytes[taken as usize..];
                if rest.bytes > 0 {
                    return completed;
                }
                completed += usize::from(rest.is_ours);
                *self = Self::default();
            }
            let Some((&byte, after)) = bytes.split_first() else { return completed };
            bytes = after;
            self.start[self.have] = byte;
            self.have += 1;
            self.rest = rest_of(&self.start[..self.have]);
        }
    }
}

/// What follows the start of a frame; `None` where more of the start is needed.
fn rest_of(start: &[u8]) -> Option<Rest> {
    let (head_bytes, payload_bytes) = match *start.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(start.get(2..4)?.try_into().ok()?))),
        127 => (HEAD_BYTES_MAX, u64::from_be_bytes(start.get(2..HEAD_BYTES_MAX)?.try_into().ok()?)),
        // A server does not mask, so the top bit is clear.
        bytes => (2, u64::from(bytes)),
    };
    let kind_bytes = payload_bytes.min(KIND_BYTES as u64);
    let kind = start.get(head_bytes..head_bytes + kind_bytes as usize)?;
    Some(Rest { bytes: payload_bytes - kind_bytes, is_ours: OURS.contains(&kind) })
}

/// A close frame as a client sends it: masked, with a mask that changes nothing.
pub(super) fn client_close_frame(code: u16) -> [u8; CLOSE_FRAME_BYTES] {
    let [high, low] = code.to_be_bytes();
    [0x88, 0x82, 0, 0, 0, 0, high, low]
}

pub(super) const CLOSE_FRAME_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x81];
        match payload.len() {
            bytes @ 0..126 => frame.push(bytes as u8),
            bytes @ 126..65_536 => {
                frame.push(126);
                frame.extend((bytes as u16).to_be_bytes());
            }
            bytes => {
                frame.push(127);
                frame.extend((bytes as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn events_and_acks_are_counted_and_nothing_else_is() {
        let mut counter = FrameCounter::default();
        for other in [&b"0{}"[..], b"2", b"", b"40{}", b"44{}", b"4"] {
            assert_eq!(counter.written(&frame(other)), 0, "{other:?}");
        }
        for ours in [&b"42[\"dm:new\"]"[..], b"430[]", b"41", &[b"42".to_vec(), vec![b'x'; 200]].concat()] {
            assert_eq!(counter.written(&frame(ours)), 1, "{ours:?}");
        }
    }

    #[test]
    fn a_packet_counts_when_its_last_byte_is_written_however_it_is_cut() {
        let large = [b"42".to_vec(), vec![b'x'; 70_000]].concat();
        let payloads: [&[u8]; 6] = [b"42[1]", b"2", b"", b"431[]", &large, b"41"];
        let bytes = payloads.map(frame).concat();
        for step in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut counter = FrameCounter::default();
            let mut completed = 0;
            for chunk in bytes.chunks(step) {
                completed += counter.written(chunk);
            }
            assert_eq!(completed, 4, "in steps of {step}");
            assert_eq!(counter.written(&frame(b"42[]")), 1);
        }
        let mut counter = FrameCounter::default();
        assert_eq!(counter.written(&frame(b"42[1]")[..6]), 0, "the last byte is missing");
    }
}
