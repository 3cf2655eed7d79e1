//! A start that waits for a disk: the service manager is told again and again that it takes longer.
//!
//! It promises: a daemon that reads its state from a disk that stalls is not killed for being late, as
//! long as it gets on; one that makes no progress for five minutes is left to the service
//! manager's own time-out. Where no service manager listens there is no thread.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tracing::warn;

use super::watchdog::DISK_DEADLINE;
use super::{EXTEND_BY, EXTEND_EVERY, notify, say};

/// The service manager has patience until this is dropped.
#[derive(Debug)]
pub struct Starting {
    steps: Arc<AtomicU32>,
    thread: Option<(mpsc::SyncSender<()>, JoinHandle<()>)>,
}

impl Starting {
    /// From here on the start may wait for a disk.
    #[must_use]
    pub fn begin() -> Self {
        let steps = Arc::new(AtomicU32::new(0));
        let thread = notify::is_heard().then(|| start_thread(Arc::clone(&steps)));
        let thread = thread.and_then(|thread| {
            // then the time-out of the unit holds
            thread.map_err(|error| warn!(%error, "no thread that extends the start")).ok()
        });
        Self { steps, thread }
    }

    /// One part of the state was read: the next has its own time.
    pub fn note_progress(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let Some((alive, thread)) = self.thread.take() else { return };
        drop(alive);
        if thread.join().is_err() {
            warn!("the thread that extends the start panicked");
        }
    }
}

fn start_thread(steps: Arc<AtomicU32>) -> io::Result<(mpsc::SyncSender<()>, JoinHandle<()>)> {
    let (alive, ended) = mpsc::sync_channel(0);
    let run = move || {
        let mut progress = Progress::new(Instant::now());
        while ended.recv_timeout(EXTEND_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
            if progress.may_go_on(Instant::now(), steps.load(Ordering::Relaxed)) {
                say(&[("EXTEND_TIMEOUT_USEC", EXTEND_BY.as_micros().to_string())]);
            }
        }
    };
    let thread = thread::Builder::new().name("starting".to_owned()).stack_size(STACK_BYTES);
    Ok((alive, thread.spawn(run)?))
}

/// Whether a start gets on.
#[derive(Debug)]
struct Progress {
    steps: u32,
    since: Instant,
}

impl Progress {
    fn new(now: Instant) -> Self {
        Self { steps: 0, since: now }
    }

    /// Whether the step at hand has time left.
    fn may_go_on(&mut self, now: Instant, steps: u32) -> bool {
        if steps != self.steps {
            *self = Self { steps, since: now };
        }
        now.saturating_duration_since(self.since) < DISK_DEADLINE
    }
}

/// What the thread calls needs little, but for a log line.
const STACK_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_step_has_the_time_of_a_disk_and_the_next_one_has_its_own() {
        let begun = Instant::now();
        let mut progress = Progress::new(begun);
        let last = DISK_DEADLINE - Duration::from_secs(1);
        assert!(progress.may_go_on(begun, 0));
        assert!(progress.may_go_on(begun + last, 0));
        assert!(progress.may_go_on(begun + last, 1), "a step was done");
        assert!(progress.may_go_on(begun + last + last, 1));
    }

    #[test]
    fn a_step_that_lasts_longer_than_a_disk_may_is_left_to_the_service_manager() {
        let begun = Instant::now();
        let mut progress = Progress::new(begun);
        assert!(!progress.may_go_on(begun + DISK_DEADLINE, 0));
        assert!(!progress.may_go_on(begun + 2 * DISK_DEADLINE, 0));
        // it came back after all
        assert!(progress.may_go_on(begun + 2 * DISK_DEADLINE, 1));
    }
}
