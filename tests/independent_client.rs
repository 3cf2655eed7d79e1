//! A client of another making, `independent_client.py`, finds in the daemon what docs/protocol.md
//! promises.

#[path = "support/access.rs"]
mod access;
mod support;

use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use self::access::secret_file;
use self::support::{Daemon, python};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/independent_client.py");
/// The script's own key: bytes 0 to 31.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A daemon as the script wants it, but for the device key and what `demo` retains of a topic.
fn start(key: &str, retained: u32) -> (Daemon, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let credentials = format!(
        r#"
        [[identity]]
        session = "locked"
        id = "pump-1"
        key = "{key}"
        publish = ["pumps/pump-1/#"]
        "#
    );
    secret_file(folder.path(), "credentials.toml", &credentials);
    let config = format!(
        r#"
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml" }}
        listen = [
            {{ kind = "tcp", address = "127.0.0.1:0" }},
            {{ kind = "websocket", address = "127.0.0.1:0" }},
        ]
        session = [
            {{ name = "demo", open = true, retention = {{ messages = {retained} }} }},
            {{ name = "locked" }},
        ]
        "#
    );
    (Daemon::start(folder.path(), &config), folder)
}

/// Runs the scenarios of those names, or all, to the script's end.
fn run(daemon: &Daemon, scenarios: &[&str]) -> Output {
    Command::new(python())
        .args([SCRIPT, &daemon.address("tcp"), &daemon.address("ws")])
        .args(scenarios)
        .stdin(Stdio::null())
        .output()
        .expect("the test's Python runs")
}

fn said(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_client_written_from_the_document_finds_every_promise_kept() {
    let script = std::fs::read_to_string(SCRIPT).expect("it is beside this file");
    let lines: Vec<&str> = script.lines().collect();
    let names = lines.windows(2).filter(|pair| pair[0] == "@scenario").map(|pair| {
        let rest = pair[1].strip_prefix("def ").expect("a scenario is a function");
        rest.split_once('(').expect("with parameters").0
    });
    let expected: Vec<String> = names.map(|name| format!("ok {name}")).collect();
    assert!(!expected.is_empty());
    let (daemon, _folder) = start(KEY, 5);
    let output = run(&daemon, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:#?}\n{errors}", said(&output));
    assert_eq!(said(&output), expected);
}

/// Else the test above could not fail either.
#[test]
fn it_says_so_where_a_promise_is_broken() {
    for (scenario, key, retained) in [
        // the relay proves a key that is not the peer's, and retains less than was asked for
        ("device_keys", KEY.replace("00", "ff"), 5),
        ("history_and_last_values", KEY.to_owned(), 4),
    ] {
        let (daemon, _folder) = start(&key, retained);
        let output = run(&daemon, &["publish_and_subscribe", scenario, "emit"]);
        assert!(!output.status.success(), "{:#?}", said(&output));
        let expected = ["ok publish_and_subscribe".to_owned(), format!("FAILED {scenario}")];
        assert_eq!(said(&output), expected);
    }
    let (daemon, _folder) = start(KEY, 5);
    let output = run(&daemon, &["no_such_scenario"]);
    assert!(!output.status.success(), "{:#?}", said(&output));
}
