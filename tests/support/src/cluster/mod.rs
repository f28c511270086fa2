//! A whole cluster under test.

mod builder;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tertulia_shard_map::UserId;
use tertulia_wire::client::Format;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::NoTls;

pub use builder::Builder;

use crate::{
    Client, Disks, Hosts, HttpResponse, Member, Strace, Sync, client, config,
    config::{Addresses, Shape},
    eventually, http,
    member::{Process, Signal, binary, kept_logs_folder},
    ports::PortBlock,
    postgres,
    postgres::PostgresFolder,
    watchdog::Watchdog,
};

const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Lines of each log that a failed test prints.
const TAIL_LINES: usize = 15;

/// A running cluster. Dropping it kills every process and removes its folder; the logs are kept under
/// `target/test-logs` where the test is failing.
#[derive(Debug)]
pub struct Cluster {
    shape: Shape,
    settings: Vec<(String, String)>,
    addresses: Addresses,
    postgres: PostgresFolder,
    hosts: Option<Hosts>,
    running: Mutex<BTreeMap<Member, Process>>,
    folder: PathBuf,
    watchdog: Option<Watchdog>,
    ports: PortBlock,
}

/// A development user who has signed in.
#[derive(Debug, Clone)]
pub struct Login {
    pub token: String,
    pub user: UserId,
    pub name: String,
}

impl Cluster {
    pub fn builder() -> Builder {
        Builder::default()
    }

    // --- where things are ---

