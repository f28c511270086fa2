//! Telling whoever watches a command how far it is, on standard error.

use std::io::{self, IsTerminal as _, Write as _};

/// The width of a bar, in characters.
const BAR: usize = 24;

pub fn bar(part: f64) -> String {
    let full = ((part.clamp(0.0, 1.0) * BAR as f64).round()) as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

/// Tells whoever watches: on a terminal in place, elsewhere a line where something has changed.
pub struct Progress {
    is_terminal: bool,
    shown: Vec<String>,
}

impl Progress {
    pub fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), shown: Vec::new() }
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub fn show(&mut self, lines: impl Iterator<Item = String>) -> io::Result<()> {
        let lines: Vec<String> = lines.collect();
        if self.is_terminal {
            self.clear()?;
            let mut out = io::stderr().lock();
            lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        } else {
            for line in lines.iter().filter(|line| !self.shown.contains(line)) {
                eprintln!("{line}");
            }
        }
        self.shown = lines;
        Ok(())
    }

    /// One that stays.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.clear()?;
        eprintln!("{line}");
        Ok(())
    }

    pub fn clear(&mut self) -> io::Result<()> {
        if self.is_terminal {
            // Up to the first line shown, and nothing below it.
            let lines = self.shown.len();
            if lines > 0 {
                write!(io::stderr(), "\x1b[{lines}A\x1b[J")?;
            }
            self.shown.clear();
        }
        Ok(())
    }
}
