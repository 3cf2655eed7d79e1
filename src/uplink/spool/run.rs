//! GAP rows that stand together. Their order among each other says nothing, so those of one topic
//! and cause are one, and where they are many they are one of several topics.

use fastport_wire::frame::GapCause;
use rusqlite::{Result, Statement};

use super::append::to_i64;
use super::row::Stored;

/// GAPs between two messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Run {
    gaps: Vec<Gap>,
    /// rows or messages that were put in; as many places are theirs
    pub(super) members: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    topic: Option<i64>,
    cause: GapCause,
    count: u64,
}

impl Run {
    /// Adds messages that were dropped.
    pub(super) fn add(&mut self, topic: Option<i64>, cause: GapCause, count: u64) {
        self.members += 1;
        let same = |gap: &&mut Gap| (gap.topic, gap.cause) == (topic, cause);
        if let Some(gap) = self.gaps.iter_mut().find(same) {
            gap.count += count;
        } else if self.gaps.len() < MOST_GAPS {
            self.gaps.push(Gap { topic, cause, count });
        } else {
            self.join();
            self.add_unnamed(cause, count);
        }
    }

    /// Whether there is one GAP of several rows or messages.
    pub(super) fn is_shorter(&self) -> bool {
        to_u64(self.gaps.len()) < self.members
    }

    /// Writes the GAPs from `next` on, and empties the run.
    pub(super) fn write(&mut self, insert: &mut Statement<'_>, next: &mut u64) -> Result<()> {
        for gap in self.gaps.drain(..) {
            Stored::gap(to_i64(*next), gap.topic, gap.cause, gap.count).write(insert)?;
            *next += 1;
        }
        self.members = 0;
        Ok(())
    }

    /// Leaves one GAP for each cause.
    fn join(&mut self) {
        for gap in std::mem::take(&mut self.gaps) {
            self.add_unnamed(gap.cause, gap.count);
        }
    }

    fn add_unnamed(&mut self, cause: GapCause, count: u64) {
        let same = |gap: &&mut Gap| (gap.topic, gap.cause) == (None, cause);
        match self.gaps.iter_mut().find(same) {
            Some(gap) => gap.count += count,
            None => self.gaps.push(Gap { topic: None, cause, count }),
        }
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// GAPs that may stand together, topics and causes each by name: as many topics as a small site has.
pub(super) const MOST_GAPS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn total(run: &Run) -> u64 {
        run.gaps.iter().map(|gap| gap.count).sum()
    }

    #[test]
    fn gaps_of_one_topic_and_cause_are_one() {
        let mut run = Run::default();
        for topic in [1, 2, 1, 2, 1] {
            run.add(Some(topic), GapCause::Overflow, 10);
        }
        run.add(Some(1), GapCause::Expired, 1);
        assert_eq!((run.gaps.len(), run.members, total(&run)), (3, 6, 51));
        assert!(run.is_shorter());
    }

    #[test]
    fn too_many_topics_are_told_of_as_several() {
        let mut run = Run::default();
        for topic in 0..1000 {
            run.add(Some(topic), GapCause::Overflow, 1);
        }
        assert!(run.gaps.len() <= MOST_GAPS);
        assert_eq!((total(&run), run.members), (1000, 1000));
    }
}
