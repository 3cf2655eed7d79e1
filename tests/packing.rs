//! PACK frames between real daemons: fewer bytes on the link, and the same messages.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use fastport_client::{
    Client, Delivery, Incoming, Options, Secret, SubscribeOptions, Subscription, Target, Tier, init,
};
use fastport_core::client::{self as machine, Fault, Past};
use fastport_core::time::Instant as Moment;
use fastport_wire::Frame;
use fastport_wire::control::{ErrorCode, features};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use self::access::{identity, options, secret_file};
use self::support::{DEADLINE, Daemon};

const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";
const LISTEN: &str =
    r#"{ kind = "tcp", address = "127.0.0.1:0" }, { kind = "websocket", address = "127.0.0.1:0" }"#;

/// A relay above, which knows a gateway by its key; `as_gateway` or as any peer.
fn start_central(folder: &Path, as_gateway: bool) -> Daemon {
    let folder = folder.join("central");
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    let rights = "publish = [\"#\"]\nsubscribe = [\"#\"]";
    let gateway = format!("key = \"{KEY}\"\ngateway = {as_gateway}\n{rights}");
    let person = format!("key = \"{KEY}\"\n{rights}");
    let all = identity("gw", &gateway) + &identity("person", &person);
    secret_file(&folder, "credentials.toml", &all);
    let config = format!(
        r#"
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml" }}
        listen = [{LISTEN}]
        session = [{{ name = "home" }}]
        limits = {{ outbox = "4MiB" }}
        "#
    );
    Daemon::start(&folder, &config)
}

fn start_gateway(folder: &Path, central: &str, uplink: &str) -> Daemon {
    let folder = folder.join("gateway");
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    secret_file(&folder, "key", KEY);
    let config = format!(
        r#"
        board = {{ enabled = false }}
        listen = [{{ kind = "tcp", address = "127.0.0.1:0" }}]
        session = [{{ name = "home", open = true }}]
        limits = {{ outbox = "4MiB" }}

        [uplink]
        central = ["{central}"]
        wait_for = "taken"
        identity = "gw"
        key = "key"
        {uplink}
        spool = {{ disk = 0 }}
        [[uplink.rule]]
        filter = "plant/#"
        [[uplink.rule]]
        direction = "down"
        filter = "cmd/#"
        "#
    );
    let mut daemon = Daemon::start(&folder, &config);
    daemon.wait_for("uplink ready");
    daemon
}

async fn client(daemon: &Daemon) -> Client {
    let target = Target::parse(&daemon.url("tcp")).expect("the daemon's own URL");
    init(Options::new(target, "home")).await.expect("the session is open")
}

async fn person(central: &Daemon) -> Client {
    let secret = Secret::Key(Box::new([7; 32]));
    init(options(&central.url("tcp"), "person", secret)).await.expect("the key is right")
}

