//! The cases, by the suite's sections.

mod closing;
mod control;
mod fragments;
mod framing;
mod utf8;

use crate::{
    Server,
    case::{Case, End, Event, Step},
};

/// All of them, in the suite's order; last those that are ours (`own.`).
pub fn all(server: Server) -> Vec<Case> {
    [
        framing::messages(),
        control::pings(),
        framing::reserved_bits(),
        framing::opcodes(),
        fragments::cases(),
        utf8::cases(),
        closing::cases(server),
        fragments::automatic(),
        closing::own(),
    ]
    .concat()
}

const PROTOCOL_ERROR: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const NOT_TEXT: [u8; 8] = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];

fn case<S: Into<Step>>(
    id: impl ToString,
    send: impl IntoIterator<Item = S>,
    expect: impl IntoIterator<Item = Event>,
    end: End,
) -> Case {
    let send = send.into_iter().map(Into::into).collect();
    Case { id: id.to_string(), send, expect: expect.into_iter().collect(), end }
}

fn failed(code: u16) -> End {
    End::Failed(vec![code])
}
