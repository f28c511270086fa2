//! Frames off and onto a QUIC stream.

use bytes::BytesMut;
use quinn::{RecvStream, SendStream, WriteError};
use tertulia_wire::cluster::{CodecError, Frame, decode_frame};
use tokio::io::AsyncReadExt;

use super::outbox::Outbox;

/// Room for one read: many small frames at once.
const READ_BYTES: usize = 64 * 1024;
/// A buffer that one large frame has grown beyond this is given back.
const KEEP_BYTES: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFrameError {
    #[error("the stream broke")]
    Stream(#[from] std::io::Error),
    #[error("the stream broke")]
    Write(#[from] WriteError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("a frame of a kind that this side does not take")]
    Unexpected,
    #[error("the stream ended inside a frame")]
    Truncated,
}

pub(super) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(READ_BYTES) }
    }

    /// Waits for more bytes; `false` at the end of the stream.
    pub async fn fill(&mut self) -> Result<bool, ReadFrameError> {
        // A peer that always has more would otherwise keep this task running and starve others.
        tokio::task::coop::consume_budget().await;
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.buffer).await? > 0 {
            return Ok(true);
        }
        if self.buffer.is_empty() { Ok(false) } else { Err(ReadFrameError::Truncated) }
    }

    /// The next frame of what has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, CodecError> {
        decode_frame(&mut self.buffer)
    }
}

/// Writes what is pushed, until the outbox is closed and empty.
pub(super) async fn write_batches(outbox: &Outbox, stream: &mut SendStream) -> Result<(), WriteError> {
    while let Some(batch) = outbox.next_batch().await {
        stream.write_chunk(batch).await?;
    }
    Ok(())
}
