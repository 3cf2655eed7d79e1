//! Which refused links are worth a line in the log: peers must not be able to fill it.
//!
//! It promises: in a minute one line for a source, lines for a fixed number of sources, and one that
//! sums up the rest; memory for those sources; no clock, `now` is an argument.

use fastport_core::time::Instant;

use super::source::Source;

/// What is to be logged of a refused link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The link itself: it is the minute's first from its source.
    pub is_logged: bool,
    /// How many links of the minutes before were left out, where there were any.
    pub left_out: Option<u64>,
}

/// See the module's text. A minute begins with its first refused link.
#[derive(Debug, Default)]
pub struct RefusalLog {
    /// When the minute began.
    since: Option<Instant>,
    /// Those with a line in it: at most [`SOURCES`].
    logged: Vec<Source>,
    left_out: u64,
}

impl RefusalLog {
    /// Notes a refused link.
    #[must_use]
    pub fn note(&mut self, now: Instant, source: Source) -> Refused {
        let is_over = self.since.is_none_or(|since| now >= since.after(MINUTE_MS));
        let mut left_out = None;
        if is_over {
            self.since = Some(now);
            self.logged.clear();
            left_out = Some(std::mem::take(&mut self.left_out)).filter(|&count| count > 0);
        }
        let is_logged = self.logged.len() < SOURCES && !self.logged.contains(&source);
        if is_logged {
            self.logged.push(source);
        } else {
            self.left_out += 1;
        }
        Refused { is_logged, left_out }
    }
}

const MINUTE_MS: u64 = 60_000;
/// Sources with a line of their own in a minute: a site's devices that were set up wrong are seen,
/// and a year of attack from everywhere is a log that can be kept.
const SOURCES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Source {
        Source::V4(number.into())
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn the_first_of_a_source_is_logged_and_the_rest_is_summed_up_after_a_minute() {
        let mut log = RefusalLog::default();
        let first = Refused { is_logged: true, left_out: None };
        let other = Refused { is_logged: false, left_out: None };
        assert_eq!(log.note(at(5), source(1)), first);
        for ms in 5..1005 {
            assert_eq!(log.note(at(ms), source(1)), other);
        }
        assert_eq!(log.note(at(2000), source(2)), first);
        assert_eq!(log.note(at(60_004), source(1)), other);
        let next = log.note(at(60_005), source(1));
        assert_eq!(next, Refused { is_logged: true, left_out: Some(1001) });
        // of a minute in which none was left out there is nothing to sum up
        assert_eq!(log.note(at(200_000), source(1)), first);
    }

    #[test]
    fn any_number_of_sources_has_a_fixed_number_of_lines_in_a_minute() {
        let mut log = RefusalLog::default();
        let note = |number: u32| log.note(at(u64::from(number / 10)), source(number));
        let lines = (0..100_000).map(note);
        let lines = lines.filter(|noted| noted.is_logged).count();
        assert_eq!(lines, SOURCES);
        assert_eq!(log.note(at(60_000), source(0)).left_out, Some(100_000 - SOURCES as u64));
        assert!(log.logged.len() <= SOURCES);
    }
}
