//! Between Socket.IO's events and the envelopes of the native protocol.
//!
//! An event's name is an envelope's `type`, its only argument is the `data`. Commands go through the native decoder and
//! replies come from the native encoder, so that validation, texts and payloads cannot differ.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use socketioxide::handler::Value;
use tertulia_shard_map::Rev;
use tertulia_wire::client::{ClientInfo, Command, ErrorCode, ErrorReply, Format, Hello, decode_commands};

/// What an app that does not say is taken for.
const CLIENT_PLATFORM: &str = "socket.io";
const CLIENT_VERSION: &str = "unknown";

/// The arguments of an event: its name, and the data if there is any.
#[derive(Deserialize)]
struct Arguments<'a>(#[serde(borrow)] &'a RawValue, #[serde(borrow, default)] Option<&'a RawValue>);

/// The command that a client's event is.
pub(super) fn command(arguments: &Value) -> Result<Command, ErrorReply> {
    let bad = |message: &str| ErrorReply::new(ErrorCode::BadRequest, message);
    let Value::Str(text, None) = arguments else {
        return Err(bad("binary attachments are not part of the protocol"));
    };
    let Arguments(kind, data) = serde_json::from_str(text.as_str())
        .map_err(|_| bad("an event has a name and one argument at most, its data"))?;
    let mut envelope = Vec::with_capacity(ENVELOPE_OVERHEAD_BYTES + text.len());
    envelope.extend_from_slice(b"{\"type\":");
    envelope.extend_from_slice(kind.get().as_bytes());
    if let Some(data) = data {
        envelope.extend_from_slice(b",\"data\":");
        envelope.extend_from_slice(data.get().as_bytes());
    }
    envelope.push(b'}');
    // What may still be wrong with the envelope as a whole is its size.
    let mut commands = decode_commands(Format::Json, &envelope).map_err(|error| bad(&error.to_string()))?;
    commands.pop().map_or_else(|| Err(bad("an event is one command")), |decoded| decoded.command)
}

/// The names around an event's arguments.
const ENVELOPE_OVERHEAD_BYTES: usize = 20;

/// What a client may give as `auth`. Apps keep other things there too.
#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    client: Option<ClientInfo>,
    #[serde(default)]
    rev: Option<Rev>,
}

/// The `hello` that a client's `auth` is.
pub(super) fn hello(auth: Option<&Value>) -> Result<Hello, ErrorReply> {
    let auth = match auth {
        None => Auth::default(),
        Some(Value::Str(text, _)) => serde_json::from_str(text.as_str())
            .map_err(|error| ErrorReply::new(ErrorCode::BadRequest, format!("`auth`: {error}")))?,
        Some(Value::Bytes(_)) => return Err(ErrorReply::new(ErrorCode::BadRequest, "`auth` must be a map")),
    };
    let client =
        auth.client.unwrap_or_else(|| ClientInfo { platform: CLIENT_PLATFORM.into(), version: CLIENT_VERSION.into() });
    Ok(Hello { token: auth.token, client, rev: auth.rev })
}

/// An encoded envelope to a client, cut into what an event is made of.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    /// Never needs an escape.
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    /// `None` for what our own encoder never writes.
    pub(super) fn of(envelope: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(envelope).ok()
    }

    /// The only argument; none for types without data.
    pub(super) fn argument(&self) -> Option<&'a RawValue> {
        self.data.or(self.error)
    }
}

/// A whole encoded envelope, as the answer that an ack callback gets.
pub(super) fn answer(envelope: &[u8]) -> Option<&(impl Serialize + ?Sized)> {
    serde_json::from_slice::<&RawValue>(envelope).ok()
}

/// How a refused connection is told: the library has room for one text. The code comes first.
pub(super) fn refusal(error: &ErrorReply) -> String {
    format!("{}: {}", error.code.as_str(), error.message)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Str(text.to_owned().into(), None)
    }

    fn refused(arguments: &str) -> ErrorReply {
        command(&text(arguments)).unwrap_err()
    }

    #[test]
    fn an_event_is_the_command_of_its_name_and_data() {
        assert_eq!(command(&text(r#"["ping"]"#)), Ok(Command::Ping));
        assert_eq!(command(&text(r#"["ping",null]"#)), Ok(Command::Ping));
        assert_eq!(command(&text(r#"["ping",{}]"#)), Ok(Command::Ping));
        let sync = command(&text(r#" [ "sync" , {"rev": 3} ] "#)).unwrap();
        assert!(matches!(&sync, Command::Sync(query) if query.rev == Rev::new(3)), "{sync:?}");
    }

    #[test]
    fn what_is_wrong_is_told_as_in_the_native_protocol() {
        assert_eq!(refused(r#"["dm:nothing",{}]"#).code, ErrorCode::UnknownType);
        assert_eq!(refused(r#"["dm:nothing"]"#).message, "there is no command `dm:nothing`");
        assert_eq!(refused(r#"["sync"]"#).message, "`sync` needs `data`");
        assert_eq!(refused(r#"["sync",[3]]"#).message, "`data` must be a map");
        assert!(refused(r#"["sync",{"rev":"x"}]"#).message.starts_with("`data.rev`: "));
        for bad in [r#"["sync",{"rev":3},{}]"#, "[]", r#"[7,{"rev":3}]"#, r#"{"sync":{}}"#] {
            assert_eq!(refused(bad).code, ErrorCode::BadRequest, "{bad}");
        }
        // Nobody can leave the envelope.
        assert_eq!(refused(r#"["sync\",\"x",{}]"#).code, ErrorCode::UnknownType);
    }

    #[test]
    fn attachments_are_refused() {
        let attached = VecDeque::from([Bytes::from_static(b"x")]);
        let event = Value::Str(r#"["dm:send",{"_placeholder":true,"num":0}]"#.into(), Some(attached));
        assert_eq!(command(&event).unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn auth_is_a_hello_in_which_the_client_need_not_be_named() {
        let full = r#"{"token":"t","client":{"platform":"ios","version":"2"},"rev":7,"theme":"dark"}"#;
        let it = hello(Some(&text(full))).unwrap();
        assert_eq!((it.token.as_deref(), it.client.platform.as_str(), it.rev), (Some("t"), "ios", Some(Rev::new(7))));
        let it = hello(Some(&text(r#"{"token":"t"}"#))).unwrap();
        assert_eq!((it.client.platform.as_str(), it.rev), (CLIENT_PLATFORM, None));
        assert_eq!(hello(None).unwrap().token, None);
        for bad in [r#"{"token":7}"#, "nonsense", r#"{"client":{"platform":"ios"}}"#] {
            assert_eq!(hello(Some(&text(bad))).unwrap_err().code, ErrorCode::BadRequest, "{bad}");
        }
    }

    #[test]
    fn an_envelope_is_cut_without_being_changed() {
        let event = Event::of(br#"{"type":"dm:new","data":{"a":"\u00e9", "b":1}}"#).unwrap();
        assert_eq!((event.kind, event.argument().unwrap().get()), ("dm:new", r#"{"a":"\u00e9", "b":1}"#));
        assert!(Event::of(br#"{"type":"pong"}"#).unwrap().argument().is_none());
        let error = Event::of(br#"{"type":"error","error":{"code":"x"}}"#).unwrap();
        assert_eq!(error.argument().unwrap().get(), r#"{"code":"x"}"#);
    }
}
