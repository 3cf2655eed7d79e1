//! A WebSocket client that fastPort did not write, the Python package `websockets`, speaks JSON
//! with the daemon.
#![allow(clippy::panic, reason = "in a test a panic is how it fails")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use fastport_wire::frame::DataFlags;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::peer::{Peer, data};
use support::{DEADLINE, Daemon, demo_config};

fn start() -> (Daemon, TempDir) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    (Daemon::start(folder.path(), &demo_config("")), folder)
}

/// A connection of the Python client.
struct Python {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Python {
    /// Connects, and gives the subprotocol that was agreed on.
    fn connect(daemon: &Daemon) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/websocket_peer.py");
        let mut child = Command::new(python())
            .args([script, &format!("ws://{}/", daemon.address("ws")), "fastport.2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test's Python runs");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut kept = BufReader::new(stdout).lines().map_while(Result::ok);
            kept.all(|line| sender.send(line).is_ok())
        });
        let python = Self { child, stdin, lines };
        assert_eq!(python.line(), "fastport.2", "the subprotocol");
        python
    }

    /// Connects and joins `demo` with the least that can be said.
    fn join(daemon: &Daemon) -> Self {
        let mut python = Self::connect(daemon);
        python.say(&json!({"op": "hello", "session": "demo"}));
        let welcome = python.next();
        assert_eq!(welcome["op"], "welcome", "{welcome}");
        python
    }

    fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string());
    }

    fn say_text(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is not closed");
        // a line is a message, and JSON does not care
        writeln!(stdin, "{}", text.replace('\n', " ")).expect("Python reads");
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("the client says something in time")
    }

    fn next(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The answer to a request; what else comes before it is an error.
    fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        let answer = self.next();
        assert_eq!(answer["request"], message["request"], "{message}: {answer}");
        answer
    }

    fn subscribe(&mut self, topic: &str) {
        let answer = self.ask(&json!({"op": "subscribe", "request": 1, "topic": topic}));
        assert_eq!(answer["op"], "ok", "{answer}");
    }

    /// Closes the connection in order; the close code.
    fn close(mut self) -> String {
        drop(self.stdin.take());
        let closed = self.line();
        assert!(self.child.wait().expect("it is ours").success());
        closed
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // has ended by itself where the test went well
        self.child.kill().unwrap_or_default();
        self.child.wait().map(|_| ()).unwrap_or_default();
    }
}

/// The Python that has `websockets`.
fn python() -> PathBuf {
    let path = support::python();
    let found = Command::new(&path).args(["-c", "import websockets.sync.client"]).output();
    assert!(
        found.is_ok_and(|found| found.status.success()),
        "{} is not a Python with the package websockets: `make test` installs it",
        path.display()
    );
    path
}

#[test]
fn a_page_joins_with_a_name_alone_and_hears_what_it_says() {
    let (daemon, _folder) = start();
    let mut python = Python::connect(&daemon);
    python.say(&json!({"op": "hello", "session": "demo"}));
    let welcome = python.next();
    assert_eq!(welcome["op"], "welcome");
    assert_eq!((&welcome["version"], &welcome["resumed"]), (&2.into(), &false.into()));
    assert_eq!(welcome["payload_limit"], 65536);
    python.subscribe("chat/#");
    python.say(&json!({"op": "emit", "topic": "chat/room1", "data": "Grüß Gott"}));
    let heard = python.next();
    assert_eq!(heard, json!({"op": "data", "topic": "chat/room1", "data": "Grüß Gott"}));
    // a JSON value is its own text, without the white space between its tokens
    python.say_text(
        r#"{"op": "emit", "topic": "chat/room1", "data": { "from": "ann", "n": [1, 2] },
            "counted": true}"#,
    );
    let heard = python.next();
    assert_eq!(heard["counted"], true, "{heard}");
    assert_eq!(heard["data"], r#"{"from":"ann","n":[1,2]}"#);
    python.say(&json!({"op": "ack", "taken": 1}));
    // with a request it is told that the message was taken, also where nobody listens
    let answer = python.ask(&json!({"op": "emit", "request": 2, "topic": "deaf", "data": 1}));
    assert_eq!(answer, json!({"op": "ok", "request": 2}));
    assert_eq!(python.close(), "closed 1000");
}

#[test]
fn times_are_sent_to_who_asks_for_them() {
    let (daemon, _folder) = start();
    let mut python = Python::connect(&daemon);
    python.say(&json!({"op": "hello", "session": "demo", "times": true}));
    let clock = python.next()["clock"].as_u64().expect("the daemon's clock is set");
    python.subscribe("a");
    python.say(&json!({"op": "emit", "topic": "a", "data": "x"}));
    let heard = python.next();
    let time = heard["time"].as_u64().expect("the time of the message");
    let waited = u128::from(time.checked_sub(clock).expect("not before WELCOME"));
    assert!(waited < DEADLINE.as_millis(), "{clock} {heard}");
}

