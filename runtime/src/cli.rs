//! How the binaries start: shared arguments, the runtime, and exit codes.
//!
//! Exit codes: 0 asked to end; 1 failed; 2 wrong arguments or configuration, with one line on stderr that says what is wrong.

use std::{future::Future, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use tertulia_shard_map::{NodeId, RouterId};
use tokio::runtime::Runtime;

use crate::{
    PeerName,
    config::{Config, ConfigError, Unusable},
    rpc::BindError,
    tasks::{ExitReason, Supervisor},
    telemetry::{Metrics, TelemetryError, init_logs},
    tls::IdentityError,
};

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;
/// How long threads that block may hold up the exit.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(500);

/// Where the configuration is, for every binary.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The configuration of the cluster
    #[arg(long, value_name = "FILE", default_value = "cluster.toml", global = true)]
    pub config: PathBuf,
    /// Overrides a key of the configuration; can be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", global = true)]
    pub sets: Vec<String>,
}

impl ConfigArgs {
    /// The file, then the environment, then the flags.
    pub fn load(&self) -> Result<Config, ConfigError> {
        // Not `vars()`, which panics where any variable is not UTF-8.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(&self.config, variables, &self.sets)
    }
}

/// The arguments of a node and of a router.
#[derive(Debug, Clone, Parser)]
pub struct ProcessArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Which of the configuration's nodes (or routers) this process is
    #[arg(long, value_name = "ID")]
    pub id: u32,
}

/// Which long-running process a binary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Node,
    Router,
}

impl Role {
    const fn section(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Router => "routers",
        }
    }
}

/// What a process starts with.
#[derive(Debug)]
pub struct Start {
    pub name: PeerName,
    pub config: Config,
    pub metrics: Metrics,
    pub supervisor: Supervisor,
}

/// The configuration has no such process.
#[derive(Debug, thiserror::Error)]
#[error("--id {id}: {file} has no [{section}.{id}]; it has: {present}")]
struct UnknownProcess {
    id: u32,
    file: String,
    section: &'static str,
    present: String,
}

/// Runs a node or a router: arguments, configuration, logs, metrics, runtime, then `main` until it says why it ended.
pub fn run_process<F, M>(binary: &'static str, about: &'static str, role: Role, main: M) -> ExitCode
where
    M: FnOnce(Start) -> F,
    F: Future<Output = anyhow::Result<ExitReason>>,
{
    let args = match parse::<ProcessArgs>(binary, about) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let prepared = prepare(&args, role);
    let (name, config, metrics) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return fail(binary, &error),
    };
    let worker_threads = match role {
        Role::Node => config.node.worker_threads,
        Role::Router => config.router.worker_threads,
    };
    block_on(binary, worker_threads, async move {
        let supervisor = Supervisor::new();
        metrics.spawn_upkeep(&supervisor);
        let reason = main(Start { name, config, metrics, supervisor }).await?;
        tracing::info!(%reason, "stopped");
        Ok(ExitCode::from(reason.exit_code()))
    })
}

/// Parses the arguments of any binary. `Err` is the exit code after help, version or a complaint has been printed.
pub fn parse<A: CommandFactory + FromArgMatches>(binary: &'static str, about: &'static str) -> Result<A, ExitCode> {
    let command = A::command().name(binary).bin_name(binary).about(about).version(env!("CARGO_PKG_VERSION"));
    command.try_get_matches().and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| {
        // Nothing is left to do where even stderr is gone.
        let _printed = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE))
    })
}

/// Runs `main` on a runtime with `worker_threads` (0: one per core) and turns its error into an exit code and one line.
pub fn block_on(
    binary: &'static str,
    worker_threads: usize,
    main: impl Future<Output = anyhow::Result<ExitCode>>,
) -> ExitCode {
    let outcome = build_runtime(worker_threads).map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(main);
        runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
        outcome
    });
    outcome.unwrap_or_else(|error| fail(binary, &error))
}

fn build_runtime(worker_threads: usize) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if worker_threads > 0 {
        builder.worker_threads(worker_threads);
    }
    builder.enable_all().build()
}

fn prepare(args: &ProcessArgs, role: Role) -> anyhow::Result<(PeerName, Config, Metrics)> {
    let config = args.config.load()?;
    let present: Vec<u32> = match role {
        Role::Node => config.nodes.keys().map(|id| id.get()).collect(),
        Role::Router => config.routers.keys().map(|id| id.get()).collect(),
    };
    if !present.contains(&args.id) {
        let present: Vec<String> = present.iter().map(ToString::to_string).collect();
        return Err(UnknownProcess {
            id: args.id,
            file: args.config.config.display().to_string(),
            section: role.section(),
            present: if present.is_empty() { "none".to_owned() } else { present.join(", ") },
        }
        .into());
    }
    let name = match role {
        Role::Node => PeerName::Node(NodeId::new(args.id)),
        Role::Router => PeerName::Router(RouterId::new(args.id)),
    };
    init_logs(&config.log, &name.to_string())?;
    let metrics = Metrics::install(&name.to_string(), env!("CARGO_PKG_VERSION"))?;
    Ok((name, config, metrics))
}

/// One line on stderr, and the exit code.
fn fail(binary: &str, error: &anyhow::Error) -> ExitCode {
    let line = format!("{error:#}").replace('\n', "; ");
    eprintln!("{binary}: {line}");
    ExitCode::from(exit_code(error))
}

/// Whether it is for who started the process to mend. An error that is one of these must be in the chain itself: not
/// wrapped by a transparent one.
fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || cause.is::<Unusable>()
            || cause.is::<UnknownProcess>()
            || cause.is::<IdentityError>()
            || matches!(cause.downcast_ref(), Some(BindError::Tls(_)))
            || matches!(cause.downcast_ref(), Some(TelemetryError::Level { .. }))
    });
    if usage { EXIT_USAGE } else { EXIT_FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(id: u32, sets: &[&str]) -> ProcessArgs {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster.toml").into();
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        ProcessArgs { config: ConfigArgs { config, sets }, id }
    }

    #[test]
    fn an_id_that_the_configuration_does_not_have_is_a_usage_error() {
        let error = prepare(&args(9, &[]), Role::Node).unwrap_err();
        assert!(error.to_string().ends_with("has no [nodes.9]; it has: 1, 2, 3"), "{error}");
        assert_eq!(exit_code(&error), 2);
    }

    #[test]
    fn a_wrong_configuration_or_log_level_is_a_usage_error_and_anything_else_is_not() {
        let wrong = prepare(&args(1, &["node.pool_size=0"]), Role::Node).unwrap_err();
        assert_eq!(exit_code(&wrong.context("starting")), 2);
        assert_eq!(exit_code(&prepare(&args(1, &["log.level=a=b=c"]), Role::Router).unwrap_err()), 2);
        let unusable = Unusable::file("auth.public_key_file", "jwt.pub.pem".as_ref(), "not a key");
        let unusable = anyhow::Error::from(unusable);
        assert_eq!(format!("{unusable:#}"), "auth.public_key_file = jwt.pub.pem cannot be used: not a key");
        assert_eq!(exit_code(&unusable), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("disk full")), 1);
    }

    #[test]
    fn a_failing_main_is_an_exit_code_and_no_panic() {
        let code = block_on("test", 1, async { anyhow::bail!("on purpose") });
        assert_eq!(code, ExitCode::from(1));
        assert_eq!(block_on("test", 1, async { Ok(ExitCode::SUCCESS) }), ExitCode::SUCCESS);
    }
}
