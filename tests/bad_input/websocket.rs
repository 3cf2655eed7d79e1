//! The WebSocket's part of it: upgrades, JSON, and how frames lie in messages.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fastport_wire::Frame;
use fastport_wire::control::{Control, ErrorCode};
use fastport_wire::frame::DataFlags;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Error, HandshakeError, Message, WebSocket};

use super::slow::{HANDSHAKE, slow_site};
use super::support::DEADLINE;
use super::support::peer::{connect, control_frame, data, hello};
use super::{Healthy, PAYLOAD, Site};

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
