//! Everything wrong that can be sent to the daemon has its answer, and harms nobody else.
//!
//! Each test has a pair of healthy peers at the same daemon that exchange messages between the
//! faults.
#![allow(clippy::panic, reason = "in a test a panic is how it fails")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use fastport_wire::control::{self, Control, ErrorCode, Method};
use fastport_wire::field::MAX_CHUNK;
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Error, HandshakeError, Message, WebSocket};

use support::peer::{Event, Peer, connect, control_frame, data, encode, hello};
use support::{DEADLINE, Daemon, demo_config};

const PAYLOAD: usize = 8 * 1024;
/// Short enough for tests, long enough for a machine under load.
const HANDSHAKE: Duration = Duration::from_millis(1000);

/// A daemon with all TCP transports.
struct Site {
    daemon: Daemon,
    _folder: TempDir,
}

impl Site {
    fn start() -> Self {
        Self::start_with("")
    }

    fn start_with(limits: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        make_certificate(folder.path());
        let more = format!(
            r#"
[[listen]]
kind = "tls"
address = "127.0.0.1:0"
certificate = "site.pem"
key = "site.key"

[limits]
payload = "8KiB"
{limits}
"#
        );
        let config = demo_config("") + &more;
        Self { daemon: Daemon::start(folder.path(), &config), _folder: folder }
    }

    fn tcp(&self) -> String {
        self.daemon.address("tcp")
    }

    fn join(&self) -> Peer {
        Peer::join(&self.tcp(), "demo")
    }
}

fn make_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("ring works");
    let write = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).expect("the folder is ours");
    };
    write("site.pem", made.cert.pem());
    write("site.key", made.signing_key.serialize_pem());
}

/// Two peers that nobody else's faults should touch.
struct Healthy {
    publisher: Peer,
    reader: Peer,
    id: u32,
    count: u32,
}

impl Healthy {
    fn at(site: &Site) -> Self {
        let (mut publisher, mut reader) = (site.join(), site.join());
        reader.subscribe("healthy/#");
        let id = publisher.open("healthy/peer");
        Self { publisher, reader, id, count: 0 }
    }

    /// Sends a message and gets that, and nothing else.
    fn exchange(&mut self) {
        self.count += 1;
        let payload = self.count.to_be_bytes();
        assert!(self.publisher.give(&data(self.id, DataFlags::COUNTED, &payload)));
        assert_eq!(self.reader.next_payload(), payload);
    }
}

fn error(request: Option<u32>, code: ErrorCode) -> Option<(Option<u32>, ErrorCode)> {
    Some((request, code))
}

/// The bytes of a CONTROL frame with that CBOR in it.
fn cbor(body: &[u8]) -> Vec<u8> {
    encode(&Frame::Control(body))
}

