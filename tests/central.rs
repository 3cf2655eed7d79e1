//! A central instance: what its acknowledgement promises, on the real daemon and its file.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use fastport_wire::control::{self, Control, Tier, features};
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};
use rusqlite::Connection;
use support::peer::{Peer, connect, hello};
use support::{Daemon, demo_config, fastportd};

const COUNTED: DataFlags = DataFlags::COUNTED;

fn config(folder: &Path, central: &str, more: &str) -> String {
    let state = folder.join("state");
    let daemon = format!("[daemon]\nstate = {state:?}\n\n[central]\nenabled = true\n{central}\n");
    demo_config("") + &daemon + more
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn store_of(folder: &Path) -> PathBuf {
    folder.join("state/central.db")
}

/// What the store holds, as somebody else sees it.
fn payloads(folder: &Path) -> Vec<String> {
    let connection = Connection::open(store_of(folder)).expect("the daemon made it");
    let mut statement =
        connection.prepare("SELECT payload FROM messages ORDER BY id").expect("the view is there");
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    rows.map(|row| String::from_utf8(row.expect("a payload")).expect("text")).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// A publisher that wants to know what central holds.
struct Publisher {
    peer: Peer,
    topic: u32,
}

/// Of an ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Acked {
    taken: u64,
    durable: u64,
    central: u64,
}

impl Publisher {
    fn join(address: &str, name: &'static str) -> Self {
        let mut peer = Peer::join_as(connect(address), "demo", |hello| wish(hello, 7, name));
        let request = peer.new_request();
        let tier = Some(Tier::Central.number());
        peer.send(control::Open { request, topic: "plant/pump", tier, ..Default::default() });
        let topic = peer.granted().expect("central offers it").expect("OK has the id");
        Self { peer, topic }
    }

    fn publish(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.peer.publish(self.topic, COUNTED, number.to_string().as_bytes());
        }
    }

    fn next_ack(&mut self) -> Acked {
        loop {
            let acked = self.peer.frame(|frame| match frame {
                Frame::Ack { taken, durable, central, .. } => Some(Acked {
                    taken,
                    durable: durable.unwrap_or(taken),
                    central: central.unwrap_or(taken),
                }),
                _ => None,
            });
            if let Some(acked) = acked.expect("the link holds") {
                return acked;
            }
        }
    }

    fn ask(&mut self) -> Acked {
        self.peer.send_frame(&Frame::Ping { token: &[] });
        self.next_ack()
    }

    fn wait_for_central(&mut self, count: u64) -> Acked {
        loop {
            let acked = self.next_ack();
            if acked.central >= count {
                return acked;
            }
        }
    }
}

fn wish(hello: &mut control::Hello<'_>, epoch: u64, name: &'static str) {
    hello.flags = Some(features::ACK_DURABLE | features::ACK_CENTRAL);
    (hello.linger, hello.epoch, hello.name) = (Some(600), epoch, Some(name));
}

#[test]
fn central_is_acknowledged_when_the_messages_are_in_the_file_and_not_before() {
    let folder = folder();
    let daemon = Daemon::start(folder.path(), &config(folder.path(), "commit = \"500ms\"", ""));
    let mut publisher = Publisher::join(&daemon.address("tcp"), "pump");
    publisher.publish(0..100);
    assert_eq!(publisher.ask(), Acked { taken: 100, durable: 0, central: 0 });
    assert!(payloads(folder.path()).is_empty(), "nobody waited for it");
    let all = publisher.wait_for_central(100);
    assert_eq!(payloads(folder.path()), numbers(0..100));
    assert_eq!(all, Acked { taken: 100, durable: 100, central: 100 });
    let status = publisher.peer.status();
    let central = &status["central"];
    assert_eq!((&central["stored"], &central["held"]), (&100.into(), &100.into()), "{status:#}");
    assert_eq!((&central["batches"], &central["unstored_bytes"]), (&1.into(), &0.into()));
    assert!(central["last_commit_ms"].as_u64() > Some(1_700_000_000_000), "{status:#}");
}

#[test]
fn a_stop_stores_what_was_taken_and_a_start_goes_on_behind_it() {
    let folder = folder();
    let config = config(folder.path(), "commit = \"10s\"", "");
    let mut daemon = Daemon::start(folder.path(), &config);
    let mut publisher = Publisher::join(&daemon.address("tcp"), "pump");
    publisher.publish(0..10);
    assert_eq!(publisher.ask().taken, 10);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(payloads(folder.path()), numbers(0..10));
    let daemon = Daemon::start(folder.path(), &config);
    let mut publisher = Publisher::join(&daemon.address("tcp"), "other");
    publisher.publish(10..20);
    publisher.ask();
    drop(daemon);
}

