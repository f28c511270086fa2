//! A view as lines of text: pure. Readable in 80 columns, and cut to the height of the screen from its end.

use tertulia_shard_map::NodeId;

use super::observe::{Presence, View};
use crate::output::grouped;

/// Busy slots shown where there is no screen that could be too small.
const BUSY_SLOTS: usize = 8;
/// The lines below the last table that stay free.
const SPARE_LINES: usize = 1;

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paper {
    /// Without marks, as long as it takes.
    Endless,
    /// With marks, and of so many lines.
    Screen { lines: usize },
}

/// How a line is marked on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Bold,
    Alarm,
}

struct Page {
    paper: Paper,
    lines: Vec<String>,
}

impl Page {
    fn line(&mut self, mark: Mark, text: String) {
        let text = match (self.paper, mark) {
            (Paper::Endless, _) | (_, Mark::None) => text,
            (Paper::Screen { .. }, Mark::Bold) => format!("\x1b[1m{text}\x1b[0m"),
            (Paper::Screen { .. }, Mark::Alarm) => format!("\x1b[1;31m{text}\x1b[0m"),
        };
        self.lines.push(text);
    }

    fn heading(&mut self, text: String) {
        self.lines.push(String::new());
        self.line(Mark::Bold, text);
    }

    /// How many lines are left.
    fn room(&self) -> usize {
        match self.paper {
            Paper::Endless => BUSY_SLOTS,
            Paper::Screen { lines } => lines.saturating_sub(self.lines.len() + SPARE_LINES),
        }
    }
}

pub fn draw(view: &View, paper: Paper) -> Vec<String> {
    let mut page = Page { paper, lines: Vec::new() };
    cluster(view, &mut page);
    nodes(view, &mut page);
    stores(view, &mut page);
    moves(view, &mut page);
    busy_slots(view, &mut page);
    if let Paper::Screen { lines } = paper
        && page.lines.len() > lines
    {
        let hidden = page.lines.len() - lines + 1;
        page.lines.truncate(lines.saturating_sub(1));
        page.lines.push(format!("… {hidden} more lines"));
    }
    page.lines
}

fn cluster(view: &View, page: &mut Page) {
    let leader = view.leader.map_or_else(|| "no leader".to_owned(), |node| format!("leader node-{node}"));
    page.line(Mark::Bold, format!("cluster {}   map {}   {leader}", view.cluster, view.map_version));
    let (up, all, sessions) = (view.nodes_up, view.nodes.len(), grouped(view.sessions));
    let mark = if up < all { Mark::Alarm } else { Mark::None };
    let events = per_s(view.events_per_s);
    page.line(mark, format!("{up} of {all} nodes up   {sessions} sessions   {events} events/s"));
}

fn nodes(view: &View, page: &mut Page) {
    page.heading(format!(
        "{:<9} {:<9} {:>6} {:>7} {:>9} {:>10} {:>10} {:>9}",
        "node", "state", "owned", "serving", "sessions", "events/s", "commit ms", "queued"
    ));
    for it in &view.nodes {
        let mark = match it.state {
            Presence::Absent => Mark::Alarm,
            Presence::Up | Presence::Draining => Mark::None,
        };
        page.line(
            mark,
            format!(
                "{:<9} {:<9} {:>6} {:>7} {:>9} {:>10} {:>10} {:>9}",
                node_name(it.node),
                it.state.as_str(),
                it.slots_owned,
                known(it.slots_serving),
                it.sessions.map_or_else(unknown, grouped),
                it.events_per_s.map_or_else(unknown, per_s),
                it.commit_ms.map_or_else(unknown, |ms| format!("{ms:.1}")),
                it.queued_bytes.map_or_else(unknown, bytes),
            ),
        );
    }
}

fn stores(view: &View, page: &mut Page) {
    page.heading(format!(
        "{:<9} {:<20} {:<9} {:>6} {:>10} {:>10} {:>9}",
        "store", "name", "state", "slots", "events/s", "commit ms", "queued"
    ));
    for it in &view.stores {
        // A name may be longer than the column.
        let name: String = it.name.chars().take(20).collect();
        page.line(
            Mark::None,
            format!(
                "{:<9} {name:<20} {:<9} {:>6} {:>10} {:>10} {:>9}",
                it.store,
                it.state,
                it.slots,
                per_s(it.events_per_s),
                it.commit_ms.map_or_else(unknown, |ms| format!("{ms:.1}")),
                bytes(it.queued_bytes),
            ),
        );
    }
}

fn moves(view: &View, page: &mut Page) {
    if view.moves.is_empty() {
        return;
    }
    page.heading(format!("{:<9} {:<19} {:>6}  step", "move", "stores", "slots"));
    for it in &view.moves {
        let stores = format!("{} → {}", it.from_store, it.to_store);
        page.line(Mark::None, format!("{:<9} {stores:<19} {:>6}  {}", it.id, it.slots, it.step));
    }
}

/// As many as there is room for.
fn busy_slots(view: &View, page: &mut Page) {
    page.heading(format!("{:<9} {:>10}  {:<12} {:<9}", "slot", "events/s", "node", "store").trim_end().to_owned());
    if view.busy_slots.is_empty() {
        return page.line(Mark::None, "nothing goes on in any of them".to_owned());
    }
    for it in view.busy_slots.iter().take(page.room().max(1)) {
        let (owner, heat) = (it.owner.map_or_else(unknown, node_name), if it.hot { "hot" } else { "" });
        let line = format!("{:<9} {:>10}  {owner:<12} {:<9} {heat}", it.slot, per_s(it.events_per_s), it.store);
        page.line(if it.hot { Mark::Alarm } else { Mark::None }, line.trim_end().to_owned());
    }
}

fn node_name(node: NodeId) -> String {
    format!("node-{node}")
}

fn unknown() -> String {
    "-".to_owned()
}

fn known(number: Option<impl ToString>) -> String {
    number.map_or_else(unknown, |number| number.to_string())
}

fn per_s(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut size = count as f64;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::{super::observe::tests::view, *};

    #[test]
    fn a_view_fits_into_80_columns_and_says_what_is_not_well() {
        let lines = draw(&view(), Paper::Endless);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert_eq!(lines[1], "2 of 3 nodes up   2,400 sessions   4,343 events/s");
        let line = |begin: &str| lines.iter().find(|line| line.starts_with(begin)).expect(begin).as_str();
        assert!(line("node-3    absent").contains(" - "));
        assert!(lines.iter().any(|line| line.contains(" → ") && line.ends_with("copying")), "{lines:#?}");
        assert!(line("0 ").ends_with("hot"));
        assert_eq!(lines.iter().filter(|line| line.ends_with("hot")).count(), 1);
    }

    #[test]
    fn a_view_is_cut_to_the_height_of_the_screen() {
        for height in [5, 10, 24, 50] {
            let lines = draw(&view(), Paper::Screen { lines: height });
            assert!(lines.len() <= height, "{height}: {lines:#?}");
        }
        let small = draw(&view(), Paper::Screen { lines: 5 });
        assert!(small.last().is_some_and(|line| line.ends_with("more lines")), "{small:#?}");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 1023, 1536, 3 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([0.04, 99.9, 4_321.0].map(per_s), ["0.0", "99.9", "4,321"]);
    }
}
