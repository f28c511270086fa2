//! What happened when, as one who reads it afterwards wants it: the faults, and the noteworthy lines of the processes' logs.

use std::{
    fmt::Write as _,
    time::{Instant, SystemTime},
};

use serde_json::Value;
use tertulia_test_support::{Cluster, Member};

/// The start of the run by both clocks.
#[derive(Debug)]
pub struct Course {
    start: Instant,
    started_at: SystemTime,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Since the start.
    seconds: f64,
    who: String,
    what: String,
}

impl Course {
    pub fn new() -> Self {
        Self { start: Instant::now(), started_at: SystemTime::now(), entries: Vec::new() }
    }

    /// Notes it, and says it to whoever watches.
    pub fn note(&mut self, what: String) {
        let seconds = self.start.elapsed().as_secs_f64();
        eprintln!("{seconds:8.2}  {what}");
        self.entries.push(Entry { seconds, who: "chaos".into(), what });
    }

    /// Notes something of earlier.
    pub fn note_of(&mut self, when: Instant, what: String) {
        let seconds = when.saturating_duration_since(self.start).as_secs_f64();
        self.entries.push(Entry { seconds, who: "people".into(), what });
    }

    /// Everything in order of time.
    pub fn tell(mut self, cluster: &Cluster) -> String {
        for member in cluster.members() {
            if matches!(member, Member::Node(_) | Member::Router(_)) {
                let log = cluster.log(member);
                self.entries.extend(log.lines().filter_map(|line| from_log(line, member, self.started_at)));
            }
        }
        self.entries.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let mut text = String::new();
        for Entry { seconds, who, what } in &self.entries {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{seconds:8.2}  {who:8}  {what}");
        }
        text
    }
}

/// All but the lines about single connections, of which there are too many.
fn from_log(line: &str, member: Member, started_at: SystemTime) -> Option<Entry> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| fields[key].as_str().unwrap_or_default();
    let is_noteworthy = text("level") != "INFO" || !["connected", "following the shard map"].contains(&text("message"));
    if !is_noteworthy {
        return None;
    }
    let at = unix_seconds(text("timestamp"))?;
    let start = started_at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    let mut what = format!("{} {}", text("level"), text("message"));
    for (key, value) in fields.as_object()? {
        if !["level", "message", "timestamp", "target", "process"].contains(&key.as_str()) {
            let _ = write!(what, " {key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    Some(Entry { seconds: at - start, who: member.to_string(), what })
}

/// Of `2026-11-26T23:23:25.810997Z`, which is what the logs have.
fn unix_seconds(timestamp: &str) -> Option<f64> {
    let (date, time) = timestamp.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hours, minutes) = (time.next()?.parse::<f64>().ok()?, time.next()?.parse::<f64>().ok()?);
    let seconds = time.next()?.parse::<f64>().ok()?;
    // Days since 1970 in the Gregorian calendar, counted in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some(days as f64 * 86_400.0 + hours * 3600.0 + minutes * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_as_what_they_say() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00.000000Z"), Some(0.0));
        assert_eq!(unix_seconds("2000-02-29T12:00:00.500000Z"), Some(951_825_600.5));
        assert_eq!(unix_seconds("2026-11-26T23:23:25.810997Z"), Some(1_795_735_405.810_997));
        assert_eq!(unix_seconds("yesterday"), None);
    }

    #[test]
    fn a_line_of_a_log_becomes_one_of_the_course() {
        let line = r#"{"process":"node-1","timestamp":"1970-01-01T00:00:02.000000Z","level":"WARN","message":"slow","store":"1","target":"x"}"#;
        let entry = from_log(line, Member::Node(1), SystemTime::UNIX_EPOCH).expect("noteworthy");
        assert_eq!((entry.seconds, entry.who.as_str(), entry.what.as_str()), (2.0, "node-1", "WARN slow store=1"));
        assert!(from_log("no JSON", Member::Node(1), SystemTime::UNIX_EPOCH).is_none());
    }
}
