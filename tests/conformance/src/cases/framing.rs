//! Sections 1, 3 and 4: messages of all lengths, reserved bits, reserved opcodes.

use super::{NOT_TEXT, PROTOCOL_ERROR, case, failed};
use crate::{
    case::{Case, End, binary, text},
    frame::{BINARY, CLOSE, Frame, PING, TEXT, frame},
};

const HELLO: &str = "Hello, world!";
/// Where the form of the length changes, and as far as a client's frame may go here.
const LENGTHS: [usize; 7] = [0, 125, 126, 127, 128, 65_535, 65_536];

pub(super) fn messages() -> Vec<Case> {
    let mut cases = Vec::new();
    let whole = LENGTHS.map(|length| (length, None));
    for (number, (length, chop)) in (1..).zip(whole.into_iter().chain([(65_536, Some(997))])) {
        let payload = "*".repeat(length);
        let sent = Frame { chop, ..frame(TEXT, &payload) };
        cases.push(case(format!("1.1.{number}"), [sent], [text(payload)], End::ByUs));
    }
    for (number, (length, chop)) in (1..).zip(whole.into_iter().chain([(65_536, Some(997))])) {
        let payload = vec![0xfe; length];
        let sent = Frame { chop, ..frame(BINARY, &payload) };
        cases.push(case(format!("1.2.{number}"), [sent], [binary(payload)], End::ByUs));
    }
    cases
}

/// Bits of extensions that nobody has agreed on.
pub(super) fn reserved_bits() -> Vec<Case> {
    let hello = || frame(TEXT, HELLO);
    let failed = || failed(PROTOCOL_ERROR);
    vec![
        case("3.1", [hello().rsv(1)], [], failed()),
        case("3.2", [hello(), hello().rsv(2), frame(PING, "")], [text(HELLO)], failed()),
        case("3.3", [hello().alone(), hello().rsv(3).alone(), frame(PING, "").alone()], [text(HELLO)], failed()),
        case(
            "3.4",
            [hello().chopped(1), hello().rsv(4).chopped(1), frame(PING, "").chopped(1)],
            [text(HELLO)],
            failed(),
        ),
        case("3.5", [frame(BINARY, NOT_TEXT).rsv(5)], [], failed()),
        case("3.6", [frame(BINARY, HELLO).rsv(6)], [], failed()),
        case("3.7", [frame(CLOSE, "").rsv(7)], [], failed()),
    ]
}

pub(super) fn opcodes() -> Vec<Case> {
    // Three of each kind alone and after a message, as the suite has them.
    let kinds = [("4.1", [3, 4, 5, 6, 7]), ("4.2", [11, 12, 13, 14, 15])];
    let mut cases = Vec::new();
    for (section, [first, second, third, fourth, fifth]) in kinds {
        let after = |reserved: Frame| [frame(TEXT, HELLO), reserved, frame(PING, "")];
        let id = |number: u8| format!("{section}.{number}");
        let failed = || failed(PROTOCOL_ERROR);
        cases.extend([
            case(id(1), [frame(first, "")], [], failed()),
            case(id(2), [frame(second, "reserved opcode payload")], [], failed()),
            case(id(3), after(frame(third, "")), [text(HELLO)], failed()),
            case(id(4), after(frame(fourth, HELLO)), [text(HELLO)], failed()),
            case(id(5), after(frame(fifth, HELLO)).map(|frame| frame.chopped(1)), [text(HELLO)], failed()),
        ]);
    }
    cases
}
