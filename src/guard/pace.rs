//! How fast gateways may come back: so many in each second, the others each at a turn of its own.
//!
//! It promises: in no second are more let in than configured; who is turned away is told a time at
//! which nobody else was told to come; a fleet is in as soon as that allows.

use std::collections::{HashMap, VecDeque};

use fastport_core::time::Instant;

/// See the module's text. It reads no clock.
#[derive(Debug)]
pub struct Pacer {
    /// 0: no limit.
    per_second: u32,
    /// When those of the last second were let in, the oldest first: at most `per_second`.
    admitted: VecDeque<Instant>,
    /// Turns that were given and not taken.
    turns: HashMap<u64, Instant>,
    /// The same by time, and some of them that were taken.
    queue: VecDeque<(Instant, u64)>,
    /// In microseconds, since turns can be closer than the clock's ticks.
    last_turn_us: u64,
}

impl Pacer {
    /// Lets in at most `per_second` gateways, up to a hundred thousand; 0: all.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.min(MOST_PER_SECOND),
            admitted: VecDeque::new(),
            turns: HashMap::new(),
            queue: VecDeque::new(),
            last_turn_us: 0,
        }
    }

    /// Whether the gateway `who` may come in now.
    ///
    /// # Errors
    /// The milliseconds after which it is its turn.
    pub fn admit(&mut self, now: Instant, who: u64) -> Result<(), u32> {
        if self.per_second == 0 {
            return Ok(());
        }
        self.forget_past(now);
        let turn = self.turns.get(&who).copied();
        let free_at = self.free_at(now);
        match turn {
            Some(turn) if turn > now.after(EARLY_MS) => return Err(until(now, turn)),
            // late ones of other turns were faster; it keeps its own
            Some(_) if free_at > now => return Err(until(now, free_at)),
            Some(_) => {
                self.turns.remove(&who);
            }
            // those who were told to come have their turns before who is new
            None if free_at > now || self.last_turn_us / 1000 > now.as_millis() => {
                return Err(until(now, self.give_turn(free_at, who)));
            }
            None => {}
        }
        self.admitted.push_back(now);
        Ok(())
    }

    /// What to tell one of many gateways whose links are all closed now; none but the first few come
    /// at once, however the next life of this process remembers nothing of it.
    #[must_use]
    pub fn farewell(&self, least_ms: u32, number: usize) -> u32 {
        if self.per_second == 0 {
            return least_ms;
        }
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let wait = number.saturating_mul(self.spacing_us()) / 1000;
        least_ms.saturating_add(u32::try_from(wait).unwrap_or(u32::MAX))
    }

    /// When another one may be let in: not before `now`.
    fn free_at(&self, now: Instant) -> Instant {
        let is_full = self.admitted.len() >= self.per_second as usize;
        let oldest = self.admitted.front().filter(|_| is_full);
        oldest.map_or(now, |oldest| oldest.after(SECOND_MS).max(now))
    }

    fn give_turn(&mut self, least: Instant, who: u64) -> Instant {
        let least_us = least.as_millis().saturating_mul(1000);
        self.last_turn_us = self.last_turn_us.max(least_us).saturating_add(self.spacing_us());
        let turn = Instant::from_millis(self.last_turn_us / 1000);
        // beyond that many somebody who comes early, or late, is given another
        if self.turns.len() < MOST_TURNS {
            self.turns.insert(who, turn);
            self.queue.push_back((turn, who));
        }
        turn
    }

    /// A tenth of the places is left for those who come late.
    fn spacing_us(&self) -> u64 {
        SECOND_MS * 1000 * 10 / 9 / u64::from(self.per_second.max(1))
    }

    fn forget_past(&mut self, now: Instant) {
        while self.admitted.front().is_some_and(|first| first.after(SECOND_MS) <= now) {
            self.admitted.pop_front();
        }
        while let Some(&(turn, who)) = self.queue.front() {
            let is_over = turn.after(GRACE_MS) <= now;
            if !is_over && self.turns.contains_key(&who) {
                break;
            }
            self.queue.pop_front();
            if self.turns.get(&who) == Some(&turn) {
                self.turns.remove(&who);
            }
        }
    }
}

