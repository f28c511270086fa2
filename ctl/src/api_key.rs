//! `tertuliactl api-key`: a new key for the app's back end. Nothing of it is kept: whoever needs it again makes another.

use clap::Args;
use sha2::{Digest, Sha256};

#[derive(Debug, Args)]
pub struct ApiKeyArgs {
    /// What the configuration calls it: 1 to 64 characters of a-z, 0-9, _ and -
    #[arg(value_parser = name)]
    name: String,
}

/// By which people, and programs that look for leaked secrets, know it for one.
const PREFIX: &str = "tertulia_";
const NAME_BYTES_MAX: usize = 64;

fn name(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(is_plain) {
        return Err("want 1 to 64 characters of a-z, 0-9, _ and -");
    }
    Ok(text.to_owned())
}

/// The key, and the line that admits it.
pub fn make(args: &ApiKeyArgs) -> String {
    text(&args.name, rand::random())
}

fn text(name: &str, secret: [u8; 32]) -> String {
    let key = format!("{PREFIX}{}", hex(&secret));
    let hash = hex(&Sha256::digest(&key));
    format!("{key}\n\n# Below [auth.api_keys] in the cluster.toml of every router:\n{name} = \"{hash}\"\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_admits_the_key_and_does_not_show_it() {
        let text = text("backend", [7; 32]);
        let (key, line) = (text.lines().next().expect("a key"), text.lines().last().expect("a line"));
        assert_eq!(key, format!("tertulia_{}", "07".repeat(32)));
        assert_eq!(line, format!("backend = \"{}\"", hex(&Sha256::digest(key))));
        assert!(!line.contains(&"07".repeat(32)));
    }

    #[test]
    fn a_name_fits_into_a_variable() {
        assert!(name("back-end_2").is_ok());
        for bad in ["", "Backend", "a.b", "a b", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
