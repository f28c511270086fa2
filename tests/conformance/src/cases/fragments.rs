//! Sections 5 and 10: messages in fragments.

use std::time::Duration;

use super::{PROTOCOL_ERROR, case, failed};
use crate::{
    case::{Case, End, Step, pong, text},
    frame::{CONTINUATION, Frame, PING, PONG, TEXT, frame},
};

const PAUSE: Duration = Duration::from_millis(300);

/// The three ways in which the suite sends the same: at once, frame by frame, byte by byte.
const WAYS: [fn(Frame) -> Frame; 3] = [|frame| frame, Frame::alone, |frame| frame.chopped(1)];

pub(super) fn cases() -> Vec<Case> {
    let failed = || failed(PROTOCOL_ERROR);
    let whole = || text("fragment1fragment2");
    let first = |payload: &str| frame(TEXT, payload).unfinished();
    let middle = |payload: &str| frame(CONTINUATION, payload).unfinished();
    let last = |payload: &str| frame(CONTINUATION, payload);
    let hello = || frame(TEXT, "Hello, world!");
    let mut cases = vec![
        case("5.1", [frame(PING, "fragment1").unfinished(), last("fragment2")], [], failed()),
        case("5.2", [frame(PONG, "fragment1").unfinished(), last("fragment2")], [], failed()),
    ];
    let mut in_each_way = |numbers: [u8; 3], send: &[Frame], expect: &[crate::case::Event], end: &dyn Fn() -> End| {
        for (number, way) in numbers.into_iter().zip(WAYS) {
            cases.push(case(format!("5.{number}"), send.iter().cloned().map(way), expect.to_vec(), end()));
        }
    };
    in_each_way([3, 4, 5], &[first("fragment1"), last("fragment2")], &[whole()], &|| End::ByUs);
    let ping = || frame(PING, "ping payload");
    let pinged = [pong("ping payload"), whole()];
    in_each_way([6, 7, 8], &[first("fragment1"), ping(), last("fragment2")], &pinged, &|| End::ByUs);
    in_each_way([9, 10, 11], &[last("non-continuation payload"), hello()], &[], &failed);
    in_each_way([12, 13, 14], &[middle("non-continuation payload"), hello()], &[], &failed);
    let twice = |begin: Frame| {
        let once = [begin, first("fragment2"), last("fragment3")];
        [once.clone(), once].concat()
    };
    cases.extend([
        case(
            "5.15",
            [first("fragment1"), last("fragment2"), middle("fragment3"), frame(TEXT, "fragment4")],
            [whole()],
            failed(),
        ),
        case("5.16", twice(middle("fragment1")), [], failed()),
        case("5.17", twice(last("fragment1")), [], failed()),
        case("5.18", [first("fragment1"), frame(TEXT, "fragment2")], [], failed()),
    ]);
    for (number, way) in [19, 20].into_iter().zip(WAYS) {
        let before = [first("fragment1"), middle("fragment2"), frame(PING, "pongme 1!")];
        let after = [middle("fragment3"), middle("fragment4"), frame(PING, "pongme 2!"), last("fragment5")];
        let send = before.map(|frame| Step::from(way(frame))).into_iter();
        let send = send.chain([Step::Wait(PAUSE)]).chain(after.map(|frame| way(frame).into()));
        let message = text("fragment1fragment2fragment3fragment4fragment5");
        let expect = [pong("pongme 1!"), pong("pongme 2!"), message];
        cases.push(case(format!("5.{number}"), send, expect, End::ByUs));
    }
    cases
}

/// A long message in fragments of 1,300 bytes.
pub(super) fn automatic() -> Vec<Case> {
    const FRAGMENT_BYTES: usize = 1300;
    let payload = "*".repeat(65_536);
    let chunks: Vec<&[u8]> = payload.as_bytes().chunks(FRAGMENT_BYTES).collect();
    let send: Vec<Frame> = (1..)
        .zip(&chunks)
        .map(|(number, chunk)| Frame {
            fin: number == chunks.len(),
            ..frame(if number == 1 { TEXT } else { CONTINUATION }, chunk)
        })
        .collect();
    vec![case("10.1.1", send, [text(&payload)], End::ByUs)]
}
