//! Section 6: text is UTF-8, however it is fragmented, and is refused where it is not. From 6.5 on the sequences are those of
//! Markus Kuhn's decoder stress test.

use std::time::Duration;

use super::{NOT_UTF8, case, failed};
use crate::{
    case::{Case, End, Step, text},
    frame::{CONTINUATION, Frame, TEXT, frame},
};

const PAUSE: Duration = Duration::from_millis(300);
/// The second letter has three bytes.
const GREEK: &[u8] = "κ\u{1f79}σμε".as_bytes();
const LATIN: &str = "Hello-µ@ßöäüàá-UTF-8!!";
/// Greek, then half of a surrogate pair.
const SURROGATE: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = fragments();
    cases.extend(fail_fast());
    for (section, (valid, sequences)) in (5..).zip(sequences()) {
        for (number, payload) in (1..).zip(sequences) {
            // Only two sections have both kinds.
            let is_valid = match valid {
                Valid::All => true,
                Valid::None => false,
                Valid::Some(numbers) => numbers.contains(&number),
            };
            let (expect, end) = if is_valid { (Some(text(&payload)), End::ByUs) } else { (None, failed(NOT_UTF8)) };
            cases.push(case(format!("6.{section}.{number}"), [frame(TEXT, payload)], expect, end));
        }
    }
    cases
}

fn fragments() -> Vec<Case> {
    let three = |middle: &str| {
        [frame(TEXT, "").unfinished(), frame(CONTINUATION, middle).unfinished(), frame(CONTINUATION, "")]
    };
    let (latin_begin, latin_end) = LATIN.as_bytes().split_at("Hello-µ@ßöä".len());
    let in_two = [frame(TEXT, latin_begin).unfinished(), frame(CONTINUATION, latin_end)];
    vec![
        case("6.1.1", [frame(TEXT, "")], [text("")], End::ByUs),
        case("6.1.2", three(""), [text("")], End::ByUs),
        case("6.1.3", three("middle frame payload"), [text("middle frame payload")], End::ByUs),
        case("6.2.1", [frame(TEXT, LATIN)], [text(LATIN)], End::ByUs),
        case("6.2.2", in_two, [text(LATIN)], End::ByUs),
        case("6.2.3", byte_by_byte(LATIN.as_bytes()), [text(LATIN)], End::ByUs),
        case("6.2.4", byte_by_byte(GREEK), [text(GREEK)], End::ByUs),
        case("6.3.1", [frame(TEXT, SURROGATE)], [], failed(NOT_UTF8)),
        case("6.3.2", byte_by_byte(SURROGATE), [], failed(NOT_UTF8)),
    ]
}

fn byte_by_byte(payload: &[u8]) -> Vec<Frame> {
    let last = payload.len() - 1;
    let fragment = |(at, byte): (usize, &u8)| Frame {
        fin: at == last,
        ..frame(if at == 0 { TEXT } else { CONTINUATION }, [*byte])
    };
    payload.iter().enumerate().map(fragment).collect()
}

