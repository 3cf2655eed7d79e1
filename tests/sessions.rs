//! Sessions that peers make, where the configuration lets them.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use fastport_client::{Client, Options, Secret, SubscribeOptions, init};
use fastport_wire::control::ErrorCode;

use self::access::{
    arg, denied, join, log_in, options, password, person, refusal, secret_file, tool,
    wait_for_figure,
};
use self::support::Daemon;

fn config(access: &str, more: &str) -> String {
    format!(
        r#"
        limits = {{ sessions = 6 }}
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml", {access} }}
        listen = [{{ kind = "tcp", address = "127.0.0.1:0" }}]
        session = [{{ name = "home" }}, {{ name = "lobby", open = true }}, {more}]
        "#
    )
}

fn start(folder: &tempfile::TempDir, access: &str) -> Daemon {
    secret_file(folder.path(), "credentials.toml", &person("anna"));
    Daemon::start(folder.path(), &config(access, ""))
}

async fn log_in_to(url: &str, session: &str, id: &str, text: &str) -> Result<Client, ErrorCode> {
    let options = Options { session: session.into(), ..options(url, id, password(text)) };
    init(options).await.map_err(|error| refusal(Err::<(), _>(error)))
}

#[tokio::test]
async fn peers_make_no_sessions_unless_the_operator_lets_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "");
    let url = daemon.url("tcp");
    let anna = log_in(&url, "anna", "password").await.expect("anna is known");
    let guest = join(&url, "lobby").await.expect("the session is open");
    // whether there is one of that name makes no difference
    for session in ["attic", "lobby", "home", "no such name"] {
        for client in [&anna, &guest] {
            let made = client.create_session(session, None, Some(b"secret")).await;
            assert_eq!(denied(made), ErrorCode::Forbidden, "{session}");
        }
    }
    assert_eq!(refusal(join(&url, "attic").await), ErrorCode::NotAuthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_peer_made_takes_the_credentials_it_was_given() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "create_sessions = true");
    let url = daemon.url("tcp");
    let guest = join(&url, "lobby").await.expect("the session is open");

    guest.create_session("attic", None, None).await.expect("allowed");
    let first = join(&url, "attic").await.expect("it is open");
    let second = join(&url, "attic").await.expect("it is open");
    let mut heard = second.subscribe("#", SubscribeOptions::default()).await.expect("allowed");
    first.emit("bell", b"ring").await.expect("allowed");
    assert!(heard.next().await.is_some());

    let made = guest.create_session("study", Some("bert"), Some(b"sesame")).await;
    made.expect("allowed");
    guest.create_session("cellar", None, Some(b"sesame")).await.expect("allowed");
    for (session, id, text, is_right) in [
        ("study", "bert", "sesame", true),
        ("study", "bert", "Sesame", false),
        ("study", "user", "sesame", false),
        ("study", "anna", "password", false),
        ("cellar", "user", "sesame", true),
        ("cellar", "bert", "sesame", false),
        ("attic", "bert", "sesame", false),
    ] {
        let outcome = log_in_to(&url, session, id, text).await;
        let expected = if is_right { None } else { Some(ErrorCode::NotAuthenticated) };
        assert_eq!(outcome.err(), expected, "{session} {id} {text}");
    }
    assert_eq!(refusal(join(&url, "study").await), ErrorCode::NotAuthenticated);

    // one of that name is there, whoever made it; and it is as it was
    for session in ["attic", "study", "lobby", "home"] {
        let made = guest.create_session(session, None, None).await;
        assert_eq!(denied(made), ErrorCode::Conflict, "{session}");
    }
    for session in ["study", "home"] {
        assert_eq!(refusal(join(&url, session).await), ErrorCode::NotAuthenticated);
    }
    let long = "x".repeat(65);
    for (session, id, text) in [
        ("", None, None),
        ("two words", None, None),
        ("../etc", None, None),
        (&*long, None, None),
        ("fine", Some(&*long), Some(&b"sesame"[..])),
        ("fine", Some(""), Some(b"sesame")),
        ("fine", Some("a\nb"), Some(b"sesame")),
        ("fine", None, Some(b"")),
    ] {
        let made = guest.create_session(session, id, text).await;
        assert_eq!(denied(made), ErrorCode::BadControl, "{session:?} {id:?}");
    }
    guest.create_session("sixth", None, None).await.expect("the last there is room for");
    let made = guest.create_session("seventh", None, None).await;
    assert_eq!(denied(made), ErrorCode::LimitReached);
    assert_eq!(refusal(join(&url, "seventh").await), ErrorCode::NotAuthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_make_the_same_session_one_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "create_sessions = true");
    let url = daemon.url("tcp");
    let one = join(&url, "lobby").await.expect("the session is open");
    let other = join(&url, "lobby").await.expect("the session is open");
    // both take as long as a password's hash
    let (first, second) = tokio::join!(
        one.create_session("attic", Some("one"), Some(b"first word")),
        other.create_session("attic", Some("other"), Some(b"second word")),
    );
    let (won, lost) = match (first, second) {
        (Ok(()), lost) => (("one", "first word"), lost),
        (lost, Ok(())) => (("other", "second word"), lost),
        both => panic!("{both:?}"),
    };
    assert_eq!(denied(lost), ErrorCode::Conflict);
    let outcomes = [
        log_in_to(&url, "attic", "one", "first word").await.is_ok(),
        log_in_to(&url, "attic", "other", "second word").await.is_ok(),
    ];
    assert_eq!(outcomes, [won.0 == "one", won.0 == "other"]);
}

