//! The credentials file: the tool changes it, the daemon takes it, and takes it again on SIGHUP.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fastport_wire::control::ErrorCode;

use self::access::{
    arg, daemon, figure, identity, join, log_in, person, refusal, secret_file, set_mode, tool,
    wait_for_figure,
};
use self::support::Daemon;

const CONFIG: &str = r#"
    access = { credentials = "credentials.toml" }
    board = { enabled = false }
    listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
    session = [{ name = "lobby", open = true }]
"#;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn the_tool_keeps_what_people_wrote_and_the_daemon_takes_what_it_writes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let credentials = folder.join("credentials.toml");
    let (path, first) = (arg(&credentials), secret_file(folder, "first", "correct horse\n"));
    let create = ["session", "create", "home", "--credentials", path];
    let made =
        tool(&[&create[..], &["--user", "anna", "--user-password-file", arg(&first)]].concat());
    assert_eq!(made.code, Some(0), "{made:?}");
    assert_eq!(mode(&credentials), 0o600);
    let text = fs::read_to_string(&credentials).expect("readable");
    assert!(text.contains("$argon2id$") && !text.contains("correct horse"), "{text}");

    // a person's hand in it
    let text = text
        .replace("[[identity]]", "# Anna, +1 555 0100\n[[identity]]")
        .replace("publish = [\"#\"]", "publish = [\"chat/#\"] # not more");
    assert!(text.contains("not more"), "{text}");
    fs::write(&credentials, format!("# the house\n{text}")).expect("written");
    set_mode(&credentials, 0o640);

    let second = secret_file(folder, "second", "battery staple");
    let in_home = ["--session", "home", "--credentials", path];
    let anna = ["passwd", "--id", "anna", "--password-file", arg(&second)];
    let bert = ["passwd", "--id", "bert", "--password-file", arg(&first)];
    let key = folder.join("pump.key");
    let pump = ["key", "new", arg(&key), "--id", "pump-1", "--publish", "sensors/%d/#"];
    for command in [&anna[..], &bert[..], &pump[..]] {
        let done = tool(&[command, &in_home[..]].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.err.contains("SIGHUP"), "{done:?}");
    }
    let text = fs::read_to_string(&credentials).expect("readable");
    for kept in ["# the house\n", "# Anna, +1 555 0100\n", "[\"chat/#\"] # not more\n"] {
        assert!(text.contains(kept), "{kept:?} is not in\n{text}");
    }
    assert!(text.contains("publish = [\"sensors/%d/#\"]"), "{text}");
    assert_eq!(mode(&credentials), 0o640);
    let digits = fs::read_to_string(&key).expect("readable");
    assert!(digits.trim_end().len() == 64 && text.contains(digits.trim_end()));
    assert_eq!(mode(&key), 0o600);

    // what is there is not made again, and nothing changes
    let (again, other) = (tool(&create), folder.join("other.key"));
    let second_key = tool(&[&["key", "new", arg(&key), "--id", "pump-2"], &in_home[..]].concat());
    let nobody = ["key", "new", arg(&other), "--id", "x", "--session", "none", "--credentials"];
    let unknown = tool(&[&nobody[..], &["/nonexistent/credentials.toml"]].concat());
    assert_eq!((again.code, second_key.code, unknown.code), (Some(65), Some(74), Some(74)));
    assert_eq!(fs::read_to_string(&credentials).expect("readable"), text);
    assert!(!other.exists(), "a key that nobody has is left behind");

    let listed = tool(&["session", "list", "--credentials", path]);
    assert_eq!(
        listed.out,
        "home\n    anna (password)\n    bert (password)\n    pump-1 (device-key)\n"
    );
    let config = folder.join("gateway.toml");
    fs::write(&config, CONFIG).expect("written");
    let checked = daemon(&["--config", arg(&config), "--check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");

    let running = Daemon::start(folder, CONFIG);
    let url = running.url("tcp");
    let common = ["--url", &url, "--session", "home"];
    for (id, secret, code) in [
        ("anna", ["--password-file", arg(&second)], 0),
        ("anna", ["--password-file", arg(&first)], 77),
        ("pump-1", ["--key-file", arg(&key)], 0),
        ("bert", ["--key-file", arg(&key)], 77),
    ] {
        let done = tool(&[&["status", "--id", id], &common[..], &secret[..]].concat());
        assert_eq!(done.code, Some(code), "{id} {secret:?}: {done:?}");
    }
}

