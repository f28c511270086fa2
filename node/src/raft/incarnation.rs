//! How often this node has started: an owner is (node, incarnation), so a number must never come twice.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, bail};
use tertulia_shard_map::Incarnation;

const FILE_NAME: &str = "incarnation";
const NEXT_FILE_NAME: &str = "incarnation.next";

/// Grows by one at each call, from 1, and is on disk before it is returned. A file that cannot be read is an error,
/// never a new count: starting again at 1 would let this process pass for one that is still being fenced.
pub fn next_incarnation(folder: &Path) -> anyhow::Result<Incarnation> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(FILE_NAME);
    let next = read(&path)?.next();
    write(folder, &path, next).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(next)
}

fn read(path: &Path) -> anyhow::Result<Incarnation> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Incarnation::ZERO),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match text.strip_suffix('\n').map(str::parse) {
        Some(Ok(count)) => Ok(Incarnation::new(count)),
        _ => bail!("{} is damaged: want one number; a node that lost it must come back under a new id", path.display()),
    }
}

/// Rename is atomic: a crash leaves the old file or the new one, never half of one.
fn write(folder: &Path, path: &Path, incarnation: Incarnation) -> io::Result<()> {
    let next_path = folder.join(NEXT_FILE_NAME);
    let mut file = File::create(&next_path)?;
    writeln!(file, "{incarnation}")?;
    file.sync_all()?;
    fs::rename(&next_path, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_gets_the_next_number() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("node-1");
        for expected in 1..=3 {
            assert_eq!(next_incarnation(&data).unwrap(), Incarnation::new(expected));
        }
    }

    #[test]
    fn a_start_that_died_between_write_and_rename_wastes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        next_incarnation(folder.path()).unwrap();
        fs::write(folder.path().join(NEXT_FILE_NAME), "2").unwrap();
        assert_eq!(next_incarnation(folder.path()).unwrap(), Incarnation::new(2));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        for damaged in ["", "17", "x\n", "-1\n", "1\n2\n"] {
            fs::write(&path, damaged).unwrap();
            assert!(next_incarnation(folder.path()).unwrap_err().to_string().contains("damaged"), "{damaged:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
