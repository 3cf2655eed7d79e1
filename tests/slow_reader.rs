//! A subscriber that stops reading costs its outbox and no more: the others go on, what it does not
//! get is counted exactly, and by which policy is its own choice.

mod support;

use std::collections::BTreeMap;
use std::net::TcpStream;

use fastport_wire::control::{ByeReason, WhenFull};
use fastport_wire::frame::{DataFlags, GapCause};
use serde_json::Value;

use support::Daemon;
use support::peer::{Event, Peer, connect_small, data};

const OUTBOX: u64 = 16 * 1024;
/// The slow readers' sockets, so that little waits in the kernel.
const RECEIVE_BUFFER: usize = 4096;
/// Published before all who read are waited for; with their frames far below an outbox.
const BATCH: u32 = 50;
/// A message is a number and filling.
const MESSAGE: usize = 100;

struct Scene {
    daemon: Daemon,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(limits: &str) -> Self {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let config = format!(
            "listen = [{{ kind = \"tcp\", address = \"127.0.0.1:0\" }}]\nboard.enabled = false\n\
             limits.memory = \"1MiB\"\nlimits.outbox = {OUTBOX}\nlimits.payload = \"1KiB\"\n{limits}\n\
             [[session]]\nname = \"home\"\nopen = true\nretention.messages = 0\n"
        );
        Self { daemon: Daemon::start(folder.path(), &config), _folder: folder }
    }

    fn join(&self) -> Peer {
        Peer::join(&self.daemon.address("tcp"), "home")
    }

    fn join_slow(&self, when_full: WhenFull, linger: u32) -> Peer {
        let address = self.daemon.address("tcp");
        let mut peer = Peer::join_as(connect_small(&address, RECEIVE_BUFFER), "home", |hello| {
            hello.when_full = Some(when_full.number());
            hello.linger = Some(linger);
        });
        peer.subscribe("t/#");
        peer
    }
}

fn payload(number: u32) -> Vec<u8> {
    let mut payload = vec![b'.'; MESSAGE];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("a message begins with its number"))
}

fn figures<'a>(status: &'a Value, name: &str) -> &'a Value {
    &status["sessions"]["home"][name]
}

fn dropped(status: &Value) -> u64 {
    let causes = figures(status, "dropped").as_object().expect("an object of causes");
    causes.values().filter_map(Value::as_u64).sum()
}

/// Every message that was meant for a reader is delivered, queued or dropped.
fn assert_adds_up(status: &Value) {
    let count = |name| figures(status, name).as_u64().expect("a count");
    assert_eq!(
        count("routed"),
        count("delivered") + count("queued") + dropped(status),
        "{status:#}"
    );
    let memory = &status["memory"];
    assert!(memory["used"].as_u64() <= memory["limit"].as_u64(), "{memory}");
}

/// Publishes in batches on `topics` in turn, each batch read by a reader that keeps up, until
/// `is_enough` of the figures; how many.
fn publish_until(
    talker: &mut Peer,
    quick: &mut Peer,
    topics: &[u32],
    is_enough: impl Fn(&Value) -> bool,
) -> u32 {
    let mut published = 0;
    loop {
        let mut bytes = Vec::new();
        for at in published..published + BATCH {
            let topic = topics[at as usize % topics.len()];
            bytes.extend_from_slice(&data(topic, DataFlags::NONE, &payload(at)));
        }
        std::io::Write::write_all(&mut talker.io, &bytes).expect("the talker is never held up");
        for at in published..published + BATCH {
            assert_eq!(number(&quick.next_data().1), at, "who keeps up misses nothing");
        }
        published += BATCH;
        let status = talker.status();
        assert_adds_up(&status);
        if is_enough(&status) {
            return published;
        }
        assert!(published < 500_000, "the kernel swallows everything: {status:#}");
    }
}

/// What a reader gets that reads again.
#[derive(Default)]
struct Read {
    numbers: Vec<u32>,
    gaps: BTreeMap<GapCause, u64>,
    /// the last number of each topic
    last: BTreeMap<u32, u32>,
}

impl Read {
    fn total(&self) -> u64 {
        self.numbers.len() as u64 + self.gaps.values().sum::<u64>()
    }

