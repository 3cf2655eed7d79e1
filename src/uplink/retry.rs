//! When to try again. Decisions only.

use std::time::{Duration, Instant};

use fastport_client::BackoffOptions;
use fastport_client::raw::Backoff;

/// Why there is no link, as far as it matters for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The network, or nobody at the other end: it may be back at any moment.
    Network,
    /// The other end asks to be left alone for so long.
    Asked(Duration),
    /// The other end has something against this gateway, and may have less later.
    Trouble,
    /// Nothing helps until somebody changes something.
    Fatal,
    /// Another link to the same central instance is wanted: at once.
    Switch,
    /// The favourite is back: at once.
    Return,
}

/// Counts failures, and says how long to wait after each.
#[derive(Debug)]
pub(super) struct Retry {
    options: BackoffOptions,
    backoff: Backoff,
    /// since when there is no link
    since: Option<Instant>,
    /// for longer than [`EAGER_FOR`]
    is_late: bool,
}

impl Retry {
    /// Nothing has failed yet.
    #[must_use]
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        let options = BackoffOptions { first, most, ..BackoffOptions::default() };
        Self { options, backoff: Backoff::new(options), since: None, is_late: false }
    }

    /// Goes on where an earlier process was, by its [`Retry::level`].
    #[must_use]
    pub(super) fn after(first: Duration, most: Duration, level: u64) -> Self {
        let retry = Self::new(first, most);
        let failures = u32::try_from(level >> 1).unwrap_or(u32::MAX);
        Self { backoff: Backoff::after(retry.options, failures), is_late: level & 1 == 1, ..retry }
    }

    /// How patient it has become: what is worth remembering by the next process. It changes with each
    /// failure until the waits are as long as they get, so a few times in an outage.
    #[must_use]
    pub(super) fn level(&self) -> u64 {
        let (first, most) = (self.options.first.max(LEAST), self.options.most);
        let doublings = (0..).find(|&n| first.saturating_mul(1 << n) >= most || n >= MOST_LEVEL);
        let failures = self.backoff.failures().min(doublings.unwrap_or(MOST_LEVEL));
        u64::from(failures) << 1 | u64::from(self.is_late)
    }

    /// A link that is up for so long has shown that it holds.
    #[must_use]
    pub(super) fn stable(&self) -> Duration {
        self.options.stable
    }

    /// A link ended that was up for so long; whether it held.
    pub(super) fn note_link(&mut self, held: Duration) -> bool {
        self.backoff.note_link(held);
        let is_stable = held >= self.options.stable;
        if is_stable {
            (self.since, self.is_late) = (None, false);
        }
        is_stable
    }

    /// How long to wait now. A network that comes back is used within [`EAGER`]; after
    /// [`EAGER_FOR`] without one, the waits grow, so that a long outage costs little.
    pub(super) fn next(&mut self, now: Instant, random: u64, cause: Cause) -> Duration {
        let since = *self.since.get_or_insert(now);
        self.is_late |= now.saturating_duration_since(since) >= EAGER_FOR;
        match cause {
            Cause::Switch | Cause::Return => Duration::ZERO,
            Cause::Network => {
                let wait = self.backoff.next(random, None);
                if self.is_late {
                    return wait.max(LEAST);
                }
                let share = self.options.first.max(EAGER).min(self.options.most).min(EAGER);
                // what remains of the draw is as even as the draw
                let within = wait.as_millis() % share.as_millis().max(1);
                Duration::from_millis(u64::try_from(within).unwrap_or(0)).max(LEAST)
            }
            Cause::Asked(hint) => {
                // a little more, so that those who were told the same do not come at once
                let spread = SPREAD.min(hint).mul_f64((random >> 11) as f64 / (1u64 << 53) as f64);
                (hint + spread).max(LEAST)
            }
            Cause::Trouble => self.backoff.next(random, Some(LEAST)),
            Cause::Fatal => {
                self.backoff.next(random, None);
                let half = self.options.most / 2;
                half + half.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
            }
        }
    }
}

/// The most to wait where the network may be back: with the time for connecting it is under two seconds.
pub(super) const EAGER: Duration = Duration::from_millis(1500);
/// For so long an outage is met with [`EAGER`].
pub(super) const EAGER_FOR: Duration = Duration::from_secs(300);
/// Doublings that a level tells of.
const MOST_LEVEL: u32 = 16;
/// What is added at most to the time that somebody was told.
const SPREAD: Duration = Duration::from_secs(1);
/// Nobody is asked more often.
pub(super) const LEAST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(60);

    fn retry() -> Retry {
        Retry::new(Duration::from_millis(500), MOST)
    }

    #[test]
    fn a_network_that_comes_back_is_used_at_once_for_the_first_minutes() {
        let start = Instant::now();
        let mut retry = retry();
        for second in 0..299 {
            let now = start + Duration::from_secs(second);
            let random = second.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let wait = retry.next(now, random, Cause::Network);
            assert!(wait <= EAGER, "{wait:?} after {second} s");
        }
        let later = start + EAGER_FOR;
        assert!(retry.next(later, u64::MAX, Cause::Network) > MOST / 2);
        // a link that held begins anew
        retry.note_link(Duration::from_secs(60));
        assert!(retry.next(later, u64::MAX, Cause::Network) <= EAGER);
    }

    #[test]
    fn what_nobody_mends_is_asked_seldom() {
        let start = Instant::now();
        let wait = retry().next(start, 0, Cause::Fatal);
        assert_eq!(wait, MOST / 2);
        assert!(retry().next(start, u64::MAX, Cause::Fatal) > MOST - Duration::from_millis(1));
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let hint = Duration::from_secs(3);
        let now = Instant::now();
        assert_eq!(retry().next(now, 0, Cause::Asked(hint)), hint);
        let most = retry().next(now, u64::MAX, Cause::Asked(hint));
        assert!(most > hint && most <= hint + SPREAD);
    }

    #[test]
    fn a_process_that_comes_after_is_as_patient_as_the_one_before() {
        let start = Instant::now();
        let mut before = retry();
        let mut levels = std::collections::BTreeSet::new();
        for minute in 0..600 {
            before.next(start + Duration::from_secs(60 * minute), u64::MAX, Cause::Network);
            levels.insert(before.level());
        }
        // a long outage is a few writes
        assert!(levels.len() <= 10, "{levels:?}");
        let mut after = Retry::after(Duration::from_millis(500), MOST, before.level());
        let wait = after.next(Instant::now(), u64::MAX, Cause::Network);
        assert!(wait > MOST / 2, "{wait:?}");
        after.note_link(Duration::from_secs(10));
        assert_eq!(after.level(), 0);
        assert!(after.next(Instant::now(), u64::MAX, Cause::Network) <= EAGER);
    }

    #[test]
    fn a_link_that_held_starts_anew() {
        let now = Instant::now();
        let mut retry = retry();
        for _ in 0..20 {
            retry.next(now, u64::MAX, Cause::Trouble);
        }
        retry.note_link(Duration::from_secs(10));
        assert!(retry.next(now, u64::MAX, Cause::Trouble) <= Duration::from_millis(500));
    }
}
