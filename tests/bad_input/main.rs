//! Everything wrong that can be sent to the daemon has its answer, and harms nobody else.
//!
//! Each test has a pair of healthy peers at the same daemon that exchange messages between the
//! faults.
#![allow(clippy::panic, reason = "in a test a panic is how it fails")]

mod slow;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(feature = "tls")]
use std::io::{Read, Write};
use std::path::Path;

use fastport_wire::control::{self, Control, ErrorCode, Method};
use fastport_wire::field::MAX_CHUNK;
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};
use tempfile::TempDir;

#[cfg(feature = "tls")]
use support::peer::connect;
use support::peer::{Event, Peer, control_frame, data, encode, hello};
use support::{Daemon, demo_config};

const PAYLOAD: usize = 8 * 1024;

/// A daemon with all TCP transports that are built in.
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
        let tls = if cfg!(feature = "tls") { TLS } else { "" };
        let more = format!("{tls}\n[limits]\npayload = \"8KiB\"\n{limits}\n");
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

const TLS: &str = r#"
[[listen]]
kind = "tls"
address = "127.0.0.1:0"
certificate = "site.pem"
key = "site.key"
"#;

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

#[cfg(feature = "tls")]
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
