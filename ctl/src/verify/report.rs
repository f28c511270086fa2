//! What a verification has found, for people and for programs.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;
use tertulia_shard_map::{ClusterId, MapVersion, Slot, StoreId};

use super::{
    check::{Check, Findings, Violation},
    log::Volume,
    mailboxes::Lagging,
};
use crate::output::grouped;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Holds,
    Violated,
    /// What was read holds; not everything could be read.
    Incomplete,
}

/// A slot, or a whole store, that was not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    pub store: StoreId,
    /// `None`: what is not in slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    #[serde(flatten)]
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", content = "error", rename_all = "snake_case")]
pub enum Why {
    /// It was where the map said each time, and elsewhere when it was looked for.
    MovedAway,
    Unreadable(String),
}

#[derive(Debug)]
pub struct Report {
    pub cluster: ClusterId,
    pub map_version: MapVersion,
    pub stores: usize,
    pub slots: usize,
    pub volume: Volume,
    pub findings: Findings,
    pub lagging: Lagging,
    pub skipped: Vec<Skipped>,
    pub elapsed_ms: u64,
}

impl Report {
    pub fn outcome(&self) -> Outcome {
        let is_unread = |it: &Skipped| matches!(it.why, Why::Unreadable(_));
        if self.findings.violations() > 0 {
            Outcome::Violated
        } else if self.lagging.not_checked > 0 || self.skipped.iter().any(is_unread) {
            Outcome::Incomplete
        } else {
            Outcome::Holds
        }
    }

