//! Routing: from a publisher's bytes to what its readers' links write.

use std::collections::BTreeMap;

use fastport_core::ledger::Ledger;
use fastport_core::retention::Retention;
use fastport_core::session::Limits;
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

use crate::rig::{Rig, decode, encode, limits};
use crate::{Path, Work};

/// The paths. `1-50` is one publisher and fifty readers; a message is one that was delivered.
pub const PATHS: &[Path] = &[
    path("route-1-1-32B", "32 B, 64 a write", || plain(1, 1, 32, 64)),
    path("route-1-1-32B-single", "32 B, one a write", || plain(1, 1, 32, 1)),
    path("route-1-1-1KiB", "1 KiB, 64 a write", || plain(1, 1, 1024, 64)),
    path("route-1-1-32B-counted", "32 B, 64 a write, acknowledged", || counted(1, 1, 32, 64)),
    path("route-1-1-32B-counted-single", "the same, one a write", || counted(1, 1, 32, 1)),
    path("route-1-1-1KiB-counted", "1 KiB, 64 a write, acknowledged", || counted(1, 1, 1024, 64)),
    path("route-1-1-32B-kept", "32 B, 64 a write, 16 retained", || kept(32, 64)),
    path("route-50-1-32B", "32 B, 16 a write", || plain(50, 1, 32, 16)),
    path("route-50-1-32B-single", "32 B, one a write", || plain(50, 1, 32, 1)),
    path("route-50-1-1KiB", "1 KiB, 4 a write", || plain(50, 1, 1024, 4)),
    path("route-50-1-32B-counted", "32 B, 16 a write, acknowledged", || counted(50, 1, 32, 16)),
    path("route-1-50-32B", "32 B, 64 a write", || plain(1, 50, 32, 64)),
    path("route-1-50-32B-single", "32 B, one a write", || plain(1, 50, 32, 1)),
    path("route-1-50-1KiB", "1 KiB, 64 a write", || plain(1, 50, 1024, 64)),
    path("route-1-50-32B-counted", "32 B, 64 a write, acknowledged", || counted(1, 50, 32, 64)),
    path("flat-topics-100", "25 publishers, 100 topics", || many_topics(100)),
    path("flat-topics-100000", "25 publishers, 100,000 topics", || many_topics(100_000)),
    path("flat-subscriptions-100", "50 readers with 2 filters each", || many_filters(100, 2)),
    path("flat-subscriptions-10000", "the same with 200 each", || many_filters(10_000, 200)),
    path("flat-peers-100", "100 readers, each of a topic of its own", || many_filters(100, 1)),
    path("flat-peers-10000", "10,000 such readers", || many_filters(10_000, 1)),
];

const fn path(name: &'static str, about: &'static str, make: fn() -> Box<dyn Work>) -> Path {
    Path { name, about, make }
}

fn plain(publishers: usize, readers: usize, size: usize, per_write: usize) -> Box<dyn Work> {
    fan(limits(), DataFlags::NONE, [publishers, readers], size, per_write)
}

fn counted(publishers: usize, readers: usize, size: usize, per_write: usize) -> Box<dyn Work> {
    fan(limits(), DataFlags::COUNTED, [publishers, readers], size, per_write)
}

fn kept(size: usize, per_write: usize) -> Box<dyn Work> {
    let limits = limits();
    let retention = Retention { messages: 16, ..limits.retention };
    fan(Limits { retention, ..limits }, DataFlags::NONE, [1, 1], size, per_write)
}

