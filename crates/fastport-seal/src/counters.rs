//! A sender's counters, which must never come twice, whatever happens to the sender.

use crate::error::SealError;
use crate::head::COUNTERS;

/// A sender's counters. They are reserved in spans, and a span is written down before its first one
/// is used: so a restart, which begins behind what is written, skips some and uses none again. This
/// does no I/O: [`Counters::wants`] says what to write, [`Counters::reserved`] that it is written.
///
/// `next <= reserved <= COUNTERS`
#[derive(Debug)]
pub struct Counters {
    next: u64,
    reserved: u64,
}

impl Counters {
    /// How many are reserved with one write.
    pub const SPAN: u64 = 4096;

    /// Goes on behind what an earlier life wrote down; 0: there was none.
    #[must_use]
    pub const fn new(written: u64) -> Self {
        Self { next: written, reserved: written }
    }

    /// What is to be written down by now: another span, when a quarter of the last is left. Writing
    /// it at once loses no time; without it, [`SealError::NotReserved`] comes when all are used.
    #[must_use]
    pub fn wants(&self) -> Option<u64> {
        let left = self.reserved.saturating_sub(self.next);
        let up_to = self.reserved.saturating_add(Self::SPAN).min(COUNTERS);
        (left < Self::SPAN / 4 && up_to > self.reserved).then_some(up_to)
    }

    /// `up_to` is written where a restart finds it.
    pub fn reserved(&mut self, up_to: u64) {
        self.reserved = self.reserved.max(up_to.min(COUNTERS));
    }

    /// The next one.
    pub(crate) fn take(&mut self) -> Result<u64, SealError> {
        if self.next >= COUNTERS {
            return Err(SealError::Exhausted);
        }
        if self.next >= self.reserved {
            return Err(SealError::NotReserved);
        }
        let counter = self.next;
        self.next += 1;
        Ok(counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_counter_is_used_before_it_is_written_down() {
        let mut counters = Counters::new(0);
        assert_eq!(counters.take(), Err(SealError::NotReserved));
        assert_eq!(counters.wants(), Some(4096));
        counters.reserved(4096);
        let used: std::vec::Vec<u64> = core::iter::from_fn(|| counters.take().ok()).collect();
        assert!(used.iter().copied().eq(0..4096));
        assert_eq!(counters.take(), Err(SealError::NotReserved));
    }

    #[test]
    fn a_restart_begins_behind_what_was_written() {
        let mut first = Counters::new(0);
        let written = first.wants().expect("nothing is reserved");
        first.reserved(written);
        let last = (0..100).map(|_| first.take().expect("reserved")).last();
        let mut second = Counters::new(written);
        second.reserved(second.wants().expect("nothing is reserved"));
        assert!(second.take().ok() > last);
    }

    #[test]
    fn one_write_serves_4096_messages() {
        let (mut counters, mut writes) = (Counters::new(0), 0);
        for _ in 0..40_960 {
            while let Some(up_to) = counters.wants() {
                counters.reserved(up_to);
                writes += 1;
            }
            counters.take().expect("reserved");
        }
        assert_eq!(writes, 11, "ten spans, and the next ahead of its use");
    }

    #[test]
    fn the_last_counter_is_followed_by_none() {
        let mut counters = Counters::new(COUNTERS - 1);
        assert_eq!(counters.wants(), Some(COUNTERS));
        counters.reserved(u64::MAX);
        assert_eq!(counters.take(), Ok(COUNTERS - 1));
        assert_eq!((counters.take(), counters.wants()), (Err(SealError::Exhausted), None));
        assert_eq!(Counters::new(u64::MAX).take(), Err(SealError::Exhausted));
        assert_eq!(Counters::new(u64::MAX).wants(), None);
    }
}