#[test]
fn a_credentials_file_that_strangers_may_read_or_change_stops_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let credentials =
        secret_file(folder.path(), "credentials.toml", "[[session]]\nname = \"home\"\n");
    let config = folder.path().join("gateway.toml");
    fs::write(&config, CONFIG).expect("written");
    for forbidden in [0o644, 0o660, 0o602] {
        set_mode(&credentials, forbidden);
        let ended = daemon(&["--config", arg(&config)]);
        assert_eq!(ended.code, Some(78), "{forbidden:o}: {ended:?}");
        let advice = format!("chmod 0640 {}", credentials.display());
        assert!(ended.err.contains(&advice), "{ended:?}");
        let edited = tool(&["session", "create", "x", "--credentials", arg(&credentials)]);
        assert_eq!(edited.code, Some(65), "{edited:?}");
        assert!(edited.err.contains(&advice), "{edited:?}");
    }
}

#[test]
fn faults_in_the_file_are_told_with_their_place_and_without_secrets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = identity("anna", "password = \"hunter2\"") + &identity("pump", "key = \"0badc0de\"");
    secret_file(
        folder.path(),
        "credentials.toml",
        &format!("[[session]]\nname = \"home\"\n{text}"),
    );
    let config = folder.path().join("gateway.toml");
    fs::write(&config, CONFIG).expect("written");
    let ended = daemon(&["--config", arg(&config)]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.err.contains("credentials.toml:6:"), "{ended:?}");
    assert!(ended.err.contains("credentials.toml:10:"), "{ended:?}");
    assert!(!ended.err.contains("hunter2") && !ended.err.contains("0badc0de"), "{ended:?}");
}

#[tokio::test]
async fn a_hangup_lets_new_identities_in_and_old_ones_no_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let home = "[[session]]\nname = \"home\"\n";
    let credentials = secret_file(folder, "credentials.toml", &format!("{home}{}", person("anna")));
    let running = Daemon::start(folder, CONFIG);
    let url = running.url("tcp");
    let watcher = join(&url, "lobby").await.expect("the session is open");
    let anna = log_in(&url, "anna", "password").await.expect("the password is right");
    assert_eq!(refusal(log_in(&url, "bert", "password").await), ErrorCode::NotAuthenticated);

    let secret = secret_file(folder, "bert", "password");
    let common = ["--session", "home", "--credentials", arg(&credentials)];
    let bert = ["passwd", "--id", "bert", "--password-file", arg(&secret)];
    assert_eq!(tool(&[&bert[..], &common[..]].concat()).code, Some(0));
    let yard = ["session", "create", "yard", "--user-password-file", arg(&secret)];
    assert_eq!(tool(&[&yard[..], &common[2..]].concat()).code, Some(0));
    // not before it is told
    assert_eq!(refusal(log_in(&url, "bert", "password").await), ErrorCode::NotAuthenticated);
    running.signal("HUP");
    wait_for_figure(&watcher, "reloads", 1).await;
    log_in(&url, "bert", "password").await.expect("bert is known now");
    let to_yard = ["status", "--url", &url, "--session", "yard", "--id", "user", "--password-file"];
    let yard = tool(&[&to_yard[..], &[arg(&secret)]].concat());
    assert_eq!(yard.code, Some(0), "{yard:?}");
    anna.emit("still/here", b"1").await.expect("a reload drops no peer");
    anna.status().await.expect("a reload drops no peer");

    // a file with a fault changes nothing
    fs::write(&credentials, home).expect("written");
    set_mode(&credentials, 0o644);
    running.signal("HUP");
    wait_for_figure(&watcher, "reload_errors", 1).await;
    log_in(&url, "bert", "password").await.expect("the old credentials stay");

    // anna is taken out, with the link that she has; bert stays
    let bert = log_in(&url, "bert", "password").await.expect("the old credentials stay");
    fs::write(&credentials, format!("{home}{}", person("bert"))).expect("written");
    set_mode(&credentials, 0o600);
    running.signal("HUP");
    wait_for_figure(&watcher, "reloads", 2).await;
    assert_eq!(refusal(log_in(&url, "anna", "password").await), ErrorCode::NotAuthenticated);
    bert.status().await.expect("bert is still welcome");
    let mut link = anna.link();
    let ended = link.wait_for(|state| matches!(state, fastport_client::LinkState::Ended(_)));
    tokio::time::timeout(support::DEADLINE, ended).await.expect("in time").expect("it says so");
    let why = anna.ended().expect("it ended").to_string();
    assert!(why.contains("removed"), "{why}");
    assert!(figure(&watcher, "wrong_proofs").await >= 3);
}
