//! The Python program of README.md, as it is printed there: it must work, for it is the first thing that a newcomer runs.

use std::{
    path::Path,
    process::{Command, Output},
};

use tertulia_test_support::{Cluster, Member};

const README: &str = include_str!("../../../README.md");
const PRINTED_ROUTER: &str = "127.0.0.1:8001";
/// The second is where Debian's package of the library can be seen, whatever else is first in the path.
const INTERPRETERS: [&str; 2] = ["python3", "/usr/bin/python3"];

fn program() -> &'static str {
    let (_, after) = README.split_once("```python\n").expect("README.md has a Python program");
    after.split_once("```").expect("the program ends").0
}

fn run(interpreter: &str, program: &str, argument: &str, folder: &Path) -> Option<Output> {
    Command::new(interpreter).args(["-c", program, argument]).current_dir(folder).output().ok()
}

/// One that has the library.
fn interpreter(folder: &Path) -> &'static str {
    let has_library = |interpreter: &&str| {
        run(interpreter, "import websockets", "", folder).is_some_and(|output| output.status.success())
    };
    let found = INTERPRETERS.into_iter().find(has_library);
    found.expect("no python3 with the package websockets: run scripts/test, which installs it")
}

#[tokio::test]
async fn the_program_in_the_readme_sends_its_message() {
    assert!(program().lines().count() <= 10, "the README promises ten lines");
    assert!(program().contains(PRINTED_ROUTER));
    let cluster = Cluster::builder().start().await;
    let mut bruno = cluster.connect(2, "bruno").await;
    let token = cluster.token("ana").await;
    let folder = cluster.folder().to_path_buf();
    let program = program().replace(PRINTED_ROUTER, &cluster.address(Member::Router(1)).to_string());

    let running = tokio::task::spawn_blocking(move || run(interpreter(&folder), &program, &token, &folder));
    let output = running.await.expect("it runs to its end").expect("the interpreter was there a moment ago");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let types: Vec<bool> =
        printed.lines().zip(["welcome", "dm:ack"]).map(|(line, kind)| line.contains(&format!("\"{kind}\""))).collect();
    assert_eq!(types, [true, true], "{printed}");
    let heard = bruno.new_message().await;
    assert!(printed.contains(&heard.id.to_string()), "what was acknowledged is what Bruno hears");
    assert_eq!(heard.content.as_deref(), Some("Hello from Python!"));
    cluster.assert_no_errors();
}