#[test]
fn a_bad_frame_ends_its_link_with_its_name() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let too_long = data(1, DataFlags::NONE, &[7; PAYLOAD + 1024]);
    // what a stream's CHUNK may have whatever payloads may
    let as_a_chunk = data(1, DataFlags::NONE, &[7; MAX_CHUNK]);
    let long_chunk = encode(&chunk(&[7; MAX_CHUNK + 64]));
    let topic = TopicId::new(1).expect("not 0");
    let hello = control_frame(hello("demo"));
    let proof = control_frame(control::Proof { proof: b"secret", ..Default::default() });
    let cause = GapCause::Overflow;
    for (what, bytes, code) in [
        ("unknown frame type 11", &[0xb0, 0][..], ErrorCode::BadFrame),
        ("unknown frame type 15", &[0xff], ErrorCode::BadFrame),
        ("padding with flags", &[0x01], ErrorCode::BadFrame),
        ("CONTROL with flags", &[0x11, 1, 0xa0], ErrorCode::BadFrame),
        ("PING with an unknown flag", &[0x52, 0], ErrorCode::BadFrame),
        ("ACK with an unknown flag", &[0x38, 1, 0], ErrorCode::BadFrame),
        ("overlong length", &[0x50, 0x80, 0x00], ErrorCode::BadFrame),
        ("overlong topic id", &[0x20, 3, 0x81, 0x00, 0x21], ErrorCode::BadFrame),
        ("overlong count", &[0x30, 2, 0x80, 0x00], ErrorCode::BadFrame),
        ("topic id 0", &[0x20, 2, 0, 0x21], ErrorCode::BadFrame),
        ("topic id of 33 bits", &[0x20, 5, 0xff, 0xff, 0xff, 0xff, 0x1f], ErrorCode::BadFrame),
        ("DATA without a topic id", &[0x20, 0], ErrorCode::BadFrame),
        ("ACK without a count", &[0x30, 0], ErrorCode::BadFrame),
        ("ACK with bytes behind it", &[0x30, 2, 0, 0], ErrorCode::BadFrame),
        ("length over 16 MiB", &[0x20, 0xff, 0xff, 0xff, 0x7f], ErrorCode::FrameTooLong),
        ("length over the relay's limit", &too_long[..4], ErrorCode::FrameTooLong),
        ("a frame over the limit", &too_long, ErrorCode::FrameTooLong),
        ("DATA as long as a CHUNK", &as_a_chunk, ErrorCode::FrameTooLong),
        ("CONTROL as long as a CHUNK", &cbor(&[0xa0; MAX_CHUNK]), ErrorCode::FrameTooLong),
        ("PING as long as a CHUNK", &[0x50, 0x80, 0x80, 0x01], ErrorCode::FrameTooLong),
        ("a CHUNK over its own limit", &long_chunk, ErrorCode::FrameTooLong),
        ("an id nobody opened", &[0x20, 2, 99, 0x21], ErrorCode::UnknownId),
        (
            "an id somebody else opened",
            &data(healthy.id, DataFlags::NONE, b"!"),
            ErrorCode::UnknownId,
        ),
        ("ACK for more than was sent", &[0x30, 1, 1], ErrorCode::BadAck),
        ("TIME from a peer", &encode(&Frame::Time { unix_ms: 1 }), ErrorCode::Unexpected),
        (
            "TOPIC from a peer",
            &encode(&Frame::Topic { id: topic, name: "a", schema: None }),
            ErrorCode::Unexpected,
        ),
        (
            "GAP from a peer",
            &encode(&Frame::Gap { topic: Some(topic), count: 1, cause }),
            ErrorCode::Unexpected,
        ),
        ("HELLO twice", &hello, ErrorCode::Unexpected),
        ("PROOF after WELCOME", &proof, ErrorCode::Unexpected),
        ("WELCOME from a peer", &control_frame(control::Welcome::default()), ErrorCode::Unexpected),
        (
            "CHALLENGE from a peer",
            &control_frame(control::Challenge::default()),
            ErrorCode::Unexpected,
        ),
        ("no CBOR", &cbor(&[0xff]), ErrorCode::BadControl),
        ("nothing", &cbor(&[]), ErrorCode::BadControl),
        ("CBOR that is no map", &cbor(&[0x82, 0, 1]), ErrorCode::BadControl),
        ("CBOR that ends early", &cbor(&[0xa2, 0, 4]), ErrorCode::BadControl),
        ("bytes behind the map", &cbor(b"\xa2\x00\x12\x01\x01\x00"), ErrorCode::BadControl),
        ("a text for op", &cbor(b"\xa1\x00\x61x"), ErrorCode::BadControl),
        ("a map without op", &cbor(b"\xa1\x01\x01"), ErrorCode::BadControl),
        ("OPEN of a number", &cbor(b"\xa3\x00\x04\x01\x01\x03\x05"), ErrorCode::BadControl),
        (
            "a request over 32 bits",
            &cbor(b"\xa2\x00\x12\x01\x1b\0\0\0\x01\0\0\0\0"),
            ErrorCode::BadControl,
        ),
        ("STATUS without a request", &cbor(b"\xa1\x00\x12"), ErrorCode::BadControl),
        ("OPEN without a request", &cbor(b"\xa2\x00\x04\x03\x61a"), ErrorCode::BadControl),
        (
            "a topic that is not UTF-8",
            &cbor(b"\xa3\x00\x04\x01\x01\x03\x61\xff"),
            ErrorCode::BadControl,
        ),
    ] {
        let mut bad = site.join();
        assert!(bad.give(bytes), "{what}");
        assert_eq!(bad.next().error(), error(None, code), "{what}");
        assert_eq!(bad.next(), Event::Closed, "{what}");
        healthy.exchange();
    }
}

#[test]
fn a_payload_over_the_limit_ends_its_link_and_is_not_delivered() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let mut bad = site.join();
    let id = bad.open("healthy/but/long");
    assert!(bad.give(&data(id, DataFlags::COUNTED, &[7; PAYLOAD])));
    assert_eq!(healthy.reader.next_payload(), [7; PAYLOAD]);
    assert_eq!(bad.next(), Event::Ack { taken: 1 });
    assert!(bad.give(&data(id, DataFlags::COUNTED, &[7; PAYLOAD + 1])));
    assert_eq!(bad.next().error(), error(None, ErrorCode::PayloadTooLong));
    assert_eq!(bad.next(), Event::Closed);
    healthy.exchange();
}

