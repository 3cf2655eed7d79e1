//! The clocks: a monotonic one for every timer and every age, and what is believed of the time of day.
//!
//! It promises: no step of the machine's clock moves a timer; while that clock cannot be right, nothing is
//! stamped with it; what came in meanwhile can be told the time of later
//! ([`Now::known`](fastport_core::time::Now::known)); and certificates are never judged by a time that is
//! known to be over.
//!
//! Timers run on `CLOCK_MONOTONIC`, which stands still while the machine sleeps: after that nobody is
//! silent for too long, and nothing is overdue. Stamps of a clock that is not set are of `CLOCK_BOOTTIME`,
//! which does not stand still.

mod belief;
mod floor;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastport_core::time::{Instant, Now};
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::sync::Notify;

pub use self::belief::Heard;
use self::belief::{Belief, Shown};
pub use self::floor::keep_floor;
pub use self::floor::load as load_floor;

/// See the module's text. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock {
    start: std::time::Instant,
    known: Arc<Known>,
}

/// What is known of the time of day; each number for itself.
#[derive(Debug)]
struct Known {
    /// Before it, it cannot be.
    floor: AtomicU64,
    /// When the machine was booted, by the clock that was believed last; 0: none was.
    booted: AtomicU64,
    /// The same, by a clock that somebody vouched for.
    vouched: AtomicU64,
    /// Somebody vouched for a clock.
    news: Notify,
}

impl Clock {
    /// A clock whose monotonic zero is now, and that knows when the program was built.
    #[must_use]
    pub fn start() -> Self {
        let known = Known {
            floor: AtomicU64::new(built_ms()),
            booted: AtomicU64::new(0),
            vouched: AtomicU64::new(0),
            news: Notify::new(),
        };
        Self { start: std::time::Instant::now(), known: Arc::new(known) }
    }

    /// What the clocks show.
    #[must_use]
    pub fn now(&self) -> Now {
        let shown = shown();
        let belief = self.belief().look(shown);
        // clocks jitter; a line of the cache that is written each time is passed around for nothing
        if belief.booted_ms.abs_diff(self.known.booted.load(Ordering::Relaxed)) > JITTER_MS {
            self.known.booted.store(belief.booted_ms, Ordering::Relaxed);
        }
        Now { mono: self.mono(), unix_ms: belief.stamp(shown), boot_ms: shown.boot_ms }
    }

    /// What the monotonic clock shows.
    #[must_use]
    pub fn mono(&self) -> Instant {
        Instant::from_millis(millis(self.start.elapsed()))
    }

    /// The runtime's name for a time of this clock.
    #[must_use]
    pub fn at(&self, instant: Instant) -> tokio::time::Instant {
        (self.start + Duration::from_millis(instant.as_millis())).into()
    }

    /// The time that certificates are judged at, since 1970: never one that is known to be over.
    #[must_use]
    pub fn for_certificates(&self) -> Duration {
        let now = self.now().clock().unwrap_or(0);
        Duration::from_millis(now.max(self.known.floor.load(Ordering::Relaxed)))
    }

    /// It is later than that, as an earlier life of the daemon knew.
    pub fn note_floor(&self, floor_ms: u64) {
        self.known.floor.fetch_max(floor_ms, Ordering::Relaxed);
    }

    /// Somebody who showed who they are says what time it is.
    pub fn hear(&self, told_ms: u64) -> Heard {
        let (belief, heard) = self.belief().hear(shown(), told_ms);
        if !matches!(heard, Heard::Differs { .. }) {
            self.vouch(belief);
        }
        heard
    }

    /// The machine's clock is right, as who sets it says.
    pub fn trust_system(&self) {
        let shown = shown();
        if shown.system_ms >= built_ms() {
            self.vouch(self.belief().vouched(shown, shown.system_ms));
        }
    }

    /// What the next life may take for granted; `None`: nobody has vouched for a clock in this one.
    #[must_use]
    pub fn proven_floor(&self) -> Option<u64> {
        let vouched = self.known.vouched.load(Ordering::Relaxed);
        if vouched == 0 {
            return None;
        }
        let floor = belief::floor_under(vouched + shown().boot_ms, built_ms());
        self.known.floor.store(floor, Ordering::Relaxed);
        Some(floor)
    }

    fn belief(&self) -> Belief {
        Belief {
            floor_ms: self.known.floor.load(Ordering::Relaxed),
            booted_ms: self.known.booted.load(Ordering::Relaxed),
            built_ms: built_ms(),
        }
    }

    fn vouch(&self, belief: Belief) {
        self.known.floor.store(belief.floor_ms, Ordering::Relaxed);
        self.known.booted.store(belief.booted_ms, Ordering::Relaxed);
        self.known.vouched.store(belief.booted_ms, Ordering::Relaxed);
        self.known.news.notify_one();
    }
}

/// What the kernel calls this start of the machine; empty: it does not say.
#[must_use]
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn shown() -> Shown {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let boot_ms = seconds * 1000 + u64::try_from(tv_nsec / 1_000_000).unwrap_or(0);
    // before 1970: not set, whatever it shows
    let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Shown { boot_ms, system_ms: millis(system) }
}

/// When the program was built: the clocks of boards show no less once they are set.
fn built_ms() -> u64 {
    const BUILT: &str = env!("BUILT_AT");
    // build.rs writes a number; without one any clock is believed that is no boot's
    let seconds = BUILT.parse::<u64>().unwrap_or(0);
    (seconds * 1000).saturating_sub(belief::SLACK_MS).max(fastport_core::time::CLOCK_FLOOR_MS)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Steps smaller than that need not be remembered at once.
const JITTER_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_known_to_the_next_life_with_a_day_taken_off() {
        let clock = Clock::start();
        assert_eq!(clock.proven_floor(), None);
        let now = clock.now().clock().expect("the machine that tests has a clock");
        assert_eq!(clock.hear(now), Heard::Agrees);
        let floor = clock.proven_floor().expect("somebody vouched");
        assert!(floor <= now && now - floor <= belief::SLACK_MS + 1000);
        let next = Clock::start();
        next.note_floor(floor);
        assert!(next.for_certificates() >= Duration::from_millis(floor));
    }

    #[test]
    fn a_floor_ahead_of_the_machines_clock_makes_that_a_clock_that_is_not_set() {
        let clock = Clock::start();
        let now = clock.now().clock().expect("the machine that tests has a clock");
        let clock = Clock::start();
        let later = now + 10 * belief::SLACK_MS;
        clock.note_floor(later);
        let unset = clock.now();
        assert_eq!((unset.clock(), unset.unix_ms), (None, unset.boot_ms));
        assert_eq!(clock.for_certificates(), Duration::from_millis(later));
        // and somebody who is trusted gets it out of that
        assert_eq!(clock.hear(now), Heard::Agrees);
        let set = clock.now().clock().expect("it was told");
        assert!(set.abs_diff(now) < 60_000);
        assert!(clock.now().known(unset.unix_ms).is_some_and(|known| known.abs_diff(now) < 60_000));
    }
}
