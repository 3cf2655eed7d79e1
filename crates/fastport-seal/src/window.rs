//! Which of a sender's latest messages came: the anti-replay window of RFC 4303, section 3.4.3.

use crate::error::OpenError;

/// Which of a sender's messages came, of as many as there are bits; older ones are refused, since
/// nobody knows. Only counters of authentic messages come here.
#[derive(Debug, Clone)]
pub struct Window<B> {
    /// bit `counter % bits`: it came; bits of counters over `top` are clear
    bits: B,
    /// the highest counter that came; `None`: none did
    top: Option<u64>,
}

impl<B: AsRef<[u64]> + AsMut<[u64]>> Window<B> {
    /// A window of all bits of `bits`, at least 64.
    #[must_use]
    pub fn new(mut bits: B) -> Self {
        bits.as_mut().fill(0);
        Self { bits, top: None }
    }

    /// Notes that a message came.
    ///
    /// # Errors
    /// [`OpenError::Replay`], [`OpenError::TooOld`].
    pub fn take(&mut self, counter: u64) -> Result<(), OpenError> {
        self.advance(counter);
        let oldest = self.oldest();
        if counter < oldest {
            return Err(OpenError::TooOld { counter, oldest });
        }
        let Some((word, bit)) = self.place(counter) else {
            return Err(OpenError::TooOld { counter, oldest: u64::MAX });
        };
        if *word & bit != 0 {
            return Err(OpenError::Replay { counter });
        }
        *word |= bit;
        Ok(())
    }

    /// Notes that a message came, whether it came before or not.
    pub(crate) fn note(&mut self, counter: u64) {
        // why it is not new does not matter
        self.take(counter).unwrap_or_default();
    }

    /// Moves the top up to `counter`, if it is higher.
    fn advance(&mut self, counter: u64) {
        let Some(top) = self.top else {
            self.top = Some(counter);
            return;
        };
        if counter <= top {
            return;
        }
        self.top = Some(counter);
        if counter - top >= self.size() {
            self.bits.as_mut().fill(0);
            return;
        }
        for passed in top + 1..=counter {
            if let Some((word, bit)) = self.place(passed) {
                *word &= !bit;
            }
        }
    }

    fn oldest(&self) -> u64 {
        self.top.map_or(0, |top| top.saturating_add(1).saturating_sub(self.size()))
    }

    fn size(&self) -> u64 {
        self.bits.as_ref().len() as u64 * 64
    }

    /// Where a counter's bit is; `None`: there are no bits.
    fn place(&mut self, counter: u64) -> Option<(&mut u64, u64)> {
        let place = counter.checked_rem(self.size())?;
        let word = self.bits.as_mut().get_mut(usize::try_from(place / 64).ok()?)?;
        Some((word, 1 << (place % 64)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn window() -> Window<[u64; 2]> {
        Window::new([u64::MAX; 2])
    }

    #[test]
    fn each_message_is_taken_once_in_whatever_order() {
        let mut window = window();
        for counter in [0, 2, 1, 5, 3, 132, 131, 133, 6] {
            window.take(counter).expect("new");
            assert_eq!(window.take(counter), Err(OpenError::Replay { counter }));
        }
    }

    #[test]
    fn what_is_behind_the_window_is_too_old() {
        let mut window = window();
        window.take(1000).expect("the first");
        assert_eq!(window.take(872), Err(OpenError::TooOld { counter: 872, oldest: 873 }));
        window.take(873).expect("the oldest of 128");
    }

    #[test]
    fn a_leap_forgets_all_that_is_behind_the_window() {
        let mut window = window();
        for counter in [0, 1, 2, 4096 + 2, 4096 + 1] {
            window.take(counter).expect("new");
        }
        assert!(matches!(window.take(2), Err(OpenError::TooOld { .. })));
    }

    #[test]
    fn no_bits_take_nothing_and_the_highest_counters_overflow_nothing() {
        assert!(Window::new([0; 0]).take(7).is_err());
        let mut window = window();
        for counter in [u64::MAX - 1, u64::MAX - 2] {
            window.take(counter).expect("new");
        }
        assert!(matches!(window.take(0), Err(OpenError::TooOld { .. })));
    }

    proptest! {
        #[test]
        fn a_window_takes_what_a_set_of_all_that_came_would(
            steps in proptest::collection::vec((0u64..4, 0u64..300), 1..400),
        ) {
            let mut window = window();
            let (mut came, mut top) = (BTreeSet::new(), 0u64);
            for (up, back) in steps {
                let counter = (top + up * 50).saturating_sub(back);
                let taken = window.take(counter);
                let was_known = came.contains(&counter);
                let is_first = came.is_empty();
                top = if is_first { counter } else { top.max(counter) };
                let expected: Result<(), &str> = match () {
                    () if counter + 128 <= top => Err("old"),
                    () if was_known => Err("replay"),
                    () => Ok(()),
                };
                let said = taken.map_err(|error| match error {
                    OpenError::Replay { .. } => "replay",
                    _ => "old",
                });
                prop_assert_eq!(said, expected, "{} with top {}", counter, top);
                came.insert(counter);
            }
        }
    }
}
