//! Which of several central instances is next, and when. Decisions only.

use std::time::{Duration, Instant};

use super::retry::{Cause, LEAST};

/// Goes round the central instances, from the favourite on, and leaves alone those that ask for it or have
/// something against this gateway.
#[derive(Debug)]
pub(super) struct Choice {
    /// `at < not_before.len()`, if there is any
    at: usize,
    /// until then each is left alone
    not_before: Vec<Instant>,
    /// those that may be back at any moment are tried again
    round_at: Instant,
    /// until then the favourite is waited for, if it says for how long
    patient_until: Option<Instant>,
    /// returns to the favourite that came to nothing
    returns: u32,
}

impl Choice {
    /// Among that many, the favourite first.
    #[must_use]
    pub(super) fn new(now: Instant, count: usize) -> Self {
        let not_before = vec![now; count];
        Self { at: 0, not_before, round_at: now, patient_until: None, returns: 0 }
    }

    /// Which one is next.
    #[must_use]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// While another than the favourite serves: between looks whether that one is back, `look_back` at
    /// first; `None`: it serves.
    #[must_use]
    pub(super) fn look_back(&self, now: Instant, look_back: Duration) -> Option<Duration> {
        let left_alone = self.not_before.first().filter(|_| self.at > 0)?;
        let pause = look_back.saturating_mul(1 << self.returns.min(8));
        Some(pause.max(left_alone.saturating_duration_since(now)))
    }

    /// A link or an attempt is over, for which [`Retry`](super::retry::Retry) would wait for `wait`, and
    /// `is_stable` says whether there was one that held. Chooses the next, and says how long to wait.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        (cause, wait): (Cause, Duration),
        is_stable: bool,
    ) -> Duration {
        let due = now + wait;
        if is_stable {
            self.patient_until = None;
            if self.at == 0 {
                self.returns = 0;
            }
        }
        // one alone is waited for as the cause says, however long it was there
        let from_first = is_stable && self.not_before.len() > 1;
        match cause {
            Cause::Switch => return LEAST,
            Cause::Return => {
                (self.at, self.patient_until) = (0, None);
                self.returns += 1;
                return LEAST;
            }
            Cause::Network | Cause::Trouble if from_first => {}
            Cause::Network => self.round_at = self.round_at.max(due),
            Cause::Asked(_) | Cause::Trouble | Cause::Fatal => {
                if let Some(not_before) = self.not_before.get_mut(self.at) {
                    *not_before = due;
                }
            }
        }
        if self.at == 0
            && matches!(cause, Cause::Asked(_))
            && due <= *self.patient_until.get_or_insert(now + PATIENCE)
        {
            return wait;
        }
        self.go_on(now, if from_first { 0 } else { self.at + 1 })
    }

    /// The first from `first` on that may be asked now, else the one that may be first.
    fn go_on(&mut self, now: Instant, first: usize) -> Duration {
        let all = self.not_before.iter();
        if let Some(behind) = all.clone().skip(first).position(|&not_before| not_before <= now) {
            self.at = first + behind;
            return LEAST;
        }
        // the round is over; of two at once the one that is more of a favourite
        let due = |(at, &not_before)| (self.round_at.max(not_before), at);
        let (due, at) = all.enumerate().map(due).min_by_key(|&(due, _)| due).unwrap_or((now, 0));
        self.at = at;
        due.saturating_duration_since(now).max(LEAST)
    }
}

