//! Limits: who sends too much is slowed and loses nothing; who comes when there is no room is told
//! when to try again.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use std::time::{Duration, Instant};

use fastport_client::{
    Client, DataFlags, Incoming, LinkState, OpenOptions, Options, PublishError, SubscribeOptions,
    Tier, init,
};
use fastport_wire::control::{ErrorCode, Open};
use fastport_wire::{Frame, TopicId};
use tokio::time::timeout;

use self::access::{
    figure, hello, join, log_in, options, own_address, password, person, refusal, secret_file,
    url_at, wait_for_figure,
};
use self::support::peer::{Peer, encode};
use self::support::skip::skip;
use self::support::{DEADLINE, Daemon};

fn config(address: &str, limits: &str) -> String {
    format!(
        r#"
        limits = {{ {limits} }}
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml" }}
        listen = [{{ kind = "tcp", address = "{address}:0" }}]
        session = [
            {{ name = "home", open = true, open_from = "any" }},
            {{ name = "small", open = true, payload = "1KiB" }},
        ]
        "#
    )
}

fn start(folder: &tempfile::TempDir, address: &str, limits: &str) -> Daemon {
    secret_file(folder.path(), "credentials.toml", &(person("anna") + &person("bert")));
    Daemon::start(folder.path(), &config(address, limits))
}

/// Publishes so many counted messages, and waits until the relay has them.
async fn publish(client: &Client, topic: &str, messages: u32) {
    let publisher = client.open(topic, OpenOptions::default()).await.expect("allowed");
    for number in 0..messages {
        let payload = number.to_be_bytes();
        publisher.publish_counted(&payload, DataFlags::NONE).await.expect("the link holds");
    }
    publisher.wait(Tier::Taken).await.expect("the link holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_publishes_over_its_rate_is_read_slower_and_loses_nothing() {
    const MESSAGES: u32 = 600;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // 600 at 100 a second, of which 10 come free
    let rate = r#"rate = { peer = { messages = 100, burst = "100ms" } }"#;
    let daemon = start(&folder, "127.0.0.1", rate);
    let url = daemon.url("tcp");
    let watcher = join(&url, "home").await.expect("the session is open");
    let mut messages = watcher.subscribe("#", SubscribeOptions::default()).await.expect("allowed");
    // asks for signs of life more often than it is read
    let greedy = options(&url, "", fastport_client::Secret::None);
    let greedy = init(Options { keepalive: Some(2), ..greedy }).await.expect("the session is open");
    let begun = Instant::now();
    publish(&greedy, "greedy/count", MESSAGES).await;
    greedy.status().await.expect("the link holds");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(5_850), "{took:?}");
    assert!(matches!(&*greedy.link().borrow(), LinkState::Ready { .. }));
    assert!(figure(&watcher, "slowed").await >= 1);
    for number in 0..MESSAGES {
        let incoming = timeout(DEADLINE, messages.next()).await.expect("in time");
        let Some(Incoming::Message(message)) = incoming else { panic!("{number}: {incoming:?}") };
        assert_eq!(message.payload[..], number.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_count_as_messages_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rate = r#"rate = { peer = { bytes = "10KiB", burst = "100ms" } }"#;
    let daemon = start(&folder, "127.0.0.1", rate);
    let client = join(&daemon.url("tcp"), "home").await.expect("the session is open");
    let begun = Instant::now();
    for _ in 0..3 {
        client.emit("big", &[0; 8 * 1024]).await.expect("the link holds");
    }
    // the first may be read with the last message, and is then answered at once
    client.status().await.expect("the link holds");
    client.status().await.expect("the link holds");
    // 24 KiB, of which 1 comes free
    assert!(begun.elapsed() >= Duration::from_millis(2_250), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_one_identity_share_its_rate_and_leave_others_theirs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rate = r#"rate = { identity = { messages = 100, burst = "100ms" } }"#;
    let daemon = start(&folder, "127.0.0.1", rate);
    let url = daemon.url("tcp");
    let first = log_in(&url, "anna", "password").await.expect("the password is right");
    let second = log_in(&url, "anna", "password").await.expect("the password is right");
    let other = log_in(&url, "bert", "password").await.expect("the password is right");
    let nobody = join(&url, "home").await.expect("the session is open");
    let begun = Instant::now();
    publish(&first, "of/first", 100).await;
    publish(&second, "of/second", 100).await;
    let slow = async {
        // each waits for what both published
        let (first, second) = tokio::join!(first.status(), second.status());
        (first.and(second), begun.elapsed())
    };
    let quick = async {
        publish(&nobody, "of/nobody", 500).await;
        (other.status().await.and(nobody.status().await), begun.elapsed())
    };
    let ((slow, slow_took), (quick, quick_took)) = tokio::join!(slow, quick);
    slow.and(quick).expect("the links hold");
    assert!(slow_took >= Duration::from_millis(1_850), "{slow_took:?}");
    assert!(quick_took < slow_took, "{quick_took:?}");
}

#[tokio::test]
async fn a_payload_is_as_long_as_its_session_allows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "127.0.0.1", "");
    let url = daemon.url("tcp");
    let small = join(&url, "small").await.expect("the session is open");
    let large = join(&url, "home").await.expect("the session is open");
    small.emit("a", &[0; 1024]).await.expect("just as long as allowed");
    let refused = small.emit("a", &[0; 1025]).await;
    assert!(matches!(refused, Err(PublishError::TooLong { .. })), "{refused:?}");
    large.emit("a", &[0; 1025]).await.expect("another session");
    large.status().await.expect("the link holds");
    // who does not keep to it is told, and alone
    let mut raw = Peer::dial(&daemon.address("tcp"));
    raw.send(fastport_wire::control::Hello { session: "small", ..hello() });
    raw.welcomed();
    raw.send(Open { request: 1, topic: "a", ..Open::default() });
    let id = raw.granted().expect("allowed").and_then(TopicId::new).expect("an id");
    let flags = DataFlags::NONE;
    assert!(raw.give(&encode(&Frame::Data { flags, topic: id, payload: &[0; 1025] })));
    assert_eq!(raw.refused(), ErrorCode::PayloadTooLong);
    small.status().await.expect("the link holds");
}

#[tokio::test]
async fn when_there_is_no_room_it_says_when_to_come_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "127.0.0.1", "peers = 2");
    let url = daemon.url("tcp");
    let first = join(&url, "home").await.expect("there is room");
    let second = join(&url, "small").await.expect("there is room");
    for outcome in [join(&url, "home").await, log_in(&url, "anna", "password").await] {
        let Err(error) = outcome else { panic!("let in") };
        assert!(!error.is_fatal());
        assert!(error.retry_after().is_some_and(|hint| hint > Duration::ZERO), "{error:?}");
        assert_eq!(access::refusal(Err::<(), _>(error)), ErrorCode::LimitReached);
    }
    second.close().await.expect("nothing was published");
    let gone = async { while figure(&first, "peers").await > 1 {} };
    timeout(DEADLINE, gone).await.expect("in time");
    join(&url, "home").await.expect("there is room again");
}

