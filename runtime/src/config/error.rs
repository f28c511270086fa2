//! What is wrong with a configuration, where, and what would be right: in one line.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::de;

use super::tree::Place;

/// A configuration that is refused.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    pub place: Place,
    pub problem: Problem,
}

/// Why it is refused. `key` is dotted: `node.pool_size`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("cannot read the configuration: {0}")]
    Unreadable(String),
    #[error("not valid TOML: {0}")]
    Syntax(String),
    #[error("want section.key=value")]
    NotAnAssignment,
    #[error("{0} is a key, not a section")]
    NotASection(String),
    #[error("unknown key {key:?} in {section}; allowed: {}", allowed.join(", "))]
    UnknownKey { key: String, section: String, allowed: &'static [&'static str] },
    #[error("missing key {key:?} in {section}")]
    MissingKey { key: &'static str, section: String },
    #[error("{key} = {found} has the wrong type; want {expected}")]
    WrongType { key: String, found: String, expected: String },
    #[error("{key} = {found} is not allowed; want {expected}")]
    OutOfRange { key: String, found: String, expected: String },
    #[error("{key}: {reason}")]
    Invalid { key: String, reason: String },
}

/// What the configuration names is of no use: a file that is missing or holds something else, a text that does not
/// parse. Found only where it is used, when nobody knows any more which layer the key came from.
#[derive(Debug, thiserror::Error)]
#[error("{key}{} cannot be used", Shown(file))]
pub struct Unusable {
    key: String,
    file: Option<PathBuf>,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Unusable {
    /// The value of a key, which is not shown: it may be secret.
    pub fn value(key: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { key: key.into(), file: None, source: source.into() }
    }

    /// The file that a key names.
    pub fn file(
        key: impl Into<String>,
        file: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { key: key.into(), file: Some(file.to_owned()), source: source.into() }
    }
}

struct Shown<'a>(&'a Option<PathBuf>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |file| write!(f, " = {}", file.display()))
    }
}

/// As serde reports it: the place and the dotted key are filled in on the way up.
#[derive(Debug)]
pub(super) struct ReadError {
    pub place: Option<Place>,
    pub problem: Problem,
}

impl ReadError {
    /// Names the value that the error is about, unless something deeper has.
    pub fn at(mut self, place: &Place, path: &str) -> Self {
        if self.place.is_some() {
            return self;
        }
        self.place = Some(place.clone());
        match &mut self.problem {
            Problem::UnknownKey { section, .. } | Problem::MissingKey { section, .. } => *section = section_name(path),
            Problem::WrongType { key, .. } | Problem::OutOfRange { key, .. } | Problem::Invalid { key, .. } => {
                path.clone_into(key);
            }
            _ => {}
        }
        self
    }
}

fn section_name(path: &str) -> String {
    if path.is_empty() { "the file".to_owned() } else { format!("[{path}]") }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { place: None, problem: Problem::Invalid { key: String::new(), reason: message.to_string() } }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let problem =
            Problem::WrongType { key: String::new(), found: show(found), expected: plain(&expected.to_string()) };
        Self { place: None, problem }
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let problem =
            Problem::OutOfRange { key: String::new(), found: show(found), expected: plain(&expected.to_string()) };
        Self { place: None, problem }
    }

    fn unknown_field(field: &str, allowed: &'static [&'static str]) -> Self {
        Self { place: None, problem: Problem::UnknownKey { key: field.to_owned(), section: String::new(), allowed } }
    }

    fn unknown_variant(variant: &str, allowed: &'static [&'static str]) -> Self {
        let problem = Problem::OutOfRange {
            key: String::new(),
            found: format!("{variant:?}"),
            expected: format!("one of: {}", allowed.join(", ")),
        };
        Self { place: None, problem }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { place: None, problem: Problem::MissingKey { key, section: String::new() } }
    }
}

fn show(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Bool(value) => value.to_string(),
        de::Unexpected::Unsigned(value) => value.to_string(),
        de::Unexpected::Signed(value) => value.to_string(),
        de::Unexpected::Float(value) => value.to_string(),
        de::Unexpected::Str(text) => format!("{text:?}"),
        de::Unexpected::Map => "a section".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        other => other.to_string(),
    }
}

/// What serde calls by its Rust type, in words.
fn plain(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "path string" => "a string",
        text if text.starts_with("struct ") || text == "a map" => "a section",
        text => text,
    }
    .to_owned()
}
