//! Frames on their way to one connection's writer.
//!
//! Senders encode straight into the buffer that the writer then hands to QUIC as it is: no channel, no copy, and the
//! bound is in bytes as they will be on the wire. What is sent while the writer waits for its turn becomes one write.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tertulia_wire::cluster::{CodecError, Frame, encode_frame};
use tokio::sync::Notify;

const CAPACITY_MIN: usize = 4 * 1024;
const CAPACITY_MAX: usize = 256 * 1024;
/// What is ephemeral is taken while less than this share of the limit waits.
const SPARE_SHARE: usize = 16;

#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    readable: Notify,
    drained: Notify,
    limit_bytes: usize,
}

#[derive(Debug)]
struct State {
    buffer: BytesMut,
    closed: bool,
}

/// Whether the outbox's limit holds for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Limited,
    /// For what nobody misses: a share of the limit, so that it never stands in the way of the rest.
    Spare,
    /// Bounded elsewhere: an answer, by the calls in flight.
    Unlimited,
}

#[derive(Debug)]
pub(super) enum PushError {
    Full,
    Closed,
    Codec(CodecError),
}

impl Outbox {
    pub fn new(limit_bytes: usize) -> Self {
        let state = State { buffer: BytesMut::with_capacity(CAPACITY_MIN), closed: false };
        Self { state: Mutex::new(state), readable: Notify::new(), drained: Notify::new(), limit_bytes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole at any time: a panic elsewhere in a sender changes nothing here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, frame: &Frame, bound: Bound) -> Result<(), PushError> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed);
        }
        let limit_bytes = match bound {
            Bound::Limited => self.limit_bytes,
            Bound::Spare => self.limit_bytes / SPARE_SHARE,
            Bound::Unlimited => usize::MAX,
        };
        if state.buffer.len() >= limit_bytes {
            return Err(PushError::Full);
        }
        let was_empty = state.buffer.is_empty();
        encode_frame(frame, &mut state.buffer).map_err(PushError::Codec)?;
        drop(state);
        if was_empty {
            self.readable.notify_one();
        }
        Ok(())
    }

    /// No more frames; what is inside is still taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.readable.notify_one();
        self.drained.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Everything that was pushed, for the one writer; `None` once closed and empty.
    pub async fn next_batch(&self) -> Option<Bytes> {
        loop {
            self.readable.notified().await;
            // Lets every task that is ready to send add to this batch.
            tokio::task::yield_now().await;
            let mut state = self.state();
            if state.closed {
                // For the call after this one: nobody pushes any more.
                self.readable.notify_one();
            }
            if !state.buffer.is_empty() {
                let capacity = state.buffer.len().clamp(CAPACITY_MIN, CAPACITY_MAX);
                let batch = mem::replace(&mut state.buffer, BytesMut::with_capacity(capacity));
                drop(state);
                self.drained.notify_one();
                return Some(batch.freeze());
            }
            if state.closed {
                return None;
            }
        }
    }

    /// Waits, for the one reader, until the outbox is below its limit (or closed).
    pub async fn below_limit(&self) {
        loop {
            {
                let state = self.state();
                if state.closed || state.buffer.len() < self.limit_bytes {
                    return;
                }
            }
            self.drained.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tertulia_wire::cluster::{Answer, Call, decode_frame};

    use super::*;

    fn call(id: u64) -> Frame {
        Frame::Call { id, trace: None, call: Call::Ping }
    }

    #[tokio::test]
    async fn what_was_pushed_before_the_writer_ran_is_one_batch_in_order() {
        let outbox = Outbox::new(1024);
        for id in 0..3 {
            outbox.push(&call(id), Bound::Limited).unwrap();
        }
        let mut batch = BytesMut::from(outbox.next_batch().await.unwrap());
        for id in 0..3 {
            assert_eq!(decode_frame(&mut batch).unwrap(), Some(call(id)));
        }
        assert!(batch.is_empty());
    }

    #[tokio::test]
    async fn a_full_outbox_refuses_what_is_limited_until_it_is_drained() {
        let outbox = Outbox::new(16);
        while outbox.push(&call(1), Bound::Limited).is_ok() {}
        assert!(matches!(outbox.push(&call(1), Bound::Limited), Err(PushError::Full)));
        outbox.push(&Frame::Answer { id: 1, answer: Answer::Ping }, Bound::Unlimited).unwrap();
        outbox.next_batch().await.unwrap();
        outbox.below_limit().await;
        outbox.push(&call(1), Bound::Limited).unwrap();
    }

    #[tokio::test]
    async fn a_closed_outbox_hands_out_its_rest_and_then_ends() {
        let outbox = Outbox::new(1024);
        outbox.push(&call(1), Bound::Limited).unwrap();
        outbox.close();
        assert!(matches!(outbox.push(&call(2), Bound::Limited), Err(PushError::Closed)));
        assert!(outbox.next_batch().await.is_some());
        assert!(outbox.next_batch().await.is_none());
        assert!(outbox.next_batch().await.is_none());
    }
}