/// Every publisher has a topic of its own, and every reader reads all.
fn fan(
    limits: Limits,
    flags: DataFlags,
    [publishers, readers]: [usize; 2],
    size: usize,
    per_write: usize,
) -> Box<dyn Work> {
    let mut rig = Rig::new(limits);
    let is_counted = flags.contains(DataFlags::COUNTED);
    let attach = |_| {
        let peer = rig.attach(is_counted);
        rig.subscribe(peer, "bench/#");
        peer
    };
    let readers: Vec<_> = (0..readers).map(attach).collect();
    let publisher = |number| {
        let peer = rig.attach(false);
        let topic = rig.open(peer, &format!("bench/{number}"));
        Publisher::new(peer, vec![topic; per_write])
    };
    let publishers = (0..publishers).map(publisher).collect();
    let copies = readers.len() as u64;
    Box::new(Route::new(rig, flags, size, publishers, &readers, copies))
}

/// Each publisher has opened its part of the topics, and four messages of each go round.
fn many_topics(topics: usize) -> Box<dyn Work> {
    const PUBLISHERS: usize = 25;
    const MESSAGES: usize = 4;
    let mut rig = Rig::new(limits());
    let reader = rig.attach(false);
    rig.subscribe(reader, "bench/#");
    let each = topics / PUBLISHERS;
    let publisher = |number| {
        let peer = rig.attach(false);
        let open = |topic| rig.open(peer, &format!("bench/{number}/{topic}"));
        let topics: Vec<_> = (0..each).map(open).collect();
        Publisher::new(peer, topics.into_iter().step_by(each / MESSAGES).collect())
    };
    let publishers = (0..PUBLISHERS).map(publisher).collect();
    Box::new(Route::new(rig, DataFlags::NONE, 32, publishers, &[reader], 1))
}

/// So many filters, `each` at one reader, each selects a topic of its own; on a hundred of these
/// goes a message.
fn many_filters(filters: usize, each: usize) -> Box<dyn Work> {
    const MESSAGES: usize = 100;
    let mut rig = Rig::new(limits());
    let mut readers = Vec::new();
    for number in 0..filters {
        if number % each == 0 {
            readers.push(rig.attach(false));
        }
        let reader = readers.last().copied().unwrap_or_default();
        rig.subscribe(reader, &format!("bench/{number}/+"));
    }
    let peer = rig.attach(false);
    let open = |number| rig.open(peer, &format!("bench/{number}/value"));
    let topics = (0..filters).step_by(filters / MESSAGES).map(open).collect();
    let publishers = vec![Publisher::new(peer, topics)];
    Box::new(Route::new(rig, DataFlags::NONE, 32, publishers, &readers, 1))
}

/// Publishers that each write a batch, then readers that take and, where it is counted,
/// acknowledge all of it.
struct Route {
    rig: Rig,
    flags: DataFlags,
    /// bytes of a payload
    size: usize,
    publishers: Vec<Publisher>,
    readers: Vec<Reader>,
    /// how many readers each message has
    copies: u64,
    /// counted messages of each reader
    counted: u64,
    /// of the figures at the end of [`Work::verify`]
    before: Ledger,
}

struct Publisher {
    peer: usize,
    /// of each message of a batch
    topics: Vec<TopicId>,
    /// the bytes of one write
    batch: Vec<u8>,
    /// messages so far, while they are looked at
    number: u64,
}

struct Reader {
    peer: usize,
    /// bytes that it gets in a round
    share: u64,
    /// bytes that it had at the end of [`Work::verify`]
    before: u64,
}

impl Publisher {
    fn new(peer: usize, topics: Vec<TopicId>) -> Self {
        Self { peer, topics, batch: Vec::new(), number: 0 }
    }

    /// Makes up the next batch; each payload begins with its number.
    fn prepare(&mut self, flags: DataFlags, size: usize) {
        self.batch.clear();
        for &topic in &self.topics {
            let mut payload = vec![FILLER; size];
            if let Some(room) = payload.first_chunk_mut() {
                *room = self.number.to_le_bytes();
            }
            self.batch.extend(encode(&Frame::Data { flags, topic, payload: &payload }));
            self.number += 1;
        }
    }
}