    /// Takes one event; whether there was one that counts.
    fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Data { topic, payload, .. } => {
                self.numbers.push(number(payload));
                self.last.insert(*topic, number(payload));
            }
            Event::Gap { count, cause, .. } => *self.gaps.entry(*cause).or_default() += count,
            Event::Topic { .. } | Event::Other => {}
            _ => return false,
        }
        true
    }
}

/// Reads until all of `published` is accounted for.
fn read_all(peer: &mut Peer, published: u32) -> Read {
    let mut read = Read::default();
    while read.total() < u64::from(published) {
        let event = peer.next();
        assert!(read.take(&event), "{event:?} after {} of {published}", read.total());
    }
    read
}

/// What a slow reader may cost: its outbox is one allocation that grows by doubling, in which what
/// is written already makes room for what comes; beside it what figures and the talker cost. The
/// buffers of a stream stay warm for a second.
const COST: u64 = 2 * OUTBOX + 16 * 1024;

fn used(status: &Value) -> u64 {
    status["memory"]["used"].as_u64().expect("a count of bytes")
}

#[test]
fn drop_oldest_counts_what_it_drops_and_keeps_the_newest() {
    let scene = Scene::new("");
    let (mut talker, mut quick) = (scene.join(), scene.join());
    quick.subscribe("t/#");
    let topic = talker.open("t/a");
    let mut slow = scene.join_slow(WhenFull::DropOldest, 0);
    let before = used(&talker.status());
    let published =
        publish_until(&mut talker, &mut quick, &[topic], |status| dropped(status) > 1000);
    talker.wait_for_status("little memory in use", |status| used(status) < before + COST);

    let read = read_all(&mut slow, published);
    assert_eq!(read.total(), u64::from(published));
    assert_eq!(read.gaps.keys().collect::<Vec<_>>(), [&GapCause::Overflow]);
    assert!(read.numbers.is_sorted(), "in order");
    assert_eq!(read.numbers.last(), Some(&(published - 1)), "the newest is kept");
    let status = talker.wait_for_status("an empty outbox", |it| figures(it, "queued") == 0);
    assert_eq!(dropped(&status), read.gaps[&GapCause::Overflow]);
    assert_adds_up(&status);
}

#[test]
fn latest_keeps_the_newest_of_each_topic() {
    let scene = Scene::new("");
    let (mut talker, mut quick) = (scene.join(), scene.join());
    quick.subscribe("t/#");
    let topics = ["t/a", "t/b", "t/c"].map(|topic| talker.open(topic));
    let mut slow = scene.join_slow(WhenFull::Latest, 0);
    let before = used(&talker.status());
    let published =
        publish_until(&mut talker, &mut quick, &topics, |status| dropped(status) > 1000);
    talker.wait_for_status("little memory in use", |status| used(status) < before + COST);

    let read = read_all(&mut slow, published);
    assert_eq!(read.total(), u64::from(published));
    assert_eq!(read.gaps.keys().collect::<Vec<_>>(), [&GapCause::Superseded]);
    for (at, topic) in (0..).zip(topics) {
        let newest = (0..published).rev().find(|number| number % 3 == at);
        assert_eq!(read.last.get(&topic).copied(), newest);
    }
    let status = talker.wait_for_status("an empty outbox", |it| figures(it, "queued") == 0);
    assert_eq!(dropped(&status), read.gaps[&GapCause::Superseded]);
    assert_adds_up(&status);
}

#[test]
fn close_ends_the_slow_link_and_says_why() {
    let scene = Scene::new("");
    let (mut talker, mut quick) = (scene.join(), scene.join());
    quick.subscribe("t/#");
    let topic = talker.open("t/a");
    let mut slow = scene.join_slow(WhenFull::Close, 0);
    let published = publish_until(&mut talker, &mut quick, &[topic], |status| dropped(status) > 0);
    // it wakes up while its last bytes are still there for it
    let mut read = Read::default();
    let end = loop {
        let event = slow.next();
        if !read.take(&event) {
            break event;
        }
    };
    assert_eq!(end, Event::Bye { reason: Some(ByeReason::TooSlow), retry: None });
    assert_eq!(slow.next(), Event::Closed);
    let expected: Vec<u32> = (0..).take(read.numbers.len()).collect();
    assert_eq!(read.numbers, expected, "no hole before the end");
    assert!(read.total() <= published.into());
    let status = talker.wait_for_status("its end", |it| figures(it, "peers") == 2);
    assert_adds_up(&status);
    // the others never noticed
    publish_until(&mut talker, &mut quick, &[topic], |_| true);
}

