//! Passwords: who has the right one comes in; nobody learns more than that; checking them stays
//! within its bounds.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use std::time::Duration;

use fastport_client::{ConnectError, Incoming, LinkState, Options, SubscribeOptions, Target, init};
use fastport_core::proof::{NONCE_BYTES, PROOF_BYTES};
use fastport_wire::Frame;
use fastport_wire::control::{Control, ErrorCode, Hello, Method, Proof};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::access::{
    hello, identity, join, log_in, options, own_address, password, person, refusal, secret_file,
    tool, url_at,
};
use self::support::peer::{Peer, encode};
use self::support::skip::skip;
use self::support::{DEADLINE, Daemon};

/// The config of a relay for `home`, with more keys of `[access]` and `[limits]`.
fn config(address: &str, access: &str, limits: &str) -> String {
    format!(
        r#"
        limits = {{ {limits} }}
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml", {access} }}
        listen = [
            {{ kind = "tcp", address = "{address}:0" }},
            {{ kind = "unix", path = "relay.socket" }},
        ]
        session = [{{ name = "home" }}, {{ name = "lobby", open = true, open_from = "any" }}]
        "#
    )
}

fn named(identity: &str, method: Method) -> Hello<'_> {
    Hello { identity: Some(identity), method: Some(method.number()), ..hello() }
}

#[tokio::test]
async fn a_right_password_lets_in_and_all_others_get_the_same_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = identity("pump", &format!("key = \"{}\"", "07".repeat(32)));
    secret_file(folder.path(), "credentials.toml", &(person("anna") + &key));
    let daemon = Daemon::start(folder.path(), &config("127.0.0.1", "", ""));
    let url = daemon.url("tcp");
    log_in(&url, "anna", "password").await.expect("the password is right");
    log_in(&daemon.url("unix"), "anna", "password").await.expect("the password is right");
    for (session, id, text) in [
        ("home", "anna", "Password"),
        ("home", "anna", "password "),
        ("home", "nobody", "password"),
        ("home", "pump", "password"),
        ("house", "anna", "password"),
        ("lobby", "anna", "password"),
    ] {
        let wrong = Options { session: session.to_owned(), ..options(&url, id, password(text)) };
        let Err(error) = init(wrong).await else { panic!("{session} {id} {text:?} is let in") };
        assert_eq!(
            error.to_string(),
            "refused by the relay: wrong proof, or no such session or identity",
            "{session} {id} {text:?}"
        );
        assert_eq!(error.retry_after(), None);
    }
}

#[test]
fn the_relay_asks_those_it_does_not_know_as_those_it_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    secret_file(folder.path(), "credentials.toml", &person("anna"));
    let daemon = Daemon::start(folder.path(), &config("127.0.0.1", "", ""));
    let ask = |hello: Hello<'_>, proof: &[u8]| {
        let mut raw = Peer::dial(&daemon.address("tcp"));
        raw.send(hello);
        let mut challenge = raw.frame(|frame| encode(&frame)).expect("a CHALLENGE");
        let is_challenge = Frame::decode(&challenge, 1024).is_ok_and(|frame| {
            let Some((Frame::Control(body), _)) = frame else { return false };
            matches!(Control::decode(body), Ok(Control::Challenge(_)))
        });
        assert!(is_challenge, "{challenge:x?}");
        if hello.nonce.is_some() {
            let at = challenge.len() - NONCE_BYTES;
            challenge.truncate(at);
        }
        raw.send(Proof { proof, ..Proof::default() });
        (challenge, raw.refused())
    };
    let nonce = [3; NONCE_BYTES];
    let with_password = named("anna", Method::Password);
    let with_key = Hello { nonce: Some(&nonce), ..named("anna", Method::DeviceKey) };
    for (known, proof) in [(with_password, &b"wrong"[..]), (with_key, &[9; PROOF_BYTES])] {
        let answer = ask(known, proof);
        assert_eq!(answer.1, ErrorCode::NotAuthenticated);
        assert_eq!(ask(Hello { identity: Some("nobody"), ..known }, proof), answer);
        assert_eq!(ask(Hello { session: "nowhere", ..known }, proof), answer);
        assert_eq!(ask(Hello { identity: None, ..known }, proof), answer);
    }
}