#[test]
fn bytes_that_are_no_text_go_as_base64_both_ways() {
    let (daemon, _folder) = start();
    let mut python = Python::join(&daemon);
    python.subscribe("raw/#");
    let mut peer = Peer::join(&daemon.address("tcp"), "demo");
    peer.subscribe("page/#");
    let id = peer.open("raw/bytes");
    assert!(peer.give(&data(id, DataFlags::KEEP, &[0xff, 0, 0x80])));
    assert_eq!(
        python.next(),
        json!({"op": "data", "topic": "raw/bytes", "data64": "/wCA", "keep": true})
    );
    assert!(peer.give(&data(id, DataFlags::SEALED, "žluť".as_bytes())));
    assert_eq!(
        python.next(),
        json!({"op": "data", "topic": "raw/bytes", "data": "žluť", "sealed": true})
    );
    python.say(&json!({"op": "emit", "topic": "page/bytes", "data64": "/wCA"}));
    assert_eq!(peer.next_payload(), [0xff, 0, 0x80]);
    python.say(&json!({"op": "emit", "topic": "page/bytes", "data": null}));
    assert_eq!(peer.next_payload(), b"null");
    // the longest payload there may be, of bytes that take the most room in JSON
    let longest = [0; 65536];
    assert!(peer.give(&data(id, DataFlags::NONE, &longest)));
    let heard = python.next();
    assert_eq!(heard["data"].as_str().map(str::len), Some(longest.len()));
    python.say(&json!({"op": "emit", "topic": "page/bytes", "data64": base64(&longest)}));
    assert!(peer.next_payload() == longest);
}

/// Base64 of zero bytes.
fn base64(zeros: &[u8]) -> String {
    let rest = zeros.len() % 3;
    let tail = ["", "AA==", "AAA="][rest];
    "AAAA".repeat(zeros.len() / 3) + tail
}

/// The example of the protocol's text: 21.37 °C.
#[test]
fn readings_arrive_as_senml() {
    let (daemon, _folder) = start();
    let mut python = Python::join(&daemon);
    python.subscribe("hall/#");
    let mut sensor = Peer::join(&daemon.address("tcp"), "demo");
    let schema = [0x24, 0xfe, 0x03, 0x43, 0x65, 0x6c];
    let id = sensor.open_with("hall/temp", Some(&schema));
    let flags = DataFlags::READINGS.with(DataFlags::COUNTED);
    assert!(sensor.give(&data(id, flags, &[0xb2, 0x21])));
    let heard = python.next();
    assert_eq!((&heard["topic"], &heard["readings"]), (&"hall/temp".into(), &true.into()));
    assert_eq!(heard["data64"], "siE=", "{heard}");
    let senml = heard["senml"].as_array().expect("a pack");
    assert_eq!(senml.len(), 1, "{heard}");
    // RFC 8428, section 4.1: base fields and the record's own make one
    let text = |key: &str| senml[0][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("bn") + &text("n"), "hall/temp");
    assert_eq!(text("bu") + &text("u"), "Cel");
    assert_eq!(senml[0]["v"], 21.37);
}

#[test]
fn a_page_and_a_device_hear_the_same_in_the_same_order() {
    let (daemon, _folder) = start();
    let mut python = Python::join(&daemon);
    python.subscribe("log/+");
    let mut device = Peer::join(&daemon.address("tcp"), "demo");
    device.subscribe("log/lines");
    let mut publisher = Peer::join(&daemon.address("tcp"), "demo");
    let id = publisher.open("log/lines");
    // one message a line, many at once, as the tool sends them
    let lines: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
    let frames: Vec<u8> =
        lines.iter().flat_map(|line| data(id, DataFlags::COUNTED, line.as_bytes())).collect();
    assert!(publisher.give(&frames));
    for line in &lines {
        assert_eq!(device.next_payload(), line.as_bytes());
        let heard = python.next();
        assert_eq!((&heard["data"], &heard["counted"]), (&line.as_str().into(), &true.into()));
    }
}

#[test]
fn who_is_refused_learns_why_and_the_link_stays() {
    let (daemon, _folder) = start();
    let mut python = Python::join(&daemon);
    let answer = python.ask(&json!({"op": "subscribe", "request": 5, "topic": "a/#/b"}));
    assert_eq!((&answer["op"], &answer["code"]), (&"error".into(), &"bad-topic".into()));
    python.say(&json!(["no", "message"]));
    let answer = python.next();
    assert_eq!((&answer["request"], &answer["code"]), (&0.into(), &"bad-json".into()));
    python.subscribe("a");
    assert_eq!(python.close(), "closed 1000");
}

#[test]
fn a_page_that_goes_frees_its_seat_and_one_that_stays_gets_bye() {
    let (mut daemon, _folder) = start();
    let (goes, stays) = (Python::join(&daemon), Python::join(&daemon));
    let mut peer = Peer::join(&daemon.address("tcp"), "demo");
    assert_eq!(peer.status()["peers"], 3);
    assert_eq!(goes.close(), "closed 1000");
    let until = Instant::now() + DEADLINE;
    while peer.status()["peers"] != 2 {
        assert!(Instant::now() < until, "its seat stays taken");
    }
    drop(peer);
    daemon.signal("TERM");
    let bye = stays.next();
    assert_eq!((&bye["op"], &bye["code"]), (&"bye".into(), &"shutting-down".into()), "{bye}");
    assert!(bye["retry"].is_u64(), "{bye}");
    // a close frame without a code, RFC 6455, section 7.1.5
    assert_eq!(stays.line(), "closed 1005");
    assert_eq!(daemon.wait(), Some(0));
}
