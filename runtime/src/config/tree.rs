//! The layers of a configuration as one tree whose every value knows where it came from.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigError, Problem};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file as a whole.
    File(Arc<Path>),
    Line {
        file: Arc<Path>,
        /// From 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A `--set` flag, as given.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "--set {flag}"),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Text(String),
    /// From a variable or a flag: whatever the key wants it to be.
    Untyped(String),
}

pub(super) const ENV_PREFIX: &str = "TERTULIA__";
const ENV_SEPARATOR: &str = "__";

impl Node {
    pub fn parse(text: &str, file: &Arc<Path>) -> Result<Self, ConfigError> {
        let line_of = |span: Range<usize>| Place::Line {
            file: file.clone(),
            line: text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1,
        };
        let root = DeTable::parse(text).map_err(|error| ConfigError {
            place: error.span().map_or_else(|| Place::File(file.clone()), line_of),
            problem: Problem::Syntax(error.message().trim().replace('\n', "; ")),
        })?;
        let value = table(root.get_ref(), &line_of)?;
        Ok(Self { place: Place::File(file.clone()), value })
    }

    /// Lays `TERTULIA__SECTION__KEY=value` over what is there; any other variable is not ours.
    pub fn overlay_variable(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let Some(path) = name.strip_prefix(ENV_PREFIX) else { return Ok(()) };
        let keys: Vec<String> = path.split(ENV_SEPARATOR).map(str::to_ascii_lowercase).collect();
        self.overlay(&keys, value, Place::Variable(name.to_owned()))
    }

    /// Lays `section.key=value` over what is there.
    pub fn overlay_flag(&mut self, flag: &str) -> Result<(), ConfigError> {
        let place = Place::Flag(flag.to_owned());
        let Some((path, value)) = flag.split_once('=') else {
            return Err(ConfigError { place, problem: Problem::NotAnAssignment });
        };
        let keys: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        self.overlay(&keys, value.trim(), place)
    }

    fn overlay(&mut self, keys: &[String], value: &str, place: Place) -> Result<(), ConfigError> {
        let mut node = self;
        for (depth, key) in keys.iter().enumerate() {
            let Value::Table(table) = &mut node.value else {
                return Err(ConfigError { place, problem: Problem::NotASection(keys[..depth].join(".")) });
            };
            let empty = || Node { place: place.clone(), value: Value::Table(BTreeMap::new()) };
            node = table.entry(key.clone()).or_insert_with(empty);
        }
        *node = Node { place, value: Value::Untyped(value.to_owned()) };
        Ok(())
    }

    /// Where the value of a dotted path was written; of the deepest part that is there.
    pub fn place_of(&self, path: &str) -> &Place {
        let mut node = self;
        for key in path.split('.') {
            let Value::Table(table) = &node.value else { break };
            let Some(next) = table.get(key) else { break };
            node = next;
        }
        &node.place
    }
}

fn table(table: &DeTable<'_>, line_of: &impl Fn(Range<usize>) -> Place) -> Result<Value, ConfigError> {
    let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        // The key's line: a section's value has the span of its header, which may be that of a section below it.
        let place = line_of(key.span());
        let value = convert(value.get_ref(), &place, line_of)?;
        Ok((key.get_ref().clone().into_owned(), Node { place, value }))
    };
    Ok(Value::Table(table.iter().map(entry).collect::<Result<_, ConfigError>>()?))
}

fn convert(value: &DeValue<'_>, place: &Place, line_of: &impl Fn(Range<usize>) -> Place) -> Result<Value, ConfigError> {
    let refuse = |text: &str| ConfigError {
        place: place.clone(),
        problem: Problem::Syntax(format!("the number {text} is out of range")),
    };
    Ok(match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| refuse(number.as_str()))?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().map_err(|_| refuse(number.as_str()))?),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Text(value.to_string()),
        DeValue::Array(items) => {
            let item = |item: &Spanned<DeValue<'_>>| {
                let place = line_of(item.span());
                let value = convert(item.get_ref(), &place, line_of)?;
                Ok(Node { place, value })
            };
            Value::Array(items.iter().map(item).collect::<Result<_, ConfigError>>()?)
        }
        DeValue::Table(inner) => table(inner, line_of)?,
    })
}
