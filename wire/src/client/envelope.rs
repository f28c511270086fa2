//! Cuts a frame into its envelopes and an envelope into `id`, `type` and payload, without looking into the payload.
//!
//! Both formats do it without recursion and without trusting a declared length, so that no frame can exhaust the stack
//! or the memory. The parts borrow from the frame.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CommandId, Format, FrameError};
use crate::limits::CLIENT_FRAME_ENVELOPES;

/// One envelope, its payloads still encoded.
pub(super) struct Envelope<'a> {
    pub id: Option<CommandId>,
    pub kind: Cow<'a, str>,
    pub data: Option<&'a [u8]>,
    pub error: Option<&'a [u8]>,
}

/// The envelopes of a frame: one, or the items of a list.
pub(super) fn split(format: Format, frame: &[u8]) -> Result<Vec<Envelope<'_>>, FrameError> {
    match format {
        Format::Json => split_json(frame),
        Format::MessagePack => split_message_pack(frame),
    }
}

/// Whether an encoded value is a map: a payload must be one, although serde would take a list for a struct too.
pub(super) fn is_map(format: Format, value: &[u8]) -> bool {
    match format {
        Format::Json => value.first() == Some(&b'{'),
        Format::MessagePack => matches!(value.first(), Some(0x80..=0x8f | 0xde | 0xdf)),
    }
}

#[derive(Deserialize)]
struct JsonEnvelope<'a> {
    #[serde(default)]
    id: Option<CommandId>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

fn split_json(frame: &[u8]) -> Result<Vec<Envelope<'_>>, FrameError> {
    let text = std::str::from_utf8(frame).map_err(|_| FrameError::Malformed("not UTF-8".into()))?;
    if !text.trim_ascii_start().starts_with('[') {
        return Ok(vec![json_envelope(text)?]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(FrameError::malformed)?;
    check_count(items.len() as u64)?;
    items.into_iter().map(|item| json_envelope(item.get())).collect()
}

fn json_envelope(text: &str) -> Result<Envelope<'_>, FrameError> {
    if !is_map(Format::Json, text.trim_ascii_start().as_bytes()) {
        return Err(FrameError::NotAnEnvelope("want a map"));
    }
    let envelope: JsonEnvelope<'_> = serde_json::from_str(text).map_err(FrameError::malformed)?;
    let (data, error) = (envelope.data.map(RawValue::get), envelope.error.map(RawValue::get));
    Ok(Envelope {
        id: envelope.id,
        kind: envelope.kind,
        data: data.map(str::as_bytes),
        error: error.map(str::as_bytes),
    })
}

fn split_message_pack(frame: &[u8]) -> Result<Vec<Envelope<'_>>, FrameError> {
    let mut rest = frame;
    let count = match read_head(&mut rest)? {
        Head::Array(count) => {
            check_count(count)?;
            count
        }
        Head::Map(_) => {
            rest = frame;
            1
        }
        Head::Scalar(_) => return Err(FrameError::NotAnEnvelope("want a map or a list of maps")),
    };
    let envelopes = (0..count).map(|_| message_pack_envelope(&mut rest)).collect::<Result<_, _>>()?;
    if rest.is_empty() { Ok(envelopes) } else { Err(FrameError::TrailingBytes) }
}

fn message_pack_envelope<'a>(rest: &mut &'a [u8]) -> Result<Envelope<'a>, FrameError> {
    let Head::Map(entries) = read_head(rest)? else {
        return Err(FrameError::NotAnEnvelope("want a map"));
    };
    let (mut id, mut kind, mut data, mut error) = (None, None, None, None);
    for _ in 0..entries {
        let key = take_value(rest)?;
        let value = take_value(rest)?;
        let part = match text_of(key) {
            Some("id") => &mut id,
            Some("type") => &mut kind,
            Some("data") => &mut data,
            Some("error") => &mut error,
            Some(_) => continue,
            None => return Err(FrameError::NotAnEnvelope("every key must be text")),
        };
        if part.replace(value).is_some() {
            return Err(FrameError::NotAnEnvelope("a field occurs twice"));
        }
    }
    let id = match id.filter(|value| !is_nil(value)) {
        None => None,
        Some(mut value) => {
            let number = rmp::decode::read_int(&mut value);
            Some(number.map_err(|_| FrameError::NotAnEnvelope("`id` must be an unsigned integer"))?)
        }
    };
    let kind = kind.and_then(text_of).ok_or(FrameError::NotAnEnvelope("`type` must be there, and text"))?;
    let present = |value: Option<&'a [u8]>| value.filter(|value| !is_nil(value));
    Ok(Envelope { id, kind: kind.into(), data: present(data), error: present(error) })
}

