//! Whether a time of day is believed. It reads no clock.

use fastport_core::time::CLOCK_FLOOR_MS;

/// What the machine's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// Milliseconds since the boot, time in suspension included.
    pub(super) boot_ms: u64,
    /// Milliseconds since 1970, by the machine.
    pub(super) system_ms: u64,
}

/// What is taken for true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Belief {
    /// Before it, it cannot be: `built_ms <= floor_ms`.
    pub(super) floor_ms: u64,
    /// When the machine was booted; 0: not known.
    pub(super) booted_ms: u64,
    /// When the program was built.
    pub(super) built_ms: u64,
}

/// What became of a time that somebody told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The machine's clock shows the same.
    Agrees,
    /// The machine's clock is not set, and it is the time from now on.
    Adopted,
    /// The machine's clock shows another, by so many milliseconds, and is believed.
    Differs {
        /// How far they are apart.
        by_ms: u64,
    },
}

impl Belief {
    /// What is believed when the clocks show that. A clock that falls below the floor was set back to
    /// where it cannot be: then time goes on from what was believed before.
    pub(super) fn look(self, shown: Shown) -> Self {
        match self.is_possible(shown.system_ms) {
            true => {
                Self { booted_ms: shown.system_ms.saturating_sub(shown.boot_ms).max(1), ..self }
            }
            false => self,
        }
    }

    /// The stamp of what comes now; see [`fastport_core::time::Now::unix_ms`].
    pub(super) fn stamp(self, shown: Shown) -> u64 {
        match self.booted_ms {
            _ if self.is_possible(shown.system_ms) => shown.system_ms,
            0 => shown.boot_ms,
            booted => booted.saturating_add(shown.boot_ms),
        }
    }

    /// What is believed once somebody who is trusted has told the time.
    pub(super) fn hear(self, shown: Shown, told_ms: u64) -> (Self, Heard) {
        let by_ms = shown.system_ms.abs_diff(told_ms);
        if by_ms <= AGREE_MS && told_ms >= CLOCK_FLOOR_MS {
            return (self.vouched(shown, shown.system_ms), Heard::Agrees);
        }
        if self.is_possible(shown.system_ms) || told_ms < self.built_ms {
            return (self, Heard::Differs { by_ms });
        }
        (self.vouched(shown, told_ms), Heard::Adopted)
    }

    /// That is the time: the floor follows it, up or down.
    pub(super) fn vouched(self, shown: Shown, unix_ms: u64) -> Self {
        let booted_ms = unix_ms.saturating_sub(shown.boot_ms).max(1);
        Self { floor_ms: floor_under(unix_ms, self.built_ms), booted_ms, ..self }
    }

    fn is_possible(self, system_ms: u64) -> bool {
        system_ms >= self.floor_ms
    }
}

/// The floor that a time proves: clocks need not agree to the second.
pub(super) fn floor_under(unix_ms: u64, built_ms: u64) -> u64 {
    unix_ms.saturating_sub(SLACK_MS).max(built_ms)
}

/// A day.
pub(super) const SLACK_MS: u64 = 86_400_000;
/// Clocks that are as close as that are both set.
const AGREE_MS: u64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: u64 = 1_700_000_000_000;
    const TODAY: u64 = BUILT + 100 * SLACK_MS;
    const TEN_YEARS: u64 = 3652 * SLACK_MS;

    fn fresh() -> Belief {
        Belief { floor_ms: BUILT, booted_ms: 0, built_ms: BUILT }
    }

    fn shown(boot_ms: u64, system_ms: u64) -> Shown {
        Shown { boot_ms, system_ms }
    }

    #[test]
    fn a_clock_that_was_never_set_stamps_with_the_time_since_the_boot() {
        let at = shown(5000, 6000);
        let belief = fresh().look(at);
        assert_eq!((belief.booted_ms, belief.stamp(at)), (0, 5000));
        let set = shown(7000, TODAY);
        assert_eq!(belief.look(set).stamp(set), TODAY);
    }

    #[test]
    fn a_step_back_below_the_floor_is_not_believed_and_one_ahead_is() {
        let belief = fresh().look(shown(5000, TODAY));
        let back = shown(6000, TODAY - TEN_YEARS);
        assert_eq!(belief.look(back).stamp(back), TODAY + 1000);
        let ahead = shown(7000, TODAY + TEN_YEARS);
        let belief = belief.look(back).look(ahead);
        assert_eq!(belief.stamp(ahead), TODAY + TEN_YEARS);
        let right = shown(8000, TODAY + 3000);
        assert_eq!(belief.look(right).stamp(right), TODAY + 3000);
    }

    #[test]
    fn who_is_trusted_sets_a_clock_that_is_not_set_and_contradicts_none_that_is() {
        let unset = shown(5000, 5000);
        let (told, heard) = fresh().hear(unset, TODAY);
        assert_eq!((heard, told.stamp(shown(6000, 6000))), (Heard::Adopted, TODAY + 1000));
        assert_eq!(told.floor_ms, TODAY - SLACK_MS);
        let set = shown(5000, TODAY);
        let (same, heard) = fresh().look(set).hear(set, TODAY + TEN_YEARS);
        assert_eq!((heard, same.floor_ms), (Heard::Differs { by_ms: TEN_YEARS }, BUILT));
        assert_eq!(fresh().hear(set, TODAY + 1000).1, Heard::Agrees);
        // a central instance whose own clock is not set
        assert!(matches!(fresh().hear(unset, BUILT - 1).1, Heard::Differs { .. }));
    }

    #[test]
    fn a_floor_that_is_too_high_comes_down_when_somebody_vouches_for_an_earlier_time() {
        let high = Belief { floor_ms: TODAY + TEN_YEARS, ..fresh() };
        let right = shown(5000, TODAY);
        assert_eq!(high.stamp(right), 5000, "not believed");
        let (lower, heard) = high.hear(right, TODAY);
        assert_eq!((heard, lower.stamp(right)), (Heard::Agrees, TODAY));
        assert_eq!(high.hear(shown(5000, 5000), TODAY).0.floor_ms, TODAY - SLACK_MS);
        assert_eq!(high.vouched(right, BUILT - TEN_YEARS).floor_ms, BUILT, "never below the build");
    }
}