#[tokio::test]
async fn what_a_file_says_of_a_session_counts_before_what_a_peer_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "create_sessions = true");
    let url = daemon.url("tcp");
    let guest = join(&url, "lobby").await.expect("the session is open");
    guest.create_session("attic", None, None).await.expect("allowed");
    guest.create_session("study", Some("bert"), Some(b"sesame")).await.expect("allowed");
    let closed = config("create_sessions = true", r#"{ name = "attic" }, { name = "study" }"#);
    std::fs::write(folder.path().join("gateway.toml"), closed).expect("written");
    daemon.signal("HUP");
    wait_for_figure(&guest, "reloads", 1).await;
    assert_eq!(refusal(join(&url, "attic").await), ErrorCode::NotAuthenticated);
    let study = log_in_to(&url, "study", "bert", "sesame").await;
    assert_eq!(study.err(), Some(ErrorCode::NotAuthenticated));
}

#[test]
fn the_tool_makes_sessions_of_a_running_relay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "create_sessions = true");
    let url = daemon.url("tcp");
    let secret = secret_file(folder.path(), "secret", "sesame\n");
    let create = |arguments: &[&str]| {
        let lobby = ["--url", &url, "--session", "lobby", "session", "create", "--remote"];
        tool(&[&lobby[..], arguments].concat())
    };
    let open = create(&["attic", "--open"]);
    assert_eq!(open.code, Some(0), "{open:?}");
    let again = create(&["attic", "--open"]);
    assert_eq!(again.code, Some(77), "{again:?}");
    assert!(again.err.contains("it exists already"), "{again:?}");
    let closed = create(&["study", "--user", "bert", "--user-password-file", arg(&secret)]);
    assert_eq!(closed.code, Some(0), "{closed:?}");

    let publish = |session: &str, who: &[&str]| {
        let common =
            ["--url", &url, "--session", session, "pub", "bell", "ring", "--wait", "taken"];
        tool(&[&common[..], who].concat()).code
    };
    assert_eq!(publish("attic", &[]), Some(0));
    assert_eq!(publish("study", &[]), Some(77));
    assert_eq!(publish("study", &["--id", "bert", "--password-file", arg(&secret)]), Some(0));
    assert_eq!(publish("study", &["--id", "anna", "--password-file", arg(&secret)]), Some(77));
    drop(daemon);
    let gone = create(&["late", "--open"]);
    assert_eq!(gone.code, Some(69), "{gone:?}");
}

#[tokio::test]
async fn sessions_that_peers_made_are_gone_with_the_daemon() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = start(&folder, "create_sessions = true");
    let guest = join(&daemon.url("tcp"), "lobby").await.expect("the session is open");
    guest.create_session("attic", None, None).await.expect("allowed");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    let daemon = start(&folder, "create_sessions = true");
    let url = daemon.url("tcp");
    assert_eq!(refusal(join(&url, "attic").await), ErrorCode::NotAuthenticated);
    let lobby = init(Options { session: "lobby".into(), ..options(&url, "", Secret::None) }).await;
    lobby.expect("those of the files are there").status().await.expect("the link holds");
}
