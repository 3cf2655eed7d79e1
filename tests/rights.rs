//! Rights: who may publish and read what; of what a peer may not read, not even the names reach it.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use fastport_client::{
    DataFlags, Incoming, OpenOptions, Past, PublishError, SubscribeOptions, Tier,
};
use fastport_core::proof::NONCE_BYTES;
use fastport_wire::control::{Control, ErrorCode, Hello, History, Method, Proof, Subscribe};
use fastport_wire::{Frame, TopicId};
use tokio::time::timeout;

use self::access::{HASH, denied, hello, identity, log_in, person, secret_file};
use self::support::peer::{Peer, connect_small, encode};
use self::support::{DEADLINE, Daemon};

fn config(limits: &str, has_board: bool) -> String {
    format!(
        r#"
        limits = {{ {limits} }}
        board = {{ enabled = {has_board}, interval = "1s" }}
        access = {{ credentials = "credentials.toml" }}
        listen = [{{ kind = "tcp", address = "127.0.0.1:0" }}]
        session = [{{ name = "home" }}]
        "#
    )
}

fn limited(id: &str, publish: &str, subscribe: &str) -> String {
    let keys = format!("password = \"{HASH}\"\npublish = {publish}\nsubscribe = {subscribe}");
    identity(id, &keys)
}

fn start(folder: &tempfile::TempDir, identities: &str, config: &str) -> Daemon {
    secret_file(folder.path(), "credentials.toml", identities);
    Daemon::start(folder.path(), config)
}

/// A link of an identity with the password `password`.
fn raw(daemon: &Daemon, id: &str, hello: Hello<'_>) -> Peer {
    let mut raw = Peer::silent(connect_small(&daemon.address("tcp"), 16 * 1024));
    let method = Some(Method::Password.number());
    raw.send(Hello { identity: Some(id), method, nonce: Some(&[0; NONCE_BYTES]), ..hello });
    let asked = raw.control(|message| matches!(message, Control::Challenge(_)));
    assert_eq!(asked, Some(true));
    raw.send(Proof { proof: b"password", ..Proof::default() });
    raw.welcomed();
    raw
}

