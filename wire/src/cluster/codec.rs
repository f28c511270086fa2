//! Frames on a stream: a big-endian `u32` length, then that many bytes of MessagePack in array form.
//!
//! The length is checked before anything is buffered for it, and a frame must be used up to its last byte.

use bytes::{Buf, BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::Frame;
use crate::limits::CLUSTER_FRAME_BYTES;

const LENGTH_BYTES: usize = size_of::<u32>();

/// After an error of [`decode_frame`] the stream is out of step and must be closed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("a frame of {bytes} bytes: at most {CLUSTER_FRAME_BYTES} are allowed")]
    TooLarge { bytes: usize },
    #[error("a frame with {bytes} bytes after its end")]
    TrailingBytes { bytes: usize },
    #[error("a malformed frame")]
    Malformed(#[from] rmp_serde::decode::Error),
    #[error("a frame that cannot be encoded")]
    Unencodable(#[from] rmp_serde::encode::Error),
}

/// Appends one frame. On an error `out` is as it was.
pub fn encode_frame(frame: &Frame, out: &mut BytesMut) -> Result<(), CodecError> {
    let start = out.len();
    out.put_u32(0);
    let encoded = frame.serialize(&mut rmp_serde::Serializer::new(out.writer())).map_err(CodecError::from);
    let bytes = out.len() - start - LENGTH_BYTES;
    let outcome = if bytes > CLUSTER_FRAME_BYTES { Err(CodecError::TooLarge { bytes }) } else { encoded };
    match outcome {
        // Below the limit, so it fits into the length's four bytes.
        Ok(()) => out[start..start + LENGTH_BYTES].copy_from_slice(&(bytes as u32).to_be_bytes()),
        Err(_) => out.truncate(start),
    }
    outcome
}

/// Takes the next frame off the front of `input`; `None` until all of it is there.
pub fn decode_frame(input: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
    let Some(length) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*length) as usize;
    if bytes > CLUSTER_FRAME_BYTES {
        return Err(CodecError::TooLarge { bytes });
    }
    let end = LENGTH_BYTES + bytes;
    if input.len() < end {
        // At most one frame, and the reader fills it anyway: one allocation instead of several.
        input.reserve(end - input.len());
        return Ok(None);
    }
    // A reader, not `from_slice`: only a reader tells what it left over.
    let mut body = rmp_serde::Deserializer::new(&input[LENGTH_BYTES..end]);
    let frame = Frame::deserialize(&mut body)?;
    let trailing = body.get_ref().len();
    if trailing > 0 {
        return Err(CodecError::TrailingBytes { bytes: trailing });
    }
    input.advance(end);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests;
