//! Section 2: pings and pongs.

use super::{NOT_TEXT, PROTOCOL_ERROR, case, failed};
use crate::{
    case::{Case, End, pong},
    frame::{Frame, PING, PONG, frame},
};

/// As much as a control frame may have.
const LONGEST: [u8; 125] = [0xfe; 125];

pub(super) fn pings() -> Vec<Case> {
    let ten = |change: fn(Frame) -> Frame| (0..10).map(move |n| change(frame(PING, format!("payload-{n}"))));
    let answers = || (0..10).map(|n| pong(format!("payload-{n}")));
    let unsolicited = || frame(PONG, "unsolicited pong payload");
    vec![
        case("2.1", [frame(PING, "")], [pong("")], End::ByUs),
        case("2.2", [frame(PING, "Hello, world!")], [pong("Hello, world!")], End::ByUs),
        case("2.3", [frame(PING, NOT_TEXT)], [pong(NOT_TEXT)], End::ByUs),
        case("2.4", [frame(PING, LONGEST)], [pong(LONGEST)], End::ByUs),
        case("2.5", [frame(PING, [0xfe; 126])], [], failed(PROTOCOL_ERROR)),
        case("2.6", [frame(PING, LONGEST).chopped(1)], [pong(LONGEST)], End::ByUs),
        case("2.7", [frame(PONG, "")], [], End::ByUs),
        case("2.8", [unsolicited()], [], End::ByUs),
        case("2.9", [unsolicited(), frame(PING, "ping payload")], [pong("ping payload")], End::ByUs),
        case("2.10", ten(|frame| frame), answers(), End::ByUs),
        case("2.11", ten(|frame| frame.chopped(1)), answers(), End::ByUs),
    ]
}
