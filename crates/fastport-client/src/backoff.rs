//! How long to wait before trying again: exponential backoff with full jitter.

use std::time::Duration;

/// How long to wait between attempts to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The most to wait before the first retry. Default 500 ms.
    pub first: Duration,
    /// The most to wait before any retry. Default 60 s.
    pub most: Duration,
    /// A link that held that long starts the series anew. Default 10 s.
    pub stable: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            most: Duration::from_secs(60),
            stable: Duration::from_secs(10),
        }
    }
}

/// Counts failures and says how long to wait after each. It reads no clock and no randomness.
#[derive(Debug)]
pub struct Backoff {
    options: BackoffOptions,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(options: BackoffOptions) -> Self {
        Self { options, failures: 0 }
    }

    /// Goes on behind that many failures, of an earlier life.
    #[must_use]
    pub fn after(options: BackoffOptions, failures: u32) -> Self {
        Self { options, failures: failures.min(MOST_DOUBLINGS) }
    }

    /// Failures since a link held.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A link that was up for `held` ended.
    pub fn note_link(&mut self, held: Duration) {
        if held >= self.options.stable {
            self.failures = 0;
        }
    }

    /// How long to wait now: anything from nothing to the cap of this turn, as `random` says. Spread
    /// evenly, so that a fleet does not come back at once. Where the relay asked for a time, that
    /// and a little more: it may have given this peer a turn of its own.
    pub fn next(&mut self, random: u64, hint: Option<Duration>) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let cap = self.options.first.saturating_mul(doubled).min(self.options.most);
        self.failures = self.failures.saturating_add(1).min(MOST_DOUBLINGS);
        // 53 bits are what a double holds exactly
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        match hint {
            Some(hint) => hint + hint.min(MOST_BEYOND_HINT).mul_f64(share),
            None => cap.mul_f64(share),
        }
    }
}

/// Beyond a time that the relay asked for.
const MOST_BEYOND_HINT: Duration = Duration::from_secs(1);
/// A cap doubled that often is over any wait that makes sense.
const MOST_DOUBLINGS: u32 = 31;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = u64::MAX;

    fn about(duration: Duration) -> u128 {
        // the largest share is a hair under 1
        (duration + Duration::from_millis(1)).as_millis() / 10 * 10
    }

    #[test]
    fn the_cap_doubles_until_it_is_the_most() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        let waits: Vec<u128> = (0..9).map(|_| about(backoff.next(MAX, None))).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        for _ in 0..100 {
            backoff.next(MAX, None);
        }
        assert_eq!(about(backoff.next(MAX, None)), 60000);
    }

    #[test]
    fn the_wait_is_anything_below_the_cap() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        assert_eq!(backoff.next(0, None), Duration::ZERO);
        assert_eq!(about(backoff.next(MAX / 2, None)), 500);
        assert_eq!(about(backoff.next(MAX / 4, None)), 500);
    }

    #[test]
    fn only_a_link_that_held_starts_anew() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        backoff.next(MAX, None);
        backoff.note_link(Duration::from_secs(9));
        assert_eq!(about(backoff.next(MAX, None)), 1000);
        backoff.note_link(Duration::from_secs(10));
        assert_eq!(about(backoff.next(MAX, None)), 500);
    }

    #[test]
    fn what_the_relay_asks_for_is_the_least_and_a_second_more_is_the_most() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        for _ in 0..10 {
            let hint = Duration::from_secs(7);
            assert_eq!(backoff.next(0, Some(hint)), hint);
            assert_eq!(about(backoff.next(MAX, Some(hint))), 8000);
            let hint = Duration::from_millis(100);
            assert_eq!(about(backoff.next(MAX, Some(hint))), 200);
        }
    }
}
