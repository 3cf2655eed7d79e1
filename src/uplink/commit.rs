//! When what waits in memory follows the rows that wait on disk.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that frames are in memory only, while others of their lane are on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    within: Option<Duration>,
    /// by when those that wait are to be on disk
    due: Option<Instant>,
}

impl Commit {
    /// Of `uplink.spool.commit`; `None`: a loss of power takes nothing of what is in memory.
    pub(super) fn new(within: Option<Duration>) -> Self {
        Self { within, due: None }
    }

    /// How often to look, and `most` at least.
    pub(super) fn looks(&self, most: Duration) -> Duration {
        self.within.map_or(most, |within| within.min(most))
    }

    /// Whether it is time; to be asked again and again, with whether there are rows on disk, and
    /// frames behind them in memory.
    pub(super) fn is_due(&mut self, now: Instant, has_rows: bool, waits: bool) -> bool {
        match self.within {
            Some(within) if has_rows && waits => *self.due.get_or_insert(now + within) <= now,
            _ => {
                self.due = None;
                false
            }
        }
    }

    /// They are on disk, or on their way there.
    pub(super) fn done(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_behind_rows_are_in_memory_no_longer_than_they_may() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut commit = Commit::new(Some(Duration::from_millis(500)));
        assert!(!commit.is_due(at(0), false, true), "nothing is on disk");
        assert!(!commit.is_due(at(1000), true, true), "they came just now");
        assert!(!commit.is_due(at(1499), true, true));
        assert!(commit.is_due(at(1500), true, true));
        commit.done();
        assert!(!commit.is_due(at(1600), true, true), "others came");
        assert!(!commit.is_due(at(1900), true, false), "and went");
        assert!(!commit.is_due(at(2200), true, true));
        assert!(commit.is_due(at(2700), true, true));
        assert!(!Commit::new(None).is_due(at(9000), true, true));
    }
}