#[tokio::test]
async fn one_address_does_not_take_the_others_places() {
    let Some(address) = own_address() else {
        skip("this machine has no address but loopback");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "0.0.0.0", "peers_per_address = 2");
    let loopback = url_at([127, 0, 0, 1].into(), &daemon.address("tcp"));
    let outside = url_at(address, &daemon.address("tcp"));
    let first = join(&outside, "home").await.expect("a place of two");
    let _second = join(&outside, "home").await.expect("a place of two");
    // a third of two is told so, and when to come back
    let third = join(&outside, "home").await;
    assert!(third.as_ref().is_err_and(|error| error.retry_after().is_some()));
    assert_eq!(refusal(third), ErrorCode::LimitReached);
    let mut local = Vec::new();
    for _ in 0..4 {
        local.push(join(&loopback, "home").await.expect("loopback has no limit"));
    }
    assert!(figure(&local[0], "turned_away").await >= 1);
    drop(first);
    let again = async { while join(&outside, "home").await.is_err() {} };
    timeout(DEADLINE, again).await.expect("its place is free");
    drop(daemon);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "0.0.0.0", "peers_per_address = 0");
    let outside = url_at(address, &daemon.address("tcp"));
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(join(&outside, "home").await.expect("0 is no limit"));
    }
}

#[test]
fn refused_links_do_not_fill_the_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = start(&folder, "127.0.0.1", "");
    let url = daemon.address("tcp");
    for _ in 0..50 {
        let mut raw = Peer::dial(&url);
        raw.send(fastport_wire::control::Hello { session: "nowhere", ..hello() });
        assert_eq!(raw.refused(), ErrorCode::NotAuthenticated);
    }
    let mut raw = Peer::dial(&url);
    raw.send(hello());
    raw.welcomed();
    raw.send(fastport_wire::control::Status { request: 1, ..Default::default() });
    let figures = raw.control(|message| match message {
        fastport_wire::control::Control::Ok(ok) => ok.text.map(str::to_owned),
        other => panic!("{other:?}"),
    });
    let figures: serde_json::Value =
        serde_json::from_str(&figures.flatten().expect("an answer")).expect("JSON");
    let counted = figures["refused_unlogged"].as_u64().expect("a figure");
    daemon.signal("TERM");
    daemon.wait_for("stopped");
    let lines = daemon.log().matches("link refused").count() as u64;
    // a minute that ends meanwhile has a line of its own
    assert!((1..=3).contains(&lines), "{}", daemon.log());
    assert_eq!(lines + counted, 50);
}

#[tokio::test]
async fn a_rate_that_a_reload_changes_holds_for_links_that_come_then() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rate = |messages: u32| {
        format!(r#"rate = {{ identity = {{ messages = {messages}, burst = "100ms" }} }}"#)
    };
    let daemon = start(&folder, "127.0.0.1", &rate(1_000_000));
    let url = daemon.url("tcp");
    let before = log_in(&url, "anna", "password").await.expect("the password is right");
    let changed = config("127.0.0.1", &rate(100));
    std::fs::write(folder.path().join("gateway.toml"), changed).expect("written");
    daemon.signal("HUP");
    wait_for_figure(&before, "reloads", 1).await;
    let after = log_in(&url, "anna", "password").await.expect("the password is right");
    let begun = Instant::now();
    publish(&after, "of/after", 110).await;
    after.status().await.expect("the link holds");
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    before.status().await.expect("the link holds");
}

#[tokio::test]
async fn many_peers_that_say_nothing_do_not_keep_others_out_for_long() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let limits = r#"handshakes = 4, handshake_timeout = "500ms""#;
    let daemon = start(&folder, "127.0.0.1", limits);
    let silent: Vec<Peer> = (0..12).map(|_| Peer::dial(&daemon.address("tcp"))).collect();
    let client = init(options(&daemon.url("tcp"), "anna", password("password"))).await;
    client.expect("its turn comes").status().await.expect("the link holds");
    for mut raw in silent {
        assert_eq!(raw.refused(), ErrorCode::HandshakeTimeout);
    }
}
