//! How long a store has lived: what the age of its messages is measured by.
//!
//! It promises: no step of the clock, and no clock that is wrong at a start, makes messages old. Time in
//! which the daemon runs counts as it passes, a pause as the clock has it, but no more than a day.

use fastport_core::time::{Instant, NOT_KNOWN, Now};

/// A time in the life of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lived {
    /// Milliseconds of life.
    pub ms: u64,
    /// When that was, in milliseconds since 1970, or [`NOT_KNOWN`].
    pub at_ms: u64,
}

/// Tells how long the store has lived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    before: u64,
    since: Instant,
}

impl Life {
    /// Of a store whose last commit was then.
    pub(super) fn resume(last: Lived, now: Now) -> Self {
        let pause = match now.clock() {
            Some(clock) if last.at_ms != NOT_KNOWN => clock.saturating_sub(last.at_ms),
            _ => 0,
        };
        Self { before: last.ms + pause.min(LONGEST_PAUSE_MS), since: now.mono }
    }

    pub(super) fn at(self, now: Now) -> Lived {
        let ms = self.before + now.mono.since(self.since);
        Lived { ms, at_ms: now.clock().unwrap_or(NOT_KNOWN) }
    }
}

/// A day: a clock that is years ahead must not cost what was acknowledged.
const LONGEST_PAUSE_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u64 = 1_700_000_000_000;

    fn now(mono: u64, unix_ms: u64) -> Now {
        Now { mono: Instant::from_millis(mono), unix_ms, boot_ms: mono }
    }

    #[test]
    fn steps_of_the_clock_are_no_life() {
        let life = Life::resume(Lived::default(), now(5000, TODAY));
        for unix_ms in [TODAY, TODAY * 2, TODAY / 2, 6000] {
            assert_eq!(life.at(now(6000, unix_ms)).ms, 1000);
        }
        assert_eq!(life.at(now(6000, 6000)).at_ms, NOT_KNOWN);
    }

    #[test]
    fn a_pause_counts_as_far_as_it_can_be_known_and_for_a_day_at_most() {
        let last = Lived { ms: 100, at_ms: TODAY };
        let after = |unix_ms| Life::resume(last, now(7, unix_ms)).at(now(7, unix_ms)).ms;
        assert_eq!(after(TODAY + 5000), 5100);
        assert_eq!(after(TODAY * 2), 100 + LONGEST_PAUSE_MS);
        assert_eq!(after(TODAY - 1), 100);
        assert_eq!(after(7), 100);
        let unknown = Lived { at_ms: NOT_KNOWN, ..last };
        assert_eq!(Life::resume(unknown, now(7, TODAY)).at(now(7, TODAY)).ms, 100);
    }
}
