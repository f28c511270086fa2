use std::path::Path;

use tertulia_shard_map::{NodeId, RouterId, SlotCount, StoreId, Weight};

use super::*;

const REPOSITORY_FILE: &str = include_str!("../../../cluster.toml");

const SMALLEST: &str = r#"[stores.1]
name = "a"
dsn = "host=127.0.0.1"
[nodes.1]
cluster_address = "127.0.0.1:7101"
admin_address = "127.0.0.1:7201"
home_store = 1
[redis]
url = "redis://127.0.0.1"
"#;

fn read(text: &str, variables: &[(&str, &str)], sets: &[&str]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::read(text, Path::new("cluster.toml"), variables, &sets)
}

fn refused(text: &str, variables: &[(&str, &str)], sets: &[&str]) -> String {
    let line = read(text, variables, sets).expect_err("this was accepted").to_string();
    assert!(!line.contains('\n'), "more than one line: {line}");
    line
}

#[test]
fn the_file_in_the_repository_shows_every_default() {
    let shown = read(REPOSITORY_FILE, &[], &[]).unwrap();
    let smallest = read(SMALLEST, &[], &[]).unwrap();
    assert_eq!(shown.cluster, smallest.cluster);
    assert_eq!(shown.tls, smallest.tls);
    assert_eq!(shown.auth.public_key_file, smallest.auth.public_key_file);
    assert_eq!(shown.auth.issuer, smallest.auth.issuer);
    assert_eq!(smallest.auth.dev_signing_key_file, None);
    assert_eq!(shown.node, smallest.node);
    assert_eq!(shown.router, smallest.router);
    assert_eq!(shown.limits, smallest.limits);
    assert_eq!(shown.log, smallest.log);
    assert!(shown.stores.values().all(|store| store.weight == Weight::ONE));
    assert_eq!(smallest.stores[&StoreId::new(1)].weight, Weight::ONE);
    assert_eq!(shown.nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 3].map(NodeId::new));
    assert_eq!(shown.routers.keys().copied().collect::<Vec<_>>(), [1, 2].map(RouterId::new));
    assert_eq!(shown.cluster.slots, SlotCount::DEFAULT);
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let variables = [("TERTULIA__NODE__POOL_SIZE", "7"), ("TERTULIA__STORES__1__NAME", "5"), ("PATH", "/bin")];
    let config =
        read(REPOSITORY_FILE, &variables, &["node.pool_size=9", "nodes.2.weight=0.5", "log.format=json"]).unwrap();
    assert_eq!(config.node.pool_size, 9);
    assert_eq!(config.stores[&StoreId::new(1)].name, "5");
    assert_eq!(config.nodes[&NodeId::new(2)].weight.as_f64(), 0.5);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(read(REPOSITORY_FILE, &variables, &[]).unwrap().node.pool_size, 7);
}

#[test]
fn a_new_member_can_be_added_by_flags_alone() {
    let sets = ["nodes.9.cluster_address=127.0.0.1:9", "nodes.9.admin_address=127.0.0.1:9", "nodes.9.home_store=1"];
    assert_eq!(read(SMALLEST, &[], &sets).unwrap().nodes[&NodeId::new(9)].cluster_address.as_str(), "127.0.0.1:9");
}

#[test]
fn a_list_is_parted_by_commas_in_an_override() {
    let networks = |set: &str| read(SMALLEST, &[], &[set]).unwrap().router.trusted_proxies;
    assert_eq!(networks("router.trusted_proxies="), []);
    let two = ["10.0.0.0/8", "::1"].map(|text| Network::try_from(text.to_owned()).unwrap());
    assert_eq!(networks("router.trusted_proxies=10.0.0.0/8, ::1"), two);
    let in_file = read(&format!("{SMALLEST}[router]\ntrusted_proxies = ['10.0.0.0/8', '::1']"), &[], &[]).unwrap();
    assert_eq!(in_file.router.trusted_proxies, two);
    let found = refused(SMALLEST, &[], &["router.trusted_proxies=10.0.0.0/8,here"]);
    assert!(
        found.starts_with(
            "--set router.trusted_proxies=10.0.0.0/8,here: router.trusted_proxies: \"here\" is not a network"
        ),
        "{found}"
    );
}