impl Route {
    fn new(
        rig: Rig,
        flags: DataFlags,
        size: usize,
        publishers: Vec<Publisher>,
        readers: &[usize],
        copies: u64,
    ) -> Self {
        let reader = |&peer| Reader { peer, share: 0, before: 0 };
        let readers = readers.iter().map(reader).collect();
        let before = Ledger::default();
        Self { rig, flags, size, publishers, readers, copies, counted: 0, before }
    }

    fn published(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.topics.len() as u64).sum()
    }

    /// Looks at what the readers got in a round.
    fn look(&mut self) {
        let mut copies = BTreeMap::new();
        for reader in &mut self.readers {
            let seen = self.rig.take_seen(reader.peer);
            let mut rest = &seen[..];
            let mut last = BTreeMap::new();
            while let Some((frame, length)) = decode(rest) {
                rest = rest.get(length..).unwrap_or_default();
                let Frame::Data { topic, payload, .. } = frame else {
                    assert!(matches!(frame, Frame::Topic { .. }), "a reader is sent {frame:?}");
                    continue;
                };
                assert_eq!(payload.len(), self.size, "a payload changed its length");
                let number = payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                let before = last.insert(topic, number);
                assert!(before.is_none_or(|before| before < number), "{topic:?} is out of order");
                *copies.entry((topic, number)).or_insert(0) += 1;
            }
            assert!(rest.is_empty(), "what a reader is sent ends inside a frame");
        }
        for publisher in &self.publishers {
            let first = publisher.number - publisher.topics.len() as u64;
            for (&topic, number) in publisher.topics.iter().zip(first..) {
                let copies = copies.remove(&(topic, Some(number)));
                assert_eq!(copies, Some(self.copies), "message {number} of {topic:?}");
            }
        }
        assert!(copies.is_empty(), "messages that nobody sent: {copies:?}");
    }
}

impl Work for Route {
    fn round(&mut self) {
        for publisher in &self.publishers {
            self.rig.drive(publisher.peer, &publisher.batch);
        }
        self.rig.drive_woken();
        if !self.flags.contains(DataFlags::COUNTED) {
            return;
        }
        self.counted += self.published();
        let ack = Frame::Ack { taken: self.counted, durable: None, central: None, repeat: false };
        let mut bytes = [0; ACK_MAX];
        let length = ack.encode(&mut bytes).expect("an ACK of one count is short");
        for reader in &self.readers {
            self.rig.drive(reader.peer, bytes.get(..length).unwrap_or_default());
        }
    }

    fn messages(&self) -> u64 {
        self.published() * self.copies
    }

    fn verify(&mut self) {
        for _ in 0..ROUNDS_WATCHED {
            for publisher in &mut self.publishers {
                publisher.prepare(self.flags, self.size);
            }
            for reader in &mut self.readers {
                reader.before = self.rig.written(reader.peer);
            }
            self.round();
            self.look();
        }
        self.rig.is_watched = false;
        for reader in &mut self.readers {
            let written = self.rig.written(reader.peer);
            reader.share = written - reader.before;
            reader.before = written;
        }
        self.before = self.rig.ledger();
        self.check(0);
    }

    fn check(&self, rounds: u64) {
        for reader in &self.readers {
            let written = self.rig.written(reader.peer) - reader.before;
            assert_eq!(written, rounds * reader.share, "bytes to a reader in {rounds} rounds");
        }
        let Ledger { published, routed, delivered, dropped, .. } = self.rig.ledger();
        let messages = rounds * self.messages();
        assert_eq!(published - self.before.published, rounds * self.published(), "published");
        assert_eq!(routed - self.before.routed, messages, "routed");
        assert_eq!(delivered - self.before.delivered, messages, "delivered");
        assert_eq!(dropped, Ledger::default().dropped, "dropped, by cause");
    }
}

/// The first of them has the announcements of the topics.
const ROUNDS_WATCHED: u32 = 4;
/// Of payloads, behind the number.
const FILLER: u8 = 0x2e;
/// A head and one count.
const ACK_MAX: usize = 16;
