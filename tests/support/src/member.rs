//! One process of a cluster.

use std::{
    fmt,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Which process. Nodes and routers are counted from 1, as in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    Postgres,
    Redis,
    Node(u32),
    Router(u32),
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres => f.write_str("postgres"),
            Self::Redis => f.write_str("redis"),
            Self::Node(id) => write!(f, "node-{id}"),
            Self::Router(id) => write!(f, "router-{id}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The asking ones.
    Terminate,
    Interrupt,
    /// Of Postgres: ends at once, as in a crash.
    Quit,
    /// Freezes the process, as a long pause of its machine would.
    Stop,
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A running process and where its output goes.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it in the cluster's folder (which is how the watchdog finds it), its output appended to the log.
    pub fn spawn(mut command: Command, folder: &Path, log: &Path) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log).expect("a log can be opened");
        let errors = output.try_clone().expect("a file handle can be cloned");
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `Some` once it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    pub fn signal(&self, signal: Signal) {
        // The shell's own kill: no program needed, and no unsafe code.
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{} {}", signal.name(), self.child.id())])
            .stderr(Stdio::null())
            .status()
            .expect("a shell starts");
        // It fails only where the process has ended already, which is no harm: it is not reaped yet, so the pid is ours.
        let _ = status;
    }

    pub fn kill(&mut self) -> ExitStatus {
        let _ = self.child.kill();
        self.child.wait().expect("a killed child can be waited for")
    }

    /// Waits for the end; `None` where it does not come in time.
    pub async fn end_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let status = self.exit_status();
            if status.is_some() || start.elapsed() > limit {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A binary of this workspace, where cargo puts it: beside the running binary, or the folder of the running test.
pub fn binary(name: &str) -> PathBuf {
    let path = profile_folder().join(name);
    assert!(path.is_file(), "{} is not built: run scripts/test, or first cargo build --workspace", path.display());
    path
}

/// Of `target/debug/deps/test-1234`, and of `target/debug/binary`: `target/debug`.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its own path");
    let folder = own.parent().expect("it lies in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps/ lies in a folder").to_owned()
    } else {
        folder.to_owned()
    }
}

/// The build's folder: `target`.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().expect("a profile's folder lies in the build's").to_owned()
}

/// Where logs of failed tests are kept.
pub fn kept_logs_folder() -> PathBuf {
    target_folder().join("test-logs")
}