    pub fn config_path(&self) -> PathBuf {
        self.folder.join("cluster.toml")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn members(&self) -> Vec<Member> {
        self.addresses.main.keys().copied().collect()
    }

    pub fn router_url(&self, router: u32) -> String {
        format!("http://{}", self.address(Member::Router(router)))
    }

    pub fn ws_url(&self, router: u32) -> String {
        format!("ws://{}/v1/ws", self.address(Member::Router(router)))
    }

    /// A router's client port, a node's admin port, or the server's own.
    pub fn address(&self, member: Member) -> SocketAddr {
        self.addresses.of(member)
    }

    pub fn dsn(&self, store: u32) -> String {
        config::store_dsn(store, &self.addresses)
    }

    /// Writes pid files as `scripts/up` does, in a folder `run`: the load generators find the processes by them.
    pub fn write_pid_files(&self) {
        let run = self.folder.join("run");
        fs::create_dir_all(&run).expect("a folder can be made");
        for member in self.members() {
            fs::write(run.join(format!("{member}.pid")), format!("{}\n", self.pid(member))).expect("it can be written");
        }
    }

    /// Gives the configuration one more node, and the node its certificate. It does not run yet, and is no part of the cluster.
    pub fn configure_node(&mut self, home_store: u32) -> Member {
        self.shape.nodes += 1;
        let id = self.shape.nodes;
        self.addresses.add_node(id, &mut self.ports);
        let mut text = fs::read_to_string(self.config_path()).expect("the configuration can be read");
        text += &config::node_section(id, home_store, &self.addresses);
        fs::write(self.config_path(), text).expect("the configuration can be written");
        self.expect_ctl(&["pki"]);
        Member::Node(id)
    }

    // --- talking to it ---

    pub async fn get(&self, member: Member, path: &str) -> std::io::Result<HttpResponse> {
        http::request(self.address(member), "GET", path, None).await
    }

    pub async fn post(&self, member: Member, path: &str, json_body: &str) -> std::io::Result<HttpResponse> {
        http::request(self.address(member), "POST", path, Some(json_body)).await
    }

    /// Signs a development user in, at the first router that answers.
    pub async fn login(&self, name: &str) -> Login {
        let body = serde_json::json!({ "name": name }).to_string();
        let response = eventually("the sign-in", async || {
            for router in 1..=self.shape.routers {
                if let Ok(response) = self.post(Member::Router(router), "/v1/dev/login", &body).await {
                    return Some(response);
                }
            }
            None
        })
        .await;
        assert_eq!(response.status, 200, "signing {name} in: {}", response.body);
        let answer = response.json();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_else(|| panic!("odd: {answer}")).to_owned();
        Login {
            token: text(&answer["token"]),
            user: text(&answer["user"]["user_id"]).parse().expect("a user id"),
            name: text(&answer["user"]["name"]),
        }
    }

    pub async fn token(&self, name: &str) -> String {
        self.login(name).await.token
    }

    /// A session of this development user on this router, in JSON, with `hello` done.
    pub async fn connect(&self, router: u32, name: &str) -> Client {
        self.connect_as(router, name, Format::Json).await
    }

    pub async fn connect_as(&self, router: u32, name: &str, format: Format) -> Client {
        let login = self.login(name).await;
        let mut client = Client::connect(&self.ws_url(router), format).await;
        client.hello(client::hello(&login.token)).await;
        client
    }

    /// A database connection to a store; lives until the client is dropped.
    pub async fn sql(&self, store: u32) -> tokio_postgres::Client {
        self.sql_database(&config::store_database(store)).await.unwrap_or_else(|error| panic!("store {store}: {error}"))
    }

    /// Runs `tertuliactl` with these arguments; its output.
    pub fn ctl(&self, arguments: &[&str]) -> std::process::Output {
        self.binary("tertuliactl").args(arguments).output().expect("tertuliactl starts")
    }

    async fn sql_database(&self, database: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        let address = self.address(Member::Postgres);
        config.host(address.ip().to_string()).port(address.port()).user(postgres::USER).dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    // --- breaking and mending it ---

    /// What is between its processes; `None` where all are on this host.
    pub fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref()
    }

    /// The stores' disks; `None` where Postgres has everything on one.
    pub fn disks(&self) -> Option<&Disks> {
        self.postgres.disks()
    }

    /// From now on what the process, and each of its children, wants on the disk is slow to get there or does not, until what is
    /// returned is dropped. Of a Postgres that fails, its children alone: it recovers from that with others.
    pub fn spoil_syncs(&self, member: Member, sync: Sync) -> Strace {
        let own = self.pid(member);
        let of_it = |pid: u32| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let mut pids: Vec<u32> = of_it(own).split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if member != Member::Postgres || sync != Sync::Failing {
            pids.push(own);
        }
        Strace::attach(&pids, sync, &self.folder)
    }

    /// SIGKILL: as a crash.
    pub fn kill(&self, member: Member) {
        if let Some(mut process) = self.running().remove(&member) {
            process.kill();
        }
    }

    /// Asks the process to stop, and waits until it has.
    pub async fn terminate(&self, member: Member) -> ExitStatus {
        let still_runs = || panic!("{member} still runs {STOP_LIMIT:?} after it was asked to stop");
        self.terminate_or_kill(member).await.unwrap_or_else(still_runs)
    }

    /// The same; `None` where it does not stop, and had to be killed.
    pub async fn terminate_or_kill(&self, member: Member) -> Option<ExitStatus> {
        // For Postgres SIGTERM means "when everybody has gone"; SIGINT is the stop that ends sessions.
        self.stop(member, if member == Member::Postgres { Signal::Interrupt } else { Signal::Terminate }).await
    }

    /// Postgres, at once and without writing anything down, as in a crash; its children too, so that it can be started again.
    pub async fn crash(&self, member: Member) {
        self.stop(member, Signal::Quit).await;
    }

    /// Has Redis forget everything.
    pub async fn flush_redis(&self) -> std::io::Result<()> {
        let mut stream = tokio::net::TcpStream::connect(self.address(Member::Redis)).await?;
        stream.write_all(b"FLUSHALL\r\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        if &answer == b"+OK\r\n" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    }

    /// SIGSTOP: frozen, with its connections and locks as they are.
    pub fn pause(&self, member: Member) {
        self.signal(member, Signal::Stop);
    }

    pub fn resume(&self, member: Member) {
        self.signal(member, Signal::Continue);
    }

    /// Starts a process that does not run; does not wait for it.
    pub fn start(&self, member: Member) {
        let process = Process::spawn(self.command(member), &self.folder, &self.log_path(member));
        let previous = self.running().insert(member, process);
        assert!(previous.is_none_or(|mut process| process.exit_status().is_some()), "{member} runs already");
    }

    /// Kills it where it runs, starts it, and waits until it is ready.
    pub async fn restart(&self, member: Member) {
        match member {
            // A killed Postgres leaves its children behind for a moment, and they keep the next one from starting.
            Member::Postgres if self.is_running(member) => drop(self.terminate(member).await),
            _ => self.kill(member),
        }
        self.start(member);
        self.wait_ready(member).await;
    }

    pub fn is_running(&self, member: Member) -> bool {
        self.running().get_mut(&member).is_some_and(|process| process.exit_status().is_none())
    }

    pub fn pid(&self, member: Member) -> u32 {
        self.running().get(&member).unwrap_or_else(|| panic!("{member} does not run")).pid()
    }

    /// Waits until the process serves; panics where it ends instead.
    pub async fn wait_ready(&self, member: Member) {
        eventually(&format!("{member} to be ready"), async || {
            let ended = self.running().get_mut(&member).map(Process::exit_status);
            match ended {
                None => panic!("{member} was never started"),
                Some(Some(status)) => panic!("{member} has ended ({status}) instead of being ready"),
                Some(None) => self.is_ready(member).await.then_some(()),
            }
        })
        .await;
    }

    /// A router counts as ready here only once it is connected to every owner, which its own readiness does not ask for.
    pub async fn is_ready(&self, member: Member) -> bool {
        match member {
            Member::Postgres => self.sql_database("postgres").await.is_ok(),
            Member::Redis => tokio::net::TcpStream::connect(self.address(member)).await.is_ok(),
            Member::Node(_) | Member::Router(_) => {
                let answer = self.get(member, "/health/ready").await;
                answer.is_ok_and(|response| response.status == 200 && !has_warnings(&response))
            }
        }
    }

    // --- what it says ---

    /// The value of a metric, added up over all its labels; 0 where it was never touched.
    pub async fn metric(&self, member: Member, name: &str) -> f64 {
        self.try_metric(member, name).await.unwrap_or_else(|error| panic!("{member}: {error}"))
    }

    /// How many slots a node has taken over and serves.
    pub async fn slots_serving(&self, node: u32) -> f64 {
        self.metric(Member::Node(node), "tertulia_node_slots_serving").await
    }

    /// The same of a process that may not answer.
    pub async fn try_metric(&self, member: Member, name: &str) -> std::io::Result<f64> {
        let answer = self.get(member, "/metrics").await?;
        let samples = answer.body.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Resident memory.
    pub fn resident_kib(&self, member: Member) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid(member))).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB")
    }

    pub fn log(&self, member: Member) -> String {
        fs::read_to_string(self.log_path(member)).unwrap_or_default()
    }

    /// Panics where a node or a router has logged an ERROR or has panicked.
    pub fn assert_no_errors(&self) {
        self.assert_no_errors_but(&[]);
    }

    /// The same, save for lines that hold one of these texts.
    pub fn assert_no_errors_but(&self, expected: &[&str]) {
        let mut errors = self.errors();
        errors.retain(|line| !expected.iter().any(|text| line.contains(text)));
        assert!(errors.is_empty(), "unexpected errors in the logs:\n{}", errors.join("\n"));
    }

    /// ERROR lines and panics in the logs of nodes and routers.
    pub fn errors(&self) -> Vec<String> {
        let ours = self.members().into_iter().filter(|member| matches!(member, Member::Node(_) | Member::Router(_)));
        let of_one = |member| {
            let log = self.log(member);
            log.lines().filter(|line| is_error(line)).map(|line| format!("{member}: {line}")).collect::<Vec<_>>()
        };
        ours.flat_map(of_one).collect()
    }

    /// Copies the configuration and all logs into a folder.
    pub fn copy_logs(&self, folder: &Path) -> std::io::Result<()> {
        fs::copy(self.config_path(), folder.join("cluster.toml"))?;
        for member in self.members() {
            fs::copy(self.log_path(member), folder.join(format!("{member}.log")))?;
        }
        Ok(())
    }

    // --- inside ---

    fn running(&self) -> MutexGuard<'_, BTreeMap<Member, Process>> {
        // A test that panicked elsewhere must still be able to clean up.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where the signal did not end it in time: then it was killed.
    async fn stop(&self, member: Member, signal: Signal) -> Option<ExitStatus> {
        let process = self.running().remove(&member);
        let mut process = process.unwrap_or_else(|| panic!("{member} does not run"));
        process.signal(signal);
        let status = process.end_within(STOP_LIMIT).await;
        if status.is_none() {
            process.kill();
        }
        status
    }

    fn signal(&self, member: Member, signal: Signal) {
        self.running().get(&member).unwrap_or_else(|| panic!("{member} does not run")).signal(signal);
    }

    fn log_path(&self, member: Member) -> PathBuf {
        self.folder.join("log").join(format!("{member}.log"))
    }

    fn command(&self, member: Member) -> Command {
        let (name, id) = match member {
            Member::Postgres => {
                let host = self.hosts.as_ref().map(|hosts| hosts.enter(member));
                return host.map_or_else(|| self.postgres.server(), |host| self.postgres.server_on(host));
            }
            Member::Redis => {
                let mut command = self.program(member, "redis-server");
                let address = self.address(member);
                let (ip, port) = (address.ip().to_string(), address.port().to_string());
                command.args(["--bind", &ip, "--port", &port, "--save", "", "--protected-mode", "no"]);
                return command;
            }
            Member::Node(id) => ("tertulia-node", id),
            Member::Router(id) => ("tertulia-router", id),
        };
        let mut command = self.program(member, binary(name));
        self.tell(&mut command);
        command.args(["--id", &id.to_string()]);
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }

    /// One of our binaries, told of this cluster and of nothing else, in its folder.
    pub fn binary(&self, name: &str) -> Command {
        let mut command = Command::new(binary(name));
        self.tell(&mut command);
        command
    }

    /// The program on the member's host.
    fn program(&self, member: Member, program: impl AsRef<OsStr>) -> Command {
        let Some(hosts) = &self.hosts else { return Command::new(program) };
        let mut command = hosts.enter(member);
        command.arg(program);
        command
    }

    fn tell(&self, command: &mut Command) {
        command.current_dir(&self.folder).arg("--config").arg(self.config_path());
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("TERTULIA__") {
                command.env_remove(variable);
            }
        }
    }

