//! What the central instance is told of messages that will not come, until it is sure that it knows.
//!
//! A GAP is not counted, so a link that is lost leaves open whether it came. The central instance takes
//! all GAPs of a topic and a cause in one place for the same, of which the largest counts: so the
//! sum is told, and told again on the next link. The local session, too, says on each link again
//! what stands behind the last frame that is acknowledged.

use std::collections::VecDeque;

use fastport_wire::frame::GapCause;

/// See the module's text. It outlives links.
#[derive(Debug, Default)]
pub(in crate::uplink) struct Gaps {
    /// By place, rising.
    told: VecDeque<Told>,
    /// How many of them were told on this link.
    on_link: usize,
}

#[derive(Debug)]
pub(super) struct Told {
    /// Counted frames of the local epoch before it.
    pub(super) place: u64,
    /// The topic, by its name at the central instance.
    pub(super) topic: Box<str>,
    pub(super) cause: GapCause,
    pub(super) count: u64,
    /// What the local session said of it on this link.
    said: u64,
}

/// What is to be told of a GAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    /// In its place; `None`: the central instance is not told, or not again.
    pub(super) count: Option<u64>,
    /// How many of them were not known so far.
    pub(super) new: u64,
}

impl Gaps {
    /// A new link: the central instance has so many counted frames, and all GAPs before them.
    pub(super) fn begin(&mut self, taken: u64) {
        self.forget(taken);
        self.on_link = 0;
        self.told.iter_mut().for_each(|told| told.said = 0);
    }

    /// What stands before the first `taken` counted frames has come with them.
    pub(super) fn forget(&mut self, taken: u64) {
        while self.told.front().is_some_and(|told| told.place < taken) {
            self.told.pop_front();
            self.on_link = self.on_link.saturating_sub(1);
        }
    }

    /// Nothing of it is to be told again.
    pub(in crate::uplink) fn clear(&mut self) {
        self.told.clear();
        self.on_link = 0;
    }

    /// The next that is to be told again, if it stands at `place` or before it.
    pub(super) fn next(&self, place: u64) -> Option<&Told> {
        self.told.get(self.on_link).filter(|told| told.place <= place)
    }

    /// It was told, or cannot be.
    pub(super) fn done(&mut self) {
        self.on_link += 1;
    }

    /// The topics of those that are to be told again.
    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        self.told.iter().skip(self.on_link).map(|told| &*told.topic)
    }

    /// The local session says that some will not come; of too many topics in one place the central
    /// instance is not told.
    pub(super) fn add(&mut self, place: u64, topic: &str, cause: GapCause, count: u64) -> Sum {
        let first = self.told.partition_point(|told| told.place < place);
        let mut at = first;
        while let Some(told) = self.told.get_mut(at).filter(|told| told.place == place) {
            if told.cause == cause && *told.topic == *topic {
                told.said += count;
                let new = told.said.saturating_sub(told.count);
                told.count += new;
                return Sum { count: Some(told.count).filter(|_| new > 0), new };
            }
            at += 1;
        }
        if at - first >= MOST_IN_PLACE || self.told.len() >= MOST {
            return Sum { count: None, new: count };
        }
        self.told.insert(at, Told { place, topic: topic.into(), cause, count, said: count });
        // behind one that is still to be told again it will be, too
        self.on_link += usize::from(at <= self.on_link);
        Sum { count: Some(count), new: count }
    }
}

/// The central instance takes 256.
const MOST_IN_PLACE: usize = 250;
/// Of all places.
const MOST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_told_and_again_on_the_next_link() {
        let mut gaps = Gaps::default();
        let cause = GapCause::Overflow;
        let sum = |count, new| Sum { count: Some(count), new };
        assert_eq!(gaps.add(5, "a", cause, 2), sum(2, 2));
        assert_eq!(gaps.add(5, "b", cause, 1), sum(1, 1));
        assert_eq!(gaps.add(5, "a", cause, 3), sum(5, 3));
        assert_eq!(gaps.add(7, "a", cause, 1), sum(1, 1));
        assert!(gaps.next(9).is_none(), "all are told");
        // a link on which all is said again adds nothing
        gaps.begin(5);
        assert_eq!(gaps.add(5, "a", cause, 5), Sum { count: None, new: 0 });
        assert_eq!(gaps.add(5, "c", cause, 1), sum(1, 1));
        assert_eq!(gaps.add(7, "a", cause, 1), Sum { count: None, new: 0 });
        // what stands behind the sixth frame has not come for sure
        gaps.begin(6);
        assert_eq!(gaps.topics().collect::<Vec<_>>(), ["a"]);
        assert!(gaps.next(6).is_none());
        assert_eq!(gaps.next(7).map(|told| (told.place, told.count)), Some((7, 1)));
        gaps.done();
        // the local session says it again, and has more by now
        assert_eq!(gaps.add(7, "a", cause, 1), Sum { count: None, new: 0 });
        assert_eq!(gaps.add(7, "a", cause, 2), sum(3, 2));
        gaps.forget(8);
        assert!(gaps.told.is_empty());
        assert_eq!(gaps.add(8, "a", cause, 4), sum(4, 4));
    }

    #[test]
    fn one_place_has_no_more_than_the_central_instance_takes() {
        let mut gaps = Gaps::default();
        for number in 0..MOST_IN_PLACE {
            assert!(gaps.add(1, &number.to_string(), GapCause::Budget, 1).count.is_some());
        }
        let untold = Sum { count: None, new: 1 };
        assert_eq!(gaps.add(1, "more", GapCause::Budget, 1), untold);
        assert_eq!(gaps.add(2, "more", GapCause::Budget, 1).count, Some(1));
    }
}
