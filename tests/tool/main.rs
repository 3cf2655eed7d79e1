//! The real tool against the real daemon: what each command prints, and what it exits with.

#[cfg(all(feature = "tls", feature = "websocket"))]
mod certificates;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use support::{DEADLINE, Daemon, SCHEMES, demo_config, finish, folder};
use tempfile::TempDir;

/// What the session of these tests lets peers do, and keeps.
const PLAIN: &str = r##"
publish = ["#"]
subscribe = ["#", "$board/#"]
retention.messages = 1000
"##;

fn plain() -> (TempDir, Daemon) {
    let folder = folder();
    let daemon = Daemon::start(folder.path(), &demo_config(PLAIN));
    (folder, daemon)
}

/// The tool, for the daemon's session `demo` at that URL.
fn tool(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastport"));
    command.arg("--url").arg(url).args(arguments).env_remove("FASTPORT_URL");
    command.env_remove("FASTPORT_SESSION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(url: &str, arguments: &[&str]) -> Child {
    tool(url, arguments).spawn().expect("the tool is built")
}

fn run(url: &str, arguments: &[&str]) -> Output {
    finish(start(url, arguments), DEADLINE)
}

fn run_with_input(url: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = tool(url, arguments).stdin(Stdio::piped()).spawn().expect("the tool is built");
    child.stdin.take().expect("piped").write_all(input).expect("the tool reads it");
    finish(child, DEADLINE)
}

/// Runs the tool, which must succeed; what it printed.
fn text(url: &str, arguments: &[&str]) -> String {
    printed(run(url, arguments))
}

fn printed(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {error}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// Runs the tool, which must fail with `code`, and say `words`.
fn fails(url: &str, arguments: &[&str], code: i32, words: &str) {
    assert_failed(&run(url, arguments), code, words);
}

fn assert_failed(output: &Output, code: i32, words: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(words), "{error:?} does not say {words:?}");
}

fn path_of(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("UTF-8").to_owned()
}

/// A file that only its owner reads.
fn write_secret(path: &str, text: &str) {
    fs::write(path, text).expect("the folder is ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).expect("the file is ours");
}

#[test]
fn a_kept_message_comes_to_who_subscribes_later() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    assert_eq!(text(&url, &["pub", "--keep", "chat/room1", "Hello!"]), "");
    assert_eq!(text(&url, &["sub", "chat/#", "--count", "1"]), "chat/room1 Hello!\n");
}

#[test]
fn every_transport_without_certificates_carries_both_ways() {
    let folder = folder();
    let more = format!("[[listen]]\nkind = \"unix\"\npath = \"{}\"\n", path_of(&folder, "socket"));
    let daemon = Daemon::start(folder.path(), &(demo_config(PLAIN) + &more));
    for scheme in [SCHEMES, &["unix"]].concat() {
        carries_both_ways(&daemon.url(scheme), scheme, &[]);
    }
}

/// What is published over a transport is read over it.
fn carries_both_ways(url: &str, name: &str, trust: &[&str]) {
    let topic = format!("by/{name}");
    let published = [&["pub", "--keep", "--wait", "taken", &topic, name], trust].concat();
    assert_eq!(text(url, &published), "", "{name}");
    let read = [&["sub", &topic, "--count", "1"], trust].concat();
    assert_eq!(text(url, &read), format!("{topic} {name}\n"));
}

#[test]
fn a_live_message_reaches_a_subscriber_that_waits() {
    let (_folder, daemon) = plain();
    let url = daemon.url(SCHEMES.last().expect("there is TCP"));
    let mut waiting = start(&url, &["sub", "live", "--count", "3", "--no-last"]);
    // until it has subscribed, messages pass it by
    while waiting.try_wait().expect("the child is ours").is_none() {
        text(&url, &["pub", "live", "tick"]);
    }
    assert_eq!(printed(finish(waiting, DEADLINE)), "live tick\n".repeat(3));
}

#[test]
fn standard_input_is_one_message_or_a_message_a_line() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    printed(run_with_input(&url, &["pub", "whole"], b"two\nlines\n"));
    assert_eq!(
        text(&url, &["sub", "whole", "--history", "1", "--count", "1", "--raw"]),
        "two\nlines\n"
    );
    let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
    printed(run_with_input(
        &url,
        &["pub", "lines", "--lines", "--wait", "taken"],
        lines.as_bytes(),
    ));
    let read = text(&url, &["sub", "lines", "--history", "500", "--count", "500"]);
    let expected: String = (0..500).map(|number| format!("lines line {number}\n")).collect();
    assert_eq!(read, expected);
    printed(run_with_input(&url, &["pub", "empty", "--lines"], b""));
}