    pub fn json(&self) -> serde_json::Value {
        let checks = Check::ALL.map(|check| {
            let count = self.findings.count(check);
            json!({
                "check": check,
                "invariant": check.invariant().map(|it| it.to_string()),
                "checked": count.checked,
                "violations": count.violations,
            })
        });
        json!({
            "cluster": self.cluster,
            "map_version": self.map_version,
            "outcome": self.outcome(),
            "slots_checked": self.slots,
            "conversations": self.volume.conversations,
            "events": self.volume.events,
            "checks": checks,
            "violations": self.findings.described(),
            "lagging": self.lagging,
            "skipped": self.skipped,
            "elapsed_ms": self.elapsed_ms,
        })
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "cluster {}   map {}   {} stores", self.cluster, self.map_version, self.stores)?;
        let (conversations, events) = (grouped(self.volume.conversations), grouped(self.volume.events));
        let seconds = self.elapsed_ms as f64 / 1_000.0;
        writeln!(out, "{} slots   {conversations} conversations   {events} events   {seconds:.1} s", self.slots)?;
        writeln!(out)?;
        writeln!(out, "{:<4} {:<10} {:<34} {:>14} {:>12}", "", "check", "what holds", "checked", "violations")?;
        for check in Check::ALL {
            let count = self.findings.count(check);
            let invariant = check.invariant().map_or_else(|| "-".to_owned(), |it| it.to_string());
            let (checked, violations) = (grouped(count.checked), grouped(count.violations));
            let (name, statement) = (check.name(), check.statement());
            writeln!(out, "{invariant:<4} {name:<10} {statement:<34} {checked:>14} {violations:>12}")?;
        }
        writeln!(out)?;
        self.write_violations(out)?;
        self.write_notes(out)?;
        match self.outcome() {
            Outcome::Holds => writeln!(out, "everything holds"),
            Outcome::Violated => writeln!(out, "{} violations", grouped(self.findings.violations())),
            Outcome::Incomplete => writeln!(out, "everything that could be read holds; not everything could"),
        }
    }

    fn write_violations(&self, out: &mut dyn Write) -> io::Result<()> {
        for check in Check::ALL {
            let described: Vec<&Violation> = self.findings.described().iter().filter(|it| it.check == check).collect();
            if described.is_empty() {
                continue;
            }
            let (all, shown) = (self.findings.count(check).violations, described.len());
            let more = if all > shown as u64 { format!(", the first {shown}") } else { String::new() };
            writeln!(out, "{}: {} violations{more}", check.name(), grouped(all))?;
            for it in described {
                write!(out, "  store {} slot {}", it.store, it.slot)?;
                if let Some(conversation) = it.conversation {
                    write!(out, " conversation {conversation}")?;
                }
                if let Some(user) = it.user {
                    write!(out, " user {user}")?;
                }
                writeln!(out, ": {}", it.what)?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_notes(&self, out: &mut dyn Write) -> io::Result<()> {
        let Lagging { rows, not_checked } = self.lagging;
        if rows > 0 {
            writeln!(
                out,
                "lagging: {} inbox rows were on their way at first, and were looked at again",
                grouped(rows)
            )?;
        }
        if not_checked > 0 {
            writeln!(out, "not checked: {} inbox rows that could not be looked at again", grouped(not_checked))?;
        }
        let moved = self.skipped.iter().filter(|it| it.why == Why::MovedAway);
        for slot in moved.filter_map(|it| it.slot) {
            writeln!(out, "slot {slot} moved away while it was read: not checked")?;
        }
        // Slots of one store, which mostly have one reason.
        let mut told: Vec<(StoreId, &str)> = Vec::new();
        for it in &self.skipped {
            let Why::Unreadable(error) = &it.why else { continue };
            if told.contains(&(it.store, error)) {
                continue;
            }
            told.push((it.store, error));
            let alike = self.skipped.iter().filter(|other| (other.store, &other.why) == (it.store, &it.why));
            let slots = match alike.filter(|other| other.slot.is_some()).count() {
                0 => "its tables could not be listed".to_owned(),
                count => format!("{count} slots not checked"),
            };
            writeln!(out, "store {}: {slots}: {error}", it.store)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            cluster: ClusterId::from_u128(7),
            map_version: MapVersion::new(12),
            stores: 2,
            slots: 64,
            volume: Volume { conversations: 1_204, events: 1_204_331 },
            findings: Findings::new(1),
            lagging: Lagging::default(),
            skipped: Vec::new(),
            elapsed_ms: 4_230,
        }
    }

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        report.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn violation() -> Violation {
        Violation {
            check: Check::Seqs,
            store: StoreId::new(1),
            slot: Slot::new(17),
            conversation: Some(tertulia_shard_map::ConversationId::from_u128(1)),
            user: None,
            what: "seq 4 where 3 is due".to_owned(),
        }
    }

    #[test]
    fn a_report_fits_into_80_columns_and_says_how_it_ended() {
        let text = text(&report());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.ends_with("everything holds\n"), "{text}");
    }

    #[test]
    fn violations_are_told_with_their_places_and_the_rest_counted() {
        let mut report = report();
        report.findings.add(violation());
        report.findings.add(violation());
        let text = text(&report);
        assert_eq!(report.outcome(), Outcome::Violated);
        assert!(text.contains("seqs: 2 violations, the first 1\n"), "{text}");
        let place = "  store 1 slot 17 conversation 00000000000000000000000001: seq 4 where 3 is due\n";
        assert!(text.contains(place) && text.ends_with("2 violations\n"), "{text}");
        let json = report.json();
        assert_eq!(json["violations"][0]["check"], "seqs");
        assert_eq!(json["checks"][1], json!({"check": "seqs", "invariant": "I3", "checked": 0, "violations": 2}));
    }

    #[test]
    fn a_slot_that_moved_away_is_told_and_a_store_that_is_away_is_no_success() {
        let moved = Skipped { store: StoreId::new(1), slot: Some(Slot::new(3)), why: Why::MovedAway };
        let away = |slot| Skipped {
            store: StoreId::new(2),
            slot: Some(Slot::new(slot)),
            why: Why::Unreadable("it does not answer".to_owned()),
        };
        let mut report = Report { skipped: vec![moved], ..report() };
        assert_eq!(report.outcome(), Outcome::Holds);
        assert!(text(&report).contains("slot 3 moved away while it was read"));
        assert_eq!(report.json()["skipped"][0], json!({"store": 1, "slot": 3, "why": "moved_away"}));
        report.skipped.extend([away(4), away(5)]);
        assert_eq!(report.outcome(), Outcome::Incomplete);
        assert!(text(&report).contains("store 2: 2 slots not checked: it does not answer\n"));
    }
}