#[test]
fn a_frame_that_ends_with_its_link_is_not_delivered() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let whole = data(1, DataFlags::NONE, b"only half of this");
    for kept in [1, 2, 3, whole.len() - 1] {
        let mut bad = site.join();
        let id = bad.open("healthy/but/cut");
        let mut sent = data(id, DataFlags::NONE, b"whole");
        sent.extend_from_slice(&data(id, DataFlags::NONE, b"only half of this")[..kept]);
        assert!(bad.give(&sent));
        drop(bad);
        assert_eq!(healthy.reader.next_payload(), b"whole");
        // and the next that comes is the healthy one's
        healthy.exchange();
    }
}

fn chunk(bytes: &[u8]) -> Frame<'_> {
    Frame::Chunk { stream: 1, offset: 0, last: false, sealed: false, bytes }
}

#[test]
fn what_comes_for_a_stream_that_is_no_more_is_passed_over() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let credit = Frame::Credit { stream: 1, bytes: 100 };
    // the longest chunk is over what a payload may have
    for frame in [chunk(b"x"), chunk(&[7; MAX_CHUNK]), credit] {
        let bytes = encode(&frame);
        let mut late = site.join();
        assert!(late.give(&bytes));
        late.open("a");
        healthy.exchange();
    }
    let mut hopeful = site.join();
    hopeful.send(control::Accept { id: 1, stream: Some(1), ..Default::default() });
    assert_eq!(hopeful.next(), Event::Control("cancel"));
    hopeful.open("a");
}

#[test]
fn a_bad_request_is_answered_and_its_link_stays() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let mut bad = site.join();
    let (deep, long) = ("a/".repeat(16) + "a", "a".repeat(256));
    let too_much = [7; PAYLOAD + 1];
    let open = |topic| Control::from(control::Open { request: 9, topic, ..Default::default() });
    let subscribe =
        |topic| Control::from(control::Subscribe { request: 9, topic, ..Default::default() });
    let emit = |topic, data| {
        let request = Some(9);
        Control::from(control::Emit { request, topic, data, ..Default::default() })
    };
    let history = control::History { request: 9, topic: "a/#/b", ..Default::default() };
    let mut cases = Vec::new();
    for topic in ["", "/a", "a/", "a//b", "a\u{7f}", "a/\n", &deep, &long] {
        cases.push((open(topic), ErrorCode::BadTopic));
        cases.push((subscribe(topic), ErrorCode::BadTopic));
        cases.push((emit(topic, b"x"), ErrorCode::BadTopic));
    }
    for topic in ["+", "#", "a/+", "a/#", "a+", "a/b#"] {
        cases.push((open(topic), ErrorCode::BadTopic));
        cases.push((emit(topic, b"x"), ErrorCode::BadTopic));
    }
    for filter in ["a/#/b", "#/a", "a+", "+a/b", "a/b#", "a/##"] {
        cases.push((subscribe(filter), ErrorCode::BadTopic));
    }
    cases.extend([
        (history.into(), ErrorCode::BadTopic),
        (open("$board/load"), ErrorCode::Forbidden),
        (emit("$board/load", b"x"), ErrorCode::Forbidden),
        (emit("a", &too_much), ErrorCode::PayloadTooLong),
        (
            control::Open { request: 9, topic: "a", tier: Some(1), ..Default::default() }.into(),
            ErrorCode::TierNotOffered,
        ),
        (
            control::Open { request: 9, topic: "a", schema: Some(&[0xff]), ..Default::default() }
                .into(),
            ErrorCode::BadReadings,
        ),
        (
            control::CloseTopic { request: Some(9), id: 99, ..Default::default() }.into(),
            ErrorCode::UnknownId,
        ),
        (
            control::CreateSession { request: 9, session: "mine", ..Default::default() }.into(),
            ErrorCode::Forbidden,
        ),
    ]);
    for (message, code) in cases {
        bad.send(message);
        assert_eq!(bad.next().error(), error(Some(9), code), "{message:?}");
    }
    healthy.exchange();
    for (what, bytes, request, code) in [
        ("an unknown op", &b"\xa2\x00\x18\xc8\x01\x07"[..], 7, ErrorCode::UnknownMessage),
        ("an unknown op without a request", b"\xa1\x00\x18\xc8", 0, ErrorCode::UnknownMessage),
        ("OPEN without a topic", b"\xa2\x00\x04\x01\x07", 7, ErrorCode::BadControl),
        ("SUBSCRIBE without a filter", b"\xa2\x00\x06\x01\x08", 8, ErrorCode::BadControl),
        ("EMIT without data", b"\xa3\x00\x11\x01\x08\x03\x61a", 8, ErrorCode::BadControl),
    ] {
        assert!(bad.give(&cbor(bytes)), "{what}");
        assert_eq!(bad.next().error(), error(Some(request), code), "{what}");
    }
    // after all that it is as good as any other
    let id = bad.open("healthy/again");
    assert!(bad.give(&data(id, DataFlags::NONE, b"hi")));
    assert_eq!(healthy.reader.next_payload(), b"hi");
    healthy.exchange();
}

