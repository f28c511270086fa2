//! Cleans up after a cluster, whatever becomes of the test.
//!
//! A shell in a process group of its own waits for the end of a pipe that only the test process holds. When the pipe
//! closes (the cluster was dropped, or the test was killed), it kills every process whose working folder lies in the
//! cluster's folder, and then removes its [hosts](crate::Hosts), its
//! [disks](crate::Disks) and the folder. Going by the working folder finds what was started a moment before
//! the kill, and the children of children, which a list of pids would miss.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

const SCRIPT: &str = r#"
read -r _
rounds=0
while [ $rounds -lt 200 ]; do
    found=$(find /proc/[0-9]*/cwd -prune \( -lname "$1" -o -lname "$1/*" \) 2>/dev/null | cut -d/ -f3)
    [ -n "$found" ] || break
    kill -KILL $found 2>/dev/null
    rounds=$((rounds + 1))
    sleep 0.02
done
if [ -f "$1/hosts" ]; then
    while read -r kind name; do ip "$kind" del "$name" 2>/dev/null; done <"$1/hosts"
fi
while read -r _ path _; do
    case $path in "$1"/*) umount -l "$path" 2>/dev/null ;; esac
done </proc/mounts
rm -rf "$1"
"#;

impl Watchdog {
    /// Guards this folder (an absolute path without symbolic links).
    pub fn start(folder: &Path) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "tertulia-test-watchdog"])
            .arg(folder)
            .current_dir("/")
            // A signal for the test's group (Ctrl-C, a test runner's time limit) must not reach it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