#[test]
fn the_oldest_messages_make_room() {
    let folder = folder();
    let daemon = Daemon::start(folder.path(), &config(folder.path(), "bytes = \"4KiB\"", ""));
    let mut publisher = Publisher::join(&daemon.address("tcp"), "pump");
    publisher.publish(0..1000);
    publisher.wait_for_central(1000);
    let status = publisher
        .peer
        .wait_for_status("room", |status| status["central"]["held_bytes"].as_u64() <= Some(4096));
    let held = payloads(folder.path());
    assert_eq!(status["central"]["held"], held.len());
    let first = 1000 - u32::try_from(held.len()).expect("few");
    assert_eq!(held, numbers(first..1000));
    assert!(held.len() > 100, "{}", held.len());
}

#[test]
fn while_the_disk_is_full_nothing_is_acknowledged_and_nothing_is_lost() {
    const MESSAGES: u32 = 1000;
    let folder = folder();
    let path = folder.path().join("gateway.toml");
    // the journal, which holds at most four times what waits, finds its room
    let memory = "[limits]\nmemory = \"1MiB\"\n\n[journal]\nleast = \"64KiB\"\n";
    std::fs::write(&path, config(folder.path(), "", memory)).expect("written");
    // a file cannot become longer than that: writing it fails as on a full disk
    let mut limited = Command::new("prlimit");
    limited.args(["--fsize=3000000:", "env", "--ignore-signal=XFSZ"]);
    limited.arg(fastportd().get_program()).arg("--config").arg(&path);
    let mut daemon = Daemon::spawn(&mut support::without_settings(limited));
    let mut publisher = Publisher::join(&daemon.address("tcp"), "pump");
    let payload = |number: u32| format!("{number:04000}");
    for number in 0..MESSAGES {
        // more than the disk takes
        publisher.peer.publish(publisher.topic, COUNTED, payload(number).as_bytes());
    }
    daemon.wait_for("messages are not stored");
    let acked = publisher.ask();
    assert!(acked.central < MESSAGES.into(), "{acked:?}");
    let stored = payloads(folder.path()).len() as u64;
    assert!(stored >= acked.central && stored < MESSAGES.into(), "{acked:?} {stored}");
    let lift = format!("--pid={}", daemon.pid());
    let lifted = Command::new("prlimit").args([&lift, "--fsize=unlimited"]).status();
    assert!(lifted.is_ok_and(|status| status.success()));
    publisher.wait_for_central(MESSAGES.into());
    let expected: Vec<String> = (0..MESSAGES).map(payload).collect();
    assert_eq!(payloads(folder.path()), expected);
    daemon.wait_for("the store works again");
    let lines = daemon.log().lines().filter(|line| line.contains("not stored")).count();
    assert_eq!(lines, 1, "it is said once");
}

#[test]
fn a_gateways_times_and_gaps_are_in_the_file() {
    let folder = folder();
    let credentials = folder.path().join("credentials.toml");
    let text = format!(
        "[[identity]]\nsession = \"demo\"\nid = \"cellar\"\npassword = \"{HASH}\"\n\
         publish = [\"#\"]\ngateway = true\n"
    );
    std::fs::write(&credentials, text).expect("written");
    let mode = Command::new("chmod").arg("600").arg(&credentials).status();
    assert!(mode.is_ok_and(|status| status.success()));
    let access = format!("[access]\ncredentials = {credentials:?}\n");
    let daemon = Daemon::start(folder.path(), &config(folder.path(), "", &access));
    let mut peer = Peer::silent(connect(&daemon.address("tcp")));
    let mut hello = hello("demo");
    wish(&mut hello, 7, "uplink");
    (hello.method, hello.identity) = (Some(control::Method::Password.number()), Some("cellar"));
    peer.send(hello);
    assert_eq!(peer.control(|message| matches!(message, Control::Challenge(_))), Some(true));
    peer.send(control::Proof { proof: b"password", ..Default::default() });
    peer.welcomed();
    let topic = peer.open("plant/pump");
    let mut gateway = Publisher { peer, topic };
    gateway.peer.send_frame(&Frame::Time { unix_ms: 1_500_000_000_000 });
    gateway.publish(0..2);
    let gap = |count| Frame::Gap { topic: TopicId::new(topic), count, cause: GapCause::Expired };
    gateway.peer.send_frame(&gap(5));
    gateway.peer.send_frame(&gap(7));
    gateway.publish(2..3);
    gateway.wait_for_central(3);
    let connection = Connection::open(store_of(folder.path())).expect("the daemon made it");
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect(sql);
    let sql = "SELECT count(*) FROM messages WHERE stamp = 1500000000000 AND topic = 'plant/pump'";
    assert_eq!(one(sql), 3);
    let sql = "SELECT sum(messages) FROM gaps WHERE cause = 3 AND topic = 'plant/pump'";
    assert_eq!(one(sql), 7);
    assert_eq!(gateway.peer.status()["central"]["missing"], 7);
}

/// Of `password`, cheap to check: from the test vectors of argon2's reference implementation.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
                    $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