#[test]
fn readings_are_shown_as_numbers_as_json_and_as_senml() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    let lines = ["pub", "boiler", "--lines", "--counted", "--unit", "Cel", "--scale", "-2"];
    printed(run_with_input(&url, &lines, b"21.37\n-0.05\n"));
    let read = ["sub", "boiler", "--history", "10m", "--count", "2"];
    assert_eq!(text(&url, &read), "boiler 21.37 Cel\nboiler -0.05 Cel\n");
    let packs = text(&url, &[&read[..], &["--senml"]].concat());
    let values: Vec<Value> = packs
        .lines()
        .map(|line| {
            let mut pack: Value = serde_json::from_str(line).expect("a pack a line");
            assert_eq!((&pack[0]["bn"], &pack[0]["bu"]), (&"boiler".into(), &"Cel".into()));
            pack[0]["v"].take()
        })
        .collect();
    assert_eq!(values, [Value::from(21.37), Value::from(-0.05)]);
    let objects = text(&url, &[&read[..], &["--json"]].concat());
    let object: Value =
        serde_json::from_str(objects.lines().next().expect("two lines")).expect("JSON");
    assert_eq!(object["senml"][0]["v"], 21.37);
    text(&url, &["pub", "door", "on", "--kind", "bool", "--keep"]);
    assert_eq!(text(&url, &["sub", "door", "--count", "1"]), "door true\n");
    let bad = run_with_input(&url, &lines, b"21.5\nwarm\n");
    assert_failed(&bad, 65, "line 2");
    let whole = ["pub", "boiler2", "1.5", "--unit", "Cel", "--scale", "0"];
    fails(&url, &whole, 65, "--scale -1");
}

#[test]
fn json_has_topic_data_and_time() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    text(&url, &["pub", "a/b", "x", "--keep", "--counted"]);
    let line = text(&url, &["sub", "a/b", "--json", "--count", "1"]);
    let object: Value = serde_json::from_str(&line).expect("one object");
    assert_eq!((&object["topic"], &object["data"]), (&"a/b".into(), &"x".into()));
    assert!(object["time"].as_u64().is_some_and(|time| time > 1_500_000_000_000), "{line}");
}

#[test]
fn several_filters_show_each_message_once() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    text(&url, &["pub", "a/1", "one", "--keep"]);
    text(&url, &["pub", "b/1", "two", "--keep"]);
    let read = text(&url, &["sub", "a/#", "+/1", "--count", "2"]);
    assert_eq!(read, "a/1 one\nb/1 two\n");
}

