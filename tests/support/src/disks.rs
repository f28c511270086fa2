//! Disks of the stores' own: each store's tables are on a filesystem that can be full while the others, and Postgres's log, have
//! room. Wants root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::statvfs;

const SIZE: &str = "size=4g";
/// Postgres goes on writing while the disk is made smaller, to less than it takes by then.
const FILL_ATTEMPTS: usize = 1000;

/// In `<home>/disk-<store>`. In memory: what they hold outlives Postgres, and is gone with the machine, which no test outlives.
#[derive(Debug)]
pub struct Disks {
    home: PathBuf,
}

impl Disks {
    /// What is missing for this, in words.
    pub fn unavailable() -> Option<&'static str> {
        let folder = std::env::temp_dir().join(format!("tertulia-disk-{}", std::process::id()));
        let works = fs::create_dir(&folder).is_ok()
            && mount(&["-t", "tmpfs", "-o", SIZE, "tertulia-disk"], &folder).is_ok()
            && mount(&["-o", "remount,size=64k"], &folder).is_ok();
        let _ = Command::new("umount").arg(&folder).output();
        let _ = fs::remove_dir(&folder);
        (!works).then_some("this process may not mount a filesystem: it wants root")
    }

    /// A [watchdog](crate::watchdog) unmounts them again. `owner`: whom their root folders belong to, as `chown` has it.
    pub fn create(home: &Path, stores: u32, owner: (u32, u32)) -> Self {
        let disks = Self { home: home.to_owned() };
        for store in 1..=stores {
            let (folder, (uid, gid)) = (disks.folder(store), owner);
            fs::create_dir(&folder).expect("a folder can be made");
            let options = format!("{SIZE},mode=700,uid={uid},gid={gid}");
            mount(&["-t", "tmpfs", "-o", &options, "tertulia-disk"], &folder).expect("root may mount a filesystem");
        }
        disks
    }

    pub fn folder(&self, store: u32) -> PathBuf {
        self.home.join(format!("disk-{store}"))
    }

    /// From now on it takes no further byte.
    pub fn fill(&self, store: u32) {
        let folder = self.folder(store);
        let is_full = (0..FILL_ATTEMPTS).any(|_| {
            let disk = statvfs(&folder).expect("the filesystem tells its size");
            let taken = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
            mount(&["-o", &format!("remount,size={taken}")], &folder).is_ok()
        });
        assert!(is_full, "the disk of store {store} cannot be made smaller");
    }

    /// It has room again.
    pub fn free(&self, store: u32) {
        mount(&["-o", &format!("remount,{SIZE}")], &self.folder(store)).expect("a filesystem may grow");
    }
}

fn mount(arguments: &[&str], folder: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(folder).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
