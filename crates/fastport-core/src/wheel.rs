//! One timer wheel for many things that each want a look at some time: peers, topics.
//!
//! A thing is a number. It has at most one deadline that counts; asking for a later one costs
//! nothing, since the owner looks at the earlier one and asks again.

use alloc::vec::Vec;

use crate::time::Instant;

/// A wheel of [`SLOTS`] slots of `tick` milliseconds. Deadlines fire up to a tick late, never early.
#[derive(Debug)]
pub struct Wheel {
    tick: u64,
    slots: [Vec<(u32, Instant)>; SLOTS],
    /// The deadline that counts for each thing; [`NEVER`]: none.
    deadlines: Vec<Instant>,
    /// Ticks passed: everything before it has fired.
    passed: u64,
    entries: usize,
    /// Nothing fires before; exact after each poll.
    earliest: Option<Instant>,
}

impl Wheel {
    /// An empty wheel.
    #[must_use]
    pub fn new(tick_ms: u64, now: Instant) -> Self {
        let tick = tick_ms.max(1);
        Self {
            tick,
            slots: core::array::from_fn(|_| Vec::new()),
            deadlines: Vec::new(),
            passed: now.as_millis() / tick,
            entries: 0,
            earliest: None,
        }
    }

    /// Wants `thing` to fire at `at`, unless it fires earlier already.
    pub fn schedule(&mut self, thing: u32, at: Instant) {
        let index = thing as usize;
        if index >= self.deadlines.len() {
            self.deadlines.resize(index + 1, NEVER);
        }
        let Some(deadline) = self.deadlines.get_mut(index) else { return };
        let at = at.min(LATEST);
        if *deadline <= at {
            return;
        }
        *deadline = at;
        self.insert(thing, at);
    }

    /// The next thing whose deadline is past, taken off the wheel.
    pub fn poll(&mut self, now: Instant) -> Option<u32> {
        let fired = self.poll_slots(now);
        if fired.is_none() {
            self.earliest = self.find_earliest();
        }
        fired
    }

    /// When to poll next; `None`: not before something is scheduled.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    fn poll_slots(&mut self, now: Instant) -> Option<u32> {
        if self.entries == 0 {
            self.passed = now.as_millis() / self.tick;
            return None;
        }
        let current = now.as_millis() / self.tick;
        loop {
            if let Some(thing) = self.poll_slot(now) {
                return Some(thing);
            }
            if self.passed >= current {
                return None;
            }
            // after a long sleep one turn sees every slot
            self.passed = (self.passed + 1).max(current.saturating_sub(SLOTS as u64));
        }
    }

    fn find_earliest(&self) -> Option<Instant> {
        if self.entries == 0 {
            return None;
        }
        let turn = self.passed..self.passed + SLOTS as u64;
        let filled = turn.clone().find(|&tick| !self.slot(tick).is_empty());
        let tick = filled.unwrap_or(turn.end);
        Some(Instant::from_millis((tick + 1) * self.tick))
    }

    /// Takes the thing with the earliest deadline off the wheel, whether that is past or not.
    pub fn pop_earliest(&mut self) -> Option<(u32, Instant)> {
        if self.entries == 0 {
            return None;
        }
        let turn = self.passed..self.passed + SLOTS as u64;
        let of_this_turn = turn.clone().find(|&tick| {
            self.forget_stale(tick);
            let end = Instant::from_millis((tick + 1) * self.tick);
            self.earliest_in(tick).is_some_and(|at| at < end)
        });
        // deadlines of later turns lie in any slot
        let tick = of_this_turn.or_else(|| {
            turn.filter(|&tick| !self.slot(tick).is_empty())
                .min_by_key(|&tick| self.earliest_in(tick))
        })?;
        let earliest = self.earliest_in(tick)?;
        let slot = self.slot_mut(tick);
        let (thing, at) = slot.swap_remove(slot.iter().position(|&(_, at)| at == earliest)?);
        self.entries -= 1;
        self.take_if_current(thing, at).then_some((thing, at))
    }

    fn earliest_in(&self, tick: u64) -> Option<Instant> {
        self.slot(tick).iter().map(|&(_, at)| at).min()
    }

    /// Takes out what fires earlier, or has fired.
    fn forget_stale(&mut self, tick: u64) {
        let Self { slots, deadlines, .. } = self;
        let slot = &mut slots[Self::index(tick)];
        let before = slot.len();
        slot.retain(|&(thing, at)| deadlines.get(thing as usize) == Some(&at));
        self.entries -= before - slot.len();
    }

    fn poll_slot(&mut self, now: Instant) -> Option<u32> {
        let tick = self.passed;
        let mut index = 0;
        while let Some(&(thing, at)) = self.slot(tick).get(index) {
            let is_current = self.deadlines.get(thing as usize) == Some(&at);
            if is_current && at > now {
                index += 1;
                // of a later turn, or of this very tick
                continue;
            }
            self.slot_mut(tick).swap_remove(index);
            self.entries -= 1;
            if is_current && self.take_if_current(thing, at) {
                return Some(thing);
            }
        }
        None
    }

    fn take_if_current(&mut self, thing: u32, at: Instant) -> bool {
        match self.deadlines.get_mut(thing as usize) {
            Some(deadline) if *deadline == at => {
                *deadline = NEVER;
                true
            }
            _ => false,
        }
    }

    fn insert(&mut self, thing: u32, at: Instant) {
        let tick = (at.as_millis() / self.tick).max(self.passed);
        // beyond one turn it lies in its slot and is passed over until its time
        self.slot_mut(tick).push((thing, at));
        self.entries += 1;
        let due = Instant::from_millis((tick + 1) * self.tick);
        self.earliest = Some(self.earliest.map_or(due, |earliest| earliest.min(due)));
    }

    fn slot(&self, tick: u64) -> &Vec<(u32, Instant)> {
        &self.slots[Self::index(tick)]
    }

    fn slot_mut(&mut self, tick: u64) -> &mut Vec<(u32, Instant)> {
        &mut self.slots[Self::index(tick)]
    }

    #[allow(clippy::cast_possible_truncation, reason = "less than SLOTS")]
    const fn index(tick: u64) -> usize {
        (tick % SLOTS as u64) as usize
    }
}

