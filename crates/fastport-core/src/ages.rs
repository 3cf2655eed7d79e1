//! For how long counted frames have waited, from looks taken now and then: monotonic, whatever the clock
//! of the stamps does.

use alloc::collections::VecDeque;

use crate::session::gone_before;
use crate::time::Instant;

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ages {
    /// What count was first seen when; both rise.
    seen: VecDeque<(u64, Instant)>,
}

impl Ages {
    /// Of `total` frames `acked` wait no more.
    pub(crate) fn look(&mut self, now: Instant, acked: u64, total: u64) {
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

    /// Since when the oldest has waited.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.seen.front().map(|&(_, at)| at)
    }

    /// Frames up to this count have waited for so long, or longer.
    pub(crate) fn through(&self, now: Instant, millis: u64) -> u64 {
        let old = self.seen.iter().take_while(|&&(_, at)| now.since(at) >= millis);
        old.last().map_or(0, |&(count, _)| count)
    }

    /// Of the frames behind the first `after`, by turns so many stayed and so many have gone.
    pub(crate) fn shift(&mut self, after: u64, runs: &[u32]) {
        for (count, _) in &mut self.seen {
            *count -= gone_before(*count, after, runs);
        }
        // those of which nothing is left say nothing that the one before does not
        let mut last = 0;
        self.seen.retain(|&(count, _)| core::mem::replace(&mut last, count) != count);
    }
}

const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn the_oldest_is_as_old_as_the_look_that_saw_it_first() {
        let mut ages = Ages::default();
        assert_eq!(ages.oldest(), None);
        ages.look(at(0), 0, 5);
        ages.look(at(10), 2, 8);
        assert_eq!(ages.oldest(), Some(at(0)));
        ages.look(at(20), 5, 8);
        assert_eq!(ages.oldest(), Some(at(10)));
        ages.look(at(30), 8, 8);
        assert_eq!(ages.oldest(), None);
        for second in 0..1000 {
            ages.look(at(100 + second), 8, 9 + second);
        }
        assert_eq!(ages.oldest(), Some(at(100)));
        assert!(ages.seen.len() <= MOST);
    }

    #[test]
    fn what_is_too_old_is_told_by_its_count_also_when_others_have_gone() {
        let mut ages = Ages::default();
        ages.look(at(0), 0, 10);
        ages.look(at(5), 0, 20);
        ages.look(at(9), 0, 30);
        assert_eq!(ages.through(at(4), 5000), 0);
        assert_eq!(ages.through(at(5), 5000), 10);
        assert_eq!(ages.through(at(10), 5000), 20);
        // 3 to 8, 11 and 12, and 30 have gone
        ages.shift(2, &[0, 6, 2, 2, 17, 1]);
        assert_eq!(ages.through(at(5), 5000), 4);
        assert_eq!(ages.through(at(10), 5000), 12);
        assert_eq!(ages.through(at(20), 5000), 21);
        // all of the first look
        ages.shift(0, &[0, 4]);
        assert_eq!(ages.through(at(5), 5000), 0);
        assert_eq!(ages.through(at(10), 5000), 8);
    }
}