    fn expect_ctl(&self, arguments: &[&str]) {
        let output = self.ctl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tertuliactl {}: {errors}", arguments.join(" "));
    }

    fn keep_logs(&self) {
        // Test threads carry the test's name.
        let name = std::thread::current().name().unwrap_or("unnamed").replace("::", ".");
        let kept = kept_logs_folder().join(name);
        let _ = fs::remove_dir_all(&kept);
        if fs::create_dir_all(&kept).is_err() {
            return;
        }
        let _ = self.copy_logs(&kept);
        for member in self.members() {
            let log = self.log(member);
            let lines: Vec<&str> = log.lines().collect();
            if matches!(member, Member::Node(_) | Member::Router(_)) && !lines.is_empty() {
                eprintln!(
                    "--- the end of {member}.log\n{}",
                    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
                );
            }
        }
        eprintln!("--- all logs are kept in {}", kept.display());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        // Kills everything, then removes the folder.
        drop(self.watchdog.take());
        for process in self.running().values_mut() {
            process.kill();
        }
    }
}

fn has_warnings(response: &HttpResponse) -> bool {
    response.json()["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty())
}

fn is_error(line: &str) -> bool {
    line.contains(r#""level":"ERROR""#) || line.contains(" ERROR ") || line.contains("panicked at")
}
