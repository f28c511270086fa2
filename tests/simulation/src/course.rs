//! What happened, line by line, for people. Only kept where somebody wants to read it: a seed that failed is run again.

use std::fmt;

use crate::time::Time;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Everything,
}

#[derive(Debug)]
pub struct Course {
    keep: Keep,
    lines: Vec<String>,
}

impl Course {
    pub fn new(keep: Keep) -> Self {
        Self { keep, lines: Vec::new() }
    }

    /// The line is only made where it is kept.
    pub fn note(&mut self, at: Time, line: impl FnOnce() -> String) {
        if self.keep == Keep::Everything {
            self.lines.push(format!("{at}  {}", line()));
        }
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
