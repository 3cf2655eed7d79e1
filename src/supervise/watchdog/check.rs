//! Whether the daemon makes progress. Decisions only: what was seen and the time come from outside.

use std::time::{Duration, Instant};

use crate::supervise::turn::Part;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well; the runtime is to be asked this next.
    Alive {
        /// To be answered with the same number.
        ask: u32,
    },
    /// An answer or the end of a turn is overdue by less than the deadline.
    Waiting,
    /// There is no progress.
    Dead {
        /// What is at fault, as far as it can be known.
        part: &'static str,
        /// For how long.
        since: Duration,
    },
}

/// Looks at the daemon again and again.
#[derive(Debug)]
pub(super) struct Check {
    deadline: Duration,
    asked: u32,
    asked_at: Option<Instant>,
    /// by thread: what was seen last, and since when
    threads: Vec<((Part, u32), Instant)>,
}

impl Check {
    /// What takes longer than `deadline` is dead.
    pub(super) fn new(deadline: Duration) -> Self {
        Self { deadline, asked: 0, asked_at: None, threads: Vec::new() }
    }

    /// `answered` is the last answer of the runtime; `seen` is what each thread runs, with a number
    /// that changes with each turn.
    pub(super) fn look(&mut self, now: Instant, answered: u32, seen: &[(Part, u32)]) -> Verdict {
        let stuck = self.longest_turn(now, seen);
        if let Some((part, since)) = stuck.filter(|&(_, since)| since >= self.deadline) {
            return Verdict::Dead { part: part.name(), since };
        }
        let unanswered = self.asked_at.filter(|_| answered != self.asked);
        match unanswered.map(|asked_at| now.saturating_duration_since(asked_at)) {
            Some(since) if since >= self.deadline => {
                let part = stuck.map_or(Part::Nothing, |(part, _)| part);
                Verdict::Dead { part: part.name(), since }
            }
            Some(_) => Verdict::Waiting,
            None => {
                self.asked = self.asked.wrapping_add(1);
                self.asked_at = Some(now);
                Verdict::Alive { ask: self.asked }
            }
        }
    }

    /// The turn that has lasted longest, over two looks at least.
    fn longest_turn(&mut self, now: Instant, seen: &[(Part, u32)]) -> Option<(Part, Duration)> {
        self.threads.resize(seen.len(), ((Part::Nothing, 0), now));
        let mut longest = None;
        for ((known, since), &is) in self.threads.iter_mut().zip(seen) {
            if *known != is || is.0 == Part::Nothing {
                (*known, *since) = (is, now);
                continue;
            }
            let lasts = now.saturating_duration_since(*since);
            if longest.is_none_or(|(_, other)| lasts > other) {
                longest = Some((is.0, lasts));
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(1);
    const LOOK: Duration = Duration::from_millis(400);

    /// Looks again and again at the same; what each look found.
    fn looks(seen: &[(Part, u32)], answers: bool, count: usize) -> Vec<Verdict> {
        let (mut check, start, mut answered) = (Check::new(DEADLINE), Instant::now(), 0);
        let mut verdicts = Vec::new();
        for (number, now) in (0..count).zip((0..).map(|n| start + LOOK * n)) {
            let verdict = check.look(now, answered, seen);
            if let Verdict::Alive { ask } = verdict {
                answered = if answers { ask } else { answered };
            }
            verdicts.push(verdict);
            assert!(number < 100, "each test takes a few");
        }
        verdicts
    }

    #[test]
    fn an_idle_daemon_that_answers_is_alive() {
        let verdicts = looks(&[(Part::Nothing, 7)], true, 50);
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Alive { .. })));
    }

    #[test]
    fn a_turn_that_does_not_end_is_named() {
        let verdicts = looks(&[(Part::Nothing, 1), (Part::Link, 5)], true, 5);
        let since = LOOK * 3;
        assert_eq!(verdicts[3], Verdict::Dead { part: "a link", since });
        assert!(matches!(verdicts[2], Verdict::Alive { .. }));
    }

    #[test]
    fn a_runtime_that_does_not_answer_is_dead_after_the_deadline() {
        let verdicts = looks(&[(Part::Nothing, 1)], false, 4);
        assert_eq!(verdicts[0], Verdict::Alive { ask: 1 });
        assert_eq!(verdicts[1..3], [Verdict::Waiting; 2]);
        assert_eq!(verdicts[3], Verdict::Dead { part: "the runtime", since: LOOK * 3 });
    }

    #[test]
    fn many_short_turns_of_one_part_are_no_long_one() {
        let (mut check, start) = (Check::new(DEADLINE), Instant::now());
        let mut answered = 0;
        for number in 0..20 {
            let now = start + LOOK * number;
            match check.look(now, answered, &[(Part::Link, number)]) {
                Verdict::Alive { ask } => answered = ask,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_late_answer_is_an_answer() {
        let (mut check, start) = (Check::new(DEADLINE), Instant::now());
        assert_eq!(check.look(start, 0, &[]), Verdict::Alive { ask: 1 });
        assert_eq!(check.look(start + LOOK, 0, &[]), Verdict::Waiting);
        assert_eq!(check.look(start + LOOK * 2, 1, &[]), Verdict::Alive { ask: 2 });
        assert_eq!(check.look(start + LOOK * 3, 2, &[]), Verdict::Alive { ask: 3 });
    }
}
