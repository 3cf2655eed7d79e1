//! What the tests of the spool share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastport_wire::frame::DataFlags;
use tempfile::TempDir;

use super::super::*;
use crate::config::WhenSpoolFull;

/// 2026, and a day after the boot.
pub(super) const UNIX: u64 = 1_780_000_000_000;
pub(super) const BOOT: u64 = 86_400_000;

/// `ms` after the tests' beginning.
pub(super) fn at(ms: u64) -> Moment {
    Moment { boot_ms: BOOT + ms, unix_ms: Some(UNIX + ms) }
}

/// A folder with a spool.
pub(super) struct Place {
    folder: TempDir,
    pub(super) limits: Limits,
}

impl Place {
    pub(super) fn new() -> Self {
        // memory, where the machine has it as files: the tests sync a lot
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        Self { folder, limits: Limits::default() }
    }

    pub(super) fn with_disk(bytes: u64) -> Self {
        let place = Self::new();
        Self { limits: Limits { disk: bytes, ..Limits::default() }, ..place }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("spool.sqlite")
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn open(&self) -> Spool {
        let (spool, opened) = self.open_and_tell(at(0));
        assert_eq!(opened.set_aside, None);
        spool
    }

    pub(super) fn open_and_tell(&self, now: Moment) -> (Spool, Opened) {
        Spool::open(&self.path(), self.limits.clone(), "boot-1", now).unwrap()
    }
}

/// Topic and payload of a message, under a policy.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) when_full: WhenSpoolFull,
    pub(super) max_age: Duration,
    pub(super) publisher: Option<(Publisher, u64)>,
    pub(super) stamp: Stamp,
}

pub(super) fn made(topic: &str, payload: &[u8], when_full: WhenSpoolFull) -> Made {
    Made {
        topic: topic.to_owned(),
        payload: payload.to_owned(),
        when_full,
        max_age: Duration::ZERO,
        publisher: None,
        stamp: Stamp::Unix(UNIX),
    }
}

impl Made {
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry::Message(Message {
            topic: &self.topic,
            schema: None,
            flags: DataFlags::NONE,
            stamp: &self.stamp,
            payload: &self.payload,
            when_full: self.when_full,
            max_age: self.max_age,
            publisher: self.publisher.as_ref().map(|(publisher, count)| (publisher, *count)),
        })
    }
}

/// Appends messages, all of which are taken.
pub(super) fn append(spool: &mut Spool, lane: Lane, messages: &[Made]) {
    let entries: Vec<_> = messages.iter().map(Made::entry).collect();
    let appended = spool.append(at(0), lane, &entries, None).unwrap();
    assert_eq!(appended, Appended::Taken { dropped: 0 });
}

/// All rows of a lane, in words, as a new link would send them.
pub(super) fn rows(spool: &mut Spool, lane: Lane) -> Vec<String> {
    let mut cursor = spool.begin(at(0), lane).unwrap();
    let mut all = Vec::new();
    loop {
        let rows = spool.read(at(0), lane, &mut cursor, 100, 10_000).unwrap();
        if rows.is_empty() {
            return all;
        }
        all.extend(words(&rows));
    }
}

pub(super) fn words(rows: &[Row]) -> Vec<String> {
    rows.iter().map(word).collect()
}

fn word(row: &Row) -> String {
    let count = row.central_count;
    match &row.body {
        Body::Message { topic, payload, .. } => {
            format!("{count} {} {}", topic.name, String::from_utf8_lossy(payload))
        }
        Body::Gap { topic, count: dropped, cause } => {
            let topic = topic.as_ref().map_or("*", |topic| &topic.name);
            format!("{count} gap {topic} {dropped} {}", cause.name())
        }
    }
}

/// Appends so many messages, which begin with their number from 0 on.
pub(super) fn fill(spool: &mut Spool, topic: &str, when_full: WhenSpoolFull, most: u64) -> u64 {
    let mut next = 0;
    while next < most {
        let batch = (next..next + 20).map(|number| {
            let mut payload = format!("{number} ").into_bytes();
            payload.resize(900, b'x');
            made(topic, &payload, when_full)
        });
        append(spool, Lane::Normal, &batch.collect::<Vec<_>>());
        next += 20;
    }
    next
}
