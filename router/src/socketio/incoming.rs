//! What the library hands over of a client's event.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use socketioxide::{
    adapter::LocalAdapter,
    extract::AckSender,
    handler::{FromConnectParts, FromMessage, FromMessageParts, Value},
    socket::Socket,
};

/// Bookkeeping of an event beside its text.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// One event, its arguments still encoded.
pub(super) struct Incoming {
    pub(super) arguments: Value,
    /// There where the client gave a callback.
    pub(super) ack: Option<AckSender>,
}

impl Incoming {
    /// What it takes while it waits.
    pub(super) fn cost_bytes(&self) -> usize {
        let attached = match &self.arguments {
            Value::Str(_, Some(attachments)) => attachments.iter().map(Bytes::len).sum(),
            Value::Str(_, None) | Value::Bytes(_) => 0,
        };
        self.arguments.len() + attached + EVENT_OVERHEAD_BYTES
    }
}

impl FromMessage<LocalAdapter> for Incoming {
    type Error = Infallible;

    fn from_message(socket: Arc<Socket>, mut arguments: Value, ack_id: Option<i64>) -> Result<Self, Infallible> {
        let ack = match ack_id {
            Some(_) => Some(AckSender::from_message_parts(&socket, &mut arguments, &ack_id)?),
            None => None,
        };
        Ok(Self { arguments, ack })
    }
}

/// What the client gave as `auth`, still encoded.
pub(super) struct RawAuth(pub(super) Option<Value>);

impl FromConnectParts<LocalAdapter> for RawAuth {
    type Error = Infallible;

    fn from_connect_parts(_: &Arc<Socket>, auth: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(auth.clone()))
    }
}
