#![allow(clippy::unwrap_used, reason = "a test may panic")]

//! The harness itself: what it starts works, and what it started goes.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tertulia_test_support::{Cluster, Member, eventually};

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

#[tokio::test]
async fn nothing_stays_behind_when_the_test_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = servers().await;
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
