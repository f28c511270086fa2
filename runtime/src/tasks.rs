//! Supervised tasks: each has a name and says what its failure and what a shutdown mean. A token asks tasks to end, a
//! gate waits for them, and a panic is an error like any other.
//!
//! Invariant: every task that a process starts goes through its [`Supervisor`]; nothing is detached and forgotten.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinError,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How a task is called, and what its failure and a shutdown mean for it.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    name: Cow<'static, str>,
    on_error: OnError,
    on_shutdown: OnShutdown,
}

/// What an error or a panic of a task means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The process is of no use without it: shut down, and exit non-zero.
    Fatal,
    /// Only the task's own work is lost: log it.
    LogAndEnd,
}

/// What becomes of a task at shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShutdown {
    /// It watches [`Supervisor::token`] and ends in its own time, within the drain deadline.
    Wait,
    /// Others may need it while they drain: it is aborted once they have ended.
    AbortLast,
}

impl TaskSpec {
    /// A task without which the process cannot go on.
    pub fn fatal(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), on_error: OnError::Fatal, on_shutdown: OnShutdown::Wait }
    }

    /// A task whose failure is logged, and costs only its own work.
    pub fn log_and_end(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), on_error: OnError::LogAndEnd, on_shutdown: OnShutdown::Wait }
    }

    /// Goes on while others drain, and is aborted after them.
    #[must_use]
    pub fn abort_last(self) -> Self {
        Self { on_shutdown: OnShutdown::AbortLast, ..self }
    }
}

/// Why the process ends.
#[derive(Debug)]
pub enum ExitReason {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// [`Supervisor::shut_down`] was called.
    Requested,
    /// A task with [`OnError::Fatal`] failed.
    TaskFailed { task: String },
}

impl ExitReason {
    /// The exit code of the process: 0 where it was asked to end.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Signal(_) | Self::Requested => 0,
            Self::TaskFailed { .. } => 1,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => write!(f, "received {name}"),
            Self::Requested => f.write_str("asked to shut down"),
            Self::TaskFailed { task } => write!(f, "task {task} failed"),
        }
    }
}

/// The owner of a process's tasks. Cheap to clone; all clones are one supervisor.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    asked: CancellationToken,
    abort: CancellationToken,
    waited: TaskTracker,
    aborted: TaskTracker,
    running: AtomicUsize,
    failed: OnceLock<String>,
}

/// How long aborted tasks get to drop what they hold.
const ABORT_GRACE: Duration = Duration::from_secs(1);

impl Supervisor {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task, on the runtime of the caller. A task that ends with `Ok` before the shutdown has done its work.
    pub fn spawn(&self, spec: TaskSpec, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let inner = self.inner.clone();
        let tracker = match spec.on_shutdown {
            OnShutdown::Wait => &self.inner.waited,
            OnShutdown::AbortLast => &self.inner.aborted,
        };
        self.inner.running.fetch_add(1, Ordering::Relaxed);
        tracker.spawn(async move {
            // A task of its own, so that a panic unwinds there and is an error here.
            let mut join = tokio::spawn(task);
            let outcome = tokio::select! {
                biased;
                outcome = &mut join => outcome,
                () = inner.abort.cancelled() => {
                    join.abort();
                    join.await
                }
            };
            inner.running.fetch_sub(1, Ordering::Relaxed);
            inner.ended(&spec, outcome);
        });
    }

    /// Cancelled at shutdown: tasks end when they see it.
    pub fn token(&self) -> CancellationToken {
        self.inner.asked.clone()
    }

    /// Asks all tasks to end. [`Supervisor::run_until_shutdown`] then returns.
    pub fn shut_down(&self) {
        self.inner.asked.cancel();
    }

    /// How many tasks are running.
    pub fn running(&self) -> usize {
        self.inner.running.load(Ordering::Relaxed)
    }

    /// [`Supervisor::wait_for_end`], then [`Supervisor::drain`].
    pub async fn run_until_shutdown(&self, drain: Duration) -> io::Result<ExitReason> {
        let reason = self.wait_for_end().await?;
        self.drain(drain).await;
        Ok(self.outcome(reason))
    }

