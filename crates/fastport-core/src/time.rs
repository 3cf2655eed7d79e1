//! Time as the caller tells it.

/// Milliseconds of a monotonic clock whose zero the caller chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Instant(u64);

impl Instant {
    /// That many milliseconds after the clock's zero.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the clock's zero.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// That many milliseconds later.
    #[must_use]
    pub const fn after(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// That many milliseconds earlier, at most the clock's zero.
    #[must_use]
    pub const fn before(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }

    /// Milliseconds since `earlier`; 0 when that is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What the caller's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For every timer, and for the age of what is kept.
    pub mono: Instant,
    /// What messages are stamped with, and for nothing else: milliseconds since 1970-01-01T00:00:00Z; may
    /// jump. Below [`CLOCK_FLOOR_MS`]: the machine's clock is not set, and this is `boot_ms`.
    pub unix_ms: u64,
    /// Milliseconds since the machine was booted, time in suspension included.
    pub boot_ms: u64,
}

impl Now {
    /// The time of day, where the machine's clock is set.
    #[must_use]
    pub const fn clock(&self) -> Option<u64> {
        if self.unix_ms < CLOCK_FLOOR_MS { None } else { Some(self.unix_ms) }
    }

    /// The time of day of a stamp, where it is known.
    #[must_use]
    pub const fn known(&self, stamp: u64) -> Option<u64> {
        let stamp = self.corrected(stamp);
        if stamp < CLOCK_FLOOR_MS { None } else { Some(stamp) }
    }

    /// A stamp of this boot, by the clock of now: one that was made before the clock was set becomes a
    /// time of day once it is. [`NOT_KNOWN`] where it cannot: what came before this boot.
    #[must_use]
    pub const fn corrected(&self, stamp: u64) -> u64 {
        if stamp >= CLOCK_FLOOR_MS || stamp == NOT_KNOWN || self.clock().is_none() {
            return stamp;
        }
        match self.boot_ms.checked_sub(stamp) {
            Some(ago) => self.unix_ms.saturating_sub(ago),
            None => NOT_KNOWN,
        }
    }
}

/// 2001-09-09T01:46:40Z. A stamp below is no time of day: the clock was not set when it was made, and it
/// counts from the machine's boot. No machine runs for 31 years.
pub const CLOCK_FLOOR_MS: u64 = 1_000_000_000_000;
/// The stamp of what came nobody knows when.
pub const NOT_KNOWN: u64 = 0;