/// A strict server does not wait for the rest of what is wrong already: neither for more fragments, nor for more of a
/// frame, which the RFC leaves open.
fn fail_fast() -> Vec<Case> {
    // What is wrong comes in the second of three parts.
    let parts: [[&[u8]; 3]; 2] = [
        [GREEK, b"\xf4\x90\x80\x80", b"edited"],
        [b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4", b"\x90", b"\x80\x80edited"],
    ];
    let mut cases = Vec::new();
    for (number, [first, second, third]) in (1..).zip(parts) {
        let send: [Step; 5] = [
            frame(TEXT, first).unfinished().into(),
            Step::Wait(PAUSE),
            frame(CONTINUATION, second).unfinished().into(),
            Step::WaitForEnd(PAUSE),
            frame(CONTINUATION, third).into(),
        ];
        cases.push(case(format!("6.4.{number}"), send, [], failed(NOT_UTF8)));
    }
    for (number, [first, second, third]) in (3..).zip(parts) {
        let mut bytes = frame(TEXT, [first, second, third].concat()).encode();
        let rest = bytes.split_off(bytes.len() - third.len());
        let wrong = bytes.split_off(bytes.len() - second.len());
        let send =
            [Step::Bytes(bytes), Step::Wait(PAUSE), Step::Bytes(wrong), Step::WaitForEnd(PAUSE), Step::Bytes(rest)];
        cases.push(case(format!("6.4.{number}"), send, [], failed(NOT_UTF8)));
    }
    cases
}

enum Valid {
    All,
    None,
    /// Those with these numbers.
    Some(&'static [usize]),
}

/// From 6.5 on.
fn sequences() -> Vec<(Valid, Vec<Vec<u8>>)> {
    let prefixes = (1..=GREEK.len()).map(|length| GREEK[..length].to_vec()).collect();
    let some = |sequences: &[&[u8]]| sequences.iter().map(|it| it.to_vec()).collect::<Vec<_>>();
    let incomplete: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let mut continuations = some(&[
        b"\x80",
        b"\xbf",
        b"\x80\xbf",
        b"\x80\xbf\x80",
        b"\x80\xbf\x80\xbf",
        b"\x80\xbf\x80\xbf\x80",
        b"\x80\xbf\x80\xbf\x80\xbf",
    ]);
    continuations.push((0x80..0xbf).collect());
    let starts = [0xc0..0xdf, 0xe0..0xef, 0xf0..0xf7, 0xf8..0xfb, 0xfc..0xfd];
    let starts = starts.map(|range| range.flat_map(|byte| [byte, b' ']).collect()).to_vec();
    vec![
        (
            Valid::All,
            ["hello$world", "hello¢world", "hello€world", "hello𤭢world", "κ\u{1f79}σμε"].map(Into::into).to_vec(),
        ),
        (Valid::Some(&[2, 5, 7, 9, 11]), prefixes),
        (Valid::All, some(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"])),
        (Valid::None, some(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"])),
        (Valid::All, some(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"])),
        (Valid::None, some(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"])),
        (
            Valid::Some(&[1, 2, 3, 4]),
            some(&[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"]),
        ),
        (Valid::None, continuations),
        (Valid::None, starts),
        (Valid::None, some(&incomplete)),
        (Valid::None, vec![incomplete.concat()]),
        (Valid::None, some(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"])),
        // Overlong: an ASCII character, the longest of each length, NUL.
        (
            Valid::None,
            some(&[
                b"\xc0\xaf",
                b"\xe0\x80\xaf",
                b"\xf0\x80\x80\xaf",
                b"\xf8\x80\x80\x80\xaf",
                b"\xfc\x80\x80\x80\x80\xaf",
            ]),
        ),
        (
            Valid::None,
            some(&[
                b"\xc1\xbf",
                b"\xe0\x9f\xbf",
                b"\xf0\x8f\xbf\xbf",
                b"\xf8\x87\xbf\xbf\xbf",
                b"\xfc\x83\xbf\xbf\xbf\xbf",
            ]),
        ),
        (
            Valid::None,
            some(&[
                b"\xc0\x80",
                b"\xe0\x80\x80",
                b"\xf0\x80\x80\x80",
                b"\xf8\x80\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80\x80",
            ]),
        ),
        // Surrogates, alone and in pairs.
        (
            Valid::None,
            some(&[
                b"\xed\xa0\x80",
                b"\xed\xad\xbf",
                b"\xed\xae\x80",
                b"\xed\xaf\xbf",
                b"\xed\xb0\x80",
                b"\xed\xbe\x80",
                b"\xed\xbf\xbf",
            ]),
        ),
        (
            Valid::None,
            some(&[
                b"\xed\xa0\x80\xed\xb0\x80",
                b"\xed\xa0\x80\xed\xbf\xbf",
                b"\xed\xad\xbf\xed\xb0\x80",
                b"\xed\xad\xbf\xed\xbf\xbf",
                b"\xed\xae\x80\xed\xb0\x80",
                b"\xed\xae\x80\xed\xbf\xbf",
                b"\xed\xaf\xbf\xed\xb0\x80",
                b"\xed\xaf\xbf\xed\xbf\xbf",
            ]),
        ),
        (Valid::All, non_characters()),
        (Valid::All, (0xfff9..=0xffff_u32).filter_map(char::from_u32).map(|it| it.to_string().into()).collect()),
    ]
}

/// The last two code points of each plane: never characters, but valid.
fn non_characters() -> Vec<Vec<u8>> {
    let planes = (0..=16_u32).flat_map(|plane| [0xfffe, 0xffff].map(|last| plane << 16 | last));
    planes.filter_map(char::from_u32).map(|it| it.to_string().into()).collect()
}
