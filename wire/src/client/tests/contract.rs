//! `docs/PROTOCOL.md`, from which others write their clients, against the code: each way round.

use crate::limits::CLIENT_LIMITS;

use super::*;

const CONTRACT: &str = include_str!("../../../../docs/PROTOCOL.md");

/// The lines between a heading and the next one of its level.
fn section(heading: &str) -> &'static str {
    let start = CONTRACT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let text = &CONTRACT[start + heading.len() + 2..];
    text.split("\n## ").next().unwrap()
}

/// The rows of the tables in a text whose first cell is one name in backticks or a number: its cells.
fn rows(text: &'static str) -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
    let lines =
        text.lines().filter(|line| line.starts_with("| `") || line.starts_with("| 1") || line.starts_with("| 4"));
    lines.map(cells).collect()
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn the_contract_has_a_section_for_every_command_and_for_no_other() {
    let headings: Vec<&str> = section("## Commands").lines().filter(|line| line.starts_with("### ")).collect();
    let commands = headings.iter().map(|heading| names(heading).next().unwrap());
    assert_eq!(sorted(commands), sorted(Command::TYPES.iter().copied()));
    let replies = headings.iter().map(|heading| names(heading).nth(1).unwrap()).chain(["error"]);
    assert_eq!(sorted(replies), sorted(Reply::TYPES.iter().copied()));
    let overview = rows(section("## Commands").split("### ").next().unwrap());
    assert!(overview.is_empty(), "the overview's rows begin with what one wants to do");
}

#[test]
fn the_contract_has_a_row_for_every_push_and_for_no_other() {
    let pushes = rows(section("## Pushes")).into_iter().map(|row| row[0].trim_matches('`'));
    assert_eq!(sorted(pushes), sorted(Push::TYPES.iter().copied()));
}

#[test]
fn the_contract_has_a_row_for_every_kind_of_event_and_for_no_other() {
    let kinds = section("## Events").split("| kind |").nth(1).unwrap().split("\n\n").next().unwrap();
    let kinds = rows(kinds).into_iter().map(|row| row[0].trim_matches('`'));
    let known = EventKind::ALL.map(|kind| serde_json::to_value(ClientEventKind::from(kind)).unwrap());
    assert_eq!(sorted(kinds), sorted(known.iter().map(|kind| kind.as_str().unwrap())));
}

#[test]
fn the_contract_has_a_row_for_every_error_and_close_code_and_for_no_other() {
    let rows = rows(section("## Errors"));
    let (errors, closes): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row[0].starts_with('`'));
    assert_eq!(
        sorted(errors.iter().map(|row| row[0].trim_matches('`'))),
        sorted(ErrorCode::ALL.iter().map(|code| code.as_str()))
    );
    for code in ErrorCode::ALL {
        let row = errors.iter().find(|row| row[0].trim_matches('`') == code.as_str()).unwrap();
        assert_eq!(row[1], if code.retryable() { "yes" } else { "no" }, "{}", code.as_str());
    }
    let known = CloseCode::ALL.map(|code| code.code().to_string());
    assert_eq!(sorted(closes.iter().map(|row| row[0])), sorted(known.iter().map(String::as_str)));
}

#[test]
fn the_contract_has_every_limit_with_its_value_and_no_other() {
    let written = rows(section("## Limits"))
        .into_iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].replace(',', "").parse::<u64>().expect("a number")));
    let known = CLIENT_LIMITS.iter().map(|&(name, value)| (name.to_lowercase(), value));
    assert_eq!(written.collect::<Vec<_>>(), known.collect::<Vec<_>>());
}

#[test]
fn the_contract_names_every_field_and_every_word_of_a_closed_set() {
    fn words<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    found.push(name);
                    words(value, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| words(item, found)),
            _ => {}
        }
    }
    for frame in samples::frames() {
        let value: serde_json::Value = serde_json::from_str(frame).unwrap();
        let mut found = Vec::new();
        words(&value, &mut found);
        for word in found {
            let is_there = ["`", "\"", "."].iter().any(|mark| CONTRACT.contains(&format!("{mark}{word}")));
            assert!(is_there, "the contract does not know `{word}` of {frame}");
        }
    }
    let closed =
        ["overflow", "owner_changed", "direct", "group", "large_group", "member", "admin", "owner", "add", "remove"];
    for word in closed.into_iter().chain(Format::ALL.map(Format::subprotocol)) {
        assert!(CONTRACT.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn the_examples_of_the_contract_are_right() {
    let pair = tertulia_shard_map::DirectPair::new(
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        "01BX5ZZKBKACTAV9WEVGEMMVRZ".parse().unwrap(),
    );
    assert!(CONTRACT.contains(&format!("have `{}`", pair.conversation_id())));

    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    assert!(CONTRACT.contains(&hex(encode_commands(Format::MessagePack, &[(7, &Command::Ping)]))));
    let pong = Outbound::Reply { id: Some(7), reply: Reply::Pong };
    assert!(CONTRACT.contains(&hex(encode(Format::MessagePack, &pong))));

    let session = CONTRACT.split("### A session, frame by frame").nth(1).unwrap().split("```").nth(1).unwrap();
    let mut frames = Vec::<String>::new();
    for line in session.lines().skip(1) {
        match line.strip_prefix(['→', '←']) {
            Some(_) => frames.push(line.to_owned()),
            None => frames.last_mut().unwrap().push_str(line.trim_start()),
        }
    }
    assert_eq!(frames.len(), 11);
    for frame in frames.iter().filter(|frame| !frame.contains('…') && !frame.contains("nonsense")) {
        match frame.strip_prefix("→ ") {
            Some(sent) => assert!(json(sent).remove(0).command.is_ok(), "{frame}"),
            None => {
                let received = frame.trim_start_matches("← ");
                assert_eq!(decode_outbound(Format::Json, received.as_bytes()).unwrap().len(), 1, "{frame}");
            }
        }
    }
    assert_eq!(json_error(frames[9].trim_start_matches("→ ")).code, ErrorCode::BadRequest);
}