#[test]
fn an_empty_override_takes_an_optional_key_away() {
    let config = read(REPOSITORY_FILE, &[("TERTULIA__AUTH__DEV_SIGNING_KEY_FILE", "")], &[]).unwrap();
    assert_eq!(config.auth.dev_signing_key_file, None);
}

#[test]
fn relative_paths_are_relative_to_the_folder_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.toml");
    std::fs::write(&file, REPOSITORY_FILE).unwrap();
    let config = Config::load(&file, [], &["tls.dir=/etc/tertulia".to_owned()]).unwrap();
    assert_eq!(config.cluster.data_dir, dir.path().join(".tertulia/data"));
    assert_eq!(config.auth.dev_signing_key_file, Some(dir.path().join(".tertulia/pki/jwt.key.pem")));
    assert_eq!(config.tls.dir, Path::new("/etc/tertulia"));
}

#[test]
fn a_missing_file_is_one_clear_line() {
    let error = Config::load(Path::new("/nowhere/cluster.toml"), [], &[]).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/cluster.toml: cannot read the configuration: No such file"), "{error}");
}

#[test]
fn what_is_wrong_in_the_file_is_refused_with_its_line_and_what_is_allowed() {
    let add = |text: &str| format!("{SMALLEST}{text}\n");
    let first_added = SMALLEST.lines().count() + 1;
    let cases = [
        ("[cluster]\nslotz = 1", 1, "unknown key \"slotz\" in [cluster]; allowed: slots, data_dir"),
        (
            "[clutser]",
            0,
            "unknown key \"clutser\" in the file; allowed: cluster, tls, auth, stores, nodes, routers, redis, node, router, limits, log",
        ),
        ("[cluster]\nslots = 3", 1, "cluster.slots: slots = 3 is not allowed: want a power of two from 1 to 16384"),
        ("[node]\n\npool_size = 'four'", 2, "node.pool_size = \"four\" has the wrong type; want a whole number"),
        ("[node]\npool_size = 4.5", 1, "node.pool_size = 4.5 has the wrong type; want a whole number"),
        ("[node]\npool_size = -1", 1, "node.pool_size = -1 is not allowed; want a whole number"),
        ("[node]\npool_size = 0", 1, "node.pool_size = 0 is not allowed; want 1 to 256"),
        ("[node]\nraft_heartbeat_ms = 100", 1, "node.raft_election_min_ms = 150 is not allowed; want 200 to 60000"),
        ("[log]\nformat = 'xml'", 1, "log.format = \"xml\" is not allowed; want one of: auto, json, text"),
        ("[log]\nlevel = 1", 1, "log.level = 1 has the wrong type; want a string"),
        ("log = 1", 0, "unknown key \"log\" in [redis]; allowed: url"),
        ("[stores.x]", 0, "stores = \"x\" is not allowed; want a number from 1 to 4294967295 as its id"),
        (
            "[stores.2]\nname = 'a'\ndsn = ''",
            1,
            "stores.2.name = \"a\" is not allowed; want another value than stores.1.name",
        ),
        ("[stores.2]\nname = 'b'", 0, "missing key \"dsn\" in [stores.2]"),
        (
            "[stores.2]\nname = 'b'\ndsn = ''\nweight = 0",
            3,
            "stores.2.weight: 0 is not a weight: want a number from 0.01 to 16",
        ),
        (
            "[routers.1]\nclient_address = 'nowhere'",
            1,
            "routers.1.client_address: \"nowhere\" is not an address: want host:port with a port from 1 to 65535",
        ),
        (
            "[routers.1]\nclient_address = '127.0.0.1:7201'",
            1,
            "routers.1.client_address = \"127.0.0.1:7201\" is not allowed; want another value than nodes.1.admin_address",
        ),
        ("[node]\npool_size = ", 1, "not valid TOML: "),
        ("[node]\npool_size = 1\npool_size = 2", 2, "not valid TOML: duplicate key"),
    ];
    for (added, line, problem) in cases {
        let found = refused(&add(added), &[], &[]);
        // The election's own key is not in the file: its section's line is named.
        let line = if added.contains("heartbeat") { first_added } else { first_added + line };
        let expected = format!("cluster.toml:{line}: {problem}");
        assert!(found.starts_with(&expected), "\nfound    {found}\nexpected {expected}");
    }
}