/// For so long a favourite that says when it can be had is waited for: another central instance begins a
/// new epoch, and gets again what was on its way. At the default of `central.connects_per_second` a
/// fleet of 2,700 is back by then.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Two or more central instances and a clock that is moved by hand.
    struct Scene {
        now: Instant,
        choice: Choice,
    }

    impl Scene {
        fn new(count: usize) -> Self {
            let now = Instant::now();
            Self { now, choice: Choice::new(now, count) }
        }

        /// An attempt or a short link at the one whose turn it is; which is next, after what time.
        fn fails(&mut self, cause: Cause, wait: Duration) -> (usize, Duration) {
            self.ends(cause, wait, false)
        }

        fn asked(&mut self, hint: Duration) -> (usize, Duration) {
            self.fails(Cause::Asked(hint), hint)
        }

        fn ends(&mut self, cause: Cause, wait: Duration, is_stable: bool) -> (usize, Duration) {
            let wait = self.choice.ended(self.now, (cause, wait), is_stable);
            self.now += wait;
            (self.choice.at(), wait)
        }
    }

    #[test]
    fn who_does_not_hold_a_link_is_left_for_the_next_and_the_round_is_waited_for() {
        let mut scene = Scene::new(3);
        assert_eq!(scene.fails(Cause::Network, SECOND), (1, LEAST));
        assert_eq!(scene.fails(Cause::Network, LEAST), (2, LEAST));
        // the longest of the round's waits counts, from when it began
        assert_eq!(scene.fails(Cause::Network, LEAST), (0, SECOND - 2 * LEAST));
        // who has something against this gateway keeps nobody from the others
        assert_eq!(scene.fails(Cause::Trouble, 4 * SECOND), (1, LEAST));
        assert_eq!(scene.fails(Cause::Network, SECOND), (2, LEAST));
        assert_eq!(scene.fails(Cause::Network, LEAST), (1, SECOND - LEAST));
    }

    #[test]
    fn after_a_link_that_held_the_favourite_is_first() {
        let mut scene = Scene::new(2);
        assert_eq!(scene.ends(Cause::Network, SECOND, true), (0, LEAST));
        assert_eq!(scene.fails(Cause::Network, SECOND), (1, LEAST));
        scene.now += 60 * SECOND;
        assert_eq!(scene.ends(Cause::Trouble, SECOND, true), (0, LEAST));
        // one that stands alone is waited for all the same: a fleet is not to come at once
        assert_eq!(Scene::new(1).ends(Cause::Network, SECOND, true), (0, SECOND));
    }

    #[test]
    fn a_favourite_that_names_a_near_time_is_waited_for() {
        let mut scene = Scene::new(2);
        assert_eq!(scene.asked(8 * SECOND), (0, 8 * SECOND));
        // its word after a link counts as much as a refusal
        assert_eq!(scene.ends(Cause::Asked(SECOND), SECOND, true), (0, SECOND));
        assert_eq!(scene.fails(Cause::Network, SECOND), (1, LEAST));
    }

    #[test]
    fn a_favourite_that_puts_off_again_and_again_is_waited_for_no_longer_than_once() {
        let mut scene = Scene::new(2);
        let start = scene.now;
        assert!((0..10).any(|_| scene.asked(8 * SECOND).0 != 0));
        assert_eq!(scene.now - start, 24 * SECOND + LEAST);
        // nor later, until a link has held
        scene.now += 60 * SECOND;
        scene.fails(Cause::Network, SECOND);
        assert_eq!(scene.asked(SECOND), (1, LEAST));
        scene.now += 60 * SECOND;
        scene.ends(Cause::Network, SECOND, true);
        assert_eq!(scene.asked(SECOND), (0, SECOND));
    }

    #[test]
    fn who_asks_to_be_left_alone_is_while_another_is_free() {
        let mut scene = Scene::new(3);
        let start = scene.now;
        assert_eq!(scene.asked(60 * SECOND), (1, LEAST));
        assert_eq!(scene.fails(Cause::Fatal, 45 * SECOND), (2, LEAST));
        assert!((0..100).any(|_| scene.fails(Cause::Network, SECOND).0 != 2));
        assert_eq!(scene.choice.at(), 1);
        assert_eq!(scene.now - start, 45 * SECOND + 2 * LEAST);
        // all are to wait: for the earliest
        scene.fails(Cause::Network, LEAST);
        assert_eq!(scene.asked(60 * SECOND).0, 1);
        assert_eq!(scene.asked(60 * SECOND).0, 0);
        assert_eq!(scene.now - start, 60 * SECOND);
    }

    #[test]
    fn a_favourite_that_is_back_and_does_not_hold_is_looked_for_less_often() {
        let mut scene = Scene::new(2);
        assert_eq!(scene.choice.look_back(scene.now, SECOND), None);
        for doubled in [1, 2, 4, 8] {
            scene.fails(Cause::Trouble, SECOND);
            assert_eq!(scene.choice.look_back(scene.now, SECOND), Some(doubled * SECOND));
            assert_eq!(scene.ends(Cause::Return, Duration::ZERO, false), (0, LEAST));
        }
        scene.now += 60 * SECOND;
        scene.ends(Cause::Network, SECOND, true);
        scene.asked(90 * SECOND);
        // not before it said
        assert_eq!(scene.choice.look_back(scene.now, SECOND), Some(90 * SECOND - LEAST));
    }

    fn ends() -> impl Strategy<Value = (Cause, Duration, bool)> {
        let wait = (0..90_000u64).prop_map(Duration::from_millis);
        let cause = (0..5u8, wait).prop_map(|(cause, wait)| match cause {
            0 | 1 => (Cause::Network, wait / 30),
            2 => (Cause::Trouble, wait / 3),
            3 => (Cause::Asked(wait), wait),
            _ => (Cause::Fatal, wait),
        });
        (cause, prop::bool::weighted(0.2)).prop_map(|((cause, wait), held)| (cause, wait, held))
    }

    proptest! {
        #[test]
        fn nobody_is_asked_before_its_time_or_kept_waiting_while_free(
            count in 2..5usize,
            ends in prop::collection::vec(ends(), 1..60),
        ) {
            let mut scene = Scene::new(count);
            let mut asked_until = vec![scene.now; count];
            for (cause, wait, held) in ends {
                scene.now += if held { 10 * SECOND } else { Duration::ZERO };
                let (before, then) = (scene.choice.at(), scene.now);
                let asks = match cause {
                    Cause::Trouble => !held,
                    cause => matches!(cause, Cause::Asked(_) | Cause::Fatal),
                };
                if asks {
                    asked_until[before] = then + wait;
                }
                let (next, waited) = scene.ends(cause, wait, held);
                prop_assert!(scene.now >= asked_until[next], "{next} asked for more");
                let first = if held { 0 } else { before + 1 };
                let is_round_over = asked_until[first..].iter().all(|&until| until > then);
                let is_patient = matches!(cause, Cause::Asked(_))
                    && (before, next) == (0, 0)
                    && waited <= PATIENCE;
                prop_assert!(waited <= LEAST || is_round_over || is_patient, "{waited:?}");
                prop_assert!(waited <= 90 * SECOND, "longer than anything asked for");
            }
        }
    }
}