async fn subscribe(client: &Client, filter: &str) -> Subscription {
    client.subscribe(filter, SubscribeOptions::default()).await.expect("allowed")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let incoming = timeout(DEADLINE, subscription.next()).await.expect("it comes in time");
    match incoming.expect("the link holds") {
        Incoming::Message(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

fn reading(number: u32) -> Vec<u8> {
    format!("{{\"sensor\":\"boiler-7\",\"number\":{number},\"celsius\":{}.5}}", 20 + number % 7)
        .into_bytes()
}

async fn publish(client: &Client, topic: &str, numbers: std::ops::Range<u32>) -> u64 {
    let mut last = 0;
    for number in numbers {
        last = client.emit_counted(topic, &reading(number)).await.expect("published");
    }
    last
}

async fn figures(client: &Client) -> [u64; 4] {
    let text = client.status().await.expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    let lane = &figures["uplink"]["lanes"]["normal"];
    ["frames_out", "bytes_out", "frames_in", "bytes_in"]
        .map(|name| lane[name].as_u64().unwrap_or_else(|| panic!("{name} of {lane:#}")))
}

/// Readings go up and commands come down, and arrive in order as they were; what the link counted.
async fn both_ways(central: &Daemon, gateway: &Daemon) -> [u64; 4] {
    const MANY: u32 = 3000;
    let (here, there) = (client(gateway).await, person(central).await);
    let (mut up, mut down) = (subscribe(&there, "plant/#").await, subscribe(&here, "cmd/#").await);
    let last = publish(&here, "plant/boiler", 0..MANY).await;
    let held = timeout(DEADLINE, here.wait(last, Tier::Central));
    held.await.expect("in time").expect("held there");
    publish(&there, "cmd/boiler", 0..MANY).await;
    for number in 0..MANY {
        assert_eq!(*next(&mut up).await.payload, *reading(number));
    }
    for number in 0..MANY {
        assert_eq!(*next(&mut down).await.payload, *reading(number));
    }
    figures(&here).await
}

#[tokio::test]
async fn readings_and_commands_take_less_than_half_their_bytes_and_arrive_as_they_were() {
    for kind in ["tcp", "ws"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let central = start_central(folder.path(), true);
        let gateway = start_gateway(folder.path(), &central.url(kind), "");
        let [frames_out, bytes_out, frames_in, bytes_in] = both_ways(&central, &gateway).await;
        println!("{kind}: up {bytes_out} of {frames_out}, down {bytes_in} of {frames_in}");
        assert!(frames_out > 150_000 && bytes_out * 2 < frames_out, "{bytes_out} of {frames_out}");
        assert!(frames_in > 150_000 && bytes_in * 2 < frames_in, "{bytes_in} of {frames_in}");
    }
}

#[tokio::test]
async fn nothing_is_packed_where_only_one_side_would() {
    for (as_gateway, uplink) in [(false, ""), (true, "compress = false")] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let central = start_central(folder.path(), as_gateway);
        let gateway = start_gateway(folder.path(), &central.url("tcp"), uplink);
        let [frames_out, bytes_out, frames_in, bytes_in] = both_ways(&central, &gateway).await;
        assert_eq!((frames_out, frames_in), (bytes_out, bytes_in), "{as_gateway} {uplink}");
    }
}

#[tokio::test]
async fn the_ceiling_counts_bytes_as_they_are_on_the_link() {
    const PER_SECOND: u64 = 16 * 1024;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start_central(folder.path(), true);
    let uplink = "bytes_per_second = \"16KiB\"";
    let gateway = start_gateway(folder.path(), &central.url("tcp"), uplink);
    let here = client(&gateway).await;
    let began = Instant::now();
    let last = publish(&here, "plant/boiler", 0..5000).await;
    let held = timeout(4 * DEADLINE, here.wait(last, Tier::Central));
    held.await.expect("in time").expect("held there");
    let took = began.elapsed();
    let [frames_out, bytes_out, ..] = figures(&here).await;
    println!("{bytes_out} of {frames_out} bytes in {took:?}");
    let allowed = PER_SECOND as f64 * took.as_secs_f64() + 32.0 * 1024.0;
    assert!((bytes_out as f64) < allowed, "{bytes_out} bytes in {took:?}");
    assert!(
        took < Duration::from_secs(frames_out / PER_SECOND / 2),
        "{bytes_out} of {frames_out} bytes in {took:?}"
    );
}

#[tokio::test]
async fn messages_that_come_one_by_one_go_up_together_after_the_delay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start_central(folder.path(), true);
    let uplink = "delay = \"2s\"";
    let gateway = start_gateway(folder.path(), &central.url("tcp"), uplink);
    let (here, there) = (client(&gateway).await, person(&central).await);
    let mut up = subscribe(&there, "plant/#").await;
    // the topic is opened there
    publish(&here, "plant/boiler", 0..1).await;
    next(&mut up).await;
    let before = figures(&here).await;
    let began = Instant::now();
    for number in 1..20 {
        publish(&here, "plant/boiler", number..number + 1).await;
        // it is in the outbox of the lane
        here.status().await.expect("figures");
    }
    for number in 1..20 {
        assert_eq!(*next(&mut up).await.payload, *reading(number));
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "after {:?}", began.elapsed());
    let after = figures(&here).await;
    let [frames, bytes] = [after[0] - before[0], after[1] - before[1]];
    assert!(bytes * 2 < frames, "{bytes} of {frames}");
}

/// A gateway by hand: the state machine over a socket.
struct Hand {
    client: machine::Client,
    socket: TcpStream,
    input: Vec<u8>,
}

impl Hand {
    fn connect(central: &Daemon, identity: &str) -> Self {
        let socket = TcpStream::connect(central.address("tcp")).expect("it listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let options = machine::Options {
            session: "home".into(),
            identity: identity.into(),
            name: "hand".into(),
            secret: machine::Secret::Key(Box::new([7; 32])),
            epoch: 1,
            continues: None,
            confirms: false,
            when_full: None,
            keepalive: None,
            linger: 0,
            flags: features::PACKS,
            outbox: 64 * 1024,
        };
        let mut client = machine::Client::new(options);
        client.connected(Moment::default(), [9; 16]);
        let mut hand = Self { client, socket, input: Vec::new() };
        while !hand.client.is_ready() {
            hand.turn().expect("the key is right");
        }
        hand
    }

    /// Writes what there is, reads once, and hands it to the state machine.
    fn turn(&mut self) -> Result<Vec<u8>, Fault> {
        let output = self.client.output().to_vec();
        self.socket.write_all(&output).expect("it is read");
        self.client.advance(output.len());
        let mut buffer = [0; 4096];
        let length = self.socket.read(&mut buffer).expect("an answer in time");
        assert!(length > 0, "closed without a word");
        self.input.extend_from_slice(&buffer[..length]);
        let came = buffer[..length].to_vec();
        let done = self.client.handle_bytes(Moment::default(), &self.input, |_| {})?;
        self.input.drain(..done);
        Ok(came)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("it is read");
    }

    fn ends_with(&mut self, expected: ErrorCode) {
        loop {
            match self.turn() {
                Ok(_) => {}
                Err(Fault::Refused { code, text, .. }) => {
                    assert_eq!(code, Some(expected), "{text:?}");
                    return;
                }
                Err(fault) => panic!("{fault:?}"),
            }
        }
    }
}

fn pack(body: &[u8]) -> Vec<u8> {
    let frame = Frame::Pack(body);
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("encoded_len is enough");
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_pack_ends_its_own_link_only() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start_central(folder.path(), true);
    let there = person(&central).await;
    let mut up = subscribe(&there, "a").await;
    for (bytes, code) in [
        // two PINGs with a third's first byte; a block that ends early; no length; a PACK in it
        (pack(b"\x05\x50\x50\x00\x50\x00\x50"), ErrorCode::BadFrame),
        (pack(b"\x08\x40\x50\x00\x50\x00"), ErrorCode::BadFrame),
        (pack(b""), ErrorCode::BadFrame),
        (pack(b"\x02\x20\xa0\x00"), ErrorCode::BadFrame),
        (b"\xa1\x00".to_vec(), ErrorCode::BadFrame),
        (b"\xa0\x81\x80\x04".to_vec(), ErrorCode::FrameTooLong),
    ] {
        let mut hand = Hand::connect(&central, "gw");
        assert!(hand.client.packs());
        hand.send(&bytes);
        hand.ends_with(code);
    }
    // a peer that is no gateway is not told that it may
    let mut hand = Hand::connect(&central, "person");
    assert!(!hand.client.packs());
    hand.send(&pack(b"\x04\x40\x50\x00\x50\x00"));
    hand.ends_with(ErrorCode::Unexpected);
    there.emit_counted("a", b"1").await.expect("published");
    assert_eq!(*next(&mut up).await.payload, *b"1");
}

#[test]
fn frames_out_of_a_pack_are_taken_as_frames_in_their_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start_central(folder.path(), true);
    let mut hand = Hand::connect(&central, "gw");
    // a PACK of two PINGs, in two pieces, then one that is not packed
    hand.client.subscribe("b", 0, Past::default());
    hand.turn().expect("the subscription is answered");
    let bytes = [pack(b"\x06\x60\x50\x01x\x50\x01y"), b"\x50\x01z".to_vec()].concat();
    hand.send(&bytes[..5]);
    hand.send(&bytes[5..]);
    let mut came = Vec::new();
    while came.len() < 9 {
        came.extend(hand.turn().expect("they are PINGs"));
    }
    assert_eq!(came, b"\x51\x01x\x51\x01y\x51\x01z");
}