#[test]
fn a_bad_handshake_ends_its_link_with_its_name() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let with = |change: fn(&mut control::Hello<'_>)| {
        let mut hello = hello("demo");
        change(&mut hello);
        control_frame(hello)
    };
    let proof = control_frame(control::Proof { proof: b"secret", ..Default::default() });
    let open = control_frame(control::Open { request: 1, topic: "a", ..Default::default() });
    let long = encode(&Frame::Control(&[0; 1025]));
    let browsers_request =
        format!("GET / HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n\r\n", "x".repeat(80));
    for (what, bytes, code) in [
        ("PROOF before HELLO", &proof[..], ErrorCode::Unexpected),
        ("OPEN before HELLO", &open, ErrorCode::Unexpected),
        ("DATA before HELLO", &[0x20, 2, 1, 0x21], ErrorCode::Unexpected),
        ("PING before HELLO", &[0x50, 0], ErrorCode::Unexpected),
        ("version 1", &with(|hello| hello.version = 1), ErrorCode::BadVersion),
        ("version 3", &with(|hello| hello.version = 3), ErrorCode::BadVersion),
        ("no such session", &with(|hello| hello.session = "no"), ErrorCode::NotAuthenticated),
        ("no session", &with(|hello| hello.session = ""), ErrorCode::NotAuthenticated),
        ("no such method", &with(|hello| hello.method = Some(9)), ErrorCode::BadControl),
        (
            "a short nonce",
            &with(|hello| {
                hello.method = Some(Method::DeviceKey.number());
                hello.nonce = Some(&[1; 15]);
            }),
            ErrorCode::BadControl,
        ),
        ("no such policy", &with(|hello| hello.when_full = Some(9)), ErrorCode::BadControl),
        (
            "HELLO without an epoch",
            &cbor(b"\xa3\x00\x00\x02\x64demo\x07\x02"),
            ErrorCode::BadControl,
        ),
        ("an unknown op", &cbor(b"\xa2\x00\x18\xc8\x01\x07"), ErrorCode::UnknownMessage),
        ("no CBOR", &cbor(&[0xff]), ErrorCode::BadControl),
        ("a frame over 1024 bytes", &long, ErrorCode::FrameTooLong),
        ("CONTROL with flags", &[0x11, 1, 0xa0], ErrorCode::BadFrame),
        ("overlong length", &[0x10, 0x80, 0x00], ErrorCode::BadFrame),
        // as frames: TIME with flags, CONTROL with flags
        ("HTTP", browsers_request.as_bytes(), ErrorCode::BadFrame),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ErrorCode::BadFrame),
    ] {
        let mut bad = Peer::dial(&site.tcp());
        assert!(bad.give(bytes), "{what}");
        assert_eq!(bad.next().error(), error(None, code), "{what}");
        assert_eq!(bad.next(), Event::Closed, "{what}");
        healthy.exchange();
    }
}

// WebSocket

type Socket = WebSocket<TcpStream>;

fn upgrade(site: &Site, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
    let address = site.daemon.address("ws");
    let mut request = format!("ws://{address}/").into_client_request().expect("a request");
    for &(name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a header's value");
        request.headers_mut().insert(name, value);
    }
    match tungstenite::client(request, connect(&address)) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(error),
        Err(HandshakeError::Interrupted(_)) => panic!("the stream blocks"),
    }
}

const PROTOCOL: (&str, &str) = ("Sec-WebSocket-Protocol", "fastport.2");