    /// Waits for SIGTERM, SIGINT, [`Supervisor::shut_down`] or a fatal failure. After a signal all tasks go on until
    /// [`Supervisor::drain`].
    pub async fn wait_for_end(&self) -> io::Result<ExitReason> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let reason = tokio::select! {
            _ = terminate.recv() => ExitReason::Signal("SIGTERM"),
            _ = interrupt.recv() => ExitReason::Signal("SIGINT"),
            () = self.inner.asked.cancelled() => ExitReason::Requested,
        };
        let reason = self.outcome(reason);
        tracing::info!(%reason, "shutting down");
        Ok(reason)
    }

    /// What the process ends with: a fatal failure, also one while it shut down, or else this.
    pub fn outcome(&self, reason: ExitReason) -> ExitReason {
        match self.inner.failed.get() {
            Some(task) => ExitReason::TaskFailed { task: task.clone() },
            None => reason,
        }
    }

    /// Asks all tasks to end, waits at most `drain` for those that want to be waited for, and aborts the rest.
    pub async fn drain(&self, drain: Duration) {
        self.inner.asked.cancel();
        self.inner.waited.close();
        if timeout(drain, self.inner.waited.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.inner.waited.len(),
                "aborting tasks that did not end within the drain deadline"
            );
        }
        self.inner.abort.cancel();
        self.inner.aborted.close();
        let ended = async { tokio::join!(self.inner.waited.wait(), self.inner.aborted.wait()) };
        if timeout(ABORT_GRACE, ended).await.is_err() {
            tracing::warn!("leaving tasks behind that block a thread");
        }
    }
}

impl Inner {
    fn ended(&self, spec: &TaskSpec, outcome: Result<anyhow::Result<()>, JoinError>) {
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(join) if join.is_panic() => anyhow::anyhow!("panicked: {}", panic_text(join)),
            // Aborted: by us, or with the runtime.
            Err(_) => return,
        };
        match spec.on_error {
            OnError::Fatal => {
                tracing::error!(task = %spec.name, error = format!("{error:#}"), "a task failed that the process needs");
                self.failed.get_or_init(|| spec.name.clone().into_owned());
                self.asked.cancel();
            }
            OnError::LogAndEnd => tracing::warn!(task = %spec.name, error = format!("{error:#}"), "a task failed"),
        }
    }
}

pub(crate) fn panic_text(join: JoinError) -> String {
    let payload = match join.try_into_panic() {
        Ok(payload) => payload,
        Err(join) => return join.to_string(),
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().map_or_else(|| "no text".to_owned(), |text| (*text).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const DRAIN: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_fatal_error_shuts_the_process_down_and_names_the_task() {
        let supervisor = Supervisor::new();
        supervisor.spawn(TaskSpec::fatal("raft"), async { anyhow::bail!("disk full") });
        let reason = timeout(DRAIN, supervisor.run_until_shutdown(DRAIN)).await.unwrap().unwrap();
        assert!(matches!(&reason, ExitReason::TaskFailed { task } if task == "raft"), "{reason:?}");
        assert_eq!(reason.exit_code(), 1);
    }

    #[tokio::test]
    async fn a_panic_counts_as_an_error() {
        let supervisor = Supervisor::new();
        supervisor.spawn(TaskSpec::fatal("boom"), async { panic!("on purpose") });
        let reason = timeout(DRAIN, supervisor.run_until_shutdown(DRAIN)).await.unwrap().unwrap();
        assert_eq!(reason.exit_code(), 1);
    }

    #[tokio::test]
    async fn other_errors_end_only_their_task() {
        let supervisor = Supervisor::new();
        let (sender, ended) = oneshot::channel::<()>();
        supervisor.spawn(TaskSpec::log_and_end("one connection"), async move {
            let _sender = sender;
            anyhow::bail!("reset by peer")
        });
        assert!(ended.await.is_err());
        assert!(!supervisor.token().is_cancelled());
        supervisor.shut_down();
        assert!(matches!(supervisor.run_until_shutdown(DRAIN).await.unwrap(), ExitReason::Requested));
    }

    #[tokio::test]
    async fn a_shutdown_waits_for_those_that_drain_and_then_aborts_the_rest() {
        let supervisor = Supervisor::new();
        let (drained, mut saw_drained) = oneshot::channel();
        let (aborted, saw_aborted) = oneshot::channel::<()>();
        let (token, gate) = (supervisor.token(), tokio::sync::Semaphore::new(0));
        supervisor.spawn(TaskSpec::fatal("drains"), async move {
            token.cancelled().await;
            let _ = drained.send(());
            Ok(())
        });
        supervisor.spawn(TaskSpec::fatal("goes on").abort_last(), async move {
            let _aborted = aborted;
            let _never = gate.acquire().await;
            Ok(())
        });
        assert_eq!(supervisor.running(), 2);
        supervisor.shut_down();
        let reason = timeout(DRAIN, supervisor.run_until_shutdown(DRAIN)).await.unwrap().unwrap();
        assert!(matches!(reason, ExitReason::Requested), "{reason:?}");
        assert!(saw_drained.try_recv().is_ok());
        assert!(saw_aborted.await.is_err());
        assert_eq!(supervisor.running(), 0);
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_shutdown_is_aborted_at_the_deadline() {
        let supervisor = Supervisor::new();
        supervisor.spawn(TaskSpec::fatal("deaf"), std::future::pending());
        supervisor.shut_down();
        let reason = timeout(DRAIN, supervisor.run_until_shutdown(Duration::from_millis(20))).await.unwrap().unwrap();
        assert_eq!(reason.exit_code(), 0);
    }
}
