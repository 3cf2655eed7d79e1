//! How long the oldest of what waits has waited, from looks taken now and then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// What count was first seen when, rising
    seen: VecDeque<(u64, Instant)>,
}

impl Ages {
    /// Of `total` messages `acked` wait no more.
    pub(super) fn look(&mut self, now: Instant, acked: u64, total: u64) {
        while self.seen.front().is_some_and(|&(count, _)| count <= acked) {
            self.seen.pop_front();
        }
        let newest = self.seen.back().map_or(acked, |&(count, _)| count);
        if total <= newest {
            return;
        }
        if self.seen.len() >= MOST {
            // every other one: what it was for is as old as the one before
            let mut place = 0;
            self.seen.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.seen.push_back((total, now));
    }

    /// For how long the oldest has waited.
    pub(super) fn oldest(&self, now: Instant) -> Duration {
        let oldest = self.seen.front().map(|&(_, at)| now.saturating_duration_since(at));
        oldest.unwrap_or_default()
    }
}

const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_as_old_as_the_look_that_saw_it_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ages = Ages::default();
        assert_eq!(ages.oldest(at(9)), Duration::ZERO);
        ages.look(at(0), 0, 5);
        ages.look(at(10), 2, 8);
        assert_eq!(ages.oldest(at(10)), Duration::from_secs(10));
        ages.look(at(20), 5, 8);
        assert_eq!(ages.oldest(at(20)), Duration::from_secs(10));
        ages.look(at(30), 8, 8);
        assert_eq!(ages.oldest(at(30)), Duration::ZERO);
        for second in 0..1000 {
            ages.look(at(100 + second), 8, 9 + second);
        }
        assert_eq!(ages.oldest(at(1100)), Duration::from_secs(1000));
        assert!(ages.seen.len() <= MOST);
    }
}