#[test]
fn a_file_without_a_store_or_a_node_is_refused() {
    assert_eq!(refused("", &[], &[]), "cluster.toml: missing key \"stores\" in the file");
    let no_nodes = SMALLEST.replace("[nodes.1]", "[routers.1]").replace("home_store = 1", "");
    assert!(refused(&no_nodes, &[], &[]).contains("unknown key"));
    assert_eq!(
        refused("[stores]\n[nodes]\n[redis]\nurl=''", &[], &[]),
        "cluster.toml:1: stores = nothing is not allowed; want at least one section [stores.ID]"
    );
}

#[test]
fn a_home_store_must_exist() {
    let text = SMALLEST.replace("home_store = 1", "home_store = 2");
    assert_eq!(
        refused(&text, &[], &[]),
        "cluster.toml:7: nodes.1.home_store = 2 is not allowed; want the id of a store: 1"
    );
}

#[test]
fn a_wrong_override_names_the_variable_or_the_flag() {
    let variable = "environment variable TERTULIA__CLUSTER__SLOTZ";
    assert_eq!(
        refused(SMALLEST, &[("TERTULIA__CLUSTER__SLOTZ", "1")], &[]),
        format!("{variable}: unknown key \"slotz\" in [cluster]; allowed: slots, data_dir")
    );
    let cases = [
        ("node.pool_size=many", "node.pool_size = \"many\" has the wrong type; want a whole number"),
        ("node.pool_size=0", "node.pool_size = 0 is not allowed; want 1 to 256"),
        ("node.pool_size", "want section.key=value"),
        ("redis.url.x=1", "redis.url is a key, not a section"),
        ("node=1", "node = \"1\" has the wrong type; want a section"),
    ];
    for (flag, problem) in cases {
        assert_eq!(refused(SMALLEST, &[], &[flag]), format!("--set {flag}: {problem}"));
    }
}

#[test]
fn api_keys_are_names_with_hashes() {
    let hash = "0123456789abcdef".repeat(4);
    let set = format!("auth.api_keys.back-end={hash}");
    let config = read(REPOSITORY_FILE, &[("TERTULIA__AUTH__API_KEYS__JOBS", &hash.to_uppercase())], &[&set]).unwrap();
    let keys: Vec<(&str, String)> =
        config.auth.api_keys.iter().map(|(name, hash)| (name.as_str(), hash.to_string())).collect();
    assert_eq!(keys, [("back-end", hash.clone()), ("jobs", hash.clone())]);
    for wrong in ["", "0123", &hash.replace('0', "+"), &hash.replace('0', "g"), &format!("{hash}0")] {
        let error = refused(REPOSITORY_FILE, &[], &[&format!("auth.api_keys.a={wrong}")]);
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }
    let error = refused(REPOSITORY_FILE, &[], &[&format!("auth.api_keys.Back End={hash}")]);
    assert!(error.contains("want a name of"), "{error}");
}

#[test]
fn the_oldest_version_of_a_client_is_by_platform() {
    let variable = ("TERTULIA__ROUTER__MIN_CLIENT_VERSION__ANDROID", "3.0");
    let config = read(REPOSITORY_FILE, &[variable], &["router.min_client_version.ios=2.10.1"]).unwrap();
    let oldest: Vec<(&str, String)> =
        config.router.min_client_version.iter().map(|(name, version)| (name.as_str(), version.to_string())).collect();
    assert_eq!(oldest, [("android", "3".to_owned()), ("ios", "2.10.1".to_owned())]);
    for (wrong, want) in [("ios=new", "want numbers with dots"), ("iOS=2", "want a platform in lower case")] {
        let error = refused(REPOSITORY_FILE, &[], &[&format!("router.min_client_version.{wrong}")]);
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn a_secret_is_not_shown() {
    let config = read(SMALLEST, &[], &["stores.1.dsn=password=hunter2"]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.stores[&StoreId::new(1)].dsn.expose(), "password=hunter2");
}
