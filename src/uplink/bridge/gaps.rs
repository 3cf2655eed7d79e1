//! What the central instance is told of messages that will not come, until it is sure that it knows.
//!
//! A GAP is not counted, so a link that is lost leaves open whether it came. The central instance takes
//! all GAPs of a topic and a cause in one place for the same, of which the largest counts: so the
//! sum is told, and told again on the next link.

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
}

impl Gaps {
    /// A new link: the central instance has so many counted frames, and all GAPs before them.
    pub(super) fn begin(&mut self, taken: u64) {
        self.forget(taken);
        self.on_link = 0;
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

    /// More will not come; how many to tell of. `None`: too many topics in one place.
    pub(super) fn add(
        &mut self,
        place: u64,
        topic: &str,
        cause: GapCause,
        count: u64,
    ) -> Option<u64> {
        let here = self.told.iter_mut().rev().take_while(|told| told.place == place);
        let mut known = 0;
        for told in here {
            if told.cause == cause && *told.topic == *topic {
                told.count += count;
                return Some(told.count);
            }
            known += 1;
        }
        if known >= MOST_IN_PLACE || self.told.len() >= MOST {
            return None;
        }
        self.told.push_back(Told { place, topic: topic.into(), cause, count });
        self.on_link += 1;
        Some(count)
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
        assert_eq!(gaps.add(5, "a", cause, 2), Some(2));
        assert_eq!(gaps.add(5, "b", cause, 1), Some(1));
        assert_eq!(gaps.add(5, "a", cause, 3), Some(5));
        assert_eq!(gaps.add(7, "a", cause, 1), Some(1));
        assert!(gaps.next(9).is_none(), "all are told");
        // what stands behind the sixth frame has not come for sure
        gaps.begin(6);
        assert_eq!(gaps.topics().collect::<Vec<_>>(), ["a"]);
        assert!(gaps.next(6).is_none());
        assert_eq!(gaps.next(7).map(|told| (told.place, told.count)), Some((7, 1)));
        gaps.done();
        gaps.forget(8);
        assert!(gaps.told.is_empty());
        assert_eq!(gaps.add(8, "a", cause, 4), Some(4));
    }

    #[test]
    fn one_place_has_no_more_than_the_central_instance_takes() {
        let mut gaps = Gaps::default();
        for number in 0..MOST_IN_PLACE {
            assert!(gaps.add(1, &number.to_string(), GapCause::Budget, 1).is_some());
        }
        assert_eq!(gaps.add(1, "more", GapCause::Budget, 1), None);
        assert_eq!(gaps.add(2, "more", GapCause::Budget, 1), Some(1));
    }
}