#[tokio::test]
async fn a_password_does_not_cross_an_open_network_unless_the_operator_says_so() {
    let Some(address) = own_address() else {
        skip("this machine has no address but loopback");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = secret_file(folder.path(), "password", "password");
    secret_file(folder.path(), "credentials.toml", &person("anna"));
    let strict = Daemon::start(folder.path(), &config("0.0.0.0", "", ""));
    let url = url_at(address, &strict.address("tcp"));
    // the relay does not even ask for it
    let mut raw = Peer::dial(url.trim_start_matches("tcp://"));
    raw.send(named("anna", Method::Password));
    assert_eq!(raw.refused(), ErrorCode::MethodNotAllowed);
    let code = refusal(log_in(&url, "anna", "password").await);
    assert_eq!(code, ErrorCode::MethodNotAllowed);
    log_in(&url.replace(&address.to_string(), "127.0.0.1"), "anna", "password")
        .await
        .expect("loopback is private");
    // and a client does not send it by itself
    let careful = Options { allow_plain_password: false, ..options(&url, "anna", password("x")) };
    assert!(matches!(init(careful).await, Err(ConnectError::PasswordInClear(_))));
    let common = ["status", "--session", "home", "--id", "anna", "--password-file"];
    let careful = tool(&[&common[..], &[access::arg(&secret), "--url", &url]].concat());
    assert_eq!(careful.code, Some(77), "{careful:?}");
    assert!(careful.err.contains("--allow-plain-password"), "{careful:?}");
    drop(strict);

    let folder = tempfile::tempdir().expect("a temporary folder");
    secret_file(folder.path(), "credentials.toml", &person("anna"));
    let lenient = Daemon::start(folder.path(), &config("0.0.0.0", "plain_passwords = true", ""));
    let url = url_at(address, &lenient.address("tcp"));
    log_in(&url, "anna", "password").await.expect("the operator lets it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_passwords_at_once_wait_their_turn_while_messages_flow() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // as the tool makes them: 19 MiB a check
    let secret = secret_file(folder.path(), "password", "password");
    let path = folder.path().join("credentials.toml");
    let made = tool(&[
        "passwd",
        "--session",
        "home",
        "--id",
        "anna",
        "--password-file",
        access::arg(&secret),
        "--credentials",
        access::arg(&path),
    ]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let limits = "source = { failed_proofs_burst = 100 }";
    let daemon = Daemon::start(folder.path(), &config("127.0.0.1", "password_checks = 1", limits));
    let url = daemon.url("tcp");
    let publisher = join(&url, "lobby").await.expect("the session is open");
    let reader = join(&url, "lobby").await.expect("the session is open");
    let mut messages = reader.subscribe("#", SubscribeOptions::default()).await.expect("allowed");

    let mut flood = JoinSet::new();
    for number in 0..40 {
        let url = url.clone();
        flood.spawn(async move {
            let text = if number % 2 == 0 { "password" } else { "wrong" };
            log_in(&url, "anna", text).await.is_ok()
        });
    }
    let (mut let_in, mut flowed) = (0, 0);
    while !flood.is_empty() {
        publisher.emit("lobby/bell", b"ring").await.expect("the link holds");
        let rung = timeout(DEADLINE, messages.next()).await.expect("in time");
        assert!(matches!(rung, Some(Incoming::Message(_))), "{rung:?}");
        flowed += 1;
        while let Some(ended) = flood.try_join_next() {
            let_in += u32::from(ended.expect("no panic"));
        }
    }
    assert_eq!(let_in, 20);
    // each waits for others' checks, messages for none
    assert!(flowed > 40, "{flowed}");
    assert!(peak_mib(&daemon) < 60, "{} MiB", peak_mib(&daemon));
}

#[tokio::test]
async fn a_check_that_nobody_waits_for_any_more_still_counts_as_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // the most that is taken: 64 MiB, and slow enough to outlast the handshake
    let costly = access::HASH.replace("m=256,t=2", "m=65536,t=10");
    let anna = identity("anna", &format!("password = \"{costly}\""));
    secret_file(folder.path(), "credentials.toml", &anna);
    let access = "password_checks = 1";
    let daemon =
        Daemon::start(folder.path(), &config("127.0.0.1", access, "handshake_timeout = \"100ms\""));
    let url = daemon.url("tcp");
    for _ in 0..8 {
        let code = refusal(log_in(&url, "anna", "wrong").await);
        assert!(matches!(code, ErrorCode::HandshakeTimeout | ErrorCode::NotAuthenticated));
    }
    assert!(peak_mib(&daemon) < 110, "{} MiB", peak_mib(&daemon));
}

/// The most memory that the daemon ever had.
fn peak_mib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()));
    let status = status.expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}

