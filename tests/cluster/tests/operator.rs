//! What an operator sees: `tertuliactl` and the bench, against a running cluster.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tertulia_test_support::{Client, Cluster, DEADLINE, Member, client, eventually, within};
use tertulia_wire::client::Format;

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// As `tertuliactl … | head` does, once `head` has seen enough.
fn into_a_closed_pipe(cluster: &Cluster, arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = cluster.binary("tertuliactl");
    command.args(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[tokio::test]
async fn an_operator_sees_the_nodes_and_who_owns_what() {
    let cluster = Cluster::builder().start().await;
    let again = stdout(&cluster.ctl(&["init"]));
    assert!(again.starts_with("already initialised"), "{again}");

    let status: Value = serde_json::from_str(&stdout(&cluster.ctl(&["status", "--json"]))).unwrap();
    assert_eq!(status["healthy"], true, "{status}");
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().filter(|node| node["role"] == "leader").count(), 1, "{status}");
    assert_eq!(nodes.iter().map(|node| node["slots_serving"].as_u64().unwrap()).sum::<u64>(), 64);

    let map: Value = serde_json::from_str(&stdout(&cluster.ctl(&["map", "--json"]))).unwrap();
    let slots = map["slots"].as_array().unwrap();
    assert_eq!(slots.len(), 64);
    assert!(
        slots.iter().all(|slot| slot["owner"].is_u64() && slot["store"].is_u64() && slot["epoch"].as_u64() > Some(0))
    );
    assert_eq!(map["cluster"], status["cluster"]);

    for arguments in [&["map"][..], &["map", "--json"], &["status"], &["endpoints"], &["token", "ana"]] {
        let output = into_a_closed_pipe(&cluster, arguments);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), complaint.as_str()), (Some(0), ""), "{arguments:?}");
    }

    cluster.kill(Member::Node(3));
    eventually("the status to tell that a node is away", async || {
        let output = cluster.ctl(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code() == Some(1) && status["nodes"][2]["error"].is_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_token_of_the_operators_command_is_the_user_that_the_sign_in_gives() {
    let cluster = Cluster::builder().nodes(1).routers(1).stores(1).start().await;
    let token = stdout(&cluster.ctl(&["token", "Ana"]));
    let mut session = Client::connect(&cluster.ws_url(1), Format::Json).await;
    let welcome = session.hello(client::hello(token.trim())).await;
    assert_eq!(welcome.user.user_id, cluster.login("ana").await.user);
    assert_eq!(welcome.user.name.as_deref(), Some("ana"));
    let refused = cluster.ctl(&["token", "no such name"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[tokio::test]
async fn a_wrong_configuration_is_one_line_and_exit_code_2() {
    let cluster = Cluster::builder().start_servers().await;
    let good = fs::read_to_string(cluster.config_path()).unwrap();
    let wrong = [
        good.replace("[redis]", "[redis]\nport = 1"),
        good.replace("slots = 64", "slots = 63"),
        good.replace("slots = 64", "slots = \"many\""),
        good.replace("[tls]", "[tls"),
        "nonsense".to_owned(),
    ];
    for text in wrong {
        fs::write(cluster.config_path(), &text).unwrap();
        let output = cluster.ctl(&["endpoints"]);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains("cluster.toml"), "{complaint}");
    }
    fs::remove_file(cluster.config_path()).unwrap();
    assert_eq!(cluster.ctl(&["endpoints"]).status.code(), Some(2));
}

/// Runs a program that is to end by itself at once.
async fn run(cluster: &Cluster, name: &str, arguments: &[&str]) -> Output {
    let mut command = cluster.binary(name);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output());
    within(&format!("the end of {name} {arguments:?}"), DEADLINE, output).await.unwrap().unwrap()
}

#[tokio::test]
async fn files_and_texts_of_the_configuration_that_are_of_no_use_are_one_line_and_exit_code_2() {
    let cluster = Cluster::builder().start_servers().await;
    let pki = cluster.folder().join("pki");
    let others = cluster.folder().join("others");
    fs::create_dir(&others).unwrap();
    for process in ["node", "router"] {
        for end in ["pem", "key"] {
            fs::copy(pki.join(format!("{process}-2.{end}")), others.join(format!("{process}-1.{end}"))).unwrap();
        }
    }
    let mixed = cluster.folder().join("mixed");
    fs::create_dir(&mixed).unwrap();
    for process in ["node", "router"] {
        fs::copy(pki.join(format!("{process}-1.pem")), mixed.join(format!("{process}-1.pem"))).unwrap();
        fs::copy(pki.join(format!("{process}-2.key")), mixed.join(format!("{process}-1.key"))).unwrap();
    }
    let identity = [
        ("tls.dir=nowhere", ".pem"),
        ("tls.dir=others", "-1.pem"),
        ("tls.dir=mixed", "[tls]"),
        ("tls.ca_file=nowhere.pem", "nowhere.pem"),
        ("tls.ca_file=cluster.toml", "cluster.toml"),
    ];
    let node = [("stores.1.dsn=nonsense", "stores.1.dsn"), ("redis.url=nonsense", "redis.url")];
    let router = [
        ("auth.public_key_file=nowhere.pem", "auth.public_key_file"),
        ("auth.public_key_file=cluster.toml", "cluster.toml"),
        ("auth.dev_signing_key_file=nowhere.pem", "nowhere.pem"),
        ("auth.dev_signing_key_file=cluster.toml", "auth.dev_signing_key_file"),
    ];
    let mut cases = Vec::new();
    cases.extend(identity.iter().chain(&node).map(|case| ("tertulia-node", ["--id", "1"], case)));
    cases.extend(identity.iter().chain(&router).map(|case| ("tertulia-router", ["--id", "1"], case)));
    cases.extend([&identity[0], &identity[3]].map(|case| ("tertuliactl", ["status", "--json"], case)));
    cases.extend(router[2..].iter().map(|case| ("tertuliactl", ["token", "ana"], case)));
    cases.extend(node.iter().map(|case| ("tertuliactl", ["endpoints", "--set=log.level=info"], case)));
    for (name, arguments, (setting, named)) in cases {
        let [first, second] = arguments;
        let output = run(&cluster, name, &[first, second, "--set", setting]).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name} {setting}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{name} {setting}: {complaint}");
        assert!(complaint.starts_with(&format!("{name}: ")) && complaint.contains(named), "{setting}: {complaint}");
    }
}

#[tokio::test]
async fn an_address_that_is_in_use_is_a_failure_and_no_wrong_configuration() {
    let cluster = Cluster::builder().start_servers().await;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (cluster.address(Member::Postgres), udp.local_addr().map(|address| (address, udp)).unwrap());
    let cases = [
        ("tertulia-node", format!("nodes.1.admin_address={tcp}"), tcp),
        ("tertulia-node", format!("nodes.1.cluster_address={}", udp.0), udp.0),
        ("tertulia-router", format!("routers.1.client_address={tcp}"), tcp),
    ];
    for (name, setting, address) in cases {
        let output = run(&cluster, name, &["--id", "1", "--set", &setting]).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name} {setting}: {complaint}");
        let last = complaint.lines().last().unwrap();
        assert!(last.starts_with(&format!("{name}: cannot listen on ")), "{complaint}");
        assert!(last.contains(&address.to_string()) && !complaint.contains("panicked"), "{complaint}");
    }
}

#[tokio::test]
async fn a_short_run_of_the_bench_finds_nothing_lost_and_reports_every_key() {
    let cluster = Cluster::builder().start().await;
    cluster.write_pid_files();
    let bench = |arguments: &'static [&'static str]| {
        let mut command = Command::new(tertulia_test_support::binary("tertulia-bench"));
        command.arg("--data").arg(cluster.folder()).args(["--json", "-", "--seconds", "1"]).args(arguments);
        for router in 1..=2 {
            command.args(["--router", &cluster.address(Member::Router(router)).to_string()]);
        }
        async move {
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            serde_json::from_str::<Value>(&stdout(&output)).unwrap()
        }
    };
    for arguments in [&["--pairs", "4"][..], &["--pairs", "4", "--rate", "40", "--format", "msgpack", "--bytes", "300"]]
    {
        let report = bench(arguments).await;
        assert!(report["sent"].as_u64() > Some(20), "{report}");
        for key in ["acked", "delivered"] {
            assert_eq!(report[key], report["sent"], "{report}");
        }
        for key in ["lost", "duplicated", "out_of_order", "errors", "resyncs"] {
            assert_eq!(report[key], 0, "{report}");
        }
        for key in ["ack_ms", "deliver_ms"] {
            assert_eq!(keys(&report[key]), BTreeSet::from(["max", "p50", "p95", "p99", "p999"]));
            assert!(report[key]["p50"].as_f64() > Some(0.0), "{report}");
        }
        assert!(
            report["acked_per_s"].as_f64() > Some(0.0) && report["delivered_per_s"].as_f64() > Some(0.0),
            "{report}"
        );
        let kinds = BTreeSet::from(["router", "node", "postgres", "redis", "bench"]);
        assert_eq!(keys(&report["cpu_us_per_message"]), kinds);
    }
    let idle = bench(&["--idle", "40"]).await;
    assert_eq!((&idle["opened"], &idle["still_connected"], &idle["errors"]), (&40.into(), &40.into(), &0.into()));
    assert!(idle["router_kb_per_session"].is_f64() && idle["node_kb_per_session"].is_f64());
    cluster.assert_no_errors();
}
