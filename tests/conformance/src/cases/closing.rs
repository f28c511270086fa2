//! Section 7: the closing handshake; and what the suite does not have.

use super::{NOT_UTF8, PROTOCOL_ERROR, case, failed};
use crate::{
    Server,
    case::{Case, End, Step, text},
    frame::{BINARY, CLOSE, CONTINUATION, Frame, PING, TEXT, close_payload, frame},
};

const NORMAL: u16 = 1000;
const TOO_BIG: u16 = 1009;
const HELLO: &str = "Hello World!";

pub(super) fn cases(server: Server) -> Vec<Case> {
    let close = || frame(CLOSE, close_payload(NORMAL, ""));
    let with_reason = |reason: &[u8]| [frame(CLOSE, close_payload(NORMAL, reason))];
    let answered = || End::Answered(vec![NORMAL]);
    let not_utf8 = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    let mut cases = vec![
        case("7.1.1", [frame(TEXT, HELLO)], [text(HELLO)], End::ByUs),
        case("7.1.2", [close(), frame(CLOSE, "")], [], answered()),
        case("7.1.3", [close(), frame(PING, "")], [], answered()),
        case("7.1.4", [close(), frame(TEXT, HELLO)], [], answered()),
        case(
            "7.1.5",
            [frame(TEXT, "fragment1").unfinished(), close(), frame(CONTINUATION, "fragment2")],
            [],
            answered(),
        ),
        large_then_closed(server),
        // Without a code, the answer has none either, or is a normal one.
        case("7.3.1", [frame(CLOSE, "")], [], End::Answered(vec![0, NORMAL])),
        case("7.3.2", [frame(CLOSE, "a")], [], failed(PROTOCOL_ERROR)),
        case("7.3.3", [close()], [], answered()),
        case("7.3.4", with_reason(HELLO.as_bytes()), [], answered()),
        case("7.3.5", with_reason(&[b'*'; 123]), [], answered()),
        case("7.3.6", with_reason(&[b'*'; 124]), [], failed(PROTOCOL_ERROR)),
        case("7.5.1", with_reason(not_utf8), [], End::Failed(vec![PROTOCOL_ERROR, NOT_UTF8])),
    ];
    let closed_with = |code: u16| [frame(CLOSE, close_payload(code, ""))];
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    cases.extend(
        (1..).zip(valid).map(|(number, code)| {
            case(format!("7.7.{number}"), closed_with(code), [], End::Answered(vec![NORMAL, code]))
        }),
    );
    let invalid = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    cases.extend(
        (1..)
            .zip(invalid)
            .map(|(number, code)| case(format!("7.9.{number}"), closed_with(code), [], failed(PROTOCOL_ERROR))),
    );
    // Beyond what is defined: the suite only looks.
    cases.extend((1..).zip([5000, u16::MAX]).map(|(number, code)| {
        case(format!("7.13.{number}"), closed_with(code), [], End::Answered(vec![NORMAL, code, PROTOCOL_ERROR]))
    }));
    cases
}

/// A long message, a short one, a close frame, a ping: all at once. A session refuses a message so long.
fn large_then_closed(server: Server) -> Case {
    let large = "BAsd7&jh23".bytes().cycle().take(256 * 1024).collect::<Vec<u8>>();
    let send = [frame(TEXT, &large), frame(TEXT, HELLO), frame(CLOSE, close_payload(NORMAL, "")), frame(PING, "")];
    match server {
        Server::Echo => case("7.1.6", send, [text(large), text(HELLO)], End::Answered(vec![NORMAL])),
        Server::Session => case("7.1.6", send, [], failed(TOO_BIG)),
    }
}

/// What RFC 6455 demands too.
pub(super) fn own() -> Vec<Case> {
    let length_above_63_bits = vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let in_pieces = |opcode: u8| -> Vec<Frame> {
        let piece = vec![b'*'; 64 * 1024];
        let first = frame(opcode, &piece).unfinished();
        [first].into_iter().chain((0..20).map(|_| frame(CONTINUATION, &piece).unfinished())).collect()
    };
    vec![
        // 5.1: a client masks.
        case("own.unmasked_text", [frame(TEXT, HELLO).unmasked()], [], failed(PROTOCOL_ERROR)),
        case("own.unmasked_ping", [frame(PING, "").unmasked()], [], failed(PROTOCOL_ERROR)),
        case("own.unmasked_close", [frame(CLOSE, close_payload(NORMAL, "")).unmasked()], [], failed(PROTOCOL_ERROR)),
        // 5.2: the top bit of a 64-bit length is 0.
        case("own.length", [Step::Bytes(length_above_63_bits)], [], End::Failed(vec![PROTOCOL_ERROR, TOO_BIG])),
        // 10.4: a limit holds for a message as a whole.
        case("own.endless_fragments", in_pieces(BINARY), [], failed(TOO_BIG)),
    ]
}