fn check_count(count: u64) -> Result<(), FrameError> {
    match count {
        0 => Err(FrameError::NotAnEnvelope("the list is empty")),
        count if count > CLIENT_FRAME_ENVELOPES as u64 => Err(FrameError::TooManyEnvelopes),
        _ => Ok(()),
    }
}

fn is_nil(value: &[u8]) -> bool {
    value == [0xc0]
}

fn text_of(value: &[u8]) -> Option<&str> {
    rmp::decode::read_str_from_slice(value).ok().map(|(text, _)| text)
}

/// What a MessagePack value begins with.
enum Head {
    /// This many values follow.
    Array(u64),
    /// This many keys with a value each follow.
    Map(u64),
    /// This many bytes follow.
    Scalar(u64),
}

/// Takes one whole value off the front. Counts the values still to come instead of descending into them.
fn take_value<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FrameError> {
    let start = *rest;
    let mut pending = 1_u64;
    while pending > 0 {
        pending -= 1;
        match read_head(rest)? {
            Head::Array(items) => pending += items,
            Head::Map(entries) => pending += 2 * entries,
            Head::Scalar(bytes) => {
                take(rest, bytes)?;
            }
        }
        // Each value takes a byte at least: a list cannot declare more items than there are bytes.
        if pending > rest.len() as u64 {
            return Err(FrameError::Truncated);
        }
    }
    Ok(&start[..start.len() - rest.len()])
}

fn read_head(rest: &mut &[u8]) -> Result<Head, FrameError> {
    let marker = take(rest, 1)?[0];
    Ok(match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Head::Scalar(0),
        0x80..=0x8f => Head::Map(u64::from(marker & 0x0f)),
        0x90..=0x9f => Head::Array(u64::from(marker & 0x0f)),
        0xa0..=0xbf => Head::Scalar(u64::from(marker & 0x1f)),
        0xc1 => return Err(FrameError::Malformed("0xc1 is no MessagePack marker".into())),
        0xc4 | 0xd9 => Head::Scalar(take_length(rest, 1)?),
        0xc5 | 0xda => Head::Scalar(take_length(rest, 2)?),
        0xc6 | 0xdb => Head::Scalar(take_length(rest, 4)?),
        // Extensions carry a type byte before their data.
        0xc7 => Head::Scalar(take_length(rest, 1)? + 1),
        0xc8 => Head::Scalar(take_length(rest, 2)? + 1),
        0xc9 => Head::Scalar(take_length(rest, 4)? + 1),
        0xcc | 0xd0 => Head::Scalar(1),
        0xcd | 0xd1 => Head::Scalar(2),
        0xca | 0xce | 0xd2 => Head::Scalar(4),
        0xcb | 0xcf | 0xd3 => Head::Scalar(8),
        0xd4..=0xd8 => Head::Scalar((1 << (marker - 0xd4)) + 1),
        0xdc => Head::Array(take_length(rest, 2)?),
        0xdd => Head::Array(take_length(rest, 4)?),
        0xde => Head::Map(take_length(rest, 2)?),
        0xdf => Head::Map(take_length(rest, 4)?),
    })
}

fn take_length(rest: &mut &[u8], bytes: u64) -> Result<u64, FrameError> {
    Ok(take(rest, bytes)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
}

fn take<'a>(rest: &mut &'a [u8], bytes: u64) -> Result<&'a [u8], FrameError> {
    let bytes = usize::try_from(bytes).map_err(|_| FrameError::Truncated)?;
    let (taken, after) = rest.split_at_checked(bytes).ok_or(FrameError::Truncated)?;
    *rest = after;
    Ok(taken)
}