#[tokio::test]
async fn wrong_passwords_use_up_an_allowance_and_then_none_is_looked_at() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = identity("pump", &format!("key = \"{}\"", "07".repeat(32)));
    secret_file(folder.path(), "credentials.toml", &(person("anna") + &key));
    // one comes back after 10 s: none during the test, on any machine that is not far too slow
    let limits = "source = { failed_proofs = 1, failed_proofs_burst = 4 }";
    let daemon = Daemon::start(folder.path(), &config("127.0.0.1", "", limits));
    let url = daemon.url("tcp");
    for _ in 0..6 {
        log_in(&url, "anna", "password").await.expect("right ones cost nothing");
    }
    let wrong_key = || fastport_client::Secret::Key(Box::new([8; 32]));
    for secret in [password("wrong"), wrong_key(), password("wrong")] {
        let id = if matches!(secret, fastport_client::Secret::Key(_)) { "pump" } else { "anna" };
        let code = refusal(init(options(&url, id, secret)).await);
        assert_eq!(code, ErrorCode::NotAuthenticated);
    }
    // what needs no proof gives nothing back, whomever it claims to be
    for _ in 0..3 {
        let open = Options {
            session: "lobby".into(),
            ..options(&url, "anna", fastport_client::Secret::None)
        };
        init(open).await.expect("the session is open");
    }
    let code = refusal(log_in(&url, "anna", "wrong").await);
    assert_eq!(code, ErrorCode::NotAuthenticated);
    for secret in [password("password"), fastport_client::Secret::Key(Box::new([7; 32]))] {
        let id = if matches!(secret, fastport_client::Secret::Key(_)) { "pump" } else { "anna" };
        let Err(error) = init(options(&url, id, secret)).await else { panic!("let in") };
        let hint = error.retry_after().expect("it says when to come back");
        assert!(hint > Duration::ZERO && hint <= Duration::from_secs(60), "{hint:?}");
        assert!(!error.is_fatal());
        assert_eq!(refusal(Err::<(), _>(error)), ErrorCode::RateLimited);
    }
    join(&url, "lobby").await.expect("what needs no proof still works");
}

#[tokio::test]
async fn a_claimed_name_is_nobodys_where_nothing_is_proven() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    secret_file(folder.path(), "credentials.toml", &person("anna"));
    let open =
        config("127.0.0.1", "", "").replace("name = \"home\"", "name = \"home\", open = true");
    let daemon = Daemon::start(folder.path(), &open);
    let url = daemon.url("tcp");
    let anna = Options { name: "phone".into(), ..options(&url, "anna", password("password")) };
    let anna = init(anna).await.expect("the password is right");
    let thief =
        Options { name: "phone".into(), ..options(&url, "anna", fastport_client::Secret::None) };
    let thief = init(Options { target: Target::parse(&url).expect("a URL"), ..thief }).await;
    let thief = thief.expect("the session is open");
    thief.status().await.expect("a peer like any other");
    anna.status().await.expect("nobody took her place");
    assert!(matches!(&*anna.link().borrow(), LinkState::Ready { .. }));
}
