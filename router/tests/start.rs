//! How the binary starts where it cannot.

#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

use tertulia_runtime::{PeerName, pki::DevPki};
use tertulia_shard_map::RouterId;

/// Exit code, and what was said on stderr.
fn start(folder: &Path, settings: &[&str]) -> (Option<i32>, String) {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tertulia-router"));
    command.args(["--config", config, "--id", "1"]);
    for (key, file) in [
        ("auth.public_key_file", "jwt.pub.pem"),
        ("auth.dev_signing_key_file", "jwt.key.pem"),
        ("tls.ca_file", "ca.pem"),
        ("tls.dir", ""),
    ] {
        command.arg("--set").arg(format!("{key}={}", folder.join(file).display()));
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_file_that_is_missing_or_not_what_it_should_be_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    DevPki::create(folder.path(), [PeerName::Router(RouterId::new(1))]).unwrap();
    let wrong = [
        ("auth.public_key_file=/nonexistent", "auth.public_key_file"),
        ("auth.public_key_file=/dev/null", "auth.public_key_file"),
        ("auth.dev_signing_key_file=/dev/null", "auth.dev_signing_key_file"),
        ("tls.dir=/nonexistent", "tls"),
        ("router.hold_ms=soon", "router.hold_ms"),
    ];
    for (setting, key) in wrong {
        let (code, said) = start(folder.path(), &[setting]);
        assert_eq!(code, Some(2), "{setting}: {said}");
        assert!(said.lines().count() == 1 && said.contains(key), "{setting}: {said}");
    }
}
