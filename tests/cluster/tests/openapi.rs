//! The OpenAPI document is true: schemathesis, which makes requests of it, fitting ones and others, finds nothing to say
//! against the answers of a real cluster. `scripts/test` installs it.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use tertulia_test_support::{
    Cluster, Member,
    actor::{Actor, Skin},
    within,
};

const API_KEY: &str = "tertulia_test";
/// SHA-256 of the key.
const API_KEY_HASH: &str = "6a9196215dd36ed3eb98ba41a7faac81930f0fdb29786149d1f3df1c6101de67";
/// How long schemathesis makes requests; starting and reporting come on top.
const REQUESTS: Duration = Duration::from_secs(120);
const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn schemathesis_finds_nothing() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cluster = Cluster::builder().set("auth.api_keys.test", API_KEY_HASH).start().await;
    // Something to ask for: what schemathesis makes up exists nowhere.
    let mut ana = Actor::connect(&cluster, 1, "ana", Skin::NativeJson).await;
    let bea = Actor::connect(&cluster, 1, "bea", Skin::NativeJson).await;
    let direct = ana.send(bea.user(), "direct", "hello").await;
    let group = ana.create("group", "we", &[bea.user()]).await;
    let caro = Actor::connect(&cluster, 2, "caro", Skin::NativeJson).await;
    let spare = ana.create("spare", "they", &[bea.user(), caro.user()]).await;
    let message = ana.send_in(group.conversation_id, "message", "hello, all").await;

    let address = cluster.address(Member::Router(1));
    let config = root.join("tests/rest/schemathesis.toml");
    let mut config = fs::read_to_string(config).expect("the configuration is in the repository");
    let login = cluster.login("ana").await;
    let values = [
        ("TOKEN", login.token),
        ("API_KEY", API_KEY.to_owned()),
        ("DIRECT", direct.conversation_id.to_string()),
        ("GROUP", group.conversation_id.to_string()),
        ("MESSAGE", message.id.to_string()),
        ("USER", bea.user().to_string()),
        ("SPARE_GROUP", spare.conversation_id.to_string()),
        ("SPARE_USER", caro.user().to_string()),
    ];
    for (name, value) in values {
        config = config.replace(&format!("${{{name}}}"), &value);
    }
    let file = cluster.folder().join("schemathesis.toml");
    fs::write(&file, config).expect("a file can be written");
    let mut command = tokio::process::Command::new(root.join("target/schemathesis/venv/bin/schemathesis"));
    command.arg("--config-file").arg(file);
    command.args(["run", &format!("http://{address}/v1/openapi.json"), "--checks", "all", "--no-color"]);
    command.args(["--max-time", &REQUESTS.as_secs().to_string()]);
    // It keeps examples in the folder that it runs in.
    command.current_dir(cluster.folder()).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("schemathesis to finish", LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    cluster.assert_no_errors();
}
