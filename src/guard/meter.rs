//! How much a peer, an identity and an address may publish in a second.

use std::sync::{Arc, Mutex, PoisonError};

use fastport_core::bucket::{Bucket, Rate};
use fastport_core::time::Instant;

use crate::config;

/// A rate of messages and one of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    messages: Rate,
    bytes: Rate,
}

impl Rates {
    /// `None`: no limit.
    pub(super) fn new(rate: &config::Rate) -> Option<Self> {
        let burst_ms = rate.burst.as_millis();
        let limit = |per_second: u64| {
            let burst = u128::from(per_second) * burst_ms / 1000;
            Rate {
                per_second: u32::try_from(per_second).unwrap_or(u32::MAX),
                burst: u32::try_from(burst).unwrap_or(u32::MAX),
            }
        };
        let rates = Self { messages: limit(rate.messages.into()), bytes: limit(rate.bytes.0) };
        (rate.messages > 0 || rate.bytes.0 > 0).then_some(rates)
    }
}

/// What is left of a rate that several links may share.
#[derive(Debug)]
pub(super) struct Meter {
    rates: Rates,
    left: Mutex<(Bucket, Bucket)>,
}

impl Meter {
    pub(super) fn new(rates: Rates, now: Instant) -> Self {
        let full = (Bucket::full(rates.messages, now), Bucket::full(rates.bytes, now));
        Self { rates, left: Mutex::new(full) }
    }

    pub(super) fn has_rates(&self, rates: &Rates) -> bool {
        self.rates == *rates
    }

    fn spend(&self, now: Instant, messages: u64, bytes: u64) -> u64 {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let for_messages = left.0.spend(self.rates.messages, now, messages);
        for_messages.max(left.1.spend(self.rates.bytes, now, bytes))
    }
}

/// The meters of one link: its own, its identity's, its address's.
#[derive(Debug)]
pub struct Meters {
    pub(super) meters: Vec<Arc<Meter>>,
}

impl Meters {
    /// Spends; returns for how many milliseconds the link is not to be read (0: go on).
    #[must_use]
    pub fn spend(&self, now: Instant, messages: u64, bytes: u64) -> u64 {
        let pauses = self.meters.iter().map(|meter| meter.spend(now, messages, bytes));
        pauses.max().unwrap_or(0).min(LONGEST_PAUSE_MS)
    }
}

/// Longer ones are taken in steps: at each the peer is told that its link lives, and nobody may ask
/// for signs of life more often than every 2 s.
const LONGEST_PAUSE_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Bytes;

    #[test]
    fn the_slowest_of_the_meters_decides() {
        let at = Instant::from_millis;
        let rate = |messages, bytes| config::Rate {
            messages,
            bytes: Bytes(bytes),
            burst: Duration::from_secs(1),
        };
        let meter =
            |rate: &config::Rate| Arc::new(Meter::new(Rates::new(rate).expect("a limit"), at(0)));
        let meters = Meters { meters: vec![meter(&rate(10, 0)), meter(&rate(0, 100))] };
        assert_eq!(meters.spend(at(0), 10, 100), 0);
        assert_eq!(meters.spend(at(0), 1, 0), 100);
        assert_eq!(meters.spend(at(100), 0, 60), 500);
        assert!(Rates::new(&rate(0, 0)).is_none());
    }
}
