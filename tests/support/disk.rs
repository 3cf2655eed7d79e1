//! How long the machine's disk has kept everybody waiting: a test that waits for what is on disk gives that
//! time on top.
//!
//! Where other work writes gigabytes at once, a file system may let every `fdatasync` wait for half a
//! minute, and a process that is killed there ends no sooner. A daemon that acknowledges nothing
//! meanwhile does what it promises.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// What was seen so far.
struct Seen {
    /// How long the disk has stalled, but for the write that is under way.
    stalled: Duration,
    /// Since when a write is under way.
    since: Option<Instant>,
}

/// Looks from now on how the disk of temporary files is, until the test's process ends.
pub fn watch() {
    WATCH.call_once(|| {
        let file = tempfile::tempfile().expect("a temporary file");
        std::thread::spawn(move || look(&file));
    });
}

/// How long the disk has stalled since [`watch`]; nothing, where it was not called.
pub fn stalled() -> Duration {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.stalled + seen.since.map_or(Duration::ZERO, |since| stall(since.elapsed()))
}

/// The time for something, with that for which the disk has stalled meanwhile.
pub struct Patience {
    begun: Instant,
    stalled: Duration,
    within: Duration,
}

impl Patience {
    pub fn new(within: Duration) -> Self {
        Self { begun: Instant::now(), stalled: stalled(), within }
    }

    /// What is left of it; `None`: it is over.
    pub fn left(&self) -> Option<Duration> {
        let stalled = stalled().saturating_sub(self.stalled).min(MOST);
        let left = (self.within + stalled).checked_sub(self.begun.elapsed())?;
        (!left.is_zero()).then_some(left)
    }
}

fn look(file: &File) {
    loop {
        let begun = Instant::now();
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).since = Some(begun);
        let written = file.write_all_at(&[1; 4096], 0).and_then(|()| file.sync_data());
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        seen.since = None;
        seen.stalled += stall(begun.elapsed());
        drop(seen);
        if written.is_err() {
            return;
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// How much of a write's time is a stall.
fn stall(took: Duration) -> Duration {
    if took < LEAST { Duration::ZERO } else { took }
}

static WATCH: Once = Once::new();
static SEEN: Mutex<Seen> = Mutex::new(Seen { stalled: Duration::ZERO, since: None });
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(200);
/// A write that takes less is no stall.
const LEAST: Duration = Duration::from_secs(1);
/// A disk that is gone for longer fails the test.
const MOST: Duration = Duration::from_secs(240);