#[test]
fn history_is_by_number_or_by_age() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    printed(run_with_input(&url, &["pub", "h", "--lines", "--wait", "taken"], b"1\n2\n3\n4\n"));
    assert_eq!(text(&url, &["sub", "h", "--history", "2", "--count", "2"]), "h 3\nh 4\n");
    assert_eq!(
        text(&url, &["sub", "h", "--history", "1h", "--count", "4"]),
        "h 1\nh 2\nh 3\nh 4\n"
    );
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let (folder, daemon) = plain();
    let url = daemon.url("tcp");
    for usage in [
        &["frobnicate"][..],
        &["pub"],
        &["sub"],
        &["sub", "a", "--json", "--raw"],
        &["pub", "a/#", "x"],
        &["sub", "a//b"],
        &["pub", "a", "x", "--timeout", "1s"],
        &["status", "--key-file", "k"],
    ] {
        assert_eq!(run(&url, usage).status.code(), Some(64), "{usage:?}");
    }
    fails("gateway:7470", &["status"], 64, "--url");
    fails("tcp://127.0.0.1:1", &["status"], 69, "is fastportd running there?");
    fails("tcp://127.0.0.1:1", &["status", "--connect-timeout", "100ms"], 69, "127.0.0.1:1");
    fails("unix:/nowhere/socket", &["status"], 69, "unix:/nowhere/socket");
    fails(&url, &["status", "--session", "nowhere"], 77, "check --session");
    fails(&url, &["pub", "a", "x", "--wait", "durable"], 77, "tier");
    fails(&url, &["pub", "$board/load", "x"], 77, "$board/load");
    fails(&url, &["sub", "silent", "--count", "1", "--timeout", "100ms"], 124, "in time");
    let missing = path_of(&folder, "missing");
    fails(&url, &["status", "--id", "a", "--password-file", &missing], 74, &missing);
    #[cfg(feature = "tls")]
    fails(&daemon.url("tcp").replace("tcp:", "tls:"), &["status", "--ca", &missing], 74, &missing);
    let long = "x".repeat(100_000);
    let output = run_with_input(&url, &["pub", "long"], long.as_bytes());
    assert_failed(&output, 65, "65536");
    assert_eq!(run(&url, &["--help"]).status.code(), Some(0));
    assert_eq!(run(&url, &["--version"]).status.code(), Some(0));
}

#[test]
fn a_signal_ends_it_cleanly() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    text(&url, &["pub", "a", "x", "--keep"]);
    for (arguments, code) in
        [(&["sub", "a"][..], Some(0)), (&["sub", "a", "--count", "2"], Some(130))]
    {
        let mut child = start(&url, arguments);
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it prints what is kept");
        assert_eq!(line, "a x\n");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        let ended = finish(child, DEADLINE);
        assert_eq!((ended.status.code(), ended.stderr), (code, Vec::new()), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    let lines = "x".repeat(100) + "\n";
    let arguments = ["pub", "a", "--lines", "--wait", "taken"];
    printed(run_with_input(&url, &arguments, lines.repeat(1000).as_bytes()));
    let mut child = start(&url, &["sub", "a", "--history", "1000"]);
    let mut first = [0; 10];
    let mut output = child.stdout.take().expect("piped");
    output.read_exact(&mut first).expect("it prints");
    drop(output);
    // it notices at its next write
    let until = Instant::now() + DEADLINE;
    while child.try_wait().expect("the child is ours").is_none() && Instant::now() < until {
        text(&url, &["pub", "a", "more"]);
    }
    let ended = finish(child, DEADLINE);
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
}

#[test]
fn status_is_a_table_or_json() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    let table = text(&url, &["status"]);
    assert!(table.lines().any(|line| line.starts_with("memory.limit ")), "{table}");
    let object: Value = serde_json::from_str(&text(&url, &["status", "--json"])).expect("JSON");
    assert!(object["memory"]["limit"].is_u64(), "{object}");
}

#[test]
fn bench_loses_nothing_that_is_counted() {
    let (_folder, daemon) = plain();
    let url = daemon.url("tcp");
    let small = ["bench", "--messages", "20000", "--rate", "200", "--seconds", "1"];
    let counted = [&small[..], &["--counted", "--subscribers", "2", "--json"]].concat();
    let report: Value = serde_json::from_str(&text(&url, &counted)).expect("JSON");
    assert_eq!((&report["received"], &report["missing"]), (&40_000.into(), &0.into()));
    assert_eq!(report["delay"]["received"], 400);
    let shown = text(&url, &small);
    assert!(shown.contains("messages/s") && shown.contains("us median"), "{shown}");
}

#[test]
fn completions_and_man_pages_are_made() {
    let folder = folder();
    let url = "tcp://127.0.0.1";
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(url, &["completions", shell]).contains("fastport"), "{shell}");
    }
    let pages = path_of(&folder, "man");
    text(url, &["man", &pages]);
    for page in ["fastport.1", "fastport-pub.1", "fastport-session-create.1"] {
        assert!(folder.path().join("man").join(page).exists(), "{page}");
    }
    assert!(text(url, &["man"]).contains(".TH"));
}

