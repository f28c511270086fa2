//! Versions of clients, as far as they can be compared.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

/// Numbers between dots, the first one counting most: `2`, `2.10`, `2.10.3`. What is left out is 0. Whatever follows the numbers
/// after a `-`, a `+` or a space, such as a build's name, does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientVersion {
    /// Without zeros at the end, so that versions that are the same are equal.
    numbers: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version: want numbers with dots between them, such as 2.10.3")]
pub struct InvalidVersion(String);

impl FromStr for ClientVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let counts = text.split(['-', '+', ' ']).next().unwrap_or_default();
        // `parse` takes a sign.
        let is_plain = counts.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let numbers: Result<Vec<u64>, ParseIntError> = counts.split('.').map(str::parse).collect();
        let Ok(mut numbers) = numbers.map_err(|_| ()).and_then(|numbers| if is_plain { Ok(numbers) } else { Err(()) })
        else {
            return Err(InvalidVersion(text.to_owned()));
        };
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Ok(Self { numbers })
    }
}

impl TryFrom<String> for ClientVersion {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<ClientVersion> for String {
    fn from(version: ClientVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for ClientVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.numbers.split_first() {
            None => f.write_str("0"),
            Some((first, rest)) => {
                write!(f, "{first}")?;
                rest.iter().try_for_each(|number| write!(f, ".{number}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ClientVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_compared_number_by_number() {
        for (older, newer) in [("2.9", "2.10"), ("2", "2.0.1"), ("1.99.99", "2"), ("0", "0.0.1"), ("2.4-beta", "2.4.1")]
        {
            assert!(version(older) < version(newer), "{older} {newer}");
        }
        for (one, same) in
            [("2", "2.0.0"), ("02.4", "2.4"), ("2.4.0-beta.7", "2.4"), ("2.4 (311)", "2.4"), ("0", "0.0")]
        {
            assert_eq!(version(one), version(same));
        }
        assert_eq!((version("2.04.0").to_string(), version("0.0").to_string()), ("2.4".into(), "0".into()));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", ".", "2.", ".2", "2..3", "v2", "+2", "-2", "2.x", "two", "99999999999999999999", "٢"] {
            assert!(text.parse::<ClientVersion>().is_err(), "{text}");
        }
    }
}
