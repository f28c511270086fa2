//! Disks that are slow to sync, or fail to: strace stands between processes and the kernel, and delays each `fsync` or has it fail.
//! Every system call of these processes costs more meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long strace takes at most to get hold of processes, or to let them go.
const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);
const CALLS: &str = "fsync,fdatasync";

/// What becomes of what a process wants on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It is there so much later.
    Slow(Duration),
    /// It is not: EIO.
    Failing,
}

/// Lets the processes go on as they were when it is dropped.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    calls: PathBuf,
}

impl Strace {
    /// What is missing for this, in words.
    pub fn unavailable() -> Option<&'static str> {
        let Ok(mut traced) = Command::new("sleep").arg("10").spawn() else { return Some("sleep cannot be started") };
        let why = match trace(&[traced.id()], Sync::Failing, Path::new("/dev/null")).spawn() {
            Err(_) => Some("strace is not installed"),
            Ok(mut child) => {
                let start = Instant::now();
                while !is_traced(traced.id()) && matches!(child.try_wait(), Ok(None)) && start.elapsed() < LIMIT {
                    sleep(POLL);
                }
                let works = is_traced(traced.id());
                let_go(&mut child);
                (!works).then_some("this process may not trace others")
            }
        };
        let _ = traced.kill();
        let _ = traced.wait();
        why
    }

    /// From now on, for these processes with all their threads, and for those that they start. `folder`: of the cluster, whose
    /// watchdog ends it with the rest.
    pub fn attach(pids: &[u32], sync: Sync, folder: &Path) -> Self {
        let calls = folder.join("strace");
        let child = trace(pids, sync, &calls).current_dir(folder).spawn().expect("strace starts");
        let strace = Self { child, calls };
        let start = Instant::now();
        while !pids.iter().all(|pid| is_traced(*pid)) {
            assert!(start.elapsed() < LIMIT, "strace does not get hold of {pids:?}");
            sleep(POLL);
        }
        strace
    }

    /// Whether all the processes have ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// How many calls were spoilt so far.
    pub fn spoilt(&self) -> usize {
        let calls = fs::read_to_string(&self.calls).unwrap_or_default();
        calls.lines().filter(|line| line.ends_with("(INJECTED)") || line.ends_with("(DELAYED)")).count()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let_go(&mut self.child);
    }
}

fn trace(pids: &[u32], sync: Sync, calls: &Path) -> Command {
    let inject = match sync {
        Sync::Slow(time) => format!("inject={CALLS}:delay_enter={}", time.as_micros()),
        Sync::Failing => format!("inject={CALLS}:error=EIO"),
    };
    let mut command = Command::new("strace");
    command.args(["-qq", "-f", "-e", &format!("trace={CALLS}"), "-e", &inject, "-o"]).arg(calls);
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    // It complains about processes that have ended meanwhile.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn let_go(strace: &mut Child) {
    // Asked to stop it lets the processes go; where it is killed, the kernel does.
    let _ = Command::new("kill").arg(strace.id().to_string()).stderr(Stdio::null()).status();
    let start = Instant::now();
    while matches!(strace.try_wait(), Ok(None)) && start.elapsed() < LIMIT {
        sleep(POLL);
    }
    let _ = strace.kill();
    let _ = strace.wait();
}

/// With all threads, or gone.
fn is_traced(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut statuses = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    statuses.all(|status| !status.contains("TracerPid:\t0\n"))
}