/// Publishes counted messages from a thread of its own, all at once; ends when all are acknowledged.
fn publish_counted(mut talker: Peer, topic: u32, count: u32) -> std::thread::JoinHandle<Peer> {
    let mut writer: TcpStream = talker.io.try_clone().expect("file descriptors can be had");
    std::thread::spawn(move || {
        let writing = std::thread::spawn(move || {
            for at in 0..count {
                let frame = data(topic, DataFlags::COUNTED, &payload(at));
                std::io::Write::write_all(&mut writer, &frame).expect("the daemon reads in time");
            }
        });
        while talker.next() != (Event::Ack { taken: count.into() }) {}
        writing.join().expect("the writer did not panic");
        talker
    })
}

/// Far more than sockets and an outbox hold.
const COUNTED: u32 = 100_000;

#[test]
fn hold_slows_the_publisher_and_loses_nothing() {
    let scene = Scene::new("");
    let mut watcher = scene.join();
    let mut slow = scene.join_slow(WhenFull::Hold, 0);
    let before = used(&watcher.status());
    let mut talker = scene.join();
    let topic = talker.open("t/a");
    let publishing = publish_counted(talker, topic, COUNTED);
    let status = watcher.wait_for_standstill("home");
    assert!(figures(&status, "published").as_u64() < Some(COUNTED.into()), "{status:#}");
    assert_eq!(dropped(&status), 0);
    assert_adds_up(&status);
    // the talker's unread bytes are held beside: at most what was read at once
    watcher
        .wait_for_status("little memory in use", |status| used(status) < before + COST + 64 * 1024);

    let read = read_all(&mut slow, COUNTED);
    assert!(read.gaps.is_empty(), "{:?}", read.gaps);
    assert!(read.numbers.iter().copied().eq(0..COUNTED), "each once, in order");
    publishing.join().expect("all were acknowledged");
    let status = watcher.wait_for_status("an empty outbox", |it| figures(it, "queued") == 0);
    assert_eq!(dropped(&status), 0);
    assert_adds_up(&status);
}

#[test]
fn hold_lets_the_publisher_go_on_when_the_reader_stalls_for_too_long() {
    let scene = Scene::new("limits.stall_timeout = \"1s\"");
    let mut watcher = scene.join();
    let mut slow = scene.join_slow(WhenFull::Hold, 0);
    let mut talker = scene.join();
    let topic = talker.open("t/a");
    let publishing = publish_counted(talker, topic, COUNTED);
    publishing.join().expect("all were acknowledged");
    let status = watcher.wait_for_status("the reader's end", |it| figures(it, "queued") == 0);
    assert_adds_up(&status);
    assert!(figures(&status, "dropped")["reader-gone"].as_u64() > Some(0), "{status:#}");
    // what it finds are the oldest, without a hole
    let mut read = Read::default();
    while read.take(&slow.next()) {}
    assert!(read.numbers.iter().copied().eq((0..).take(read.numbers.len())));
    assert!(read.numbers.len() < COUNTED as usize);
}

#[test]
fn hold_waits_for_a_reader_that_left_until_its_linger_is_over() {
    let scene = Scene::new("");
    let mut watcher = scene.join();
    let slow = scene.join_slow(WhenFull::Hold, 1);
    let mut talker = scene.join();
    let topic = talker.open("t/a");
    let publishing = publish_counted(talker, topic, COUNTED);
    watcher.wait_for_standstill("home");
    drop(slow);
    let status = watcher.wait_for_status("the link's end", |it| figures(it, "lingering") == 1);
    assert!(figures(&status, "published").as_u64() < Some(COUNTED.into()), "{status:#}");
    publishing.join().expect("all were acknowledged");
    let status = watcher.wait_for_status("the reader's end", |it| figures(it, "lingering") == 0);
    assert_adds_up(&status);
    assert_eq!(figures(&status, "queued"), 0);
    assert!(figures(&status, "dropped")["reader-gone"].as_u64() > Some(0), "{status:#}");
}