fn refused_emit(outcome: Result<(), PublishError>) -> ErrorCode {
    match outcome {
        Err(PublishError::Open(error)) => denied(Err::<(), _>(error)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_device_has_its_own_topics() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let device = |id| limited(id, r#"["sensors/%d/#", "log/unit-%d"]"#, r#"["commands/%d/#"]"#);
    let identities = person("anna") + &device("pump-1") + &device("pump-2");
    let daemon = start(&folder, &identities, &config("", false));
    let url = daemon.url("tcp");
    let anna = log_in(&url, "anna", "password").await.expect("the password is right");
    let pump = log_in(&url, "pump-1", "password").await.expect("the password is right");
    for allowed in ["sensors/pump-1/temperature", "sensors/pump-1", "log/unit-pump-1"] {
        pump.emit(allowed, b"1").await.unwrap_or_else(|error| panic!("{allowed}: {error}"));
    }
    for forbidden in
        ["sensors/pump-2/temperature", "sensors", "commands/pump-1/x", "log/unit-pump-2"]
    {
        assert_eq!(refused_emit(pump.emit(forbidden, b"1").await), ErrorCode::Forbidden);
    }
    let everything = SubscribeOptions::default();
    for forbidden in ["commands/pump-2/#", "sensors/#", "sensors/pump-1/+", "$board/#", "+"] {
        let code = denied(pump.subscribe(forbidden, everything).await);
        assert_eq!(code, ErrorCode::Forbidden, "{forbidden}");
        let code = denied(pump.history(forbidden, Past::default()).await);
        assert_eq!(code, ErrorCode::Forbidden, "{forbidden}");
    }
    // what is wider gives what may be read of it, once
    let mut commands = pump.subscribe("commands/+/start", everything).await.expect("some of it");
    let mut all = pump.subscribe("#", everything).await.expect("some of it");
    for to in ["pump-2", "pump-1"] {
        anna.emit(&format!("commands/{to}/start"), to.as_bytes()).await.expect("allowed");
    }
    for subscription in [&mut commands, &mut all] {
        let incoming = timeout(DEADLINE, subscription.next()).await.expect("in time");
        let Some(Incoming::Message(message)) = incoming else { panic!("{incoming:?}") };
        assert_eq!(&*message.topic, "commands/pump-1/start");
        assert!(subscription.try_next().is_none());
    }
}

/// All that a peer hears of topics.
#[derive(Debug, Default)]
struct Heard {
    names: BTreeMap<TopicId, String>,
    messages: BTreeMap<TopicId, u64>,
    gaps: BTreeMap<TopicId, u64>,
    /// Of several topics together.
    common_gap: u64,
}

impl Heard {
    /// Listens until the answer to a request.
    fn listen(&mut self, raw: &mut Peer, until: u32) {
        let mut is_answered = false;
        while !is_answered {
            let heard = raw.frame(|frame| match frame {
                Frame::Topic { id, name, .. } => {
                    self.names.insert(id, name.to_owned());
                }
                Frame::Data { topic, .. } => *self.messages.entry(topic).or_default() += 1,
                Frame::Gap { topic: Some(topic), count, .. } => {
                    *self.gaps.entry(topic).or_default() += count;
                }
                Frame::Gap { topic: None, count, .. } => self.common_gap += count,
                Frame::Control(body) => match Control::decode(body) {
                    Ok(Control::Ok(ok)) => is_answered = ok.request == until,
                    Ok(Control::Error(error)) => panic!("{error:?}"),
                    _ => {}
                },
                _ => {}
            });
            heard.expect("the link holds");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_what_may_not_be_read_never_reach_a_peer() {
    const ROUNDS: u64 = 300;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identities = person("anna") + &limited("guest", "[]", r#"["public/#", "shared/+/state"]"#);
    // small, so that a reader that does not read gets gaps
    let daemon = start(&folder, &identities, &config(r#"outbox = "100KiB""#, false));
    let anna = log_in(&daemon.url("tcp"), "anna", "password").await.expect("anna is known");
    anna.emit("private/before", b"x").await.expect("allowed");
    anna.emit("public/before", b"x").await.expect("allowed");
    anna.status().await.expect("the link holds");

    let mut guest = raw(&daemon, "guest", hello());
    let mut heard = Heard::default();
    guest.send(Subscribe { request: 1, topic: "#", ..Subscribe::default() });
    heard.listen(&mut guest, 1);
    guest.send(History { request: 2, topic: "+/#", ..History::default() });
    heard.listen(&mut guest, 2);
    assert_eq!(heard.messages.values().sum::<u64>(), 1, "{heard:?}");

    // the guest does not read meanwhile
    let options = OpenOptions::default;
    let mut topics = Vec::new();
    for name in ["private/live", "public/live", "shared/a/state", "shared/a/secret"] {
        topics.push(anna.open(name, options()).await.expect("allowed"));
    }
    let payload = [0; 32 * 1024];
    for _ in 0..ROUNDS {
        for topic in &topics {
            topic.publish_counted(&payload, DataFlags::NONE).await.expect("the link holds");
        }
    }
    anna.flush(Tier::Taken).await.expect("the link holds");
    guest.send(History { request: 3, topic: "public/none", ..History::default() });
    heard.listen(&mut guest, 3);
    // gaps at the very end are told with the next message
    for topic in &topics {
        topic.publish_counted(b"end", DataFlags::NONE).await.expect("the link holds");
    }
    anna.flush(Tier::Taken).await.expect("the link holds");
    guest.send(History { request: 4, topic: "public/none", ..History::default() });
    heard.listen(&mut guest, 4);

    let names: Vec<&str> = heard.names.values().map(String::as_str).collect();
    assert_eq!(names, ["public/before", "public/live", "shared/a/state"], "{heard:?}");
    // every message of the two topics that it may read, and none of the others, not even as a number
    let messages: u64 = heard.messages.values().sum();
    let gaps = heard.gaps.values().sum::<u64>() + heard.common_gap;
    assert_eq!(messages + gaps, 1 + 2 * (ROUNDS + 1), "{heard:?}");
    assert!(gaps > 0, "nothing was dropped: {heard:?}");
    let mut known = heard.messages.keys().chain(heard.gaps.keys());
    assert!(known.all(|id| heard.names.contains_key(id)), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_boards_topics_are_read_by_those_who_name_them_and_published_by_nobody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identities = person("anna") + &limited("bert", r##"["#"]"##, r##"["#"]"##);
    let daemon = start(&folder, &identities, &config("", true));
    let url = daemon.url("tcp");
    let anna = log_in(&url, "anna", "password").await.expect("anna is known");
    let bert = log_in(&url, "bert", "password").await.expect("bert is known");
    for (client, topic) in [(&anna, "$board/load/1min"), (&bert, "$x"), (&bert, "$board")] {
        assert_eq!(refused_emit(client.emit(topic, b"0").await), ErrorCode::Forbidden);
    }
    let options = SubscribeOptions::default();
    assert_eq!(denied(bert.subscribe("$board/#", options).await), ErrorCode::Forbidden);
    let mut readings = anna.subscribe("$board/#", options).await.expect("allowed");
    let incoming = timeout(DEADLINE, readings.next()).await.expect("in time");
    let Some(Incoming::Message(message)) = incoming else { panic!("{incoming:?}") };
    assert!(message.topic.starts_with("$board/"), "{}", message.topic);
    // and # does not mean them
    let mut all = bert.subscribe("#", options).await.expect("allowed");
    anna.emit("bell", b"1").await.expect("allowed");
    let incoming = timeout(DEADLINE, all.next()).await.expect("in time");
    let Some(Incoming::Message(message)) = incoming else { panic!("{incoming:?}") };
    assert_eq!(&*message.topic, "bell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knowing_an_id_is_no_right_to_publish() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identities = person("anna") + &limited("guest", r#"["guest/#"]"#, r##"["#"]"##);
    let daemon = start(&folder, &identities, &config("", false));
    let anna = log_in(&daemon.url("tcp"), "anna", "password").await.expect("anna is known");
    let mut seen = anna.subscribe("#", SubscribeOptions::default()).await.expect("allowed");
    let mut guest = raw(&daemon, "guest", hello());
    guest.send(Subscribe { request: 1, topic: "#", ..Subscribe::default() });
    guest.granted().expect("allowed");
    anna.emit("valve/set", b"open").await.expect("allowed");
    let id = loop {
        let topic = guest.frame(|frame| match frame {
            Frame::Topic { id, .. } => Some(id),
            _ => None,
        });
        if let Some(id) = topic.expect("the link holds") {
            break id;
        }
    };
    let data = Frame::Data { flags: DataFlags::NONE, topic: id, payload: b"closed" };
    assert!(guest.give(&encode(&data)));
    let code = loop {
        let code = guest.frame(|frame| match frame {
            Frame::Control(body) => match Control::decode(body) {
                Ok(Control::Error(error)) => ErrorCode::from_number(error.code),
                other => panic!("{other:?}"),
            },
            _ => None,
        });
        if let Some(code) = code.expect("it says why") {
            break code;
        }
    };
    assert_eq!(code, ErrorCode::UnknownId);
    anna.emit("valve/end", b"1").await.expect("allowed");
    for expected in ["open", "1"] {
        let incoming = timeout(DEADLINE, seen.next()).await.expect("in time");
        let Some(Incoming::Message(message)) = incoming else { panic!("{incoming:?}") };
        assert_eq!(message.payload, expected.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_a_reload_changes_hold_at_the_next_link() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identities = |publish: &str| person("anna") + &limited("pump", publish, "[]");
    let daemon = start(&folder, &identities(r#"["old/#"]"#), &config("", false));
    let url = daemon.url("tcp");
    let anna = log_in(&url, "anna", "password").await.expect("anna is known");
    let before = log_in(&url, "pump", "password").await.expect("pump is known");
    before.emit("old/state", b"1").await.expect("allowed");
    secret_file(folder.path(), "credentials.toml", &identities(r#"["new/#"]"#));
    daemon.signal("HUP");
    access::wait_for_figure(&anna, "reloads", 1).await;
    before.emit("old/more", b"1").await.expect("a reload drops no peer");
    before.close().await.expect("delivered");
    let after = log_in(&url, "pump", "password").await.expect("pump is known");
    assert_eq!(refused_emit(after.emit("old/state", b"1").await), ErrorCode::Forbidden);
    after.emit("new/state", b"1").await.expect("allowed");
    let flushed = timeout(Duration::from_secs(30), after.close()).await;
    flushed.expect("in time").expect("delivered");
}