#[test]
fn identities_made_by_the_tool_get_in_by_password_and_by_key() {
    let folder = folder();
    let credentials = path_of(&folder, "credentials.toml");
    let file: &[&str] = &["--credentials", &credentials];
    let (word, other, key) =
        (path_of(&folder, "word"), path_of(&folder, "other"), path_of(&folder, "key"));
    write_secret(&word, "correct horse\n");
    write_secret(&other, "battery staple\n");
    let url = "tcp://127.0.0.1:1";
    let create = ["session", "create", "home", "--user", "anna", "--user-password-file", &word];
    text(url, &[&create[..], file].concat());
    let pump: &[&str] = &["--session", "home", "--id", "pump", "--publish", "sensors/%d/#"];
    text(url, &[&["key", "new", &key], pump, file].concat());
    assert_eq!(fs::metadata(&key).expect("written").mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&key).expect("text").trim().len(), 64);
    let listed = text(url, &[&["session", "list"], file].concat());
    assert_eq!(listed, "home\n    anna (password)\n    pump (device-key)\n");
    let cellar_key = path_of(&folder, "cellar-key");
    let cellar: &[&str] = &["--session", "home", "--id", "cellar", "--gateway"];
    text(url, &[&["key", "new", &cellar_key], cellar, file].concat());
    let written = fs::read_to_string(&credentials).expect("the tool wrote it");
    assert_eq!(written.matches("gateway = true").count(), 1);
    assert!(written.trim_end().ends_with("gateway = true"), "{written}");
    fails(url, &[&create[..], file].concat(), 65, "home");
    fails(url, &[&["key", "new", &key], file].concat(), 74, "exists already");

    let config = demo_config(PLAIN) + &format!("\n[access]\ncredentials = \"{credentials}\"\n");
    let mut daemon = Daemon::start(folder.path(), &config);
    let url = daemon.url("tcp");
    let anna = |file| ["--session", "home", "--id", "anna", "--password-file", file];
    text(&url, &[&["pub", "a", "x", "--keep"][..], &anna(&word)].concat());
    assert_eq!(text(&url, &[&["sub", "a", "--count", "1"][..], &anna(&word)].concat()), "a x\n");
    fails(&url, &[&["status"][..], &anna(&other)].concat(), 77, "wrong proof");
    let pump: &[&str] = &["--session", "home", "--id", "pump", "--key-file", &key];
    text(&url, &[&["pub", "sensors/pump/t", "1"], pump].concat());
    fails(&url, &[&["pub", "a", "x"], pump].concat(), 77, "access lists");
    fails(&url, &["status", "--session", "home"], 77, "");

    let passwd = ["passwd", "--session", "home", "--id", "anna", "--password-file", &other];
    text(&url, &[&passwd[..], file].concat());
    daemon.signal("HUP");
    daemon.wait_for("reloaded");
    text(&url, &[&["status"][..], &anna(&other)].concat());
    fails(&url, &[&["status"][..], &anna(&word)].concat(), 77, "wrong proof");

    text(&url, &[&["session", "remove", "home"], file].concat());
    assert_eq!(text(&url, &[&["session", "list"], file].concat()), "");
    fails(&url, &[&["session", "remove", "home"], file].concat(), 65, "home");
}

#[test]
fn a_session_can_be_made_at_the_running_relay() {
    let folder = folder();
    let word = path_of(&folder, "word");
    write_secret(&word, "correct horse\n");
    let config = demo_config(PLAIN) + "[access]\ncreate_sessions = true\n";
    let daemon = Daemon::start(folder.path(), &config);
    let url = daemon.url("tcp");
    let create = ["session", "create", "new", "--remote", "--user-password-file", &word];
    text(&url, &create);
    fails(&url, &create, 77, "exists already");
    let user = ["--session", "new", "--id", "user", "--password-file", &word];
    text(&url, &[&["status"][..], &user].concat());
    let (_folder, strict) = plain();
    fails(&strict.url("tcp"), &create, 77, "");
}
