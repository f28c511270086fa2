//! A Postgres of the cluster's own.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use crate::Disks;

pub const USER: &str = "tertulia";

/// Durable as in production; small, for many may run at once.
const SETTINGS: &str = "
fsync = on
synchronous_commit = on
wal_level = logical
max_wal_senders = 16
max_replication_slots = 16
max_worker_processes = 24
max_logical_replication_workers = 12
max_connections = 120
max_locks_per_transaction = 512
shared_buffers = 64MB
max_wal_size = 1GB
jit = off
autovacuum_naptime = 10s
log_min_duration_statement = 50
log_line_prefix = '%m [%p] %a '
unix_socket_directories = ''
";

/// The user that Postgres runs as, where we are root: it refuses to be that.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

#[derive(Debug)]
pub struct PostgresFolder {
    programs: PathBuf,
    data: PathBuf,
    account: Option<Account>,
    disks: Option<Disks>,
}

impl PostgresFolder {
    /// Runs `initdb` in `<folder>/postgres`; about half a second.
    ///
    /// `network`: whom it lets in, besides this machine.
    pub fn create(folder: &Path, address: SocketAddr, network: Option<&str>) -> Self {
        let account = is_root().then(postgres_account);
        let home = folder.join("postgres");
        fs::DirBuilder::new().mode(0o700).create(&home).expect("a folder can be made");
        if let Some(account) = account {
            chown(&home, Some(account.uid), Some(account.gid)).expect("root may give a folder away");
        }
        let this = Self { programs: find_programs(), data: home.join("data"), account, disks: None };
        // Without fsync: a folder that has no data yet need not survive a crash.
        let output = this
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", USER, "--pgdata"])
            .arg(&this.data)
            .current_dir(&home)
            .output()
            .expect("initdb starts");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let path = this.data.join("postgresql.conf");
        let (ip, port) = (address.ip(), address.port());
        let settings = format!("listen_addresses = '{ip}'\nport = {port}\n{SETTINGS}");
        fs::write(&path, settings).expect("the settings can be written");
        if let Some(network) = network {
            let rules = format!("host all all {network} trust\nhost replication all {network} trust\n");
            fs::write(this.data.join("pg_hba.conf"), rules).expect("the rules can be written");
        }
        this
    }

    /// Gives each store a disk of its own, before the server starts.
    pub fn add_disks(&mut self, stores: u32) {
        let Account { uid, gid } = self.account.expect("disks want root");
        let home = self.data.parent().expect("it is in a folder");
        self.disks = Some(Disks::create(home, stores, (uid, gid)));
    }

    pub fn disks(&self) -> Option<&Disks> {
        self.disks.as_ref()
    }

    pub fn server(&self) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data);
        command
    }

    /// The same on a host of its own.
    pub fn server_on(&self, mut host: Command) -> Command {
        if let Some(Account { uid, gid }) = self.account {
            host.args(format!("setpriv --reuid={uid} --regid={gid} --clear-groups").split(' '));
        }
        host.arg(self.programs.join("postgres")).arg("-D").arg(&self.data);
        host
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn postgres_account() -> Account {
    let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let fields = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == "postgres" && fields.len() > 3)
        .expect("as root, a user `postgres` is needed to run Postgres as: run scripts/test, which installs it");
    Account { uid: fields[2].parse().expect("a number"), gid: fields[3].parse().expect("a number") }
}

/// The folder with the programs of the newest Postgres from 15 on.
fn find_programs() -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    let newest = debian.filter(|(version, bin)| *version >= 15 && bin.join("initdb").is_file()).max();
    if let Some((_, bin)) = newest {
        return bin;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|folder| folder.join("initdb").is_file())
        .and_then(|folder| folder.join("initdb").canonicalize().ok()?.parent().map(Path::to_path_buf))
        .expect("no PostgreSQL 15 or newer found: run scripts/test, which installs it")
}
