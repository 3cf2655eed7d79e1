//! Token buckets: a rate with a burst.

use crate::time::Instant;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Per second; 0: no limit.
    pub per_second: u32,
    /// At once, after a pause; at least 1 is used.
    pub burst: u32,
}

/// What is left of a [`Rate`]. It may go into debt: the cost of what was already read is known only
/// then, and the debt is slept off.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// thousandths of a token; <= burst * 1000
    left: i64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { left: i64::from(rate.burst.max(1)) * 1000, filled: now }
    }

    /// Spends `tokens`; returns for how many milliseconds nothing more may be spent (0: none).
    #[must_use]
    pub fn spend(&mut self, rate: Rate, now: Instant, tokens: u64) -> u64 {
        if rate.per_second == 0 {
            return 0;
        }
        let full = i64::from(rate.burst.max(1)) * 1000;
        let elapsed = i64::try_from(now.since(self.filled)).unwrap_or(i64::MAX);
        let gained = elapsed.saturating_mul(i64::from(rate.per_second));
        let cost = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(1000);
        self.left = self.left.saturating_add(gained).min(full).saturating_sub(cost);
        self.filled = now;
        if self.left >= 0 {
            return 0;
        }
        self.left.unsigned_abs().div_ceil(u64::from(rate.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 5 };
        let at = Instant::from_millis;
        let mut bucket = Bucket::full(rate, at(0));
        assert_eq!(bucket.spend(rate, at(0), 5), 0);
        assert_eq!(bucket.spend(rate, at(0), 1), 100);
        assert_eq!(bucket.spend(rate, at(100), 0), 0);
        assert_eq!(bucket.spend(rate, at(10_000), 5), 0);
        assert_eq!(bucket.spend(rate, at(10_000), u64::MAX), u64::MAX / 2 / 10 + 1);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let rate = Rate::default();
        let mut bucket = Bucket::full(rate, Instant::default());
        assert_eq!(bucket.spend(rate, Instant::default(), u64::MAX), 0);
    }
}