fn until(now: Instant, then: Instant) -> u32 {
    u32::try_from(then.since(now)).unwrap_or(u32::MAX).max(1)
}

/// More would be no pace; and each of a second is remembered, with 8 bytes.
const MOST_PER_SECOND: u32 = 100_000;
const SECOND_MS: u64 = 1000;
/// Clocks differ.
const EARLY_MS: u64 = 50;
/// Who does not come within that time of its turn has lost it.
const GRACE_MS: u64 = 10_000;
/// Some 3 MiB.
const MOST_TURNS: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// A fleet that comes back at once, each waiting as it is told and up to `late` longer; when each
    /// was let in.
    fn admissions(fleet: u64, per_second: u32, late: u64) -> Vec<u64> {
        let mut pacer = Pacer::new(per_second);
        let mut coming: BinaryHeap<_> = (0..fleet).map(|who| Reverse((5_000, who))).collect();
        let mut admitted = Vec::new();
        let mut random = 1u64;
        while let Some(Reverse((now, who))) = coming.pop() {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            match pacer.admit(at(now), who) {
                Ok(()) => admitted.push(now),
                Err(wait) => {
                    let wait = u64::from(wait);
                    let late = (random >> 33) % (late.min(wait) + 1);
                    coming.push(Reverse((now + wait + late, who)));
                }
            }
        }
        admitted
    }

    fn most_in_a_second(admitted: &[u64]) -> usize {
        let in_second =
            |from: u64| admitted.iter().filter(|&&at| (from..from + 1000).contains(&at)).count();
        admitted.iter().map(|&from| in_second(from)).max().unwrap_or(0)
    }

    #[test]
    fn a_fleet_comes_back_at_the_pace_and_within_its_time() {
        for (fleet, per_second, late) in [(2000, 100, 1000), (2000, 100, 0), (500, 7, 1000)] {
            let admitted = admissions(fleet, per_second, late);
            assert_eq!(admitted.len() as u64, fleet);
            assert!(most_in_a_second(&admitted) <= per_second as usize);
            let took = admitted.last().expect("all came") - 5_000;
            let window = fleet * 1000 / u64::from(per_second);
            assert!(took <= window * 10 / 9 + 3_000, "{took} of {window}");
        }
    }

    #[test]
    fn each_has_a_turn_of_its_own_that_stays() {
        let mut pacer = Pacer::new(10);
        assert!((0..10).all(|who| pacer.admit(at(0), who).is_ok()));
        let waits: Vec<u32> = (10..15).map(|who| pacer.admit(at(0), who).unwrap_err()).collect();
        assert_eq!(waits, [1111, 1222, 1333, 1444, 1555]);
        // who asks again, too early, is told the same time
        assert_eq!(pacer.admit(at(500), 12), Err(833));
        assert_eq!(pacer.admit(at(1333), 12), Ok(()));
    }

    #[test]
    fn who_is_new_does_not_take_the_turn_of_who_was_told_to_come() {
        let mut pacer = Pacer::new(1);
        assert_eq!(pacer.admit(at(0), 1), Ok(()));
        assert_eq!(pacer.admit(at(0), 2), Err(2111));
        assert!(pacer.admit(at(1500), 3).is_err());
        assert_eq!(pacer.admit(at(2111), 2), Ok(()));
    }

    #[test]
    fn a_turn_that_nobody_takes_is_forgotten() {
        let mut pacer = Pacer::new(1);
        assert!(pacer.admit(at(0), 1).is_ok() && pacer.admit(at(0), 2).is_err());
        assert_eq!(pacer.admit(at(20_000), 3), Ok(()));
        assert!(pacer.turns.is_empty() && pacer.queue.is_empty());
    }

    #[test]
    fn without_a_limit_all_come_at_once() {
        let mut pacer = Pacer::new(0);
        assert!((0..10_000).all(|who| pacer.admit(at(0), who).is_ok()));
        assert_eq!(pacer.farewell(1000, 5000), 1000);
    }

    #[test]
    fn those_who_are_sent_away_come_back_one_after_the_other() {
        let pacer = Pacer::new(100);
        assert_eq!([0, 1, 100].map(|number| pacer.farewell(1000, number)), [1000, 1011, 2111]);
    }
}