/// Enough that a minute in ticks of 250 ms is one turn.
pub const SLOTS: usize = 256;
const NEVER: Instant = Instant::from_millis(u64::MAX);
/// Later deadlines are not told apart: no clock gets there, and a turn more does not overflow.
const LATEST: Instant = Instant::from_millis(u64::MAX / 2);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_thing_fires_once_at_its_earliest_deadline() {
        let mut wheel = Wheel::new(10, at(0));
        wheel.schedule(7, at(50));
        wheel.schedule(7, at(30));
        wheel.schedule(7, at(90));
        assert_eq!(wheel.poll(at(29)), None);
        assert_eq!(wheel.poll(at(41)), Some(7));
        assert_eq!(wheel.poll(at(5000)), None);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_deadline_beyond_one_turn_waits_for_its_time() {
        let mut wheel = Wheel::new(1, at(0));
        wheel.schedule(1, at(1000));
        for now in 0..1000 {
            assert_eq!(wheel.poll(at(now)), None, "{now}");
        }
        assert_eq!(wheel.poll(at(1001)), Some(1));
    }

    #[test]
    fn a_deadline_beyond_all_clocks_is_kept_and_can_be_taken_off() {
        let mut wheel = Wheel::new(10, at(0));
        wheel.schedule(1, at(u64::MAX - 1));
        wheel.schedule(2, at(u64::MAX));
        assert_eq!(wheel.poll(at(1 << 40)), None);
        assert!(wheel.next_deadline().is_some());
        assert!(wheel.pop_earliest().is_some() && wheel.pop_earliest().is_some());
        assert_eq!(wheel.pop_earliest(), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_off_is_the_earliest(
            steps in proptest::collection::vec((0u32..20, 0u64..9000, 0u64..400, any::<bool>()), 1..100),
        ) {
            let mut wheel = Wheel::new(7, at(0));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for (thing, ahead, passes, polls) in steps {
                let deadline = now + ahead;
                model.entry(thing).and_modify(|old| *old = deadline.min(*old)).or_insert(deadline);
                wheel.schedule(thing, at(deadline));
                now += passes;
                while polls && let Some(fired) = wheel.poll(at(now)) {
                    model.remove(&fired);
                }
                if ahead % 3 == 0 {
                    let taken = wheel.pop_earliest();
                    let earliest = model.values().copied().min();
                    prop_assert_eq!(taken.map(|(_, at)| at.as_millis()), earliest);
                    if let Some((thing, at)) = taken {
                        prop_assert_eq!(model.remove(&thing), Some(at.as_millis()));
                    }
                }
            }
            while let Some((thing, at)) = wheel.pop_earliest() {
                prop_assert!(model.values().all(|&other| other >= at.as_millis()));
                prop_assert_eq!(model.remove(&thing), Some(at.as_millis()));
            }
            prop_assert!(model.is_empty());
        }

        #[test]
        fn nothing_is_early_nothing_is_forgotten(
            steps in proptest::collection::vec((0u32..20, 0u64..3000, 0u64..400), 1..200),
        ) {
            let mut wheel = Wheel::new(7, at(0));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for (thing, ahead, passes) in steps {
                let deadline = now + ahead;
                model.entry(thing).and_modify(|old| *old = deadline.min(*old)).or_insert(deadline);
                wheel.schedule(thing, at(deadline));
                now += passes;
                while let Some(fired) = wheel.poll(at(now)) {
                    let deadline = model.remove(&fired);
                    prop_assert!(deadline.is_some_and(|deadline| deadline <= now));
                }
                prop_assert!(model.values().all(|&deadline| deadline + 7 > now), "late: {:?} at {}", model, now);
            }
        }
    }
}