/// A peer that speaks JSON.
fn join_json(site: &Site) -> Socket {
    let mut socket = upgrade(site, &[PROTOCOL]).expect("the upgrade works");
    socket.send(Message::text(r#"{"op":"hello","session":"demo"}"#)).expect("the link is there");
    assert_eq!(next_json(&mut socket)["op"], "welcome");
    socket
}

fn next_json(socket: &mut Socket) -> serde_json::Value {
    loop {
        match socket.read().expect("something comes in time") {
            Message::Text(text) => {
                return serde_json::from_str(&text).expect("the daemon sends JSON");
            }
            Message::Ping(_) => {}
            other => panic!("no text but {other:?}"),
        }
    }
}

#[test]
fn bad_json_is_answered_and_its_link_stays() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let mut bad = join_json(&site);
    for (text, request, code) in [
        ("", 0, "bad-json"),
        ("hello", 0, "bad-json"),
        ("{", 0, "bad-json"),
        ("null", 0, "bad-json"),
        (r#"[{"op":"status","request":1}]"#, 0, "bad-json"),
        (r#"["status",1]"#, 0, "bad-json"),
        (r#"{"op":"status","request":1} {}"#, 0, "bad-json"),
        (r#"{"op":"status","request":"1"}"#, 0, "bad-json"),
        (r#"{"op":"status","request":1.5}"#, 0, "bad-json"),
        (r#"{"op":"status","request":-1}"#, 0, "bad-json"),
        (r#"{"op":"status","request":1,"request":2}"#, 0, "bad-json"),
        (r#"{"op":7}"#, 0, "bad-json"),
        (r#"{"op":"emit","topic":"a","data":"x","data64":"eA=="}"#, 0, "bad-json"),
        (r#"{"op":"emit","topic":"a","data64":"!"}"#, 0, "bad-json"),
        (r#"{"op":"hello","session":"demo","method":"magic"}"#, 0, "bad-json"),
        (r#"{"op":"dance","request":7}"#, 7, "unknown-message"),
        (r#"{"op":"dance"}"#, 0, "unknown-message"),
        (r#"{"op":"subscribe","request":7}"#, 7, "bad-control"),
        (r#"{"op":"subscribe","request":7,"topic":"a/#/b"}"#, 7, "bad-topic"),
        (r#"{"op":"emit","request":7,"topic":"a/+","data":1}"#, 7, "bad-topic"),
    ] {
        bad.send(Message::text(text)).expect("the link is there");
        let got = next_json(&mut bad);
        assert_eq!(got["op"], "error", "{text}");
        assert_eq!((&got["request"], &got["code"]), (&request.into(), &code.into()), "{text}");
    }
    let good = r#"{"op":"emit","request":8,"topic":"healthy/json","data":"hi"}"#;
    bad.send(Message::text(good)).expect("the link is there");
    assert_eq!(next_json(&mut bad)["request"], 8);
    assert_eq!(healthy.reader.next_payload(), b"hi");
    healthy.exchange();
}

/// Answers to bad JSON are answers as others: who does not read them is not read.
#[test]
fn bad_json_without_end_costs_only_its_sender() {
    let site = Site::start_with("outbox = \"16KiB\"\nmemory = \"1MiB\"");
    let mut healthy = Healthy::at(&site);
    let mut bad = join_json(&site);
    bad.get_mut().set_write_timeout(Some(Duration::from_millis(300))).expect("not zero");
    let mut sent = 0_u64;
    // until the daemon reads no more
    while bad.send(Message::text("[]")).is_ok() {
        sent += 1;
        if sent.is_multiple_of(10_000) {
            healthy.exchange();
        }
    }
    assert!(sent > 1000, "{sent}");
    healthy.exchange();
    let status = healthy.publisher.status();
    let used = status["memory"]["used"].as_u64().expect("a figure");
    assert!(used < 400_000, "{status:#}");
}

/// Sends a message, or a part of one that others follow.
fn send_part(socket: &mut Socket, kind: Data, is_last: bool, part: &[u8]) -> bool {
    let part = RawFrame::message(part.to_vec(), OpCode::Data(kind), is_last);
    socket.send(Message::Frame(part)).is_ok()
}

#[test]
fn a_message_that_does_not_end_is_charged_to_the_memory_and_given_back() {
    let site = Site::start_with("memory = \"1MiB\"");
    let mut healthy = Healthy::at(&site);
    let used = |status: &serde_json::Value| status["memory"]["used"].as_u64().expect("a figure");
    let before = used(&healthy.publisher.status());
    // text, and a frame of the longest payload, but for its last bytes
    let text = [b'x'; 2 * PAYLOAD];
    let frame = data(healthy.publisher.open("bad/long"), DataFlags::NONE, &[0; PAYLOAD]);
    let mut bad: Vec<Socket> = (0..20)
        .map(|number| {
            let mut bad = join_json(&site);
            bad.send(Message::text(r#"{"op":"open","topic":"bad/long"}"#)).expect("it is there");
            assert_eq!(next_json(&mut bad)["op"], "ok");
            let (kind, bytes) = match number % 2 {
                0 => (Data::Text, &text[..]),
                _ => (Data::Binary, &frame[..PAYLOAD]),
            };
            let (first, second) = bytes.split_at(PAYLOAD / 3);
            assert!(send_part(&mut bad, kind, false, first));
            assert!(send_part(&mut bad, Data::Continue, false, second));
            bad
        })
        .collect();
    let held = 10 * (2 * PAYLOAD + PAYLOAD) as u64;
    let until = Instant::now() + DEADLINE;
    while used(&healthy.publisher.status()) < before + held {
        assert!(Instant::now() < until, "{:#}", healthy.publisher.status());
    }
    healthy.exchange();
    // who goes on is in order
    let mut last = bad.pop().expect("there are some");
    assert!(send_part(&mut last, Data::Continue, true, &frame[PAYLOAD..]));
    last.send(Message::text(r#"{"op":"status","request":9}"#)).expect("the link is there");
    assert_eq!(next_json(&mut last)["request"], 9);
    drop((bad, last));
    while used(&healthy.publisher.status()) > before + 20_000 {
        assert!(Instant::now() < until, "{:#}", healthy.publisher.status());
    }
    healthy.exchange();
}

#[test]
fn without_memory_for_a_message_its_link_ends_with_the_reason() {
    let site = Site::start_with("memory = \"1MiB\"");
    let mut bad = Vec::new();
    // each link's session state is charged too, so that there are fewer than that
    let ended = (0..64).find_map(|_| {
        let mut socket = join_json(&site);
        assert!(send_part(&mut socket, Data::Text, false, &[b'x'; 2 * PAYLOAD]));
        socket.send(Message::Ping(Vec::new().into())).expect("the link is there");
        match socket.read().expect("something comes in time") {
            Message::Pong(_) => bad.push(socket),
            Message::Text(text) => return Some(text),
            other => panic!("{other:?}"),
        }
        None
    });
    let ended = ended.expect("the memory is not without end");
    let ended: serde_json::Value = serde_json::from_str(&ended).expect("JSON");
    assert_eq!((&ended["op"], &ended["code"]), (&"error".into(), &"unavailable".into()));
    assert!(bad.len() * 2 * PAYLOAD > 400_000, "{}", bad.len());
}

#[test]
fn bad_json_in_the_handshake_ends_the_link() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    for (text, code) in [
        ("[]", "bad-json"),
        (r#"{"op":"hello"}"#, "bad-control"),
        (r#"{"op":"dance"}"#, "unknown-message"),
        (r#"{"op":"subscribe","topic":"a"}"#, "unexpected"),
        (r#"{"op":"hello","version":1,"session":"demo"}"#, "bad-version"),
        (r#"{"op":"hello","session":"nowhere"}"#, "not-authenticated"),
    ] {
        let mut bad = upgrade(&site, &[PROTOCOL]).expect("the upgrade works");
        bad.send(Message::text(text)).expect("the link is there");
        let got = next_json(&mut bad);
        assert_eq!((&got["op"], &got["code"]), (&"error".into(), &code.into()), "{text}");
        assert!(got.get("request").is_none(), "{got}");
        assert!(matches!(bad.read(), Ok(Message::Close(_))), "{text}");
        healthy.exchange();
    }
}

#[test]
fn a_frame_spread_over_messages_ends_its_link() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let hello = control_frame(hello("demo"));
    let refused = |socket: &mut Socket| loop {
        match socket.read().expect("something comes in time") {
            Message::Binary(frames) => {
                let mut rest = &frames[..];
                while let Ok(Some((frame, length))) = Frame::decode(rest, PAYLOAD) {
                    rest = &rest[length..];
                    let Frame::Control(body) = frame else { continue };
                    if let Ok(Control::Error(error)) = Control::decode(body) {
                        assert!(matches!(socket.read(), Ok(Message::Close(_))));
                        return (error.request, ErrorCode::from_number(error.code));
                    }
                }
            }
            other => panic!("no frames but {other:?}"),
        }
    };
    let bad_frame = (None, Some(ErrorCode::BadFrame));
    let too_long = (None, Some(ErrorCode::FrameTooLong));
    // in the handshake, behind it, and in the message of the HELLO
    let mut bad = upgrade(&site, &[PROTOCOL]).expect("the upgrade works");
    bad.send(Message::binary(hello[..9].to_vec())).expect("the link is there");
    assert_eq!(refused(&mut bad), bad_frame);
    let mut bad = upgrade(&site, &[PROTOCOL]).expect("the upgrade works");
    bad.send(Message::binary(hello.clone())).expect("the link is there");
    bad.send(Message::binary(vec![0x50, 0, 0x50])).expect("the link is there");
    assert_eq!(refused(&mut bad), bad_frame);
    let mut bad = upgrade(&site, &[PROTOCOL]).expect("the upgrade works");
    let both = [&hello[..], &[0x50]].concat();
    bad.send(Message::binary(both)).expect("the link is there");
    assert_eq!(refused(&mut bad), bad_frame);
    // longer than a text message may be
    let mut bad = upgrade(&site, &[PROTOCOL]).expect("the upgrade works");
    bad.send(Message::binary(hello)).expect("the link is there");
    let long = " ".repeat(2 * PAYLOAD + 8192);
    bad.send(Message::text(long)).expect("the daemon reads it in vain");
    assert_eq!(refused(&mut bad), too_long);
    healthy.exchange();
}

#[test]
fn an_upgrade_that_may_not_be_gets_its_http_status() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    for (what, headers, status) in [
        ("a foreign page", &[PROTOCOL, ("Origin", "https://evil.example")][..], 403),
        ("a page without an origin", &[PROTOCOL, ("Origin", "null")], 403),
        ("another protocol", &[("Sec-WebSocket-Protocol", "mqtt")], 400),
        ("version 1", &[("Sec-WebSocket-Protocol", "fastport.1, chat")], 400),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        match upgrade(&site, headers) {
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        healthy.exchange();
    }
    for (what, request, status) in [
        ("no upgrade", "GET / HTTP/1.1\r\nHost: board\r\n\r\n", "426"),
        (
            "a POST",
            "POST / HTTP/1.1\r\nHost: board\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "400",
        ),
        ("HTTP 1.0", "GET / HTTP/1.0\r\n\r\n", "400"),
        ("no HTTP", "\u{1}\u{2}\u{3}\r\n\r\n", "400"),
        (
            "no key",
            "GET / HTTP/1.1\r\nHost: board\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n",
            "400",
        ),
    ] {
        let mut io = connect(&site.daemon.address("ws"));
        io.write_all(request.as_bytes()).expect("the daemon reads");
        let mut answer = String::new();
        io.read_to_string(&mut answer).expect("an answer, then the end");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer:?}");
        healthy.exchange();
    }
    // the board's own pages, and programs
    for headers in [&[PROTOCOL, ("Origin", "http://localhost:8080")][..], &[PROTOCOL]] {
        assert!(upgrade(&site, headers).is_ok());
    }
}

#[test]
fn a_tls_port_closes_what_is_no_tls() {
    let site = Site::start();
    let mut healthy = Healthy::at(&site);
    let hello = control_frame(hello("demo"));
    for bytes in [&hello[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 100]] {
        let mut io = connect(&site.daemon.address("tls"));
        io.write_all(bytes).expect("the daemon reads");
        let mut answer = Vec::new();
        // a reset ends it as well
        io.read_to_end(&mut answer).map(|_| ()).unwrap_or_default();
        // an alert, perhaps, and no frame
        assert!(matches!(answer.first(), None | Some(0x15)), "{answer:x?}");
        healthy.exchange();
    }
    assert_eq!(healthy.publisher.status()["transport_errors"], 3);
}

// time and numbers

fn slow_site(more: &str) -> Site {
    let timeout = HANDSHAKE.as_millis();
    Site::start_with(&format!("handshake_timeout = \"{timeout}ms\"\n{more}"))
}

/// Sends `bytes` one by one, and one `more` again and again, each after a tenth of the deadline;
/// when the daemon ended it, and what it said.
fn drip(address: &str, bytes: &[u8], more: u8) -> (Duration, Vec<u8>) {
    let started = Instant::now();
    let mut io = connect(address);
    // the pace: the answer is waited for between the bytes
    io.set_read_timeout(Some(HANDSHAKE / 10)).expect("not zero");
    let (mut answer, mut buffer) = (Vec::new(), [0; 512]);
    for byte in bytes.iter().copied().chain(std::iter::repeat(more)) {
        if io.write_all(&[byte]).is_err() {
            break;
        }
        match io.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        assert!(started.elapsed() < DEADLINE, "the daemon waits for ever");
    }
    (started.elapsed(), answer)
}

#[test]
fn who_is_slow_in_any_part_of_the_handshake_is_refused_at_the_deadline() {
    let site = slow_site("");
    let mut healthy = Healthy::at(&site);
    let hello = control_frame(hello("demo"));
    let slow = [
        // a HELLO that takes its time, and padding, which is right at any time
        ("tcp", site.tcp(), hello[..5].to_vec(), 0xff),
        ("padding", site.tcp(), Vec::new(), 0),
        ("ws", site.daemon.address("ws"), b"GET / HTTP/1.1\r\nX: ".to_vec(), b'x'),
        // a record of 512 bytes
        ("tls", site.daemon.address("tls"), b"\x16\x03\x01\x02\x00\x01".to_vec(), 0),
    ];
    let ends = std::thread::scope(|scope| {
        let slow = slow.map(|(what, address, bytes, more)| {
            scope.spawn(move || (what, drip(&address, &bytes, more)))
        });
        // others come and go meanwhile
        while slow.iter().any(|slow| !slow.is_finished()) {
            drop(site.join());
            healthy.exchange();
        }
        slow.map(|slow| slow.join().expect("it ends"))
    });
    for (what, (after, answer)) in ends {
        assert!(after >= HANDSHAKE * 9 / 10, "{what}: {after:?}");
        assert!(after < HANDSHAKE * 6, "{what}: {after:?}");
        if what == "tcp" || what == "padding" {
            let code = ErrorCode::HandshakeTimeout.number();
            let refusal = control::Error { code, retry: Some(5000), ..Default::default() };
            assert_eq!(answer, control_frame(refusal), "{what}");
        }
    }
    assert_eq!(healthy.publisher.status()["handshake_timeouts"], 4);
    healthy.exchange();
}

/// The time for TLS, HTTP and HELLO is one, not one each.
#[test]
fn a_link_that_is_slow_in_each_part_has_one_deadline() {
    let site = slow_site("");
    let mut healthy = Healthy::at(&site);
    let started = Instant::now();
    let mut request = connect(&site.daemon.address("ws"));
    let text = "GET / HTTP/1.1\r\nHost: board\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    request.write_all(text.as_bytes()).expect("the daemon reads");
    request.set_read_timeout(Some(HANDSHAKE * 7 / 10)).expect("not zero");
    let early = request.read(&mut [0; 1]).expect_err("nothing comes before the request's end");
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");
    request.write_all(b"\r\n").expect("the daemon reads");
    request.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let mut answer = Vec::new();
    request.read_to_end(&mut answer).expect("an answer, then the end");
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    assert!(started.elapsed() < HANDSHAKE * 3 / 2, "{:?}", started.elapsed());
    healthy.exchange();
}

#[test]
fn half_open_handshakes_stop_others_for_no_longer_than_the_deadline() {
    let site = slow_site("handshakes = 4");
    let mut healthy = Healthy::at(&site);
    let scheme = |number: usize| ["tcp", "ws", "tls"][number % 3];
    let silent: Vec<_> =
        (0..7).map(|number| connect(&site.daemon.address(scheme(number)))).collect();
    let started = Instant::now();
    // those that are in notice nothing
    healthy.exchange();
    let mut late = site.join();
    let waited = started.elapsed();
    assert!(waited < HANDSHAKE * 2, "{waited:?}");
    late.open("a");
    healthy.exchange();
    drop(silent);
}

#[test]
fn a_flood_of_connections_costs_no_more_than_its_places() {
    let site = slow_site("handshakes = 8");
    let mut healthy = Healthy::at(&site);
    let sockets = |site: &Site| {
        let folder = format!("/proc/{}/fd", site.daemon.pid());
        std::fs::read_dir(folder).expect("the daemon runs").count()
    };
    let before = sockets(&site);
    let flood: Vec<_> = (0..300).map(|_| connect(&site.tcp())).collect();
    let most = before + 8 + 3;
    let until = Instant::now() + DEADLINE;
    // all places are taken, again and again
    while healthy.publisher.status()["handshake_timeouts"].as_u64() < Some(16) {
        healthy.exchange();
        let now = sockets(&site);
        assert!(now <= most, "{now} file descriptors, {before} before");
        assert!(Instant::now() < until, "the flood is not refused");
    }
    drop(flood);
    // what is gone is done with at once
    site.join().open("a");
    healthy.exchange();
}
