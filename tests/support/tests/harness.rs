#![allow(clippy::unwrap_used, reason = "a test may panic")]

//! The harness itself: what it starts works, and what it started goes.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tertulia_test_support::{Cluster, Disks, HoldBack, Hosts, Member, Strace, Sync, eventually};

/// Set for the copy of this program that is to be killed.
const VICTIM: &str = "TERTULIA_TEST_VICTIM";

async fn servers() -> Cluster {
    Cluster::builder().nodes(0).routers(0).start().await
}

/// Processes that work in this folder, as the watchdog would find them.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let links = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cwd"));
    links.filter(|link| link.read_link().is_ok_and(|target| target.starts_with(folder))).collect()
}

#[tokio::test]
async fn two_clusters_have_servers_and_stores_of_their_own() {
    let (one, other) = tokio::join!(servers(), servers());
    assert_ne!(one.address(Member::Postgres), other.address(Member::Postgres));
    one.sql(1).await.batch_execute("CREATE TABLE here (x int)").await.unwrap();
    for (cluster, store) in [(&one, 2), (&other, 1), (&other, 2)] {
        let row = cluster.sql(store).await.query_one("SELECT to_regclass('here') IS NULL", &[]).await.unwrap();
        assert!(row.get::<_, bool>(0));
    }
    let folders = [one.folder().to_path_buf(), other.folder().to_path_buf()];
    drop((one, other));
    for folder in folders {
        assert!(!folder.exists());
        assert_eq!(processes_in(&folder), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn what_is_committed_survives_a_kill_of_postgres() {
    let cluster = servers().await;
    cluster.sql(1).await.batch_execute("CREATE TABLE kept AS SELECT 7 AS x").await.unwrap();
    cluster.pause(Member::Postgres);
    cluster.resume(Member::Postgres);
    cluster.restart(Member::Postgres).await;
    let row = cluster.sql(1).await.query_one("SELECT x FROM kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    assert!(cluster.terminate(Member::Redis).await.success());
    assert!(!cluster.is_running(Member::Redis));
}

/// On one host: prints the numbers of the datagrams as they come, each with when it came, until none does.
const RECEIVE: &str = "
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 9))
s.settimeout(1)
print('ready', flush=True)
try:
    while True: print(s.recv(9).decode(), time.time(), flush=True)
except socket.timeout: pass
";
/// On another.
const SEND: &str = "
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(200):
    s.sendto(str(number).encode(), (sys.argv[1], 9))
    print(time.time())
    time.sleep(0.001)
";

/// The numbers of datagrams from one host to another as they came, and how late the first of each was, in milliseconds.
fn datagrams(hosts: &Hosts) -> (Vec<usize>, Vec<f64>) {
    let python = |member| {
        let mut command = hosts.enter(member);
        command.args(["python3", "-c"]).stdout(Stdio::piped());
        command
    };
    let (from, to) = (Member::Node(1), Member::Node(2));
    let mut receiver = python(to).arg(RECEIVE).spawn().unwrap();
    let mut came = BufReader::new(receiver.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(came.next().as_deref(), Some("ready"));
    let sender = python(from).args([SEND, &hosts.ip(to).to_string()]).output().unwrap();
    let sent: Vec<f64> = String::from_utf8_lossy(&sender.stdout).lines().map(|line| line.parse().unwrap()).collect();
    let (mut order, mut late) = (Vec::new(), vec![f64::MAX; sent.len()]);
    for line in came {
        let (number, at) = line.split_once(' ').unwrap();
        let (number, at): (usize, f64) = (number.parse().unwrap(), at.parse().unwrap());
        order.push(number);
        late[number] = late[number].min(1000.0 * (at - sent[number]));
    }
    receiver.wait().unwrap();
    (order, late)
}

#[tokio::test]
async fn datagrams_come_late_out_of_order_and_twice() {
    if let Some(why) = Hosts::unavailable_for_datagrams() {
        return eprintln!("not tried: {why}");
    }
    let cluster = Cluster::builder().nodes(2).routers(0).on_hosts().start_servers().await;
    let hosts = cluster.hosts().unwrap();
    let in_order: Vec<usize> = (0..200).collect();

    let held = hosts.hold_back(HoldBack::all(Duration::from_millis(50)), 1).unwrap();
    let (order, late) = datagrams(hosts);
    assert_eq!(order, in_order);
    assert!(late.iter().all(|ms| *ms >= 49.0), "{late:?}");
    hosts.mend();
    drop(held);

    let some = HoldBack { share: 0.2, least: Duration::ZERO, most: Duration::from_millis(30) };
    let held = hosts.hold_back(some, 1).unwrap();
    let (mut order, _) = datagrams(hosts);
    assert_ne!(order, in_order);
    order.sort_unstable();
    assert_eq!(order, in_order);
    hosts.mend();
    drop(held);

    hosts.double(0.5);
    let (mut order, _) = datagrams(hosts);
    assert!((250..350).contains(&order.len()), "{}", order.len());
    order.sort_unstable();
    order.dedup();
    assert_eq!(order, in_order);
    hosts.mend();
    assert_eq!(datagrams(hosts).0, in_order);
}

#[tokio::test]
async fn nothing_stays_behind_when_the_test_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = Cluster::builder().nodes(0).routers(0);
        let with_disks = Disks::unavailable().is_none();
        let cluster = if with_disks { cluster.on_disks() } else { cluster }.start().await;
        let _strace = Strace::unavailable().is_none().then(|| {
            let sync = Sync::Slow(Duration::from_millis(1));
            cluster.spoil_syncs(Member::Postgres, sync)
        });
        println!("\nfolder {}", cluster.folder().display());
        std::future::pending::<()>().await;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_stays_behind_when_the_test_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let folder =
        lines.map_while(Result::ok).find_map(|line| Some(PathBuf::from(line.strip_prefix("folder ")?))).unwrap();
    assert!(processes_in(&folder).len() >= 2);
    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("the folder and its processes to go", async || {
        (!folder.exists() && processes_in(&folder).is_empty()).then_some(())
    })
    .await;
}
